// Package full holds exact softmax attention: the tiled kernel that everything is compared with and the
// plain one that materialises its scores.
package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("full", Full{Precision: "f32"}, Full.New) }

// Full holds the options of softmax attention, spelled full, or full:precision=bf16.
type Full struct {
	// Precision of the products: f32, or bf16, which rounds queries, keys, values and weights to bfloat16 and adds up in float32.
	Precision string `opt:"precision"`
}

// pairsTolerance is what bfloat16 may lose of the largest output. A rounding to its 8 bits of significand is off by 2⁻⁹ = 0.002 at most, by 0.0008 in
// the root mean square. Four of them meet in an output: q and k make a score of size 1 off by 0.0012, and a weight by as much of itself; v and the weight
// add 0.0008 each. For Gaussian inputs that is 0.0035 of the outputs in the root mean square, whatever the width and the number of keys (both the output and
// its error are means over the keys). The largest error of 10³ outputs was 0.010 of the largest output, at a width of 8; this is twice that.
const pairsTolerance = 0.02

// New returns full attention.
func (o Full) New() (attn.Mechanism, error) {
	if o.Precision != "f32" && o.Precision != "bf16" {
		return nil, attn.OptionError("precision", o.Precision, "f32 or bf16")
	}
	m := full{Softmax: tile.Softmax{Pattern: tile.Dense{}, Pairs: o.Precision == "bf16"}}
	m.info = &attn.Info{
		Name: attn.Spell("full", o), Family: "full", Title: "Full attention, online softmax",
		Paper: "Vaswani et al. 2017, arXiv:1706.03762; Dao et al. 2022, arXiv:2205.14135", Year: 2017, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Quick: true, Inputs: attn.QKV(), Cost: m.cost,
	}
	if m.Pairs {
		m.info.Title, m.info.Paper = "Full attention, products of bfloat16", m.info.Paper+"; Kalamkar et al. 2019, arXiv:1905.12322 (bfloat16)"
		m.info.Approximates, m.info.BFloat16, m.info.Tolerance, m.info.Quick = true, true, pairsTolerance, false
	}
	return m, nil
}

type full struct {
	tile.Softmax
	info *attn.Info
}

// Define computes, for each head,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d) over the keys j that the mask lets i see
//
// A query that sees no key gives zeros. Vaswani et al. 2017 (arXiv:1706.03762) eq. 1; shared key/value
// heads: Ainslie et al. 2023 (arXiv:2305.13245). With precision=bf16 it is what Forward approximates.
func (full) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		p := make([]float64, h.Keys)
		for i := range h.Queries {
			for j := range p {
				p[j] = math.Inf(-1)
				if h.Sees(i, j) {
					p[j] = attn.Dot(h.Q(i), h.K(j)) / math.Sqrt(float64(c.KeyDim))
				}
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for j := range p {
				if h.Sees(i, j) { // an unseen value may be NaN
					attn.Axpy(p[j], h.V(j), h.Out(i))
				}
			}
		}
	})
	return nil
}

// Info describes the mechanism.
func (m full) Info() attn.Info { return *m.info }

func (m full) cost(s attn.Shape, p attn.Pass) attn.Cost {
	return m.Softmax.Cost(s, p, s.Pairs()*int64(s.Heads))
}

// Forward computes the output.
func (m full) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	m.Softmax.Forward(ws, c)
	return nil
}

// Backward adds the gradients of q, k and v. With precision=bf16 they are those of the definition at the weights of the forward pass, as
// if rounding had the derivative 1: the scores are recomputed from rounded q and k, all else in float32.
func (m full) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.Softmax.Backward(ws, c, g)
	return nil
}

// NewState returns an empty cache of keys and values, with precision=bf16 of bfloat16.
func (m full) NewState(s attn.Shape) (attn.State, error) {
	return m.Softmax.NewState(m.info.Name, s)
}

// Extend appends the call's keys and values and computes its queries.
func (m full) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	return m.Softmax.Extend(ws, m.info, s, c)
}
