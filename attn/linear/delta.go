package linear

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

// deltaRule is a mechanism that is a tile.Delta with a name. With decays, its inputs end in dt and β, and the log decays are
//
//	g = -e^{A_h} dt,  dt = softplus(…) ≥ 0
//
// with A [kv heads] learned, as in Mamba-2.
type deltaRule struct {
	rule tile.Delta
	info *attn.Info
}

// describe completes the description with what the rule knows.
func (m *deltaRule) describe(info attn.Info) {
	info.Family = "linear"
	info.Masks = attn.Causal
	info.Decode = attn.DecodeAlways
	info.Carry = m.rule.Carry
	info.Cost = m.cost
	if m.rule.Decay != tile.NoDecay {
		info.Learned = []attn.Tensor{{Name: "A_log", Shape: func(s attn.Shape) []int { return []int{s.KVHeads} }, Init: rates}}
	}
	m.info = &info
}

// deltaInputs are q, k and v of a delta rule: q and k of length 1, all three after a short convolution of width conv (0 for none).
func deltaInputs(conv int) []attn.Input {
	in := attn.QKV()
	for i := range in {
		in[i].Rotary, in[i].Conv, in[i].Act = false, conv, attn.SiLU
		if i < 2 {
			in[i].Norm = attn.L2Norm
		}
	}
	return in
}

// betaInput is β, the strength of a write, in (0, 1), or in (0, 2): a step then multiplies what the state holds for its key by 1-β
// in (-1, 1) (Grazzi et al. 2024, arXiv:2411.12537).
func betaInput(negative bool) attn.Input {
	in := attn.Input{Name: "beta", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.OneWide, Act: attn.Sigmoid}
	if negative {
		in.Scale = 2
	}
	return in
}

// rates draws A so that e^A is uniform in (0, 16).
func rates(_ attn.Shape, dst []float32, r *rand.Rand) {
	for i := range dst {
		dst[i] = float32(math.Log(max(16*r.Float64(), 1e-4)))
	}
}

// dtBias draws biases b so that log softplus(b) is uniform between those of 0.001 and 0.1 (Mamba-2).
func dtBias(_ attn.Shape, dst []float32, r *rand.Rand) {
	for i := range dst {
		dt := math.Exp(math.Log(1e-3) + r.Float64()*math.Log(100))
		dst[i] = float32(dt + math.Log(-math.Expm1(-dt)))
	}
}

// checkConv reports a width of the short convolution that there is not.
func checkConv(conv int) error {
	if conv < 0 || conv > 64 {
		return attn.OptionError("conv", conv, "an integer from 0 to 64")
	}
	return nil
}

func (m deltaRule) Info() attn.Info { return *m.info }

func (m deltaRule) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d := m.derive(ws, c)
	m.rule.Forward(ws, &d.call)
	d.close(ws)
	return nil
}

func (m deltaRule) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	d := m.derive(ws, c)
	d.grads = *g
	if m.rule.Decay != tile.NoDecay {
		x := &c.Extra[0]
		d.dx[0] = attn.ViewAs(ws.Zeros(c.Batch*c.KeyLen*x.Heads*x.Dim), c.Batch, c.KeyLen, x.Heads, x.Dim)
		d.dx[1] = g.Extra[1]
		d.grads.Extra = d.dx[:2]
	}
	m.rule.Backward(ws, &d.call, &d.grads)
	if m.rule.Decay != tile.NoDecay {
		attn.Parallel(ws, c.KVHeads, 0, rateArgs{x: c.Extra[0], g: d.x[0], dx: g.Extra[0], dg: d.dx[0], a: c.Learned[0], da: g.Learned[0]}, rateGradTask)
	}
	d.close(ws)
	return nil
}

func (m deltaRule) NewState(s attn.Shape) (attn.State, error) {
	state, err := m.rule.NewState(m.info.Name, s)
	if err != nil {
		return nil, err // not a nil *RecurState in a State
	}
	return state, nil
}

func (m deltaRule) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d := m.derive(ws, c)
	err := m.rule.Extend(ws, s, &d.call)
	d.close(ws)
	return err
}

func (m deltaRule) cost(s attn.Shape, p attn.Pass) attn.Cost {
	cost := m.rule.Cost(s, p)
	keys := s.KeyLen
	if p == attn.PassDecode {
		keys = s.QueryLen
	}
	width := map[tile.Decay]int{tile.HeadDecay: 1, tile.ChannelDecay: s.KeyDim}[m.rule.Decay]
	g := 4 * int64(attn.ScratchFloats(s.Batch*keys*s.KVHeads*width))
	if p == attn.PassBackward {
		g *= 2
	}
	cost.Shared += g
	return cost
}

