package tile

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Mesa is linear attention that solves, at every token, the least squares which its state sums up:
//
//	H_t = e^{g_t} H_{t-1} + β_t k_t k_tᵀ      [key dim, key dim], one a key/value head
//	G_t = e^{g_t} G_{t-1} + β_t k_t v_tᵀ      [key dim, value dim]
//	o_t = G_tᵀ x_t,  (H_t + diag(λ)) x_t = q_t
//
// g is Call.Extra[0] and β Call.Extra[1], both [batch, key, kv heads, 1]; λ = 1/4 + softplus(p) with p [kv heads, key dim] in
// Call.Learned[0]. Causal only. The two matrices are one state [H G], and a token's write one update of it. x comes from Steps
// steps of conjugate gradients (Hestenes & Stiefel 1952) from q over the diagonal.
//
// Tokens follow one another, a few of them side by side (mesablock.go): H is at hand in the nearest cache for the many products with it.
type Mesa struct {
	Chunk int // tokens between the states that Forward keeps for Backward, at least 1
	Steps int // of conjugate gradients, at least 1
}

// Check reports a setting that cannot be computed.
func (m *Mesa) Check() error {
	if m.Steps < 1 || m.Steps > 1000 {
		return attn.OptionError("steps", m.Steps, "an integer from 1 to 1000")
	}
	r := Recurrence{Chunk: m.Chunk}
	return r.Check()
}

// recurrence is the one of [H G].
func (m *Mesa) recurrence() Recurrence { return Recurrence{Chunk: m.Chunk, Decay: HeadDecay} }

// stateShape is the shape whose values are the rows of [H G].
func stateShape(s attn.Shape) attn.Shape {
	s.ValueDim += s.KeyDim
	return s
}

func mesaLen(s attn.Shape) int { return s.KeyDim * (s.KeyDim + s.ValueDim) }

// mesaArgs is one pass over the segments lo ≤ i < hi of a call.
type mesaArgs struct {
	recurArgs
	steps   int
	records []float32 // [kv heads, key chunks, mesaLen]: the state before each chunk
	x       attn.View // x of each query, [batch, query, heads, key dim]; empty unless kept
	dl      []float32 // [segments of the call, kv heads, key dim]: gradients of λ
	states  []float32 // [batch, kv heads, mesaLen] when decoding
}

func (m *Mesa) args(c *attn.Call) mesaArgs {
	r := m.recurrence()
	return mesaArgs{recurArgs: r.args(c), steps: m.Steps}
}

func (a *mesaArgs) record(kv, chunk int) []float32 {
	n := mesaLen(a.c.Shape)
	return a.records[(kv*last(a.keys)+chunk)*n:][:n]
}

// Forward computes c.Out from a call that has passed Check.
func (m *Mesa) Forward(ws *attn.Workspace, c *attn.Call) {
	c.ZeroPadding()
	mark := ws.Mark()
	a := m.args(c)
	a.plan(ws)
	if c.Saved != nil {
		a.records = c.Saved.Floats(a.keyChunks() * mesaLen(c.Shape))
		a.x = attn.ViewAs(c.Saved.Floats(c.Batch*c.QueryLen*c.Heads*c.KeyDim), c.Batch, c.QueryLen, c.Heads, c.KeyDim)
	}
	attn.Parallel(ws, a.heads(), m.forwardFloats(c.Shape), a, mesaTask)
	ws.Release(mark)
}

// NewState returns an empty decoding state for shape.Batch sequences of the mechanism name.
func (m *Mesa) NewState(name string, shape attn.Shape) (*RecurState, error) {
	if err := shape.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r := m.recurrence()
	return r.NewState(name, stateShape(shape))
}

// Extend appends the call's tokens to the state and computes c.Out, for a call that has passed Check.
func (m *Mesa) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*RecurState)
	if !ok {
		return fmt.Errorf("state of type %T: want one that NewState made", state)
	}
	r, like := m.recurrence(), *c
	like.Shape = stateShape(c.Shape)
	if err := s.admits(r, &like); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	c.ZeroPadding()
	a := m.args(c)
	a.states, a.lens = s.x, s.lens
	attn.Parallel(ws, a.heads(), m.forwardFloats(c.Shape), a, mesaTask)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		s.lens[g.Row] += g.Keys
	}
	return nil
}

// mesaHead is one key/value head on a worker's scratch.
type mesaHead struct {
	*mesaArgs
	attn.Segment
	kv               int
	s                []float32 // [H G]
	lambda           []float32 // [key dim]
	decay, key, row  []float32 // e^g, [key dim]; βk; [k v]
	b, x, r, dir, to []float32 // of the solver, [key dim]
	block            mesaBlock
}

// newMesaHead lays one out on s, without its state; mesaFloats counts the same.
func newMesaHead(s *attn.Scratch, a *mesaArgs, task int) mesaHead {
	dk := a.c.KeyDim
	seg, kv := a.head(task)
	t := mesaHead{mesaArgs: a, Segment: a.c.Segment(seg), kv: kv}
	t.lambda, t.decay, t.key, t.row = s.Floats(dk), s.Floats(dk), s.Floats(dk), s.Floats(dk+a.c.ValueDim)
	t.b, t.x, t.r, t.dir, t.to = s.Floats(dk), s.Floats(dk), s.Floats(dk), s.Floats(dk), s.Floats(dk)
	for i, p := range a.c.Learned[0][kv*dk:][:dk] {
		t.lambda[i] = float32(0.25 + math.Max(float64(p), 0) + math.Log1p(math.Exp(-math.Abs(float64(p)))))
	}
	return t
}

