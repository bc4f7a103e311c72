package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("gla", GLA{Chunk: 64, Gate: "silu"}, GLA.New) }

// GLA holds the options of gated linear attention, spelled gla:chunk=32.
type GLA struct {
	Chunk int    `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
	Gate  string `opt:"gate"`  // activation of the output gate: silu, as published, or sigmoid, which learns recall sooner
}

// New returns gated linear attention with the options o.
func (o GLA) New() (attn.Mechanism, error) {
	m := gla{recurrent{rec: tile.Recurrence{Chunk: o.Chunk, Decay: tile.ChannelDecay}}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	inputs := attn.QKV()
	inputs[0].Rotary, inputs[1].Rotary = false, false
	gate, err := outputGate(o.Gate)
	if err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("gla", o),
		Title:    "Gated Linear Attention",
		Paper:    "Yang et al. 2023, arXiv:2312.06635",
		Year:     2023,
		Revision: 1,

		Masks: attn.Causal,
		Quick: true,
		Inputs: append(inputs, attn.Input{
			Name: "g", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.KeyWidth,
			Rank: 16, Bias: true, Act: attn.LogSigmoid, Scale: 1.0 / 16,
		}),
		Output: attn.Output{Norm: attn.RMSNorm, Gate: gate},
		Limits: []attn.Limit{{
			Spec:   func(attn.Shape) string { return attn.Spell("gla", o) },
			Equals: "linear:map=identity,normalize=false",
			Prepare: func(c *attn.Call64) {
				clear(c.Extra[0].Data)
			},
			Convert: func(c *attn.Call64) *attn.Call64 {
				plain := *c
				plain.Extra = nil
				return &plain
			},
		}},
	})
	return m, nil
}

type gla struct{ recurrent }

// Define is gated linear attention, token by token:
//
//	S_t = diag(e^{g_t}) S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t / √d
//
// g is the log decay of each key channel, at most 0; S [key dim, value dim] is zero, or Initial, at
// the start. The decay acts on the old state alone, and a query reads after the write of its own
// token. Yang et al. 2023 (arXiv:2312.06635) §4.1, eq. 3.
func (m gla) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s := newState64(h, false)
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			g, k, v := h.KeySide(0, j), h.K(j), h.V(j)
			for a := range k {
				decay := math.Exp(g[a])
				for b := range v {
					s.s[a*c.ValueDim+b] = decay*s.s[a*c.ValueDim+b] + k[a]*v[b]
				}
			}
			i := j - h.Offset()
			if i < 0 {
				continue
			}
			out := h.Out(i)
			clear(out)
			for a, q := range h.Q(i) {
				q /= math.Sqrt(float64(c.KeyDim))
				for b := range out {
					out[b] += q * s.s[a*c.ValueDim+b]
				}
			}
		}
		s.store(h)
	})
	return nil
}