// ruleCall is the call of an engine, made from that of a mechanism: with other inputs, which lie in the workspace.
type ruleCall struct {
	call  attn.Call
	grads attn.Grads
	x, dx [3]attn.View // room for the Extra of both
	mark  attn.Mark
}

// openRule returns a copy of c without learned tensors.
func openRule(ws *attn.Workspace, c *attn.Call) *ruleCall {
	d := attn.Reused[ruleCall](ws)
	d.call, d.mark = *c, ws.Mark()
	d.call.Learned = nil
	return d
}

// close gives the memory back.
func (d *ruleCall) close(ws *attn.Workspace) {
	ws.Release(d.mark)
	*d = ruleCall{}
}

// derive returns the call of the rule: c with g in place of dt. Its memory is that of ws since now.
func (m deltaRule) derive(ws *attn.Workspace, c *attn.Call) *ruleCall {
	d := openRule(ws, c)
	if m.rule.Decay == tile.NoDecay {
		return d
	}
	x := c.Extra[0]
	d.x[0] = attn.ViewAs(ws.Floats(c.Batch*c.KeyLen*x.Heads*x.Dim), c.Batch, c.KeyLen, x.Heads, x.Dim)
	d.x[1] = c.Extra[1]
	d.call.Extra = d.x[:2]
	attn.Parallel(ws, c.Batch*c.KVHeads, 0, rateArgs{x: x, g: d.x[0], a: c.Learned[0]}, rateTask)
	return d
}

// rateArgs are dt and g = -e^{a_h} dt, and their gradients.
type rateArgs struct {
	x, g, dx, dg attn.View
	a, da        []float32
}

func rate(a float32) float32 { return float32(-math.Exp(float64(a))) }

// rateTask computes g of one head of a row.
func rateTask(_ *attn.Scratch, a *rateArgs, task int) {
	b, h := task/a.x.Heads, task%a.x.Heads
	f := rate(a.a[h])
	for t := range a.x.Time {
		row := a.g.Row(b, t, h)
		copy(row, a.x.Row(b, t, h))
		kernel.Scale(f, row)
	}
}

// rateGradTask adds the gradients of dt and a of one head. Where g has no gradient, as in padding, dt is not looked at.
func rateGradTask(_ *attn.Scratch, a *rateArgs, h int) {
	f, sum := rate(a.a[h]), float32(0)
	for b := range a.x.Batch {
		for t := range a.x.Time {
			g, dx := a.g.Row(b, t, h), a.dx.Row(b, t, h)
			for i, d := range a.dg.Row(b, t, h) {
				if d != 0 {
					dx[i] += f * d
					sum += g[i] * d
				}
			}
		}
	}
	a.da[h] += sum
}

// logDecays writes the log decays of key j of a head, one a channel.
type logDecays = func(h attn.Head64, j int, g []float64)

// define computes a delta rule token by token, with the log decays that fill writes for key j of a head (nil for none). See Define
// of the mechanisms.
func (m deltaRule) define(c *attn.Call64, fill logDecays) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s, g, read := newState64(h, false), make([]float64, c.KeyDim), make([]float64, c.ValueDim)
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			k, v, beta := h.K(j), h.V(j), h.KeySide(len(c.Extra)-1, j)[0]
			if fill != nil {
				fill(h, j, g)
			}
			clear(read)
			for a := range k {
				for b := range v {
					s.s[a*c.ValueDim+b] *= math.Exp(g[a])
					read[b] += k[a] * s.s[a*c.ValueDim+b]
				}
			}
			for a := range k {
				for b := range v {
					s.s[a*c.ValueDim+b] += beta * k[a] * (v[b] - read[b])
				}
			}
			if i := j - h.Offset(); i >= 0 {
				s.read(h, i)
			}
		}
		s.store(h)
	})
	return nil
}

// read computes o_i = Sᵀ q_i / √d.
func (s state64) read(h attn.Head64, i int) {
	out := h.Out(i)
	clear(out)
	for a, q := range h.Q(i) {
		q /= math.Sqrt(float64(h.Call.KeyDim))
		for b := range out {
			out[b] += q * s.s[a*len(out)+b]
		}
	}
}