func mesaFloats(s attn.Shape) int {
	dk := s.KeyDim
	return attn.ScratchFloats(dk, dk, dk, dk+s.ValueDim, dk, dk, dk, dk, dk)
}

func (m *Mesa) forwardFloats(s attn.Shape) int {
	return mesaFloats(s) + attn.ScratchFloats(mesaLen(s)) + mesaBlockFloats(s)
}

func (t *mesaHead) state() kernel.Mat { return kernel.Rows(t.s, t.c.KeyDim+t.c.ValueDim) }

// mesaTask goes through the tokens of one head of a segment.
func mesaTask(s *attn.Scratch, a *mesaArgs, task int) {
	t := newMesaHead(s, a, task)
	c, n := a.c, mesaLen(a.c.Shape)
	seg, kv := a.head(task)
	before := 0
	if a.states != nil {
		t.s, before = a.states[(t.Row*c.KVHeads+kv)*n:][:n], a.lens[t.Row]
	} else {
		t.s = s.Floats(n)
		clear(t.s)
	}
	for i := range min(t.Queries, -t.Offset()) {
		if i == -1-t.Offset() && before > 0 { // it sees the state alone
			t.emit(i)
			continue
		}
		for h := range c.Heads / c.KVHeads {
			clear(c.Out.Row(t.Row, t.Query0+i, kv*c.Heads/c.KVHeads+h))
		}
	}
	if t.Keys > 1 {
		t.block.lay(s, c.Shape)
	}
	end := 0 // of the block
	for j := range t.Keys {
		if t.Keys > 1 && j == end {
			end += t.blockFrom(j)
			if end > t.Offset() {
				t.emitBlock(j)
			}
		}
		if a.records != nil && j%a.Chunk == 0 {
			copy(a.record(kv, int(a.keys[seg])+j/a.Chunk), t.s)
		}
		t.step(j)
		if i := j - t.Offset(); i >= 0 && t.Keys == 1 {
			t.emit(i)
		}
	}
}

// step takes key j into the state.
func (t *mesaHead) step(j int) {
	c := t.c
	k, beta := c.K.Row(t.Row, t.Key0+j, t.kv), c.Extra[1].Row(t.Row, t.Key0+j, t.kv)[0]
	copy(t.row[copy(t.row, k):], c.V.Row(t.Row, t.Key0+j, t.kv))
	copy(t.key, k)
	kernel.Scale(beta, t.key)
	decays(t.decay, c.Extra[0].Row(t.Row, t.Key0+j, t.kv), t.state(), len(t.row))
	kernel.Update(t.state(), t.decay, t.key, t.row)
}

// emit computes the outputs of query i of the group.
func (t *mesaHead) emit(i int) {
	c, group := t.c, t.c.Heads/t.c.KVHeads
	for h := t.kv * group; h < (t.kv+1)*group; h++ {
		t.solve(c.Q.Row(t.Row, t.Query0+i, h))
		if !t.mesaArgs.x.Empty() {
			copy(t.mesaArgs.x.Row(t.Row, t.Query0+i, h), t.x)
		}
		out := c.Out.Row(t.Row, t.Query0+i, h)
		clear(out)
		kernel.Combine(out, t.x, t.state().From(0, c.KeyDim))
	}
}

// mesaExact is the square of a residual that float32 cannot tell from none, beside a right side whose largest element is 1.
const mesaExact = 1e-16

// solve sets x to the solution of (H + diag(λ)) x = b. Right sides are brought to a largest element of 1: squares of others
// would overflow.
func (t *mesaHead) solve(b []float32) {
	dk, ld, top := t.c.KeyDim, t.c.KeyDim+t.c.ValueDim, float32(0)
	for _, x := range b {
		top = max(top, x, -x) // NaN if one is
	}
	clear(t.x)
	if top == 0 {
		return
	}
	for i, x := range b {
		t.b[i] = x / top
		t.x[i] = t.b[i] / (t.s[i*ld+i] + t.lambda[i])
	}
	h := t.state()
	kernel.Dots(t.r, t.x, h, dk)
	for i, y := range t.r {
		t.r[i] = t.b[i] - (y + t.lambda[i]*t.x[i])
	}
	copy(t.dir, t.r)
	rr := kernel.Dot(t.r, t.r)
	for range t.steps {
		kernel.Dots(t.to, t.dir, h, dk)
		for i, p := range t.dir {
			t.to[i] += t.lambda[i] * p
		}
		rr = descend(t.x, t.r, t.dir, t.to, rr)
	}
	kernel.Scale(top, t.x)
}

// descend takes a step of x along dir, where to is the matrix times dir: it brings the residual r and dir to the next step, and returns the square of r,
// of which rr is the one before.
func descend(x, r, dir, to []float32, rr float32) float32 {
	alpha := rr / kernel.Dot(dir, to)
	if rr < mesaExact { // every token takes all steps, but those of subnormal numbers would take most of the time
		clear(r)
		clear(dir)
		alpha, rr = 0, 1
	}
	kernel.Axpy(alpha, dir, x)
	kernel.Axpy(-alpha, to, r)
	next := kernel.Dot(r, r)
	kernel.Scale(next/rr, dir)
	kernel.Axpy(1, r, dir)
	return next
}
