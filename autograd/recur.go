package autograd

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Cell names a recurrent cell. In its definition x_t is the input's part of the gates, bias included, and h·U that of the state; the gates
// lie side by side in the order in which they are written.
type Cell uint8

const (
	// Elman is the simple recurrent network (Elman 1990, Cognitive Science 14(2)):
	//
	//	h_t = tanh(x_t + h_{t-1}·U)
	Elman Cell = iota

	// GRU is the gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), with the reset gate after the product, so that a step has one product:
	//
	//	r = σ(x_r + h·U_r),  z = σ(x_z + h·U_z),  n = tanh(x_n + r∘(h·U_n))
	//	h_t = (1-z)∘n + z∘h_{t-1}
	GRU

	// LSTM is the long short-term memory (Hochreiter and Schmidhuber 1997), with the forget gate of Gers et al. 2000:
	//
	//	i = σ(x_i + h·U_i),  f = σ(x_f + h·U_f),  o = σ(x_o + h·U_o),  z = tanh(x_z + h·U_z)
	//	c_t = f∘c_{t-1} + i∘z,  h_t = o∘tanh(c_t)
	LSTM
)

// Gates returns how many times the hidden width a step's x_t is wide.
func (c Cell) Gates() int { return [...]int{1, 3, 4}[c] }

// Recurrence is a recurrent layer over sequences.
type Recurrence struct {
	Cell         Cell
	Batch, Steps int
	Cut          int // gradients do not flow into step t-1 from a step t that is a multiple of Cut; 0 for never cut
	X            Var // [batch·steps, gates·hidden], the steps of a sequence one after the other
	U            Var // [hidden, gates·hidden]
	H0           Var // [batch, hidden], or None for zeros
	C0           Var // the same of LSTM's cells

	hidden, width int       // width is gates·hidden
	gates         []float32 // [batch·steps, width], after their activations
	inner         []float32 // [batch·steps, hidden], of GRU: h·U_n
	cells, tan    []float32 // [batch·steps, hidden], of LSTM: c and tanh(c)
	out           []float32 // [batch·steps, hidden]: h
	hu            []float32 // [batch, width]: h·U of the present step; backward [batch, hidden], du·Uᵀ
	panels        []float32 // U, or its transpose

	g      []float32 // gradient of out
	dx     []float32 // [batch·steps, width]: of X
	du     []float32 // [batch·steps, width]: of h·U
	dh, dc []float32 // [batch, hidden]: what a step hands to the one before
}

// group is how many sequences a task takes through all steps: up to 8, enough for the tiles of a product to use a panel of U from the nearest
// cache, but no more than half of them, so that there is a second task. States do not depend on it.
func (r *Recurrence) group() int { return min(8, (r.Batch+1)/2) }

// Recur returns the states h_t [batch·steps, hidden] of all steps, and the cells of LSTM, laid out in the same way.
//
// Sequences do not need one another: a task takes a few of them through all steps, forward or backward, so that workers meet
// once an operation and not once a step. The gradient of U is one product over all steps.
func (t *Tape) Recur(r Recurrence) (h Var, cells []float32) {
	r.fit(t)
	t.recurs = append(t.recurs, r)
	p := &t.recurs[len(t.recurs)-1]
	n := r.Batch * r.Steps
	o := t.result(n, r.hidden, op{code: opRecur, a: r.X, b: r.U, c: r.H0, d: r.C0, i: len(t.recurs) - 1})
	p.out = t.nodes[o.out].data
	switch r.Cell {
	case Elman:
		p.gates = p.out
	case GRU:
		p.gates, p.inner = t.floats(n*p.width), t.floats(n*p.hidden)
	case LSTM:
		p.gates, p.cells, p.tan = t.floats(n*p.width), t.floats(n*p.hidden), t.floats(n*p.hidden)
	}
	mark := t.scratchMark()
	p.hu = t.scratch(r.Batch * p.width)
	t.recur(p, product{m: n, n: p.width, k: p.hidden, b: t.mat(r.U)}, recurForward)
	t.scratchRelease(mark)
	return o.out, p.cells
}

// fit checks the shapes.
func (r *Recurrence) fit(t *Tape) {
	x, u := t.nodes[r.X], t.nodes[r.U]
	r.hidden, r.width = u.rows, u.cols
	fits := u.cols == r.Cell.Gates()*u.rows && x.cols == u.cols && x.rows == r.Batch*r.Steps && r.Cut >= 0 && (r.C0 == None || r.Cell == LSTM)
	for _, v := range []Var{r.H0, r.C0} {
		fits = fits && (v == None || t.nodes[v].rows == r.Batch && t.nodes[v].cols == r.hidden)
	}
	if !fits {
		panic(fmt.Sprintf("autograd: recurrence of %d rows and %d steps over %d×%d by %d×%d: want fitting shapes", r.Batch, r.Steps, x.rows, x.cols, u.rows, u.cols))
	}
}

type recurArgs struct {
	t *Tape
	r *Recurrence
}

