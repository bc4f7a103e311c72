package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("hgrn2", HGRN2{Chunk: 64}, HGRN2.New) }

// HGRN2 holds the options of the second hierarchically gated recurrent network, spelled hgrn2:chunk=32.
type HGRN2 struct {
	Chunk int `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns HGRN2 with the options o.
func (o HGRN2) New() (attn.Mechanism, error) {
	m := hgrn2{derived{
		recurrent: recurrent{rec: tile.Recurrence{Chunk: o.Chunk, Decay: tile.ChannelDecay, Scale: 1}},
		prepare:   prepareHGRN2, differentiate: differentiateHGRN2, finish: finishHGRN2,
		floats: func(s attn.Shape) (int, int) {
			n := s.Batch * s.KeyLen * s.KVHeads * s.KeyDim
			return attn.ScratchFloats(s.KVHeads*s.KeyDim, n, n), attn.ScratchFloats(n, n, s.KVHeads*s.KeyDim)
		},
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("hgrn2", o),
		Title:    "Gated linear RNN with state expansion (HGRN2)",
		Paper:    "Qin et al. 2024, arXiv:2404.07904",
		Year:     2024,
		Revision: 1,

		Masks: attn.Causal,
		Inputs: []attn.Input{
			{Name: "q", From: attn.QuerySide, Heads: attn.QueryHeads, Width: attn.KeyWidth, Act: attn.SiLU},
			{Name: "v", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.ValueWidth},
			{Name: "f", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.KeyWidth, Act: attn.LogSigmoid},
		},
		Learned: []attn.Tensor{{Name: "lower", Shared: true, Shape: func(s attn.Shape) []int {
			return []int{max(s.Layers, 1), s.KVHeads * s.KeyDim}
		}}},
		Output: attn.Output{Norm: attn.RMSNorm, NormHeads: attn.QueryHeads},
		Limits: []attn.Limit{{
			Spec: func(attn.Shape) string { return attn.Spell("hgrn2", o) }, Equals: "gla",
			Convert: func(c *attn.Call64) *attn.Call64 { // in layer 0, where f is the log decay itself
				d := *c
				d.Learned, d.Q = nil, scaled(c.Q, math.Sqrt(float64(c.KeyDim)))
				d.K = attn.NewView[float64](c.Batch, c.KeyLen, c.KVHeads, c.KeyDim)
				for i := range d.K.Data {
					row := c.Extra[0].Row(i/(c.KeyLen*c.KVHeads*c.KeyDim), i/(c.KVHeads*c.KeyDim)%c.KeyLen, i/c.KeyDim%c.KVHeads)
					d.K.Data[i] = -math.Expm1(row[i%c.KeyDim])
				}
				return &d
			},
		}},
	})
	return m, nil
}

type hgrn2 struct{ derived }

// lowerBounds sets gamma to the lower bounds of the decays in layer ℓ of L, from P [L, channels]:
//
//	C = softmax over layers of P,  γ_ℓ = Σ_{i≤ℓ} C_i - C_0
//
// so that the first layer has none. With P = 0, γ_ℓ = ℓ/L.
func lowerBounds[F attn.Float](gamma, p []F, s attn.Shape) {
	for c := range gamma {
		gamma[c] = 0
		top, sum := columnSoftmax(p[c:], len(gamma))
		for l := 1; l <= s.Layer; l++ {
			gamma[c] += F(math.Exp(float64(p[l*len(gamma)+c])-top) / sum)
		}
	}
}

// columnSoftmax returns the largest of p[0], p[n], p[2n], … and the sum of the exponentials of what is left without it.
func columnSoftmax[F attn.Float](p []F, n int) (top, sum float64) {
	top = math.Inf(-1)
	for l := 0; l < len(p); l += n {
		top = max(top, float64(p[l]))
	}
	for l := 0; l < len(p); l += n {
		sum += math.Exp(float64(p[l]) - top)
	}
	return top, sum
}

// Define is HGRN2, token by token. Its keys are what its decays forget:
//
//	α_t = γ + (1-γ) σ(f_t),  k_t = 1 - α_t,  S_t = diag(α_t) S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t
//
// The input f is log σ(f_t); γ [kv heads·key dim] is the layer's lower bound of all decays (see lowerBounds). S [key dim, value dim] is
// zero, or Initial, at the start; a query reads after the write of its own token. Qin et al. 2024 (arXiv:2404.07904) §3.2, eq. 6 and
// 8; the bounds: Qin et al. 2023 (arXiv:2311.04823) §3.2, eq. 4 and 5.
func (m hgrn2) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	gamma, alpha, k := make([]float64, c.KVHeads*c.KeyDim), make([]float64, c.KeyDim), make([]float64, c.KeyDim)
	lowerBounds(gamma, c.Learned[0], c.Shape)
	defineDecayed(c, false, func(h attn.Head64, s []float64, j int) {
		for a, f := range h.KeySide(0, j) {
			low := gamma[h.KV*c.KeyDim+a]
			alpha[a], k[a] = low+(1-low)*math.Exp(f), -(1-low)*math.Expm1(f)
		}
		write64(s, alpha, k, h.V(j))
	}, func(h attn.Head64, s []float64, i, _ int) {
		read64(h.Out(i), s, h.Q(i), 1)
	})
	return nil
}

// hgrn2Args is one pass over the gates.
type hgrn2Args struct {
	c     *attn.Call
	gamma []float32
	k, g  attn.View // keys and log decays
}

// gateRows is the number of tokens of a task.
const gateRows = 64

func prepareHGRN2(ws *attn.Workspace, c *attn.Call, d *derivation) {
	a := hgrn2Args{c: c, gamma: ws.Floats(c.KVHeads * c.KeyDim)}
	a.k, a.g = viewOf(ws, c, c.KVHeads, c.KeyDim), viewOf(ws, c, c.KVHeads, c.KeyDim)
	lowerBounds(a.gamma, c.Learned[0], c.Shape)
	attn.Parallel(ws, c.Batch*gateBlocks(c), 0, a, gateTask)
	if c.Layer == 0 {
		a.g = c.Extra[0]
	}
	d.numbers, d.call.K, d.inputs[0] = a.gamma, a.k, a.g
	d.call.Extra = d.inputs[:1]
}

func gateTask(_ *attn.Scratch, a *hgrn2Args, task int) {
	c := a.c
	writes(c, a.k, task)
	if c.Layer == 0 { // g is f
		return
	}
	blocks := gateBlocks(c)
	b, first := task/blocks, task%blocks*gateRows
	for t := first; t < min(first+gateRows, c.KeyLen); t++ {
		for h := range c.KVHeads {
			hgrn2Gate(a.k.Row(b, t, h), a.g.Row(b, t, h), c.Extra[0].Row(b, t, h), a.gamma[h*c.KeyDim:])
		}
	}
}

func gateBlocks(c *attn.Call) int { return (c.KeyLen + gateRows - 1) / gateRows }

// writes sets the rows of a task in to to 1-e^f of the log decays f, the call's first extra input.
func writes(c *attn.Call, to attn.View, task int) {
	blocks := gateBlocks(c)
	b, first := task/blocks, task%blocks*gateRows
	f, heads, width := &c.Extra[0], c.KVHeads, to.Dim
	if f.HeadStride == width && to.HeadStride == width { // memory in order, all heads of a token at once
		heads, width = 1, heads*width
	}
	for h := range heads {
		kernel.Lost(tile.HeadRows(&to, b, first, h), tile.HeadRows(f, b, first, h), min(gateRows, c.KeyLen-first), width)
	}
}

// hgrn2Gate computes the key and the log decay of one token from f = log σ with lower bounds gamma; k is 1-e^f already.
func hgrn2Gate(k, g, f, gamma []float32) {
	copy(g, f)
	kernel.Exp(g)
	for i, e := range g {
		low := gamma[i]
		k[i] *= 1 - low
		if k[i] < 0.5 {
			g[i] = log1p(-k[i])
		} else {
			g[i] = float32(math.Log(float64(low + (1-low)*e)))
		}
	}
}

func differentiateHGRN2(ws *attn.Workspace, c *attn.Call, d *derivation) {
	d.grads.K, d.inputGrads[0] = viewOf(ws, c, c.KVHeads, c.KeyDim), viewOf(ws, c, c.KVHeads, c.KeyDim)
	clear(d.grads.K.Data)
	clear(d.inputGrads[0].Data)
	d.grads.Extra, d.more = d.inputGrads[:1], ws.Zeros(c.KVHeads*c.KeyDim)
}

// finishHGRN2 adds the gradients of f and, below the bounds of the first layer, of the tensor behind them. With a = e^f,
//
//	dk/df = -(1-γ) a,  dg/df = (1-γ) a/α,  dk/dγ = -(1-a),  dg/dγ = (1-a)/α
func finishHGRN2(_ *attn.Workspace, c *attn.Call, g *attn.Grads, d *derivation) {
	dgamma := d.more
	for b := range c.Batch {
		for t := range c.KeyLen {
			for h := range c.KVHeads {
				f, df, low := c.Extra[0].Row(b, t, h), g.Extra[0].Row(b, t, h), d.numbers[h*c.KeyDim:]
				dk, dg, k := d.grads.K.Row(b, t, h), d.inputGrads[0].Row(b, t, h), d.call.K.Row(b, t, h)
				e := d.call.Extra[0].Row(b, t, h) // log α, not needed any more
				if c.Layer == 0 {
					for i := range df {
						if dk[i] != 0 || dg[i] != 0 { // padding may hold NaN
							df[i] += dg[i] - dk[i]*(1-k[i])
						}
					}
					continue
				}
				copy(e, f)
				kernel.Exp(e)
				for i := range df {
					if dk[i] == 0 && dg[i] == 0 {
						continue
					}
					alpha := low[i] + (1-low[i])*e[i]
					df[i] += (1 - low[i]) * e[i] * (dg[i]/alpha - dk[i])
					dgamma[h*c.KeyDim+i] += k[i] / (1 - low[i]) * (dg[i]/alpha - dk[i])
				}
			}
		}
	}
	if c.Layer == 0 {
		return
	}
	for i, dx := range dgamma {
		top, sum := columnSoftmax(c.Learned[0][i:], len(dgamma))
		for l := range c.Layers {
			inside := 0.0
			if l >= 1 && l <= c.Layer {
				inside = 1
			}
			weight := math.Exp(float64(c.Learned[0][l*len(dgamma)+i])-top) / sum
			g.Learned[0][l*len(dgamma)+i] += float32(weight * (inside - float64(d.numbers[i])) * float64(dx))
		}
	}
}
