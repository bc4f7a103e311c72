// Package linear holds the attention mechanisms whose memory is a state of constant size.
package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("linear", Linear{Map: "elu", Normalize: true, Eps: 1e-6, Chunk: 64}, Linear.New)
}

// Linear holds the options of linear attention, spelled linear:map=relu,normalize=false.
type Linear struct {
	Map       string  `opt:"map"`       // φ: elu (elu+1), relu or identity
	Normalize bool    `opt:"normalize"` // divide by the sum of the weights; otherwise scale by 1/√d
	Eps       float64 `opt:"eps"`       // added to that sum; at least 0
	Chunk     int     `opt:"chunk"`     // tokens between the states kept for training, computed by up to 32; at least 1
}

var features = map[string]tile.Feature{"elu": tile.ELU1, "relu": tile.ReLU, "identity": tile.Identity}

// New returns linear attention with the options o.
func (o Linear) New() (attn.Mechanism, error) {
	f, ok := features[o.Map]
	if !ok {
		return nil, attn.OptionError("map", o.Map, "elu, relu or identity")
	}
	if !(o.Eps >= 0) || math.IsInf(o.Eps, 1) {
		return nil, attn.OptionError("eps", o.Eps, "a number of at least 0")
	}
	m := linear{o: o, recurrent: recurrent{
		rec: tile.Recurrence{Chunk: o.Chunk, Map: f, Normalize: o.Normalize, Eps: float32(o.Eps)},
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("linear", o),
		Title:    "Linear Transformer",
		Paper:    "Katharopoulos et al. 2020, arXiv:2006.16236",
		Year:     2020,
		Revision: 1,

		Masks:        attn.Causal | attn.Bidirectional | attn.Cross,
		Approximates: true,
		Quick:        true,
		Inputs:       attn.QKV(),
	})
	return m, nil
}

type linear struct {
	recurrent
	o Linear
}

func (o Linear) phi(x float64) float64 {
	switch {
	case o.Map == "relu" && x < 0:
		return 0
	case o.Map == "elu" && x > 0:
		return x + 1
	case o.Map == "elu":
		return math.Exp(x)
	}
	return x
}

// Define is linear attention, one query and one token at a time:
//
//	S_t = S_{t-1} + φ(k_t) v_tᵀ,  z_t = z_{t-1} + φ(k_t)
//	o_t = S_tᵀ φ(q_t) / (φ(q_t)·z_t + eps)
//
// with S [key dim, value dim] and z [key dim] zero, or Initial, at the start; without the mask t is
// the last token for every query. A sum of 0 with its eps gives a row of zeros. Without normalize,
// z is absent and o_t = S_tᵀ φ(q_t) / √d. Katharopoulos et al. 2020 (arXiv:2006.16236) §3.2–3.4, eq. 9 to 12.
func (m linear) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s := newState64(h, m.o.Normalize)
		read := func(i int) {
			den := math.Sqrt(float64(c.KeyDim))
			if m.o.Normalize {
				den = m.o.Eps
				for a, q := range h.Q(i) {
					den += m.o.phi(q) * s.z[a]
				}
			}
			out := h.Out(i)
			clear(out)
			if den == 0 {
				return
			}
			for a, q := range h.Q(i) {
				w := m.o.phi(q) / den
				for b := range out {
					out[b] += w * s.s[a*c.ValueDim+b]
				}
			}
		}
		for j := range h.Keys {
			for a, k := range h.K(j) {
				k = m.o.phi(k)
				for b, v := range h.V(j) {
					s.s[a*c.ValueDim+b] += k * v
				}
				if m.o.Normalize {
					s.z[a] += k
				}
			}
			if i := j - h.Offset(); c.Mask == attn.Causal && i >= 0 {
				read(i)
			}
		}
		for i := range h.Queries {
			if c.Mask != attn.Causal {
				read(i)
			} else if i+h.Offset() < 0 {
				clear(h.Out(i))
			}
		}
		s.store(h)
	})
	return nil
}
