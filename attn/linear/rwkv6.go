package linear

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("rwkv6", RWKV6{Chunk: 64}, RWKV6.New) }

// RWKV6 holds the options of the time mixing of RWKV-6, spelled rwkv6:chunk=32.
type RWKV6 struct {
	Chunk int `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns the time mixing of RWKV-6 with the options o. Its token shifts have constant mixes, and its group norm is the
// attention layer's RMS norm.
func (o RWKV6) New() (attn.Mechanism, error) {
	m := rwkv6{derived{
		recurrent: recurrent{rec: tile.Recurrence{Chunk: o.Chunk, Decay: tile.ChannelDecay, Scale: 1, Before: true, Own: tile.OwnBonus}},
		prepare:   prepareRWKV6, differentiate: differentiateRWKV6, finish: finishRWKV6,
		floats: func(s attn.Shape) (int, int) {
			n := attn.ScratchFloats(s.Batch * s.KeyLen * s.KVHeads * s.KeyDim)
			return n, n
		},
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	inputs := attn.QKV()
	for i := range inputs {
		inputs[i].Rotary, inputs[i].Shift = false, true
	}
	m.describe(attn.Info{
		Name:     attn.Spell("rwkv6", o),
		Title:    "Receptance weighted key value 6 (Finch)",
		Paper:    "Peng et al. 2024, arXiv:2404.05892",
		Year:     2024,
		Revision: 1,

		Masks: attn.Causal,
		Inputs: append(inputs, attn.Input{
			Name: "w", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.KeyWidth,
			Shift: true, Rank: 64, RankAct: attn.Tanh, Bias: true, Init: initFinch,
		}),
		Learned: []attn.Tensor{{
			Name: "u", Shape: func(s attn.Shape) []int { return []int{s.Heads, s.KeyDim} }, Init: attn.Const(0.5),
		}},
		Output: attn.Output{Norm: attn.RMSNorm, Gate: attn.SiLU},
		Limits: []attn.Limit{{ // without decay and with a bonus of 1 the own token counts as the others
			Spec: func(attn.Shape) string { return attn.Spell("rwkv6", o) }, Equals: "linear:map=identity,normalize=false",
			Prepare: func(c *attn.Call64) {
				for i := range c.Extra[0].Data {
					c.Extra[0].Data[i] = -1000
				}
				for i := range c.Learned[0] {
					c.Learned[0][i] = 1
				}
			},
			Convert: func(c *attn.Call64) *attn.Call64 {
				d := *c
				d.Q, d.Extra, d.Learned = scaled(c.Q, math.Sqrt(float64(c.KeyDim))), nil, nil
				return &d
			},
		}},
	})
	return m, nil
}

// initFinch spreads the decays of a model's channels: the slowest first, and all faster in lower layers.
func initFinch(s attn.Shape, x []float32, _ *rand.Rand) {
	depth := float64(s.Layer) / float64(max(s.Layers-1, 1))
	for i := range x {
		x[i] = float32(-6 + 5*math.Pow(float64(i)/float64(max(len(x)-1, 1)), 0.7+1.3*depth))
	}
}

type rwkv6 struct{ derived }

// Define is RWKV-6, token by token, for each head with its bonus u [key dim]:
//
//	o_t = (S_{t-1} + diag(u) k_t v_tᵀ)ᵀ r_t
//	S_t = diag(w_t) S_{t-1} + k_t v_tᵀ,  w_t = exp(-e^{ω_t})
//
// with r and ω in the inputs q and w. S [key dim, value dim] is zero, or Initial, at the start; a query reads before its own token
// decays the state and writes to it. Peng et al. 2024 (arXiv:2404.05892) §4.2.2, eq. 17 to 19.
func (m rwkv6) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	w := make([]float64, c.KeyDim)
	defineDecayed(c, true, func(h attn.Head64, s []float64, j int) {
		for a, omega := range h.KeySide(0, j) {
			w[a] = math.Exp(-math.Exp(omega))
		}
		write64(s, w, h.K(j), h.V(j))
	}, func(h attn.Head64, s []float64, i, j int) {
		read64(h.Out(i), s, h.Q(i), 1)
		bonus := 0.0
		for a, r := range h.Q(i) {
			bonus += r * c.Learned[0][h.H*c.KeyDim+a] * h.K(j)[a]
		}
		for b, v := range h.V(j) {
			h.Out(i)[b] += bonus * v
		}
	})
	return nil
}

// mostOmega bounds ω: e^60 forgets all, and sums of it stay finite.
const mostOmega = 60

type rwkv6Args struct {
	c *attn.Call
	g attn.View
}

func prepareRWKV6(ws *attn.Workspace, c *attn.Call, d *derivation) {
	a := rwkv6Args{c, viewOf(ws, c, c.KVHeads, c.KeyDim)}
	attn.Parallel(ws, c.Batch*((c.KeyLen+gateRows-1)/gateRows), 0, a, func(_ *attn.Scratch, a *rwkv6Args, task int) {
		blocks := (a.c.KeyLen + gateRows - 1) / gateRows
		b, first := task/blocks, task%blocks*gateRows
		for t := first; t < min(first+gateRows, a.c.KeyLen); t++ {
			for h := range a.c.KVHeads {
				g := a.g.Row(b, t, h)
				copy(g, a.c.Extra[0].Row(b, t, h))
				if !(kernel.Max(g) < mostOmega) {
					for i, omega := range g {
						g[i] = min(omega, mostOmega)
					}
				}
				kernel.Exp(g)
				kernel.Scale(-1, g)
			}
		}
	})
	d.inputs[0] = a.g
	d.call.Extra, d.call.Learned = d.inputs[:1], c.Learned
}

func differentiateRWKV6(ws *attn.Workspace, c *attn.Call, d *derivation) {
	d.inputGrads[0] = viewOf(ws, c, c.KVHeads, c.KeyDim)
	clear(d.inputGrads[0].Data)
	d.grads.Extra = d.inputGrads[:1]
}

// finishRWKV6 adds the gradient of ω: that of g = -e^ω is its own factor.
func finishRWKV6(_ *attn.Workspace, c *attn.Call, g *attn.Grads, d *derivation) {
	for b := range c.Batch {
		for t := range c.KeyLen {
			for h := range c.KVHeads {
				x, dst := d.inputs[0].Row(b, t, h), g.Extra[0].Row(b, t, h)
				for i, dg := range d.inputGrads[0].Row(b, t, h) {
					if dg != 0 { // padding may hold NaN
						dst[i] += dg * x[i]
					}
				}
			}
		}
	}
}
