package tile

import (
	"fmt"

	"attnbench/attn"
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
// A batch is computed at once, as products: with a 1 behind each key and query, b is one more row of W, and (q·k + 1) one product.
// Of a batch that is not complete, decoding keeps the sum U = Σ k_jᵀ ρ_j ∇_j beside W, and takes it into W only with the token behind
// the batch: a query that comes alone may ask about its last.
type TTT struct {
	Batch int     // tokens a step of gradient descent, at least 1
	Rate  float64 // of learning, above 0
}

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

// recurrence is the one whose state has the size of W and U, each with its row for the 1.
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
	ones     []float32 // [d]
	cos, sin []float32 // [Batch, pairs]
	back     []float32 // -sin
	records  []float32 // [kv heads, batches, modelLen]: W and b before each batch
	learned  []float32 // [segments of the call, kv heads, tttGrads]: gradients of what was learned
	states   []float32 // [batch, kv heads, 2·modelLen] when decoding
}

// args returns the pass, its tables on ws.
func (m *TTT) args(ws *attn.Workspace, c *attn.Call) tttArgs {
	r, d := m.recurrence(), c.KeyDim
	a := tttArgs{recurArgs: r.args(c), rate: float32(m.Rate / float64(d)), steps: ws.Floats(m.Batch), ones: ws.Floats(d)}
	a.cos, a.sin, a.back = ws.Floats(m.Batch*d), ws.Floats(m.Batch*d), ws.Floats(m.Batch*d)
	for i := range a.ones {
		a.ones[i] = 1
	}
	for i := range m.Batch {
		a.steps[i] = max(0, 1/float32(i+1)+c.Learned[4][i])
		if c.Rope != nil {
			n := c.Rope.Pairs(d)
			c.Rope.Angles(a.cos[i*n:], a.sin[i*n:], i, d)
			for p, x := range a.sin[i*n:][:n] {
				a.back[i*n+p] = -x
			}
		}
	}
	return a
}

func (m *TTT) tableFloats(s attn.Shape) int {
	n := m.Batch * s.KeyDim
	return attn.ScratchFloats(m.Batch, s.KeyDim, n, n, n)
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

// Forward computes c.Out from a call that has passed Check. With c.Saved set, W and b before each batch stay there.
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
