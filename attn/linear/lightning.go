package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("lightning", Lightning{Slopes: "geometric", Chunk: 64}, Lightning.New)
}

// Lightning holds the options of lightning attention, spelled lightning:slopes=linear.
type Lightning struct {
	// Slopes is how heads decay: geometric in the head, as the authors' and MiniMax-01's code has them, or linear, as
	// flash-linear-attention has them (which also divides the outputs by √d).
	Slopes string `opt:"slopes"`
	Chunk  int    `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns lightning attention with the options o.
func (o Lightning) New() (attn.Mechanism, error) {
	if o.Slopes != "geometric" && o.Slopes != "linear" {
		return nil, attn.OptionError("slopes", o.Slopes, "geometric or linear")
	}
	m := lightning{newFixed(tile.Recurrence{Chunk: o.Chunk, Scale: o.scale()}, func(s attn.Shape, h int) float64 { return -o.slope(s, h) }), o}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	inputs := attn.QKV()
	for i := range inputs {
		inputs[i].Rotary, inputs[i].Act = false, attn.SiLU
	}
	m.describe(attn.Info{
		Name:     attn.Spell("lightning", o),
		Title:    "Lightning Attention",
		Paper:    "Qin et al. 2024, arXiv:2401.04658",
		Year:     2024,
		Revision: 1,

		Masks:  attn.Causal,
		Inputs: inputs,
		Output: attn.Output{Norm: attn.RMSNorm, NormHeads: attn.QueryHeads, Gate: attn.Sigmoid},
		Limits: []attn.Limit{m.asGated(attn.Spell("lightning", o), o.Slopes == "linear")},
	})
	return m, nil
}

// scale is the factor of the outputs, 0 for 1/√d.
func (o Lightning) scale() float32 {
	if o.Slopes == "linear" {
		return 0
	}
	return 1
}

// slope is r of key/value head h in the layer of s.
func (o Lightning) slope(s attn.Shape, h int) float64 {
	layer, layers := float64(s.Layer), float64(max(s.Layers, 1))
	if o.Slopes == "linear" {
		return 8 * float64(h) / float64(s.KVHeads) * (1 - layer/layers)
	}
	return tile.Slope(h, s.KVHeads) * (1 - layer/max(layers-1, 1) + 1e-5)
}

type lightning struct {
	fixed
	o Lightning
}

// Define is lightning attention, token by token:
//
//	S_t = e^{-r_h} S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t
//	r_h = m_h (1 - ℓ/(L-1) + 1e-5)     geometric: m are ALiBi's slopes, 2^(-8(h+1)/H) for H a power of two
//	r_h = 8h/H (1 - ℓ/L)               linear; the outputs are divided by √d
//
// for head h of H in layer ℓ of L. S [key dim, value dim] is zero, or Initial, at the start; a query reads after the write of its own
// token. Heads are counted by their keys and values, whose state decays. Qin et al. 2024 (arXiv:2401.04658) §3; the slopes are those
// of the two public implementations.
func (m lightning) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	scale := 1.0
	if m.o.Slopes == "linear" {
		scale = 1 / math.Sqrt(float64(c.KeyDim))
	}
	defineDecayed(c, false, func(h attn.Head64, s []float64, j int) {
		write64(s, []float64{math.Exp(-m.o.slope(c.Shape, h.KV))}, h.K(j), h.V(j))
	}, func(h attn.Head64, s []float64, i, _ int) {
		read64(h.Out(i), s, h.Q(i), scale)
	})
	return nil
}
