package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("gsa", GSA{Chunk: 64}, GSA.New) }

// GSA holds the options of gated slot attention, spelled gsa:slots=32.
type GSA struct {
	Slots int `opt:"slots"` // slots of a key/value head; 0 for as many as a key is wide
	Chunk int `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns gated slot attention with the options o.
func (o GSA) New() (attn.Mechanism, error) {
	if o.Slots < 0 || o.Slots > 1<<12 {
		return nil, attn.OptionError("slots", o.Slots, "an integer from 0 to 4096")
	}
	m := gsa{
		o:      o,
		keys:   tile.Recurrence{Chunk: o.Chunk, Decay: tile.ChannelDecay, Scale: 1, Dual: true, Part: 1},
		values: tile.Recurrence{Chunk: o.Chunk, Decay: tile.ChannelDecay, Scale: 1, Part: 2},
	}
	if err := m.keys.Check(); err != nil {
		return nil, err
	}
	inputs := attn.QKV()
	for i := range inputs {
		inputs[i].Rotary, inputs[i].Act = false, attn.SiLU
	}
	m.info = &attn.Info{
		Name:     attn.Spell("gsa", o),
		Family:   "linear",
		Title:    "Gated Slot Attention",
		Paper:    "Zhang et al. 2024, arXiv:2409.07146",
		Year:     2024,
		Revision: 1,

		Masks:  attn.Causal,
		Decode: attn.DecodeAlways,
		Inputs: append(inputs, attn.Input{
			Name: "f", From: attn.MemorySide, Heads: attn.KVHeads, Width: m.slots, Act: attn.LogSigmoid, Scale: 1.0 / 8,
		}),
		Output: attn.Output{Act: attn.SiLU, Norm: attn.RMSNorm, NormHeads: attn.QueryHeads},
		Carry:  func(s attn.Shape) int { return m.keys.Carry(m.inner(s, 0)) + m.values.Carry(m.inner(s, 1)) },
	}
	m.info.Cost = m.cost
	return m, nil
}

type gsa struct {
	o            GSA
	keys, values tile.Recurrence // the slots' keys, read by queries, and their values, read by what those give
	info         *attn.Info
}

func (m gsa) Info() attn.Info { return *m.info }

func (m gsa) slots(s attn.Shape) int {
	if m.o.Slots > 0 {
		return m.o.Slots
	}
	return s.KeyDim
}

// inner is the shape of the recurrence over keys, 0, or values, 1: its channels are the slots.
func (m gsa) inner(s attn.Shape, which int) attn.Shape {
	n := m.slots(s)
	if which == 0 {
		s.ValueDim = s.KeyDim
	}
	s.KeyDim = n
	return s
}

// Define is gated slot attention, token by token, with m slots:
//
//	K̃_t = diag(α_t) K̃_{t-1} + (1-α_t) k_tᵀ,  Ṽ_t = diag(α_t) Ṽ_{t-1} + (1-α_t) v_tᵀ
//	o_t = Ṽ_tᵀ softmax(K̃_t q_t)
//
// The input f is log α. K̃ [m, key dim] and Ṽ [m, value dim] are zero, or Initial, at the start; a query reads after the write of
// its own token. Zhang et al. 2024 (arXiv:2409.07146) §3.1, eq. 6 and 7; without a scale, as in the authors' layer.
func (m gsa) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	n := m.slots(c.Shape)
	size := n * (c.KeyDim + c.ValueDim)
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s := state64At(h, size, h.KV, c.KVHeads)
		keys, values := s[:n*c.KeyDim], s[n*c.KeyDim:]
		alpha, omega, p := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range h.Queries {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			for a, g := range h.KeySide(0, j) {
				alpha[a], omega[a] = math.Exp(g), -math.Expm1(g)
			}
			write64(keys, alpha, omega, h.K(j))
			write64(values, alpha, omega, h.V(j))
			if i := j - h.Offset(); i >= 0 {
				for a := range p {
					p[a] = 0
					for b, q := range h.Q(i) {
						p[a] += keys[a*c.KeyDim+b] * q
					}
				}
				attn.Softmax(p)
				read64(h.Out(i), values, p, 1)
			}
		}
		store64At(h, s, h.KV, c.KVHeads)
	})
	return nil
}

// gsaWork is one pass: the calls of the two recurrences, and what they work on.
type gsaWork struct {
	calls         [2]attn.Call
	grads         [2]attn.Grads
	extra, gextra [1]attn.View
	omega, p      attn.View // writes [batch, key, kv heads, slots]; weights of the slots [batch, query, heads, slots]
}

// begin lays the calls out. Their scratch lives until the pass is done.
func (m gsa) begin(ws *attn.Workspace, c *attn.Call) *gsaWork {
	w, n := attn.Reused[gsaWork](ws), m.slots(c.Shape)
	w.omega = viewOf(ws, c, c.KVHeads, n)
	attn.Parallel(ws, c.Batch*gateBlocks(c), 0, hgrn2Args{c: c, k: w.omega}, func(_ *attn.Scratch, a *hgrn2Args, task int) {
		writes(a.c, a.k, task)
	})
	w.extra[0] = c.Extra[0]
	for i := range w.calls {
		d := &w.calls[i]
		*d = *c
		d.Shape, d.K, d.Extra, d.Initial, d.Final = m.inner(c.Shape, i), w.omega, w.extra[:], nil, nil
	}
	w.calls[0].V = c.K
	return w
}

// weights makes p the weights of slots: what the first recurrence gives to the second.
func (w *gsaWork) weights(data []float32, slots int) {
	c := &w.calls[1]
	w.p = attn.ViewAs(data, c.Batch, c.QueryLen, c.Heads, slots)
	w.calls[0].Out, w.calls[1].Q = w.p, w.p
}

// leg returns one of the recurrences that a pass runs one after the other, for the pass that it takes, with scratch as the pass has it. The
// caller releases the mark.
func (m gsa) leg(ws *attn.Workspace, s attn.Shape, whole attn.Pass, r tile.Recurrence, which int, p attn.Pass) (tile.Recurrence, attn.Mark) {
	shared, worker := m.most(s, whole)
	mark := ws.Mark()
	ws.Floats(int(shared-r.Cost(m.inner(s, which), p).Shared) / 4)
	r.Reserve = int(worker) / 4
	return r, mark
}

// most is the scratch of the largest leg of a pass.
func (m gsa) most(s attn.Shape, p attn.Pass) (shared, worker int64) {
	costs := [3]attn.Cost{m.keys.Cost(m.inner(s, 0), p), m.values.Cost(m.inner(s, 1), p)}
	if p == attn.PassBackward {
		plain := m.plain()
		costs[0], costs[2] = plain.Cost(m.inner(s, 0), p), plain.Cost(m.inner(s, 0), attn.PassForward)
	}
	for _, c := range costs {
		shared, worker = max(shared, c.Shared), max(worker, c.PerWorker)
	}
	return shared, worker
}

// plain is the recurrence over keys the usual way round.
func (m gsa) plain() tile.Recurrence {
	r := m.keys
	r.Dual = false
	return r
}

// parts returns room for the states, or their gradients, of both recurrences of the call, with those in x unless it is nil.
func (m gsa) parts(ws *attn.Workspace, c *attn.Call, x []float32) (parts [2][]float32) {
	for i := range parts {
		parts[i] = ws.Floats(c.NumSegments() * c.KVHeads * m.stateLen(c.Shape, i))
		if x != nil {
			m.eachState(c, i, func(part, whole, n int) { copy(parts[i][part:part+n], x[whole:]) })
		}
	}
	return parts
}

// join is the way back: it adds to x, which Forward has cleared.
func (m gsa) join(c *attn.Call, x []float32, parts [2][]float32) {
	for i := range parts {
		m.eachState(c, i, func(part, whole, n int) { kernel.Add(x[whole:whole+n], parts[i][part:]) })
	}
}

// eachState calls f for every state of one recurrence: where it lies there, where beside the other, and its length.
func (m gsa) eachState(c *attn.Call, which int, f func(part, whole, n int)) {
	sizes := [2]int{m.stateLen(c.Shape, 0), m.stateLen(c.Shape, 1)}
	for i := range c.NumSegments() * c.KVHeads {
		f(i*sizes[which], i*(sizes[0]+sizes[1])+which*sizes[0], sizes[which])
	}
}

func (m gsa) stateLen(s attn.Shape, which int) int {
	in := m.inner(s, which)
	return in.KeyDim * in.ValueDim
}

func (m gsa) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	mark := ws.Mark()
	w, n := m.begin(ws, c), c.Batch*c.QueryLen*c.Heads*m.slots(c.Shape)
	if c.Saved != nil {
		w.weights(c.Saved.Floats(n), m.slots(c.Shape))
	} else {
		w.weights(ws.Floats(n), m.slots(c.Shape))
	}
	initial, final := m.parts(ws, c, c.Initial), m.parts(ws, c, nil)
	for i := range w.calls {
		if c.Initial != nil {
			w.calls[i].Initial = initial[i]
		}
		if c.Final != nil {
			w.calls[i].Final = final[i]
		}
	}
	r, at := m.leg(ws, c.Shape, attn.PassForward, m.keys, 0, attn.PassForward)
	r.Forward(ws, &w.calls[0])
	ws.Release(at)
	w.softmax(ws)
	r, at = m.leg(ws, c.Shape, attn.PassForward, m.values, 1, attn.PassForward)
	r.Forward(ws, &w.calls[1])
	ws.Release(at)
	if c.Final != nil {
		clear(c.Final)
		m.join(c, c.Final, final)
	}
	*w = gsaWork{}
	ws.Release(mark)
	return nil
}

// softmax turns the first recurrence's outputs to the second's queries.
func (w *gsaWork) softmax(ws *attn.Workspace) {
	attn.Parallel(ws, w.p.Batch*w.p.Time, 0, w.p, func(_ *attn.Scratch, p *attn.View, task int) {
		for h := range p.Heads {
			kernel.SoftmaxRow(p.Row(task/p.Time, task%p.Time, h))
		}
	})
}

// Backward goes through the second recurrence, the softmax and the first. The sum that the first computes,
//
//	Σ_t x_t·logits_t = Σ_{j≤t} Σ_ab x_t[a] ω_j[a] e^{…}[a] k_j[b] q_t[b]
//
// is what the usual recurrence with queries x, keys ω and values k gives for the output gradient q. So for the gradient x of the logits its
// outputs are the gradients of q, and its gradients those of ω, k and the decays.
func (m gsa) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	w, n := m.begin(ws, c), m.slots(c.Shape)
	w.weights(c.Saved.Part(0), n)
	final, initial := m.parts(ws, c, g.Final), m.parts(ws, c, nil)
	query := func(width int) attn.View {
		return attn.ViewAs(ws.Zeros(c.Batch*c.QueryLen*c.Heads*width), c.Batch, c.QueryLen, c.Heads, width)
	}
	x, none, dq, domega := query(n), query(n), query(c.KeyDim), viewOf(ws, c, c.KVHeads, n)
	clear(domega.Data)
	w.gextra[0] = g.Extra[0]
	w.grads[0] = attn.Grads{Out: c.Q, Q: none, K: domega, V: g.K, Extra: w.gextra[:]}
	w.grads[1] = attn.Grads{Out: g.Out, Q: x, K: domega, V: g.V, Extra: w.gextra[:]}
	for i := range w.grads {
		if g.Initial != nil {
			clear(initial[i])
			w.grads[i].Initial = initial[i]
		}
		if g.Final != nil {
			w.grads[i].Final = final[i]
		}
	}
	r, at := m.leg(ws, c.Shape, attn.PassBackward, m.values, 1, attn.PassBackward)
	r.Backward(ws, &w.calls[1], &w.grads[1])
	ws.Release(at)
	softmaxGrad(x, w.p)
	w.calls[0].Q, w.calls[0].Out = x, dq
	r, at = m.leg(ws, c.Shape, attn.PassBackward, m.plain(), 0, attn.PassBackward)
	r.Backward(ws, &w.calls[0], &w.grads[0])
	ws.Release(at)
	w.calls[0].Saved = nil
	if c.Initial != nil {
		w.calls[0].Initial = final[0] // whose gradient has been taken
		m.eachState(c, 0, func(part, whole, n int) { copy(final[0][part:part+n], c.Initial[whole:]) })
	}
	r, at = m.leg(ws, c.Shape, attn.PassBackward, m.plain(), 0, attn.PassForward)
	r.Forward(ws, &w.calls[0])
	ws.Release(at)
	addView(g.Q, dq)
	// ω = 1 - e^f
	for b := range c.Batch {
		for t := range c.KeyLen {
			for h := range c.KVHeads {
				df, omega := g.Extra[0].Row(b, t, h), w.omega.Row(b, t, h)
				for i, d := range domega.Row(b, t, h) {
					if d != 0 { // padding may hold NaN
						df[i] -= d * (1 - omega[i])
					}
				}
			}
		}
	}
	if g.Initial != nil {
		m.join(c, g.Initial, initial)
	}
	*w = gsaWork{}
	ws.Release(mark)
	return nil
}

// softmaxGrad turns the gradients x of weights p to those of their logits.
func softmaxGrad(x, p attn.View) {
	for b := range x.Batch {
		for t := range x.Time {
			for h := range x.Heads {
				row, p := x.Row(b, t, h), p.Row(b, t, h)
				mean := kernel.Dot(row, p)
				for i := range row {
					row[i] = p[i] * (row[i] - mean)
				}
			}
		}
	}
}

func addView(dst, x attn.View) {
	for b := range x.Batch {
		for t := range x.Time {
			for h := range x.Heads {
				kernel.Add(dst.Row(b, t, h), x.Row(b, t, h))
			}
		}
	}
}

func (m gsa) cost(s attn.Shape, p attn.Pass) attn.Cost {
	a, b := m.keys.Cost(m.inner(s, 0), p), m.values.Cost(m.inner(s, 1), p)
	cost := attn.Cost{FLOPs: a.FLOPs + b.FLOPs, State: a.State + b.State, Read: a.Read + b.Read, Saved: a.Saved + b.Saved}
	shared, worker := m.most(s, p)
	if p == attn.PassDecode {
		s.KeyLen = s.QueryLen
	}
	n := m.slots(s)
	keys, queries := s.Batch*s.KeyLen*s.KVHeads, s.Batch*s.QueryLen*s.Heads
	states := 2 * attn.ScratchFloats(s.Batch*s.KVHeads*m.stateLen(s, 0), s.Batch*s.KVHeads*m.stateLen(s, 1))
	cost.Shared, cost.PerWorker = shared+4*int64(attn.ScratchFloats(keys*n)), worker
	cost.Bytes = movedBytes(m.info, s)
	switch p {
	case attn.PassForward:
		cost.Shared += 4 * int64(states+attn.ScratchFloats(queries*n))
		cost.Saved += 4 * int64(attn.ScratchFloats(queries*n))
	case attn.PassBackward:
		cost.Shared += 4 * int64(states+attn.ScratchFloats(queries*n, queries*n, queries*s.KeyDim, keys*n))
		cost.Bytes *= 2
	case attn.PassDecode:
		cost.Shared += 4 * int64(attn.ScratchFloats(queries*n))
		cost.Bytes += 2 * cost.State
	}
	return cost
}
