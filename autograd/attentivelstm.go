package autograd

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// AttentiveLSTM describes a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) that walks
// sequences, each step of which may read a memory by additive attention (Bahdanau et al. 2014, arXiv:1409.0473, A.1.2 and A.2.2):
//
//	q_t = h_{t-1}·Wq,  a_t = softmax_j(v·tanh(q_t + k_j)),  r_t = Σ_j a_tj·m_j
//	(i, f, o, z) = x_t + h_{t-1}·Wh + r_t·Wr
//	c_t = σ(f)∘c_{t-1} + σ(i)∘tanh(z),  h_t = σ(o)∘tanh(c_t)
//
// All steps are one operation: gradients of the weights are one product each over all steps.
type AttentiveLSTM struct {
	Batch, Steps int
	X            Var // [batch·steps, 4·hidden], the inputs' part of the gates i, f, o and z, bias included
	Wh           Var // [hidden, 4·hidden]
	H0           Var // [batch, hidden], or None for zeros
	C0           Var // [batch, hidden] without gradient, or None for zeros

	Memory     Var // m [batch/share·keys, width], or None for a plain LSTM, which has no use for what follows
	Keys       Var // k [batch/share·keys, units]
	Wq, V, Wr  Var // [hidden, units], [1, units], [width, 4·hidden]
	Lengths    []int32
	Share      int // successive rows that read one memory; 0 means 1
	hidden     int
	width      int
	units      int
	keys       int
	h, r       []float32 // [batch·steps, hidden] before each step; [batch·steps, width]
	gates      []float32 // [batch·steps, 4·hidden]: σ(i), σ(f), σ(o), tanh(z)
	cells, tan []float32 // [batch·steps, hidden]: c and tanh(c)
	q, a       []float32 // [batch·steps, units], times 2; [batch·steps, keys]
	out        []float32 // [batch·steps, hidden + width]

	// Of Backward.
	g      []float32 // of out
	dz, dq []float32 // [batch·steps, 4·hidden], [batch·steps, units]
	dh, dc []float32 // [batch, hidden], from the step after
	dr     []float32 // [batch, width]
	dv     []float32 // [batch, units]
	dm, dk []float32
	t      int // step
}

// LSTM runs a and returns [batch·steps, hidden + width], h_t beside r_t, and the cells c_t [batch·steps, hidden], all row by row: the
// steps of a sequence lie together. A row's first Lengths keys are read; with none r_t is 0.
func (t *Tape) LSTM(a AttentiveLSTM) (out Var, cells []float32) {
	a.shapes(t)
	t.lstms = append(t.lstms, a)
	l := &t.lstms[len(t.lstms)-1]
	b, n, h := l.Batch, l.Batch*l.Steps, l.hidden
	o := t.result(n, h+l.width, op{code: opLSTM, a: l.X, b: l.Wh, c: l.Memory, d: l.H0, i: len(t.lstms) - 1})
	l.out = t.nodes[o.out].data
	l.h, l.cells, l.tan, l.gates = t.floats(n*h), t.floats(n*h), t.floats(n*h), t.floats(4*n*h)
	copy(l.gates, t.nodes[l.X].data)
	if l.Memory != None {
		l.r, l.q, l.a = t.floats(n*l.width), t.floats(n*l.units), t.floats(n*l.keys)
	}
	for l.t = range l.Steps {
		l.enter(t)
		if l.Memory != None {
			t.multiply(product{m: b, n: l.units, k: h, a: l.step(l.h, h), b: t.mat(l.Wq), c: l.step(l.q, l.units)})
			attn.Parallel(t.ws, b, l.units, lstmArgs{t, l}, readRow)
			t.multiply(product{add: true, m: b, n: 4 * h, k: l.width, a: l.step(l.r, l.width), b: t.mat(l.Wr), c: l.step(l.gates, 4*h)})
		}
		t.multiply(product{add: true, m: b, n: 4 * h, k: h, a: l.step(l.h, h), b: t.mat(l.Wh), c: l.step(l.gates, 4*h)})
		attn.Parallel(t.ws, b, 0, lstmArgs{t, l}, cellRow)
	}
	return o.out, l.cells
}

func (l *AttentiveLSTM) shapes(t *Tape) {
	x, wh := t.nodes[l.X], t.nodes[l.Wh]
	l.hidden, l.Share = wh.rows, max(l.Share, 1)
	fits := wh.cols == 4*l.hidden && x.cols == 4*l.hidden && x.rows == l.Batch*l.Steps
	for _, v := range []Var{l.H0, l.C0} {
		fits = fits && (v == None || t.nodes[v].rows == l.Batch && t.nodes[v].cols == l.hidden)
	}
	if l.Memory != None {
		m, k, wq, wr := t.nodes[l.Memory], t.nodes[l.Keys], t.nodes[l.Wq], t.nodes[l.Wr]
		l.width, l.units = m.cols, k.cols
		rows := len(l.Lengths)
		fits = fits && rows*l.Share == l.Batch && k.rows == m.rows && rows > 0 && m.rows%rows == 0 &&
			wq.rows == l.hidden && wq.cols == l.units && t.size(l.V) == l.units && wr.rows == l.width && wr.cols == 4*l.hidden
		l.keys = m.rows / max(rows, 1)
		for _, n := range l.Lengths {
			fits = fits && n >= 0 && int(n) <= l.keys
		}
	}
	if !fits {
		panic(fmt.Sprintf("autograd: lstm of %d rows and %d steps over %d×%d: want fitting shapes", l.Batch, l.Steps, x.rows, x.cols))
	}
}

