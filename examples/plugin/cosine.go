package main

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/composed"
	"attnbench/autograd"
)

func init() { attn.Register("cosine", Cosine{Scale: 10}, Cosine.New) }

// Cosine is attention by the angle between query and key (Henry et al. 2020, arXiv:2010.04245),
// spelled cosine:scale=10. The paper learns the scale; here it is an option.
type Cosine struct {
	Scale float64 `opt:"scale"` // multiplies the cosines; above 0
}

// New returns cosine attention with the options o.
func (o Cosine) New() (attn.Mechanism, error) {
	if !(o.Scale > 0) {
		return nil, attn.OptionError("scale", o.Scale, "a number above 0")
	}
	return cosine{o, composed.New(attn.Info{
		Name: attn.Spell("cosine", o), Family: "full", Title: "Query-key normalisation",
		Paper: "Henry et al. 2020, arXiv:2010.04245", Year: 2020, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Quick: true,
	}, o.head)}, nil
}

const eps = 1e-6

// head computes one head: o = softmax(scale · q̂·k̂ᵀ)·v, with q̂ = q/√(|q|²+ε²).
func (o Cosine) head(t *autograd.Tape, in composed.Inputs) autograd.Var {
	_, d := t.Dims(in.Q)
	q := t.Scale(t.L2Norm(in.Q, d, eps), float32(o.Scale))
	k := t.L2Norm(in.K, d, eps)
	return t.Weigh(t.Softmax(t.Scores(q, k, in.Causal)), in.V, in.Causal)
}

// cosine is the composed mechanism with its definition.
type cosine struct {
	Cosine
	composed.Mechanism
}

// Define is the same in float64, as in the paper's equation 4: what the test holds the other against.
func (m cosine) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			p := make([]float64, h.Keys)
			for j := range p {
				p[j] = math.Inf(-1)
				if h.Sees(i, j) {
					p[j] = m.Scale * dot(h.Q(i), h.K(j)) / math.Sqrt((dot(h.Q(i), h.Q(i))+eps*eps)*(dot(h.K(j), h.K(j))+eps*eps))
				}
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for j, w := range p {
				if w != 0 { // a key that is not seen may be NaN
					for x, v := range h.V(j) {
						h.Out(i)[x] += w * v
					}
				}
			}
		}
	})
	return nil
}

func dot(x, y []float64) (s float64) {
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}
