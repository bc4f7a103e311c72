package linear

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("deltanet", DeltaNet{Conv: 4, Chunk: 64}, DeltaNet.New) }

// DeltaNet holds the options of DeltaNet, spelled deltanet:negative=true.
type DeltaNet struct {
	Negative bool `opt:"negative"` // β up to 2: eigenvalues of a step down to -1
	Conv     int  `opt:"conv"`     // width of the short convolution of q, k and v; 0 for none
	Chunk    int  `opt:"chunk"`    // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns DeltaNet with the options o.
func (o DeltaNet) New() (attn.Mechanism, error) {
	m := deltaNet{deltaRule{rule: tile.Delta{Chunk: o.Chunk}}}
	if err := m.rule.Check(); err != nil {
		return nil, err
	}
	if err := checkConv(o.Conv); err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("deltanet", o),
		Title:    "DeltaNet",
		Paper:    "Schlag et al. 2021, arXiv:2102.11174; Yang et al. 2024, arXiv:2406.06484",
		Year:     2021,
		Revision: 1,
		Inputs:   append(deltaInputs(o.Conv), betaInput(o.Negative)),
		Output:   attn.Output{Norm: attn.RMSNorm},
	})
	return m, nil
}

type deltaNet struct{ deltaRule }

// Define is the delta rule, token by token:
//
//	S_t = S_{t-1} + β_t k_t (v_t - S_{t-1}ᵀ k_t)ᵀ,  o_t = S_tᵀ q_t / √d
//
// β in (0, 1) or (0, 2); k and q have length 1; S [key dim, value dim] is zero, or Initial, at the start. A query reads after the
// write of its own token. Schlag et al. 2021 (arXiv:2102.11174) eq. 24; Yang et al. 2024 (arXiv:2406.06484) eq. 2.
func (m deltaNet) Define(c *attn.Call64) error { return m.define(c, nil) }
