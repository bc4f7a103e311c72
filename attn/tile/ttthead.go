package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// tttHead is one key/value head on a worker's scratch, at a block: tokens of one batch.
type tttHead struct {
	recurChunk
	args        *tttArgs
	place       int        // of the block's first token in its batch
	state       []float32  // W and U
	w, u        kernel.Mat // W with b below and U with its sum below, [d+1, d]
	gain, shift []float32  // γ, δ
	k, z, g     kernel.Mat // of the block: turned keys with a 1 behind, [Batch, d+1]; ẑ of them and ρ∇, [Batch, d]
	finite      bool       // g is
	sd          []float32  // [Batch]: what ẑ was divided by
	q, o        kernel.Mat // of the block and a query head: turned queries with a 1 behind, z̄ and then ẑ of it
	p           kernel.Mat // of that head: q·k + 1, [Batch, Batch], the lower triangle
}

// newTTTHead lays one out on s, without its state; headFloats counts the same.
func newTTTHead(s *attn.Scratch, a *tttArgs, task int) tttHead {
	d, n := a.c.KeyDim, a.Chunk
	seg, kv := a.head(task)
	t := tttHead{args: a}
	t.recurArgs, t.Segment, t.kv = &a.recurArgs, a.c.Segment(seg), kv
	t.gain, t.shift = a.c.Learned[2][kv*d:][:d], a.c.Learned[3][kv*d:][:d]
	rows := func(width int) kernel.Mat { return kernel.Rows(s.Floats(n*width), width) }
	t.k, t.q, t.z, t.g, t.o, t.p = rows(d+1), rows(d+1), rows(d), rows(d), rows(d), rows(n)
	t.kt, t.sd, t.sums = s.Floats(panels(n)*(d+1)), s.Floats(n), s.Floats(n)
	for i := range n {
		rowOf(t.k, i, d+1)[d], rowOf(t.q, i, d+1)[d] = 1, 1
	}
	return t
}

func (m *TTT) headFloats(s attn.Shape) int {
	d, n := s.KeyDim, m.Batch
	return attn.ScratchFloats(n*(d+1), n*(d+1), n*d, n*d, n*d, n*n, panels(n)*(d+1), n, n)
}

func (m *TTT) forwardFloats(s attn.Shape) int {
	return m.headFloats(s) + attn.ScratchFloats(2*modelLen(s))
}

func rowOf(m kernel.Mat, i, d int) []float32 { return m.Data[i*m.Row:][:d] }

// hold makes the numbers x the state; a model alone, without sums, is W and b.
func (t *tttHead) hold(x []float32) {
	d := t.c.KeyDim
	t.state, t.w, t.u = x, kernel.Rows(x, d), kernel.Rows(x[d*(d+1):], d)
}

// tttTask goes through the batches of one head of a segment.
func tttTask(s *attn.Scratch, a *tttArgs, task int) {
	t := newTTTHead(s, a, task)
	seg, kv := a.head(task)
	n, before := 2*modelLen(a.c.Shape), 0
	if a.states != nil {
		t.hold(a.states[(t.Row*a.c.KVHeads+kv)*n:][:n])
		before = a.lens[t.Row]
	} else {
		t.hold(s.Floats(n))
	}
	if before == 0 {
		t.begin()
	}
	t.withoutKeys(before)
	for j := 0; j < t.Keys; j += t.n {
		t.place = (before + j) % a.Chunk
		t.at(t.Segment, kv, j, a.Chunk-t.place)
		if t.place == 0 && before+j > 0 {
			t.fold()
		}
		if a.records != nil {
			copy(a.record(kv, int(a.keys[seg])+j/a.Chunk), t.state)
		}
		t.learn()
		t.emit()
		if j+t.n < t.Keys || a.states != nil { // else nobody looks at it
			t.take()
		}
	}
}

// begin puts the learned model in place of the state.
func (t *tttHead) begin() {
	d := t.c.KeyDim
	copy(t.w.Data[:d*d], t.c.Learned[0][t.kv*d*d:])
	copy(t.w.Data[d*d:][:d], t.c.Learned[1][t.kv*d:])
	clear(t.u.Data)
}

// fold ends a batch: W ← W - r U.
func (t *tttHead) fold() {
	kernel.Axpy(-t.args.steps[t.Chunk-1], t.u.Data, t.w.Data)
	clear(t.u.Data)
}

// withoutKeys computes the outputs of queries in front of the call's first key: 0, but for one that asks about the last of the tokens before.
func (t *tttHead) withoutKeys(before int) {
	n := -t.Offset()
	for i := range min(t.Queries, n) {
		for h := range t.group() {
			clear(t.c.Out.Row(t.Row, t.Query0+i, t.queryHead(h)))
		}
	}
	if before > 0 && n > 0 && n <= t.Queries {
		t.at(t.Segment, t.kv, -1, 0)
		t.place, t.row1 = (before-1)%t.Chunk, 1
		t.emit()
	}
}

