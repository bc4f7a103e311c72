package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("gateddeltanet", GatedDeltaNet{Conv: 4, Chunk: 64, Gate: "silu"}, GatedDeltaNet.New)
}

// GatedDeltaNet holds the options of Gated DeltaNet, spelled gateddeltanet:negative=true.
type GatedDeltaNet struct {
	Negative bool   `opt:"negative"` // β up to 2: eigenvalues of a step down to -1
	Conv     int    `opt:"conv"`     // width of the short convolution of q, k and v; 0 for none
	Chunk    int    `opt:"chunk"`    // tokens between the states kept for training, computed by up to 32; at least 1
	Gate     string `opt:"gate"`     // activation of the output gate: silu, as published, or sigmoid, which learns recall sooner
}

// New returns Gated DeltaNet with the options o.
func (o GatedDeltaNet) New() (attn.Mechanism, error) {
	m := gatedDeltaNet{deltaRule{rule: tile.Delta{Chunk: o.Chunk, Decay: tile.HeadDecay}}}
	if err := m.rule.Check(); err != nil {
		return nil, err
	}
	if err := checkConv(o.Conv); err != nil {
		return nil, err
	}
	gate, err := outputGate(o.Gate)
	if err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("gateddeltanet", o),
		Title:    "Gated DeltaNet",
		Paper:    "Yang et al. 2024, arXiv:2412.06464",
		Year:     2024,
		Revision: 1,
		Inputs: append(deltaInputs(o.Conv), attn.Input{
			Name: "dt", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.OneWide, Bias: true, Act: attn.Softplus, Init: dtBias,
		}, betaInput(o.Negative)),
		Output: attn.Output{Norm: attn.RMSNorm, Gate: gate},
		Limits: []attn.Limit{{ // without decay it is the delta rule
			Spec:    func(attn.Shape) string { return attn.Spell("gateddeltanet", o) },
			Equals:  "deltanet",
			Prepare: func(c *attn.Call64) { clear(c.Extra[0].Data) },
			Convert: func(c *attn.Call64) *attn.Call64 {
				plain := *c
				plain.Extra, plain.Learned = c.Extra[1:], nil
				return &plain
			},
		}},
	})
	return m, nil
}

type gatedDeltaNet struct{ deltaRule }

// Define is the gated delta rule, token by token:
//
//	S'_t = e^{g_t} S_{t-1},  g_t = -e^A dt_t
//	S_t = S'_t + β_t k_t (v_t - S'_tᵀ k_t)ᵀ,  o_t = S_tᵀ q_t / √d
//
// dt ≥ 0 is one number a token and head, A one a head. The state decays before its error is taken; a query reads after the write.
// Yang et al. 2024 (arXiv:2412.06464) eq. 10.
func (m gatedDeltaNet) Define(c *attn.Call64) error {
	return m.define(c, func(h attn.Head64, j int, g []float64) {
		for a := range g {
			g[a] = -math.Exp(c.Learned[0][h.KV]) * h.KeySide(0, j)[0]
		}
	})
}
