package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("kda", KDA{Rank: 64, Conv: 4, Chunk: 64}, KDA.New) }

// KDA holds the options of Kimi Delta Attention, spelled kda:rank=128.
type KDA struct {
	Negative bool `opt:"negative"` // β up to 2: eigenvalues of a step down to -1
	Rank     int  `opt:"rank"`     // width that the decays are projected through, in the paper that of a head's values; at least 1
	Conv     int  `opt:"conv"`     // width of the short convolution of q, k and v; 0 for none
	Chunk    int  `opt:"chunk"`    // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns Kimi Delta Attention with the options o.
func (o KDA) New() (attn.Mechanism, error) {
	m := kda{deltaRule{rule: tile.Delta{Chunk: o.Chunk, Decay: tile.ChannelDecay}}}
	if err := m.rule.Check(); err != nil {
		return nil, err
	}
	if err := checkConv(o.Conv); err != nil {
		return nil, err
	}
	if o.Rank < 1 || o.Rank > 1<<16 {
		return nil, attn.OptionError("rank", o.Rank, "an integer from 1 to 65536")
	}
	m.describe(attn.Info{
		Name:     attn.Spell("kda", o),
		Title:    "Kimi Delta Attention",
		Paper:    "Kimi Team 2025, arXiv:2510.26692",
		Year:     2025,
		Revision: 1,
		Inputs: append(deltaInputs(o.Conv), attn.Input{
			Name: "dt", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.KeyWidth, Rank: o.Rank, Bias: true, Act: attn.Softplus, Init: dtBias,
		}, betaInput(o.Negative)),
		Output: attn.Output{Norm: attn.RMSNorm, Gate: attn.Sigmoid}, // the paper projects the gate through a low rank
		Limits: []attn.Limit{{ // with equal channels it is the gated delta rule
			Spec: func(attn.Shape) string { return attn.Spell("kda", o) },
			Prepare: func(c *attn.Call64) {
				eachRow64(c.Extra[0], func(row []float64) {
					for a := range row {
						row[a] = row[0]
					}
				})
			},
			Equals: "gateddeltanet",
			Convert: func(c *attn.Call64) *attn.Call64 {
				one := *c
				one.Extra = append([]attn.View64(nil), c.Extra...)
				one.Extra[0].Dim = 1
				return &one
			},
		}},
	})
	return m, nil
}

func eachRow64(v attn.View64, f func(row []float64)) {
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				f(v.Row(b, t, h))
			}
		}
	}
}

type kda struct{ deltaRule }

// Define is the delta rule with a decay for each channel of the keys, token by token:
//
//	S'_t = diag(e^{g_t}) S_{t-1},  g_t = -e^A dt_t
//	S_t = S'_t + β_t k_t (v_t - S'_tᵀ k_t)ᵀ,  o_t = S_tᵀ q_t / √d
//
// dt ≥ 0 has a number for each channel, A one a head. The state decays before its error is taken; a query reads after the write.
// Kimi Team 2025 (arXiv:2510.26692) eq. 1.
func (m kda) Define(c *attn.Call64) error {
	return m.define(c, func(h attn.Head64, j int, g []float64) {
		for a, dt := range h.KeySide(0, j) {
			g[a] = -math.Exp(c.Learned[0][h.KV]) * dt
		}
	})
}