// learn computes ρ∇ of the block.
func (t *tttHead) learn() {
	d, keys, values, eta := t.c.KeyDim, t.keyRows(&t.c.K), t.keyRows(&t.c.V), t.keyRows(&t.c.Extra[0])
	for i := range t.n {
		t.args.turn(rowOf(t.k, i, d), rowOf(keys, i, d), t.place+i)
	}
	if t.n > 1 {
		packMat(t.kt, t.k, t.n, d+1)
	}
	kernel.Mul(t.n, d, d+1, t.k, t.w, t.z)
	for i := range t.n {
		z, g := rowOf(t.z, i, d), rowOf(t.g, i, d)
		t.sd[i] = t.args.normalise(z)
		t.miss(g, z, rowOf(t.k, i, d), rowOf(values, i, d))
		t.args.project(g, z)
		kernel.Scale(t.args.rate*eta.Data[i*eta.Row]/t.sd[i], g)
	}
	t.finite = RowsFinite(t.g, t.n, d)
}

// miss sets u to the gradient of the loss in ẑ, γ∘(γ∘ẑ + δ - (v - k)).
func (t *tttHead) miss(u, z, k, v []float32) {
	t.scaled(u, z)
	kernel.Axpy(-1, v, u)
	kernel.Add(u, k)
	kernel.Times(u, t.gain)
}

// scaled sets x to γ∘ẑ + δ.
func (t *tttHead) scaled(x, z []float32) {
	copy(x, z)
	kernel.Times(x, t.gain)
	kernel.Add(x, t.shift)
}

// emit computes the outputs of the block's queries.
func (t *tttHead) emit() {
	if t.row0 == t.row1 {
		return
	}
	for i := range t.group() {
		h := t.queryHead(i)
		t.read(h)
		out := t.queryRows(&t.c.Out, t.row0, h)
		for r := t.row0; r < t.row1; r++ {
			d := t.c.KeyDim
			o, z := rowOf(out, r-t.row0, d), rowOf(t.o, r, d)
			t.args.normalise(z)
			t.scaled(o, z)
			kernel.Add(o, rowOf(t.q, r, d))
		}
	}
}

// read computes z̄ of the block's queries of a head, Q W - diag(r)·(Q U + P G) with the weights P of pairs and G = ρ∇ of the block.
func (t *tttHead) read(h int) {
	d, n := t.c.KeyDim, t.row1-t.row0
	src, q, o := t.queryRows(&t.c.Q, t.row0, h), t.q.From(t.row0, 0), t.o.From(t.row0, 0)
	for r := range n {
		t.args.turn(rowOf(q, r, d), rowOf(src, r, d), t.place+t.row0+r)
	}
	if t.place > 0 || t.n == 0 { // the batch has tokens before
		kernel.Mul(n, d, d+1, q, t.u, o)
	} else {
		clear(o.Data[:n*d])
	}
	t.pairs()
	t.lowerMul(!t.finite, t.row0, t.n, d, t.p, t.g, o)
	for r := range n {
		kernel.Scale(-t.args.steps[t.place+t.row0+r], rowOf(o, r, d))
	}
	kernel.MulAdd(n, d, d+1, q, t.w, o)
}

// pairs computes the weights of the block's pairs.
func (t *tttHead) pairs() {
	if t.n == 1 {
		kernel.Dots(t.p.Data, t.q.Data[:t.c.KeyDim+1], t.k, 1)
		return
	}
	t.lowerProduct(t.row0, t.n, t.c.KeyDim+1, t.q, t.kt, t.p)
	t.clearUpper(t.row0, t.p)
}

// take adds the block to the sums of its batch, U += Kᵀ G.
func (t *tttHead) take() {
	d := t.c.KeyDim
	if t.n == 1 {
		kernel.Update(t.u, nil, t.k.Data[:d+1], t.g.Data[:d])
	} else {
		kernel.MulAdd(d+1, d, t.n, t.k.T(), t.g, t.u)
	}
}

// tttEps is added to a variance.
const tttEps = 1e-6

// normalise brings z to mean 0 and variance 1 and returns what it divided by.
func (a *tttArgs) normalise(z []float32) float32 {
	d := float32(len(z))
	kernel.Axpy(-kernel.Sum(z)/d, a.ones[:len(z)], z)
	scale, squares := float32(1), kernel.SumSquares(z)
	if squares > 1e30 { // squares of large numbers overflow
		for _, x := range z {
			scale = max(scale, x, -x)
		}
		kernel.Scale(1/scale, z)
		squares = kernel.SumSquares(z)
	}
	sd := float32(math.Sqrt(float64(squares/d) + tttEps/float64(scale)/float64(scale)))
	kernel.Scale(1/sd, z)
	return sd * scale
}

// project takes from x its mean and what lies along z: the gradient in z of a normalisation to z, but for the division.
func (a *tttArgs) project(x, z []float32) {
	d := float32(len(x))
	mean, along := kernel.Sum(x)/d, kernel.Dot(x, z)/d
	kernel.Axpy(-mean, a.ones[:len(x)], x)
	kernel.Axpy(-along, z, x)
}
