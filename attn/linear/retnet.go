package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("retnet", RetNet{Chunk: 64, Gate: "silu"}, RetNet.New) }

// RetNet holds the options of retention, spelled retnet:chunk=32.
type RetNet struct {
	Chunk int    `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
	Gate  string `opt:"gate"`  // activation of the output gate: silu, as published, or sigmoid, which learns recall sooner
}

// New returns retention with the options o.
func (o RetNet) New() (attn.Mechanism, error) {
	m := retnet{newFixed(tile.Recurrence{Chunk: o.Chunk}, o.decay)}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	gate, err := outputGate(o.Gate)
	if err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("retnet", o),
		Title:    "Retentive Network (retention)",
		Paper:    "Sun et al. 2023, arXiv:2307.08621",
		Year:     2023,
		Revision: 1,

		Masks:  attn.Causal,
		Inputs: attn.QKV(),
		Output: attn.Output{Norm: attn.RMSNorm, Gate: gate},
		Limits: []attn.Limit{m.asGated(attn.Spell("retnet", o), true)},
	})
	return m, nil
}

// decay is log γ of a head: γ = 1 - 2^(-5-h).
func (RetNet) decay(_ attn.Shape, h int) float64 { return math.Log1p(-math.Exp2(float64(-5 - h))) }

type retnet struct{ fixed }

// Define is retention, token by token, with the heads' decays γ_h = 1 - 2^(-5-h):
//
//	S_t = γ S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t / √d
//
// S [key dim, value dim] is zero, or Initial, at the start; a query reads after the write of its own token. Heads are counted by
// their keys and values, whose state decays. Sun et al. 2023 (arXiv:2307.08621) §2.1, eq. 1 to 6.
func (m retnet) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	defineDecayed(c, false, func(h attn.Head64, s []float64, j int) {
		gamma := 1 - math.Exp2(float64(-5-h.KV))
		write64(s, []float64{gamma}, h.K(j), h.V(j))
	}, func(h attn.Head64, s []float64, i, _ int) {
		read64(h.Out(i), s, h.Q(i), 1/math.Sqrt(float64(c.KeyDim)))
	})
	return nil
}
