// Package full holds exact softmax attention: the tiled kernel that everything is compared with and the
// plain one that materialises its scores.
package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("full", Full{}, Full.New) }

// Full is exact softmax attention, spelled full. It has no options.
type Full struct{}

// New returns full attention.
func (o Full) New() (attn.Mechanism, error) {
	m := full{Softmax: tile.Softmax{Pattern: tile.Dense{}}}
	m.info = &attn.Info{
		Name: attn.Spell("full", o), Family: "full", Title: "Full attention, online softmax",
		Paper: "Vaswani et al. 2017, arXiv:1706.03762; Dao et al. 2022, arXiv:2205.14135", Year: 2017, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Quick: true, Inputs: attn.QKV(), Cost: m.cost,
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
// heads: Ainslie et al. 2023 (arXiv:2305.13245).
func (full) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		p := make([]float64, h.Keys)
		for i := range h.Queries {
			for j := range p {
				p[j] = math.Inf(-1)
				if h.Sees(i, j) {
					p[j] = dot(h.Q(i), h.K(j)) / math.Sqrt(float64(c.KeyDim))
				}
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for j := range p {
				if h.Sees(i, j) { // an unseen value may be NaN
					axpy(p[j], h.V(j), h.Out(i))
				}
			}
		}
	})
	return nil
}

func dot(x, y []float64) float64 {
	s := 0.0
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

func axpy(a float64, x, y []float64) {
	for i := range x {
		y[i] += a * x[i]
	}
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

// Backward adds the gradients of q, k and v.
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

// NewState returns an empty cache of keys and values.
func (m full) NewState(s attn.Shape) (attn.State, error) {
	return m.Softmax.NewState(m.info.Name, s)
}

// Extend appends the call's keys and values and computes its queries.
func (m full) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	return m.Softmax.Extend(ws, m.info, s, c)
}