// step is the matrix of all rows at the present step of x [batch·steps, cols].
func (l *AttentiveLSTM) step(x []float32, cols int) kernel.Mat {
	return kernel.Rows(x, l.Steps*cols).From(0, l.t*cols)
}

// at is row b's part of x [batch·steps, cols] at the present step.
func (l *AttentiveLSTM) at(x []float32, b, cols int) []float32 {
	i := (b*l.Steps + l.t) * cols
	return x[i : i+cols]
}

// enter writes the states that a step begins with.
func (l *AttentiveLSTM) enter(t *Tape) {
	for b := range l.Batch {
		h := l.at(l.h, b, l.hidden)
		switch {
		case l.t > 0:
			copy(h, l.out[(b*l.Steps+l.t-1)*(l.hidden+l.width):])
		case l.H0 != None:
			copy(h, t.nodes[l.H0].data[b*l.hidden:])
		default:
			clear(h)
		}
	}
}

type lstmArgs struct {
	tape *Tape
	l    *AttentiveLSTM
}

// memory returns row b's memory and its keys.
func (a *lstmArgs) memory(b int) (m, k []float32, n int) {
	l, t := a.l, a.tape
	b /= l.Share
	return t.nodes[l.Memory].data[b*l.keys*l.width:], t.nodes[l.Keys].data[b*l.keys*l.units:], int(l.Lengths[b])
}

// twoSigma writes σ(2(q + k)) for q2 = 2q: tanh(q + k) is 2σ - 1.
func twoSigma(dst, q2, k []float32) {
	copy(dst, q2)
	kernel.Axpy(2, k, dst)
	kernel.Sigmoid(dst, dst)
}

// readRow reads the memory of a row: r of the present step.
func readRow(s *attn.Scratch, a *lstmArgs, b int) {
	l := a.l
	m, k, n := a.memory(b)
	q, r, w, v := l.at(l.q, b, l.units), l.at(l.r, b, l.width), l.at(l.a, b, l.keys), a.tape.nodes[l.V].data
	kernel.Scale(2, q)
	clear(w)
	clear(r)
	x := s.Floats(l.units)
	w = w[:n]
	for j := range w { // Σ v takes no part in the softmax
		twoSigma(x, q, k[j*l.units:(j+1)*l.units])
		w[j] = 2 * kernel.Dot(x, v)
	}
	if n > 0 {
		kernel.SoftmaxRow(w)
		kernel.Combine(r, w, kernel.Rows(m, l.width))
	}
}

// tanhs computes x = tanh(x).
func tanhs(x []float32) {
	kernel.Scale(2, x)
	kernel.Sigmoid(x, x)
	for i, v := range x {
		x[i] = 2*v - 1
	}
}

// cellRow turns a row's gates into its cell and output.
func cellRow(_ *attn.Scratch, a *lstmArgs, b int) {
	l := a.l
	n := l.hidden
	g, c, tc, out := l.at(l.gates, b, 4*n), l.at(l.cells, b, n), l.at(l.tan, b, n), l.at(l.out, b, n+l.width)
	kernel.Sigmoid(g[:3*n], g[:3*n])
	tanhs(g[3*n:])
	copy(tc, g[:n])
	kernel.Times(tc, g[3*n:]) // σ(i)∘tanh(z), for now
	if before := a.before(b); before != nil {
		copy(c, before)
		kernel.Times(c, g[n:2*n])
		kernel.Add(c, tc)
	} else {
		copy(c, tc)
	}
	copy(tc, c)
	tanhs(tc)
	copy(out, tc)
	kernel.Times(out[:n], g[2*n:3*n])
	if l.width > 0 {
		copy(out[n:], l.at(l.r, b, l.width))
	}
}

// before returns a row's cell before the present step; nil for zeros.
func (a *lstmArgs) before(b int) []float32 {
	l := a.l
	switch {
	case l.t > 0:
		i := (b*l.Steps + l.t - 1) * l.hidden
		return l.cells[i : i+l.hidden]
	case l.C0 != None:
		return a.tape.nodes[l.C0].data[b*l.hidden : (b+1)*l.hidden]
	}
	return nil
}

