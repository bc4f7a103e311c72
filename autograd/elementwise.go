package autograd

import (
	"fmt"

	"attnbench/internal/kernel"
)

// Add returns a + b. Here and in Sub, Mul and Div, b has the shape of a, or one row, one column or one
// element, which then stands for all.
func (t *Tape) Add(a, b Var) Var { return t.binary(opAdd, a, b) }

// Sub returns a - b.
func (t *Tape) Sub(a, b Var) Var { return t.binary(opSub, a, b) }

// Mul returns a∘b, the elementwise product.
func (t *Tape) Mul(a, b Var) Var { return t.binary(opMul, a, b) }

// Div returns a/b, elementwise; where b is 0 the result is 0, as a query that sees no key wants it.
func (t *Tape) Div(a, b Var) Var { return t.binary(opDiv, a, b) }

func (t *Tape) binary(code opcode, a, b Var) Var {
	na, nb := t.nodes[a], t.nodes[b]
	if nb.rows != na.rows && nb.rows != 1 || nb.cols != na.cols && nb.cols != 1 {
		panic(fmt.Sprintf("autograd: elementwise: %d×%d with %d×%d: want the same shape, or one row or column", na.rows, na.cols, nb.rows, nb.cols))
	}
	o := t.result(na.rows, na.cols, op{code: code, a: a, b: b})
	t.blocks(o, nil, na.rows, na.cols, binaryBlock)
	return o.out
}

// rowOf returns row i of the second operand (its only row when it has one) and whether it is a single element
// for all columns.
func rowOf(n *node, i, cols int) (row []float32, one bool) {
	if n.rows == 1 {
		i = 0
	}
	return n.data[i*n.cols : (i+1)*n.cols], n.cols == 1 && cols != 1
}

func binaryBlock(t *Tape, o *op, _ []float32, b block) {
	na, nb := &t.nodes[o.a], &t.nodes[o.b]
	cols := na.cols
	for i := b.lo; i < b.hi; i++ {
		x := na.data[i*cols : (i+1)*cols]
		out := t.nodes[o.out].data[i*cols : (i+1)*cols]
		y, one := rowOf(nb, i, cols)
		at := func(j int) float32 {
			if one {
				return y[0]
			}
			return y[j]
		}
		switch o.code {
		case opAdd:
			if !one {
				copy(out, x)
				kernel.Add(out, y)
				continue
			}
			for j := range out {
				out[j] = x[j] + y[0]
			}
		case opSub:
			for j := range out {
				out[j] = x[j] - at(j)
			}
		case opMul:
			copy(out, x)
			if one {
				kernel.Scale(y[0], out)
			} else {
				kernel.Times(out, y)
			}
		case opDiv:
			for j := range out {
				out[j] = 0
				if d := at(j); d != 0 {
					out[j] = x[j] / d
				}
			}
		}
	}
}

func (t *Tape) backBinary(o *op, g []float32) {
	na, nb := t.nodes[o.a], t.nodes[o.b]
	full := nb.rows == na.rows && nb.cols == na.cols
	if t.need(o.b) {
		if full && o.code == opAdd {
			t.lend(o.b, g)
		} else if nb.rows == na.rows { // rows do not meet
			t.gradSum(o.b)
			t.blocks(o, g, na.rows, na.cols, binaryGradB)
		} else {
			t.blocksSum(o, g, na.rows, na.cols, o.b, binaryGradB)
		}
	}
	if t.need(o.a) {
		if o.code == opMul || o.code == opDiv {
			t.blocks(o, g, na.rows, na.cols, binaryGradA)
		}
		t.give(o.a, g)
	}
}

// binaryGradA turns g into the gradient of the first operand.
func binaryGradA(t *Tape, o *op, g []float32, b block) {
	nb := &t.nodes[o.b]
	cols := t.nodes[o.a].cols
	for i := b.lo; i < b.hi; i++ {
		gi := g[i*cols : (i+1)*cols]
		y, one := rowOf(nb, i, cols)
		if o.code == opMul && !one {
			kernel.Times(gi, y)
			continue
		}
		for j := range gi {
			v := y[0]
			if !one {
				v = y[j]
			}
			switch {
			case o.code == opMul:
				gi[j] *= v
			case v != 0:
				gi[j] /= v
			default:
				gi[j] = 0
			}
		}
	}
}

