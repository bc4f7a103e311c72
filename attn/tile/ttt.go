package tile

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// TTT is a linear model z = kW + b, one a key/value head, that is trained on the tokens as they come, by a step of gradient descent for every
// Batch of them (Sun et al. 2024, arXiv:2407.04620). Keys, values and queries are equally wide, d; with LN(z) = γ∘ẑ + δ, the loss of a
// token is ½|LN(kW + b) - (v - k)|², and ∇_j its gradient in z at the W and b that the batch began with. For token i of a batch
//
//	z̄_i = q_i W + b - r_i Σ_{j≤i} (q_i·k_j + 1) ρ_j ∇_j,  o_i = q_i + LN(z̄_i)
//	r_i = max(0, 1/(i+1) + c_i),  ρ_j = Rate·η_j/d
//
// and after the last of it, number B-1, W ← W - r_{B-1} Σ_j k_jᵀ ρ_j ∇_j, b ← b - r_{B-1} Σ_j ρ_j ∇_j. Queries and keys are turned by
// Call.Rope, to their place in the batch. Causal only. η is Call.Extra[0], [batch, key, kv heads, 1]; Call.Learned holds W
// and b at the start of a sequence, [kv heads, d, d] and [kv heads, d], γ and δ, [kv heads, d], and c, [Batch].
//
// A batch is computed at once. Of one that is not complete, decoding keeps the sums U = Σ k_jᵀ ρ_j ∇_j and u = Σ ρ_j ∇_j beside W and
// b, and takes them into these only with the token behind the batch: a query that comes alone may ask about its last.
type TTT struct {
	Batch int     // tokens a step of gradient descent, at least 1
	Rate  float64 // of learning, above 0
}

// tttEps is added to a variance.
const tttEps = 1e-6

// Check reports a setting that cannot be computed.
func (m *TTT) Check() error {
	if m.Batch < 1 || m.Batch > 1<<12 {
		return attn.OptionError("batch", m.Batch, "an integer from 1 to 4096")
	}
	if !(m.Rate > 0 && m.Rate <= 1e3) {
		return attn.OptionError("rate", m.Rate, "a number above 0, at most 1000")
	}
	return nil
}

// recurrence is the one whose state has the size of W, b, U and u.
func (m *TTT) recurrence() Recurrence { return Recurrence{Chunk: m.Batch, Decay: HeadDecay} }

// tttShape is the shape of which that recurrence has the size.
func tttShape(s attn.Shape) attn.Shape {
	s.ValueDim = 2 * (s.KeyDim + 1)
	return s
}

// modelLen is the numbers of W and b.
func modelLen(s attn.Shape) int { return s.KeyDim * (s.KeyDim + 1) }

// tttArgs is one pass over the segments lo ≤ i < hi of a call.
type tttArgs struct {
	recurArgs
	rate     float32   // Rate/d
	steps    []float32 // [Batch]: r
	cos, sin []float32 // [Batch, pairs]
	back     []float32 // -sin
	records  []float32 // [kv heads, batches, modelLen]: W and b before each batch
	learned  []float32 // [segments of the call, kv heads, tttGrads]: gradients of what was learned
	states   []float32 // [batch, kv heads, 2·modelLen] when decoding
}

// args returns the pass, its tables on ws.
func (m *TTT) args(ws *attn.Workspace, c *attn.Call) tttArgs {
	r := m.recurrence()
	a := tttArgs{recurArgs: r.args(c), rate: float32(m.Rate / float64(c.KeyDim)), steps: ws.Floats(m.Batch)}
	a.cos, a.sin, a.back = ws.Floats(m.Batch*c.KeyDim), ws.Floats(m.Batch*c.KeyDim), ws.Floats(m.Batch*c.KeyDim)
	for i := range m.Batch {
		a.steps[i] = max(0, 1/float32(i+1)+c.Learned[4][i])
		if c.Rope != nil {
			n := c.Rope.Pairs(c.KeyDim)
			c.Rope.Angles(a.cos[i*n:], a.sin[i*n:], i, c.KeyDim)
			for p, x := range a.sin[i*n:][:n] {
				a.back[i*n+p] = -x
			}
		}
	}
	return a
}

func (m *TTT) tableFloats(s attn.Shape) int {
	return attn.ScratchFloats(m.Batch, m.Batch*s.KeyDim, m.Batch*s.KeyDim, m.Batch*s.KeyDim)
}

func (a *tttArgs) record(kv, batch int) []float32 {
	n := modelLen(a.c.Shape)
	return a.records[(kv*last(a.keys)+batch)*n:][:n]
}

// turn rotates src to place i of a batch, turnBack from it.
func (a *tttArgs) turn(dst, src []float32, i int)     { a.turnBy(dst, src, a.sin, i) }
func (a *tttArgs) turnBack(dst, src []float32, i int) { a.turnBy(dst, src, a.back, i) }

func (a *tttArgs) turnBy(dst, src, sin []float32, i int) {
	if a.c.Rope == nil {
		copy(dst, src)
		return
	}
	n := a.c.Rope.Pairs(len(src))
	a.c.Rope.Turn(dst, src, a.cos[i*n:][:n], sin[i*n:][:n])
}