func (t *Tape) backLSTM(o *op, g []float32) {
	l := &t.lstms[o.i]
	b, n, h := l.Batch, l.Batch*l.Steps, l.hidden
	l.g, l.dz = g, t.floats(4*n*h)
	l.dh, l.dc = t.zeros(b*h), t.zeros(b*h)
	if l.Memory != None {
		l.dq, l.dr, l.dv = t.floats(n*l.units), t.floats(b*l.width), t.zeros(b*l.units)
		l.dm, l.dk = t.gradOrWaste(l.Memory), t.gradOrWaste(l.Keys)
	}
	rows := func(x []float32, cols int) kernel.Mat { return kernel.Rows(x, cols) }
	for l.t = l.Steps - 1; l.t >= 0; l.t-- {
		attn.Parallel(t.ws, b, h, lstmArgs{t, l}, cellRowGrad)
		dz := l.step(l.dz, 4*h)
		t.multiply(product{m: b, n: h, k: 4 * h, a: dz, b: t.mat(l.Wh).T(), c: rows(l.dh, h)})
		if l.Memory != None {
			t.multiply(product{m: b, n: l.width, k: 4 * h, a: dz, b: t.mat(l.Wr).T(), c: rows(l.dr, l.width)})
			attn.Parallel(t.ws, b/l.Share, attn.ScratchFloats(l.units, l.units, l.keys), lstmArgs{t, l}, readRowGrad)
			t.multiply(product{add: true, m: b, n: h, k: l.units, a: l.step(l.dq, l.units), b: t.mat(l.Wq).T(), c: rows(l.dh, h)})
		}
	}
	weights := func(v Var, x []float32, in int, d []float32, out int) {
		if t.need(v) {
			dw, add := t.gradSpace(v)
			t.multiply(product{add: add, m: in, n: out, k: n, a: rows(x, in).T(), b: rows(d, out), c: rows(dw, out)})
		}
	}
	weights(l.Wh, l.h, h, l.dz, 4*h)
	if l.Memory != None {
		weights(l.Wq, l.h, h, l.dq, l.units)
		weights(l.Wr, l.r, l.width, l.dz, 4*h)
		if t.need(l.V) {
			for i := range b {
				kernel.Add(t.gradSum(l.V), l.dv[i*l.units:(i+1)*l.units])
			}
		}
	}
	if l.H0 != None {
		t.giveNew(l.H0, l.dh)
	}
	t.giveNew(l.X, l.dz)
}

// gradOrWaste is the gradient of v to be added to, or memory for it when none is asked for.
func (t *Tape) gradOrWaste(v Var) []float32 {
	if t.need(v) {
		return t.gradSum(v)
	}
	return t.zeros(t.size(v))
}

// cellRowGrad computes a row's gradient of the gates before their activation, and of the cell before.
func cellRowGrad(s *attn.Scratch, a *lstmArgs, b int) {
	l := a.l
	n := l.hidden
	gate, tc := l.at(l.gates, b, 4*n), l.at(l.tan, b, n)
	dz, dc, dh := l.at(l.dz, b, 4*n), l.dc[b*n:(b+1)*n], l.dh[b*n:(b+1)*n]
	kernel.Add(dh, l.at(l.g, b, n+l.width))
	before := a.before(b)
	i, f, o, z := gate[:n], gate[n:2*n], gate[2*n:3*n], gate[3*n:]
	for e, h := range dh { // batch·hidden numbers a step, beside 16·batch·hidden² of the products
		c := dc[e] + h*o[e]*(1-tc[e]*tc[e])
		last := float32(0)
		if before != nil {
			last = before[e]
		}
		dz[e] = c * z[e] * i[e] * (1 - i[e])
		dz[n+e] = c * last * f[e] * (1 - f[e])
		dz[2*n+e] = h * tc[e] * o[e] * (1 - o[e])
		dz[3*n+e] = c * i[e] * (1 - z[e]*z[e])
		dc[e] = c * f[e]
	}
}

// readRowGrad takes the gradient of the memory read by the rows that share a memory back to memory, keys and query.
func readRowGrad(s *attn.Scratch, a *lstmArgs, share int) {
	l := a.l
	x, y, da := s.Floats(l.units), s.Floats(l.units), s.Floats(l.keys)
	v := a.tape.nodes[l.V].data
	for b := share * l.Share; b < (share+1)*l.Share; b++ {
		m, k, n := a.memory(b)
		w, q, dq, dv := l.at(l.a, b, l.keys), l.at(l.q, b, l.units), l.at(l.dq, b, l.units), l.dv[b*l.units:(b+1)*l.units]
		dr := l.dr[b*l.width : (b+1)*l.width]
		kernel.Add(dr, l.at(l.g, b, l.hidden+l.width)[l.hidden:])
		clear(dq)
		mean := float32(0)
		for j := range n {
			da[j] = kernel.Dot(dr, m[j*l.width:(j+1)*l.width])
			mean += w[j] * da[j]
		}
		for j := range n {
			kernel.Axpy(w[j], dr, l.dm[(share*l.keys+j)*l.width:][:l.width])
			de := w[j] * (da[j] - mean) // they sum to 0 over j, so that tanh's -1 leaves no trace in dv
			twoSigma(x, q, k[j*l.units:(j+1)*l.units])
			kernel.Axpy(2*de, x, dv)
			copy(y, x)
			kernel.Times(y, x)
			kernel.Scale(-1, y)
			kernel.Add(y, x) // σ - σ²: a quarter of tanh's slope
			kernel.Times(y, v)
			kernel.Axpy(4*de, y, dq)
			kernel.Axpy(4*de, y, l.dk[(share*l.keys+j)*l.units:][:l.units])
		}
	}
}