// binaryGradB adds to the gradient of the second operand, or to this block's part of its sum over rows.
func binaryGradB(t *Tape, o *op, g []float32, b block) {
	nb := &t.nodes[o.b]
	cols := t.nodes[o.a].cols
	for i := b.lo; i < b.hi; i++ {
		gi, x := g[i*cols:(i+1)*cols], t.nodes[o.a].data[i*cols:(i+1)*cols]
		out := t.nodes[o.out].data[i*cols : (i+1)*cols]
		y, one := rowOf(nb, i, cols)
		d := b.sum
		if d == nil {
			d = nb.grad[i*nb.cols : (i+1)*nb.cols]
		}
		for j, v := range gi {
			at := j
			if one {
				at = 0
			}
			switch o.code {
			case opSub:
				v = -v
			case opMul:
				v *= x[j]
			case opDiv:
				if y[at] == 0 {
					continue
				}
				v *= -out[j] / y[at]
			}
			d[at] += v
		}
	}
}

// Scale returns s·a.
func (t *Tape) Scale(a Var, s float32) Var {
	n := t.nodes[a]
	o := t.result(n.rows, n.cols, op{code: opScale, a: a, x: s})
	t.blocks(o, nil, n.rows, n.cols, func(t *Tape, o *op, _ []float32, b block) {
		cols := t.nodes[o.a].cols
		out := b.part(t.nodes[o.out].data, cols)
		copy(out, b.part(t.nodes[o.a].data, cols))
		kernel.Scale(o.x, out)
	})
	return o.out
}

func (t *Tape) backScale(o *op, g []float32) {
	n := t.nodes[o.a]
	t.blocks(o, g, n.rows, n.cols, func(t *Tape, o *op, g []float32, b block) {
		kernel.Scale(o.x, b.part(g, t.nodes[o.a].cols))
	})
	t.give(o.a, g)
}

// AddScalar returns a + s.
func (t *Tape) AddScalar(a Var, s float32) Var {
	n := t.nodes[a]
	o := t.result(n.rows, n.cols, op{code: opShift, a: a, x: s})
	out := t.nodes[o.out].data
	for i := range out {
		out[i] = n.data[i] + s
	}
	return o.out
}

// Activate returns act(a), elementwise.
func (t *Tape) Activate(a Var, act Activation) Var {
	if act == Identity {
		return a
	}
	n := t.nodes[a]
	o := t.result(n.rows, n.cols, op{code: opActivate, a: a, i: int(act)})
	t.blocks(o, nil, n.rows, n.cols, func(t *Tape, o *op, _ []float32, b block) {
		cols := t.nodes[o.a].cols
		apply(Activation(o.i), b.part(t.nodes[o.out].data, cols), b.part(t.nodes[o.a].data, cols))
	})
	return o.out
}

// SiLU and the following are Activate by name.
func (t *Tape) SiLU(a Var) Var { return t.Activate(a, SiLU) }

// GELU returns gelu(a), the tanh form.
func (t *Tape) GELU(a Var) Var { return t.Activate(a, GELU) }

// ReLU returns max(a, 0).
func (t *Tape) ReLU(a Var) Var { return t.Activate(a, ReLU) }

// Sigmoid returns σ(a).
func (t *Tape) Sigmoid(a Var) Var { return t.Activate(a, Sigmoid) }

// Tanh returns tanh(a).
func (t *Tape) Tanh(a Var) Var { return t.Activate(a, Tanh) }

// LogSigmoid returns log σ(a).
func (t *Tape) LogSigmoid(a Var) Var { return t.Activate(a, LogSigmoid) }

// Softplus returns log(1 + e^a).
func (t *Tape) Softplus(a Var) Var { return t.Activate(a, Softplus) }

// Exp returns e^a.
func (t *Tape) Exp(a Var) Var { return t.Activate(a, Exp) }

// Log returns the natural logarithm.
func (t *Tape) Log(a Var) Var { return t.Activate(a, Log) }

