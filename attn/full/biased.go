package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("alibi", Alibi{}, Alibi.New)
	attn.Register("softcap", Softcap{Cap: 50}, Softcap.New)
	attn.Register("sinklogit", SinkLogit{}, SinkLogit.New)
}

// Alibi is softmax attention with linear biases in place of positions, spelled alibi. It has no options.
type Alibi struct{}

// New returns ALiBi attention.
func (o Alibi) New() (attn.Mechanism, error) {
	m := alibi{full{Softmax: tile.Softmax{Pattern: tile.Dense{}, Linear: true}}}
	inputs := attn.QKV()
	for i := range inputs {
		inputs[i].Rotary = false
	}
	m.info = &attn.Info{
		Name: attn.Spell("alibi", o), Family: "full", Title: "Attention with linear biases (ALiBi)",
		Paper: "Press et al. 2021, arXiv:2108.12409", Year: 2021, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional, Inputs: inputs, Cost: m.cost,
	}
	return m, nil
}

type alibi struct{ full }

// Define computes, for each head h, with the query at position t = i + Keys - Queries,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d - m[h]·|t-j|) over the keys j that the mask lets i see
//
// with the slopes m of tile.Slope. A query that sees no key gives zeros. Press et al. 2021 (arXiv:2108.12409) §3.
func (alibi) Define(c *attn.Call64) error {
	defineScores(c, func(h attn.Head64, i, j int, s float64) float64 {
		return s - tile.Slope(h.H, c.Heads)*math.Abs(float64(i+h.Offset()-j))
	}, nil)
	return nil
}

// SinkLogit is softmax attention with a learned score a head that takes weight from the keys, spelled sinklogit. It has no
// options.
type SinkLogit struct{}

// New returns attention with a sink logit.
func (o SinkLogit) New() (attn.Mechanism, error) {
	m := sinkLogit{full{Softmax: tile.Softmax{Pattern: tile.Dense{}, SinkLogit: true}}}
	m.info = &attn.Info{
		Name: attn.Spell("sinklogit", o), Family: "full", Title: "Full attention with a learned sink logit",
		Paper: "OpenAI 2025, arXiv:2508.10925 (gpt-oss); Miller 2023 (softmax with one more)", Year: 2025, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Inputs: attn.QKV(), Cost: m.cost,
		Learned: []attn.Tensor{{Name: "sink", Shape: func(s attn.Shape) []int { return []int{s.Heads} }}},
	}
	return m, nil
}

type sinkLogit struct{ full }

// Define computes, for each head h with its learned score b[h],
//
//	o[i] = Σ_j e^x[i,j] v[j] / (Σ_j e^x[i,j] + e^b[h]),  x[i,j] = q[i]·k[j] / √d over the keys j that the mask lets i see
//
// which is full attention with one more key of score b[h] and value 0. A query that sees no key gives zeros.
func (sinkLogit) Define(c *attn.Call64) error {
	defineScores(c, nil, c.Learned[0])
	return nil
}

// Softcap is softmax attention with bounded scores, spelled softcap:cap=50.
type Softcap struct {
	Cap float64 `opt:"cap"` // bound of the scores; above 0
}

// New returns attention with capped scores.
func (o Softcap) New() (attn.Mechanism, error) {
	if !(o.Cap >= 1e-3 && o.Cap <= 1e6) {
		return nil, attn.OptionError("cap", o.Cap, "a number from 0.001 to 1e6")
	}
	m := softcap{full{Softmax: tile.Softmax{Pattern: tile.Dense{}, Cap: o.Cap}}, o}
	m.info = &attn.Info{
		Name: attn.Spell("softcap", o), Family: "full", Title: "Full attention with soft-capped scores",
		Paper: "Gemma Team 2024, arXiv:2408.00118", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Inputs: attn.QKV(), Cost: m.cost,
	}
	return m, nil
}

type softcap struct {
	full
	o Softcap
}

// Define computes, for each head,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(c·tanh(q[i]·k[j] / (c·√d))) over the keys j that the mask lets i see
//
// A query that sees no key gives zeros. Gemma Team 2024 (arXiv:2408.00118) §2.
func (m softcap) Define(c *attn.Call64) error {
	defineScores(c, func(_ attn.Head64, _, _ int, s float64) float64 { return m.o.Cap * math.Tanh(s/m.o.Cap) }, nil)
	return nil
}

// defineScores is the definition of softmax attention with changed scores, and with a score a head that has no value.
func defineScores(c *attn.Call64, change func(h attn.Head64, i, j int, s float64) float64, sink []float64) {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		p := make([]float64, h.Keys, h.Keys+1)
		for i := range h.Queries {
			for j := range p {
				p[j] = math.Inf(-1)
				if h.Sees(i, j) {
					p[j] = attn.Dot(h.Q(i), h.K(j)) / math.Sqrt(float64(c.KeyDim))
					if change != nil {
						p[j] = change(h, i, j, p[j])
					}
				}
			}
			if sink != nil {
				attn.Softmax(append(p, sink[h.H]))
			} else {
				attn.Softmax(p)
			}
			clear(h.Out(i))
			for j := range p {
				if h.Sees(i, j) { // an unseen value may be NaN
					attn.Axpy(p[j], h.V(j), h.Out(i))
				}
			}
		}
	})
}