// Forward computes c.Out from a call that has passed Check.
func (m *TTT) Forward(ws *attn.Workspace, c *attn.Call) {
	c.ZeroPadding()
	mark := ws.Mark()
	a := m.args(ws, c)
	a.plan(ws)
	if c.Saved != nil {
		a.records = c.Saved.Floats(a.keyChunks() * modelLen(c.Shape))
	}
	attn.Parallel(ws, a.heads(), m.forwardFloats(c.Shape), a, tttTask)
	ws.Release(mark)
}

// NewState returns an empty decoding state for shape.Batch sequences of the mechanism name.
func (m *TTT) NewState(name string, shape attn.Shape) (*RecurState, error) {
	if err := shape.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r := m.recurrence()
	return r.NewState(name, tttShape(shape))
}

// Extend appends the call's tokens to the state and computes c.Out, for a call that has passed Check.
func (m *TTT) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*RecurState)
	if !ok {
		return fmt.Errorf("state of type %T: want one that NewState made", state)
	}
	r, like := m.recurrence(), *c
	like.Shape = tttShape(c.Shape)
	if err := s.admits(r, &like); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	c.ZeroPadding()
	mark := ws.Mark()
	a := m.args(ws, c)
	a.states, a.lens = s.x, s.lens
	attn.Parallel(ws, a.heads(), m.forwardFloats(c.Shape), a, tttTask)
	ws.Release(mark)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		s.lens[g.Row] += g.Keys
	}
	return nil
}

// tttHead is one key/value head on a worker's scratch. A block is up to Batch tokens of one batch.
type tttHead struct {
	*tttArgs
	attn.Segment
	kv, d       int
	w, u        kernel.Mat // [d, d]
	b, sums     []float32  // b and u
	state       []float32  // all of these: W, b, U, u
	gain, shift []float32  // γ, δ
	k, z, g     kernel.Mat // of a block, [Batch, d]: turned keys, ẑ of them, ρ∇
	sd          []float32  // [Batch]: what ẑ was divided by
	q, o        kernel.Mat // of a block and query head, [Batch, d]: turned queries, z̄ and then ẑ of it
	p           []float32  // [Batch]: q·k + 1
}

// newTTTHead lays one out on s, without its state; tttFloats counts the same.
func newTTTHead(s *attn.Scratch, a *tttArgs, task int) tttHead {
	d, n := a.c.KeyDim, a.Chunk
	seg, kv := a.head(task)
	t := tttHead{tttArgs: a, Segment: a.c.Segment(seg), kv: kv, d: d}
	t.gain, t.shift = a.c.Learned[2][kv*d:][:d], a.c.Learned[3][kv*d:][:d]
	rows := func() kernel.Mat { return kernel.Rows(s.Floats(n*d), d) }
	t.k, t.z, t.g, t.q, t.o = rows(), rows(), rows(), rows(), rows()
	t.sd, t.p = s.Floats(n), s.Floats(n)
	return t
}

func (m *TTT) headFloats(s attn.Shape) int {
	n := m.Batch * s.KeyDim
	return attn.ScratchFloats(n, n, n, n, n, m.Batch, m.Batch)
}

func (m *TTT) forwardFloats(s attn.Shape) int {
	return m.headFloats(s) + attn.ScratchFloats(2*modelLen(s))
}

// hold makes the numbers x the state; a model alone, without sums, is W and b.
func (t *tttHead) hold(x []float32) {
	d := t.d
	t.state, t.w, t.b = x, kernel.Rows(x, d), x[d*d:][:d]
	if len(x) > d*d+d {
		x = x[d*d+d:]
		t.u, t.sums = kernel.Rows(x, d), x[d*d:][:d]
	}
}

// begin puts the learned model in place of the state.
func (t *tttHead) begin() {
	d := t.d
	copy(t.w.Data[:d*d], t.c.Learned[0][t.kv*d*d:])
	copy(t.b, t.c.Learned[1][t.kv*d:][:d])
	clear(t.u.Data[:d*d])
	clear(t.sums)
}

// fold ends a batch.
func (t *tttHead) fold() {
	r, d := t.steps[t.Chunk-1], t.d
	kernel.Axpy(-r, t.u.Data[:d*d], t.w.Data)
	kernel.Axpy(-r, t.sums, t.b)
	clear(t.u.Data[:d*d])
	clear(t.sums)
}

func rowOf(m kernel.Mat, i, d int) []float32 { return m.Data[i*d:][:d] }