// SwiGLU returns silu(gate)∘up for x [rows, 2·width] = [gate | up] (Shazeer 2020, arXiv:2002.05202), so that one product makes both.
func (t *Tape) SwiGLU(x Var) Var {
	n := t.nodes[x]
	if n.cols%2 != 0 {
		panic(fmt.Sprintf("autograd: swiglu of %d columns: want an even number", n.cols))
	}
	o := t.result(n.rows, n.cols/2, op{code: opSwiGLU, a: x})
	t.blocks(o, nil, n.rows, n.cols, func(t *Tape, o *op, _ []float32, b block) {
		w := t.nodes[o.out].cols
		for i := b.lo; i < b.hi; i++ {
			gate, up := t.nodes[o.a].data[2*w*i:][:w], t.nodes[o.a].data[2*w*i+w:][:w]
			out := t.nodes[o.out].data[w*i:][:w]
			apply(SiLU, out, gate)
			kernel.Times(out, up)
		}
	})
	return o.out
}

func (t *Tape) backSwiGLU(o *op, g []float32) {
	n := t.nodes[o.a]
	o.u = t.floats(n.rows * n.cols)
	t.blocks(o, g, n.rows, n.cols, func(t *Tape, o *op, g []float32, b block) {
		w := t.nodes[o.out].cols
		for i := b.lo; i < b.hi; i++ {
			gate, up := t.nodes[o.a].data[2*w*i:][:w], t.nodes[o.a].data[2*w*i+w:][:w]
			dg, du, gi := o.u[2*w*i:][:w], o.u[2*w*i+w:][:w], g[w*i:][:w]
			kernel.SiLU(du, gate)
			kernel.Times(du, gi)
			copy(dg, gi)
			kernel.Times(dg, up)
			kernel.SiLUGrad(dg, gate, dg)
		}
	})
	t.giveNew(o.a, o.u)
}

// Sum returns the sum of all elements, [1, 1].
func (t *Tape) Sum(a Var) Var { return t.sum(a, 1) }

// Mean returns the mean of all elements, [1, 1]; 0 for none.
func (t *Tape) Mean(a Var) Var { return t.sum(a, 1/float32(max(t.size(a), 1))) }

func (t *Tape) sum(a Var, scale float32) Var {
	n := t.nodes[a]
	o := t.result(1, 1, op{code: opSum, a: a, x: scale})
	total := float64(0)
	for i := 0; i < len(n.data); i += blockFloats {
		total += float64(kernel.Sum(n.data[i:min(i+blockFloats, len(n.data))]))
	}
	if t.dry == nil {
		t.nodes[o.out].data[0] = float32(total) * scale
	}
	return o.out
}

func (t *Tape) backSum(o *op, g []float32) {
	for i, d := 0, t.gradSum(o.a); i < len(d); i++ {
		d[i] += g[0] * o.x
	}
}

// SumCols returns the sum of each row, [rows, 1].
func (t *Tape) SumCols(a Var) Var {
	n := t.nodes[a]
	o := t.result(n.rows, 1, op{code: opSumCols, a: a})
	t.blocks(o, nil, n.rows, n.cols, func(t *Tape, o *op, _ []float32, b block) {
		n := &t.nodes[o.a]
		for i := b.lo; i < b.hi; i++ {
			t.nodes[o.out].data[i] = kernel.Sum(n.data[i*n.cols : (i+1)*n.cols])
		}
	})
	return o.out
}

func (t *Tape) backSumCols(o *op, g []float32) {
	n := t.nodes[o.a]
	t.gradSum(o.a)
	t.blocks(o, g, n.rows, n.cols, func(t *Tape, o *op, g []float32, b block) {
		n := &t.nodes[o.a]
		for i := b.lo; i < b.hi; i++ {
			d := n.grad[i*n.cols : (i+1)*n.cols]
			for j := range d {
				d[j] += g[i]
			}
		}
	})
}

// Cumsum returns the running sum over rows: row i is the sum of rows 0 to i of a.
func (t *Tape) Cumsum(a Var) Var {
	n := t.nodes[a]
	o := t.result(n.rows, n.cols, op{code: opCumsum, a: a})
	out := t.nodes[o.out].data
	copy(out, n.data)
	for i := n.cols; i < len(out); i += n.cols {
		kernel.Add(out[i:i+n.cols], out[i-n.cols:i])
	}
	return o.out
}

func (t *Tape) backCumsum(o *op, g []float32) {
	n := t.nodes[o.a]
	for i := len(g) - 2*n.cols; i >= 0 && n.cols > 0; i -= n.cols {
		kernel.Add(g[i:i+n.cols], g[i+n.cols:i+2*n.cols])
	}
	t.give(o.a, g)
}
