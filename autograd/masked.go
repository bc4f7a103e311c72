package autograd

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Softmax returns the softmax of each row; scores of -Inf get weight 0, and a row that is -Inf throughout becomes zeros.
func (t *Tape) Softmax(a Var) Var {
	n := t.nodes[a]
	o := t.result(n.rows, n.cols, op{code: opSoftmax, a: a})
	t.blocks(o, nil, n.rows, n.cols, func(t *Tape, o *op, _ []float32, b block) {
		cols := t.nodes[o.a].cols
		for i := b.lo; i < b.hi; i++ {
			p := t.nodes[o.out].data[i*cols : (i+1)*cols]
			copy(p, t.nodes[o.a].data[i*cols:(i+1)*cols])
			kernel.SoftmaxRow(p)
		}
	})
	return o.out
}

func (t *Tape) backSoftmax(o *op, g []float32) {
	n := t.nodes[o.a]
	t.blocks(o, g, n.rows, n.cols, func(t *Tape, o *op, g []float32, b block) {
		cols := t.nodes[o.a].cols
		for i := b.lo; i < b.hi; i++ {
			p, gi := t.nodes[o.out].data[i*cols:(i+1)*cols], g[i*cols:(i+1)*cols]
			var dot float32
			for j, w := range p {
				if w != 0 { // the gradient of an unseen key may be NaN
					dot += w * gi[j]
				}
			}
			for j, w := range p {
				if w == 0 {
					gi[j] = 0
					continue
				}
				gi[j] = w * (gi[j] - dot)
			}
		}
	})
	t.give(o.a, g)
}

// CausalMask returns a with -Inf where column j lies in the future of row i: j > i + cols - rows.
func (t *Tape) CausalMask(a Var) Var {
	n := t.nodes[a]
	o := t.result(n.rows, n.cols, op{code: opCausalMask, a: a})
	out := t.nodes[o.out].data
	copy(out, n.data)
	for i := 0; i < n.rows && t.dry == nil; i++ {
		row := out[i*n.cols : (i+1)*n.cols]
		for j := visible(true, i, n.rows, n.cols); j < n.cols; j++ {
			row[j] = kernel.NegInf
		}
	}
	return o.out
}

func (t *Tape) backCausalMask(o *op, g []float32) {
	n := t.nodes[o.a]
	for i := 0; i < n.rows && t.dry == nil; i++ {
		clear(g[i*n.cols+visible(true, i, n.rows, n.cols) : (i+1)*n.cols])
	}
	t.give(o.a, g)
}

// visible returns how many of the keys, from the first on, query i sees.
func visible(causal bool, i, queries, keys int) int {
	if !causal {
		return keys
	}
	return min(max(i+keys-queries+1, 0), keys)
}

// VisibleKeys returns a column [queries, 1]: the number of keys that each query sees.
func (t *Tape) VisibleKeys(causal bool, queries, keys int) Var {
	v := t.push(node{data: t.floats(queries), rows: queries, cols: 1})
	for i := range t.nodes[v].data {
		t.nodes[v].data[i] = float32(visible(causal, i, queries, keys))
	}
	return v
}

// countMasked counts the product of width d over the pairs that the mask admits.
func (t *Tape) countMasked(causal bool, queries, keys, d int) {
	if t.dry == nil {
		return
	}
	s := attn.Shape{QueryLen: queries, KeyLen: keys, Mask: attn.Cross}
	if causal {
		s.Mask = attn.Causal
	}
	t.dry.flops += 2 * s.Pairs() * int64(d)
}

const maskRows = 32 // rows of a task of Scores and Weigh