// tttTask goes through the batches of one head of a segment.
func tttTask(s *attn.Scratch, a *tttArgs, task int) {
	t := newTTTHead(s, a, task)
	c, n := a.c, 2*modelLen(a.c.Shape)
	seg, kv := a.head(task)
	before := 0
	if a.states != nil {
		t.hold(a.states[(t.Row*c.KVHeads+kv)*n:][:n])
		before = a.lens[t.Row]
	} else {
		t.hold(s.Floats(n))
	}
	if before == 0 {
		t.begin()
	}
	for i := range min(t.Queries, -t.Offset()) {
		for h := range c.Heads / c.KVHeads {
			clear(c.Out.Row(t.Row, t.Query0+i, kv*c.Heads/c.KVHeads+h))
		}
		if i == -1-t.Offset() && before > 0 { // it sees the state alone
			t.emit(i, 1, 0, (before-1)%a.Chunk, true)
		}
	}
	for j := 0; j < t.Keys; {
		at := (before + j) % a.Chunk
		n := min(a.Chunk-at, t.Keys-j)
		if at == 0 && before+j > 0 {
			t.fold()
		}
		if a.records != nil {
			copy(a.record(kv, int(a.keys[seg])+j/a.Chunk), t.state)
		}
		t.learn(j, n, at)
		if first := max(j, t.Offset()); first < j+n {
			t.emit(first-t.Offset(), j+n-first, first-j+1, at+first-j, at > 0)
		}
		if j += n; j < t.Keys || a.states != nil { // else nobody looks at them
			t.take(n)
		}
	}
}

// learn computes ρ∇ of a block of n tokens from j on, the first at place at of its batch.
func (t *tttHead) learn(j, n, at int) {
	c, d := t.c, t.d
	for i := range n {
		t.turn(rowOf(t.k, i, d), c.K.Row(t.Row, t.Key0+j+i, t.kv), at+i)
	}
	kernel.Mul(n, d, d, t.k, t.w, t.z)
	for i := range n {
		k, z, g, v := rowOf(t.k, i, d), rowOf(t.z, i, d), rowOf(t.g, i, d), c.V.Row(t.Row, t.Key0+j+i, t.kv)
		kernel.Add(z, t.b)
		t.sd[i] = normalise(z)
		t.miss(g, z, k, v)
		project(g, z)
		kernel.Scale(t.rate*c.Extra[0].Row(t.Row, t.Key0+j+i, t.kv)[0]/t.sd[i], g)
	}
}

// miss sets u to the gradient of the loss in ẑ.
func (t *tttHead) miss(u, z, k, v []float32) {
	for e, x := range z {
		u[e] = t.gain[e] * (t.gain[e]*x + t.shift[e] - (v[e] - k[e]))
	}
}

// emit computes the outputs of n queries from i on; the first is at place at of the batch and sees so many keys of the block, and with
// more, also the tokens of the batch before the block.
func (t *tttHead) emit(i, n, sees, at int, more bool) {
	c, group := t.c, t.c.Heads/t.c.KVHeads
	for h := t.kv * group; h < (t.kv+1)*group; h++ {
		t.read(i, n, sees, at, h, more)
		for r := range n {
			z, q, out := rowOf(t.o, r, t.d), rowOf(t.q, r, t.d), c.Out.Row(t.Row, t.Query0+i+r, h)
			normalise(z)
			for e, x := range z {
				out[e] = q[e] + t.gain[e]*x + t.shift[e]
			}
		}
	}
}

// read computes z̄ of such queries of head h.
func (t *tttHead) read(i, n, sees, at, h int, more bool) {
	c, d := t.c, t.d
	for r := range n {
		t.turn(rowOf(t.q, r, d), c.Q.Row(t.Row, t.Query0+i+r, h), at+r)
	}
	clear(t.o.Data[:n*d]) // first what the batch has learned, to be weighed by its step
	if more {
		kernel.MulAdd(n, d, d, t.q, t.u, t.o)
	}
	for r := range n {
		o, q := rowOf(t.o, r, d), rowOf(t.q, r, d)
		if more {
			kernel.Add(o, t.sums)
		}
		p := t.p[:sees+r]
		t.pairs(p, q)
		kernel.Combine(o, p, t.g)
		kernel.Scale(-t.steps[at+r], o)
	}
	kernel.MulAdd(n, d, d, t.q, t.w, t.o)
	for r := range n {
		kernel.Add(rowOf(t.o, r, d), t.b)
	}
}

// pairs sets p to q·k + 1 of the block's first keys.
func (t *tttHead) pairs(p, q []float32) {
	kernel.Dots(p, q, t.k, len(p))
	for j := range p {
		p[j]++
	}
}

// take adds a block of n tokens to the sums of its batch.
func (t *tttHead) take(n int) {
	if n == 1 {
		kernel.Update(t.u, nil, rowOf(t.k, 0, t.d), rowOf(t.g, 0, t.d))
	} else {
		kernel.MulAdd(t.d, t.d, n, t.k.T(), t.g, t.u)
	}
	for i := range n {
		kernel.Add(t.sums, rowOf(t.g, i, t.d))
	}
}

// normalise brings z to mean 0 and variance 1 and returns what it divided by.
func normalise(z []float32) float32 {
	d := float32(len(z))
	mean := kernel.Sum(z) / d
	for i := range z {
		z[i] -= mean
	}
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
func project(x, z []float32) {
	d := float32(len(x))
	mean, along := kernel.Sum(x)/d, kernel.Dot(x, z)/d
	for i := range x {
		x[i] -= mean + along*z[i]
	}
}