// recur packs the right operand of q and runs f over groups of sequences.
func (t *Tape) recur(r *Recurrence, q product, f func(s *attn.Scratch, a *recurArgs, task int)) {
	mark := t.scratchMark()
	defer t.scratchRelease(mark)
	panels := (q.n + kernel.Lanes - 1) / kernel.Lanes
	q.panels = t.scratch(q.k * panels * kernel.Lanes)
	if t.dry != nil {
		t.dry.flops += 2 * int64(q.m) * int64(q.n) * int64(q.k)
		return
	}
	attn.Parallel(t.ws, panels, 0, q, func(_ *attn.Scratch, q *product, task int) { q.pack(task) })
	r.panels = q.panels
	attn.Parallel(t.ws, (r.Batch+r.group()-1)/r.group(), 0, recurArgs{t, r}, f)
	r.panels = nil
}

// product computes c = a·B for rows of a group, a [rows, k] and the packed B [k, n].
func (r *Recurrence) product(rows, n, k int, a, c kernel.Mat) {
	for j := 0; j < n; j += kernel.Lanes {
		b := kernel.Rows(r.panels[j*k:], kernel.Lanes)
		for i := 0; i < k; i += blockK {
			mul := kernel.MulAdd
			if i == 0 {
				mul = kernel.Mul
			}
			mul(rows, min(kernel.Lanes, n-j), min(blockK, k-i), a.From(0, i), b.From(i, 0), c.From(0, j))
		}
	}
}

// at is the part of x [batch·steps, cols] of sequences from b on at step s.
func (r *Recurrence) at(x []float32, b, s, cols int) kernel.Mat {
	return kernel.Mat{Data: x[(b*r.Steps+s)*cols:], Row: r.Steps * cols, Col: 1}
}

// row is sequence b's part of x [batch·steps, cols] at step s.
func (r *Recurrence) row(x []float32, b, s, cols int) []float32 {
	i := (b*r.Steps + s) * cols
	return x[i : i+cols]
}

// before is the state of sequence b before step s, out of states [batch·steps, hidden] and first ones; nil for zeros.
func (r *Recurrence) before(t *Tape, states []float32, first Var, b, s int) []float32 {
	switch {
	case s > 0:
		return r.row(states, b, s-1, r.hidden)
	case first != None:
		return t.nodes[first].data[b*r.hidden : (b+1)*r.hidden]
	}
	return nil
}

func recurForward(_ *attn.Scratch, a *recurArgs, task int) {
	r, lo := a.r, task*a.r.group()
	hi := min(lo+r.group(), r.Batch)
	hu := kernel.Rows(r.hu[lo*r.width:], r.width)
	for s := range r.Steps {
		if h := r.stateBefore(a.t, lo, s); h.Data != nil {
			r.product(hi-lo, r.width, r.hidden, h, hu)
		} else {
			clear(r.hu[lo*r.width : hi*r.width])
		}
		for b := lo; b < hi; b++ {
			r.cell(a.t, b, s)
		}
	}
}

// stateBefore is the matrix of the states h before step s of sequences from b on; without data for zeros.
func (r *Recurrence) stateBefore(t *Tape, b, s int) kernel.Mat {
	switch {
	case s > 0:
		return r.at(r.out, b, s-1, r.hidden)
	case r.H0 != None:
		return kernel.Rows(t.nodes[r.H0].data[b*r.hidden:], r.hidden)
	}
	return kernel.Mat{}
}

// cell computes step s of sequence b from x and h·U.
func (r *Recurrence) cell(t *Tape, b, s int) {
	n := r.hidden
	g, hu, out := r.row(r.gates, b, s, r.width), r.hu[b*r.width:(b+1)*r.width], r.row(r.out, b, s, n)
	copy(g, r.row(t.nodes[r.X].data, b, s, r.width))
	switch r.Cell {
	case Elman: // g is out
		kernel.Add(g, hu)
		tanh(g)
	case GRU:
		inner := r.row(r.inner, b, s, n)
		copy(inner, hu[2*n:])
		kernel.Add(g[:2*n], hu)
		kernel.Sigmoid(g[:2*n], g)
		kernel.Times(hu[2*n:], g[:n])
		kernel.Add(g[2*n:], hu[2*n:])
		tanh(g[2*n:])
		copy(out, g[2*n:])
		if h := r.before(t, r.out, r.H0, b, s); h != nil {
			for e, z := range g[n : 2*n] {
				out[e] += float32(z * (h[e] - out[e]))
			}
		} else {
			for e, z := range g[n : 2*n] {
				out[e] -= float32(z * out[e])
			}
		}
	case LSTM:
		c, tan := r.row(r.cells, b, s, n), r.row(r.tan, b, s, n)
		kernel.Add(g, hu)
		kernel.Sigmoid(g[:3*n], g)
		tanh(g[3*n:])
		copy(tan, g[:n])
		kernel.Times(tan, g[3*n:])
		copy(c, tan)
		if last := r.before(t, r.cells, r.C0, b, s); last != nil {
			copy(c, last)
			kernel.Times(c, g[n:2*n])
			kernel.Add(c, tan)
		}
		copy(tan, c)
		tanh(tan)
		copy(out, tan)
		kernel.Times(out, g[2*n:3*n])
	}
}

// tanh computes x = tanh(x), by tanh(x) = 2σ(2x) - 1.
func tanh(x []float32) {
	kernel.Scale(2, x)
	kernel.Sigmoid(x, x)
	for i, v := range x {
		x[i] = 2*v - 1
	}
}
