package full

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("forgetting", Forgetting{}, Forgetting.New) }

// Forgetting is the attention of the Forgetting Transformer (FoX), spelled forgetting. It has no options.
type Forgetting struct{}

// New returns forgetting attention.
func (o Forgetting) New() (attn.Mechanism, error) {
	m := forgetting{full{Softmax: tile.Softmax{Pattern: tile.Dense{}, Forget: true}}}
	inputs := attn.QKV()
	inputs[0].Rotary, inputs[1].Rotary = false, false
	m.info = &attn.Info{
		Name: attn.Spell("forgetting", o), Family: "full", Title: "Forgetting attention (FoX)",
		Paper: "Lin et al. 2025, arXiv:2503.02130", Year: 2025, Revision: 1,
		Masks: attn.Causal, Cost: m.cost,
		Inputs: append(inputs, attn.Input{
			Name: "f", From: attn.MemorySide, Width: func(attn.Shape) int { return 1 }, Bias: true, Act: attn.LogSigmoid,
		}),
		Limits: []attn.Limit{{
			Spec:    func(attn.Shape) string { return "forgetting" },
			Equals:  "full",
			Prepare: func(c *attn.Call64) { clear(c.Extra[0].Data) },
			Convert: func(c *attn.Call64) *attn.Call64 {
				plain := *c
				plain.Extra = nil
				return &plain
			},
		}},
	}
	return m, nil
}

type forgetting struct{ full }

// Define computes, for each head, with the log decay f ≤ 0 of each key and query head and the query at the place t = i + Keys - Queries,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d + Σ_{j<l≤t} f[l]) over j ≤ t
//
// The decay of the key itself does not apply, and no decay is divided by √d. A query that sees no key gives zeros.
// Lin et al. 2025 (arXiv:2503.02130) §3.1, eq. 4 to 6.
func (forgetting) Define(c *attn.Call64) error {
	sum := make([]float64, c.KeyLen) // the decays from behind key j to the query, which come from the last key on
	defineScores(c, func(h attn.Head64, i, j int, s float64) float64 {
		if j == 0 {
			clear(sum)
			for l := min(i+h.Offset(), h.Keys-1); l > 0; l-- {
				sum[l-1] = sum[l] + h.KeySide(0, l)[0]
			}
		}
		return s + sum[j]
	}, nil)
	return nil
}
