package autograd

import (
	"fmt"

	"attnbench/internal/kernel"
)

func (t *Tape) mat(v Var) kernel.Mat { return kernel.Rows(t.nodes[v].data, t.nodes[v].cols) }

// Linear returns act(x·w + bias + add) for x [rows, in], w [in, out], bias [1, out] and add [rows, out]; bias and
// add may be None. It is one pass over the result.
func (t *Tape) Linear(x, w, bias, add Var, act Activation) Var {
	nx, nw := t.nodes[x], t.nodes[w]
	fits := nx.cols == nw.rows &&
		(bias == None || t.size(bias) == nw.cols) &&
		(add == None || t.nodes[add].rows == nx.rows && t.nodes[add].cols == nw.cols)
	if !fits {
		panic(fmt.Sprintf("autograd: linear: input %d×%d, weight %d×%d: want fitting shapes", nx.rows, nx.cols, nw.rows, nw.cols))
	}
	o := t.result(nx.rows, nw.cols, op{code: opLinear, a: x, b: w, c: bias, d: add, i: int(act)})
	out := t.mat(o.out)
	p := product{m: nx.rows, n: nw.cols, k: nx.cols, a: t.mat(x), b: t.mat(w), c: out, bias: t.nodes[bias].data, act: act, out: out}
	if act != Identity && t.keeps(o) {
		o.u = t.floats(nx.rows * nw.cols) // before the activation
		p.c.Data = o.u
	}
	if add != None {
		p.add = true
		copy(p.c.Data, t.nodes[add].data)
	}
	t.multiply(p)
	return o.out
}

func slopeBlock(t *Tape, o *op, g []float32, b block) {
	cols := t.nodes[o.out].cols
	x := o.u // Linear keeps what went into the activation
	if x == nil {
		x = t.nodes[o.a].data
	}
	slope(Activation(o.i), b.part(g, cols), b.part(x, cols), b.part(t.nodes[o.out].data, cols))
}

func (t *Tape) backLinear(o *op, g []float32) {
	nx, nw := t.nodes[o.a], t.nodes[o.b]
	if Activation(o.i) != Identity {
		t.blocks(o, g, nx.rows, nw.cols, slopeBlock)
	}
	if t.need(o.c) {
		t.blocksSum(o, g, nx.rows, nw.cols, o.c, sumRowsBlock)
	}
	gm := kernel.Rows(g, nw.cols)
	if t.need(o.b) { // xᵀ·g
		dw, add := t.gradSpace(o.b)
		t.multiply(product{add: add, m: nx.cols, n: nw.cols, k: nx.rows, a: t.mat(o.a).T(), b: gm, c: kernel.Rows(dw, nw.cols)})
	}
	if t.need(o.a) { // g·wᵀ
		dx, add := t.gradSpace(o.a)
		t.multiply(product{add: add, m: nx.rows, n: nx.cols, k: nw.cols, a: gm, b: t.mat(o.b).T(), c: kernel.Rows(dx, nx.cols)})
	}
	t.give(o.d, g) // last: g may become the gradient of what was added
}

func sumRowsBlock(t *Tape, o *op, g []float32, b block) {
	cols := t.nodes[o.out].cols
	for i := b.lo; i < b.hi; i++ {
		kernel.Add(b.sum, g[i*cols:(i+1)*cols])
	}
}

// MatMul returns a·b for a [m, k] and b [k, n].
func (t *Tape) MatMul(a, b Var) Var {
	na, nb := t.nodes[a], t.nodes[b]
	if na.cols != nb.rows {
		panic(fmt.Sprintf("autograd: matmul: %d×%d by %d×%d: want fitting shapes", na.rows, na.cols, nb.rows, nb.cols))
	}
	o := t.result(na.rows, nb.cols, op{code: opMatMul, a: a, b: b})
	t.multiply(product{m: na.rows, n: nb.cols, k: na.cols, a: t.mat(a), b: t.mat(b), c: t.mat(o.out)})
	return o.out
}

// MatMulT returns a·bᵀ for a [m, k] and b [n, k].
func (t *Tape) MatMulT(a, b Var) Var {
	na, nb := t.nodes[a], t.nodes[b]
	if na.cols != nb.cols {
		panic(fmt.Sprintf("autograd: matmulT: %d×%d by the transpose of %d×%d: want fitting shapes", na.rows, na.cols, nb.rows, nb.cols))
	}
	o := t.result(na.rows, nb.rows, op{code: opMatMulT, a: a, b: b})
	t.multiply(product{m: na.rows, n: nb.rows, k: na.cols, a: t.mat(a), b: t.mat(b).T(), c: t.mat(o.out)})
	return o.out
}

func (t *Tape) backMatMul(o *op, g []float32) {
	na, nb, no := t.nodes[o.a], t.nodes[o.b], t.nodes[o.out]
	gm := kernel.Rows(g, no.cols)
	if t.need(o.a) {
		da, add := t.gradSpace(o.a)
		b := t.mat(o.b) // g·b for a·bᵀ, g·bᵀ for a·b
		if o.code == opMatMul {
			b = b.T()
		}
		t.multiply(product{add: add, m: na.rows, n: na.cols, k: no.cols, a: gm, b: b, c: kernel.Rows(da, na.cols)})
	}
	if t.need(o.b) {
		db, add := t.gradSpace(o.b)
		p := product{add: add, m: nb.rows, n: nb.cols, k: no.rows, c: kernel.Rows(db, nb.cols)}
		if o.code == opMatMul {
			p.a, p.b = t.mat(o.a).T(), gm // aᵀ·g
		} else {
			p.a, p.b = gm.T(), t.mat(o.a) // gᵀ·a
		}
		t.multiply(p)
	}
}