// Scores returns q·kᵀ for q [queries, d] and k [keys, d]; when causal, scores of the future are -Inf and are not computed.
// Neither a value nor a gradient passes from what a query does not see, be it NaN.
func (t *Tape) Scores(q, k Var, causal bool) Var {
	nq, nk := t.nodes[q], t.nodes[k]
	if nq.cols != nk.cols {
		panic(fmt.Sprintf("autograd: scores of queries %d wide and keys %d wide: want the same", nq.cols, nk.cols))
	}
	o := t.result(nq.rows, nk.rows, op{code: opScores, a: q, b: k, i: flag(causal)})
	m := t.scratchMark()
	if nq.rows >= fewRows {
		o.u = t.scratch(nk.rows * nk.cols) // kᵀ, for now
		t.transpose(o.u, nk.data, nk.rows, nk.cols)
	}
	t.countMasked(causal, nq.rows, nk.rows, nk.cols)
	t.maskedRows(o, nil, nq.rows, scoresBlock)
	o.u = nil
	t.scratchRelease(m)
	return o.out
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// maskedRows runs f over blocks of maskRows queries.
func (t *Tape) maskedRows(o *op, g []float32, rows int, f blockFunc) {
	t.run(blockArgs{t: t, o: o, g: g, rows: rows, size: maskRows, f: f})
}

func scoresBlock(t *Tape, o *op, _ []float32, b block) {
	nq, nk, out := &t.nodes[o.a], &t.nodes[o.b], &t.nodes[o.out]
	queries, keys, d := nq.rows, nk.rows, nq.cols
	most := visible(o.i == 1, b.hi-1, queries, keys)
	if queries >= fewRows {
		kernel.Mul(b.hi-b.lo, most, d, kernel.Rows(nq.data, d).From(b.lo, 0), kernel.Rows(o.u, keys), kernel.Rows(out.data, keys).From(b.lo, 0))
	}
	for i := b.lo; i < b.hi; i++ {
		row := out.data[i*keys : (i+1)*keys]
		if queries < fewRows {
			kernel.Dots(row[:most], nq.data[i*d:(i+1)*d], kernel.Rows(nk.data, d), most)
		}
		for j := visible(o.i == 1, i, queries, keys); j < keys; j++ {
			row[j] = kernel.NegInf
		}
	}
}

func (t *Tape) backScores(o *op, g []float32) {
	nq := t.nodes[o.a]
	if t.need(o.a) { // dq = g·k over visible keys
		o.u = t.gradSum(o.a)
		o.v = t.nodes[o.b].data
		o.j = nq.cols
		t.countMasked(o.i == 1, nq.rows, t.nodes[o.b].rows, nq.cols)
		t.maskedRows(o, g, nq.rows, weighAdd)
	}
	if t.need(o.b) {
		t.keyGrad(o, g, t.gradSum(o.b), nq.data)
	}
}

// Weigh returns the weighted sums of values Σ_j p[i,j]·v[j] for p [queries, keys] and v [keys, d], over the keys
// that query i sees. It is Scores' counterpart: unseen values take no part, be they NaN.
func (t *Tape) Weigh(p, v Var, causal bool) Var {
	np, nv := t.nodes[p], t.nodes[v]
	if np.cols != nv.rows {
		panic(fmt.Sprintf("autograd: weights of %d keys over %d values: want the same", np.cols, nv.rows))
	}
	o := t.result(np.rows, nv.cols, op{code: opWeigh, a: p, b: v, i: flag(causal)})
	o.u, o.v, o.j = t.nodes[o.out].data, nv.data, nv.cols
	clear(o.u)
	t.countMasked(causal, np.rows, np.cols, nv.cols)
	t.maskedRows(o, np.data, np.rows, weighAdd)
	o.u, o.v = nil, nil
	return o.out
}

// weighAdd adds to each row i of o.u [queries, d] the sum over visible keys of w[i,j] times row j of o.v [keys, d], d = o.j.
func weighAdd(t *Tape, o *op, w []float32, b block) {
	queries, d := t.nodes[o.a].rows, o.j
	keys := len(o.v) / max(d, 1)
	causal := o.i == 1
	all := visible(causal, b.lo, queries, keys) // keys that every row of the block sees
	wm, vm, om := kernel.Rows(w, keys).From(b.lo, 0), kernel.Rows(o.v, d), kernel.Rows(o.u, d).From(b.lo, 0)
	if all > 0 {
		kernel.MulAdd(b.hi-b.lo, d, all, wm, vm, om)
	}
	for i := b.lo; i < b.hi; i++ {
		n := visible(causal, i, queries, keys)
		if n > all {
			kernel.Combine(o.u[i*d:(i+1)*d], w[i*keys+all:i*keys+n], vm.From(all, 0))
		}
	}
}

func (t *Tape) backWeigh(o *op, g []float32) {
	np, nv := t.nodes[o.a], t.nodes[o.b]
	queries, keys := np.rows, np.cols
	if t.need(o.b) {
		t.keyGrad(o, np.data, t.gradSum(o.b), g)
	}
	if t.need(o.a) { // dp = g·vᵀ over visible keys, 0 elsewhere
		dp := t.gradSum(o.a)
		m := t.scratchMark()
		o.u, o.v, o.j = t.scratch(keys*nv.cols), dp, nv.cols
		t.countMasked(o.i == 1, queries, keys, nv.cols)
		t.transpose(o.u, nv.data, keys, nv.cols)
		t.maskedRows(o, g, queries, weighGradBlock)
		t.scratchRelease(m)
	}
}

func weighGradBlock(t *Tape, o *op, g []float32, b block) {
	queries, keys, d := t.nodes[o.a].rows, t.nodes[o.a].cols, o.j
	most := visible(o.i == 1, b.hi-1, queries, keys)
	kernel.MulAdd(b.hi-b.lo, most, d, kernel.Rows(g, d).From(b.lo, 0), kernel.Rows(o.u, keys), kernel.Rows(o.v, keys).From(b.lo, 0))
	for i := b.lo; i < b.hi; i++ {
		clear(o.v[i*keys+visible(o.i == 1, i, queries, keys) : (i+1)*keys])
	}
}

// keyGrad adds wᵀ·x to dst: row j gets Σ_i w[i,j]·x[i] over the queries i that see key j, for w [queries, keys] and
// x [queries, d].
func (t *Tape) keyGrad(o *op, w, dst, x []float32) {
	n := t.nodes[o.b]
	o.u, o.v, o.j = dst, x, n.cols
	t.countMasked(o.i == 1, t.nodes[o.a].rows, n.rows, n.cols)
	t.maskedRows(o, w, n.rows, keyGradBlock)
}

func keyGradBlock(t *Tape, o *op, w []float32, b block) {
	keys, d := t.nodes[o.b].rows, o.j
	queries := t.nodes[o.a].rows
	if d == 0 {
		return
	}
	first := func(j int) int { // the first query that sees key j
		if o.i == 0 {
			return 0
		}
		return min(max(j-keys+queries, 0), queries)
	}
	all := first(b.hi - 1)
	for j := b.lo; j < b.hi; j++ {
		for i := first(j); i < all; i++ {
			kernel.Axpy(w[i*keys+j], o.v[i*d:(i+1)*d], o.u[j*d:(j+1)*d])
		}
	}
	if all < queries {
		kernel.MulAdd(b.hi-b.lo, d, queries-all, kernel.Rows(w, keys).From(all, b.lo).T(), kernel.Rows(o.v, d).From(all, 0), kernel.Rows(o.u, d).From(b.lo, 0))
	}
}
