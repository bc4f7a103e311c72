package explain

import (
	"fmt"
	"math"
	"math/rand/v2"

	"attnbench/attn"
)

// Weights are the effective weights of one attention call of one sequence.
type Weights struct {
	Heads  [][][]float64 // [head][query][key]
	Linear bool          // the output is Σ_j w[i,j] v[j] whatever v is; else the weights are those at the call's v
	Off    float64       // the part of d out/d v that is no multiple of the identity: root of Σ‖J - wI‖² / Σ‖J‖²
}

// exact is the relative error up to which two outputs count as equal: what float32 leaves of a sum of some hundred terms.
const exact = 1e-4

// Find returns the effective weights of m in the call c. They are read off by putting unit vectors in the place of v; when the output is
// then found not to be that sum for any v, they are computed by the backward pass.
func Find(ws *attn.Workspace, m attn.Mechanism, c *attn.Call) (*Weights, error) {
	info := m.Info()
	if c.Batch != 1 || c.Segments != nil {
		return nil, fmt.Errorf("%s: weights of a batch of %d: want one whole sequence", info.Name, c.Batch)
	}
	if c.V.Empty() {
		return nil, fmt.Errorf("%s: weights: it has no input v: want a mechanism of values", info.Name)
	}
	w, err := byUnits(ws, m, c)
	if err != nil {
		return nil, err
	}
	if same, err := predicts(ws, m, c, w); err != nil || same {
		return w, err
	}
	d, ok := m.(attn.Differentiable)
	if !ok {
		return nil, fmt.Errorf("%s: weights: its output is not linear in v, and it has no backward pass: want one of the two", info.Name)
	}
	return byGradient(ws, d, c)
}

func newWeights(c *attn.Call) *Weights {
	w := &Weights{Heads: make([][][]float64, c.Heads)}
	for h := range w.Heads {
		w.Heads[h] = make([][]float64, c.QueryLen)
		for i := range w.Heads[h] {
			w.Heads[h][i] = make([]float64, c.KeyLen)
		}
	}
	return w
}

// with returns c with other values and an output of its own.
func with(c *attn.Call, v attn.View) *attn.Call {
	d := *c
	d.V, d.Saved, d.Final, d.Aux = v, nil, nil, nil
	d.Out = attn.NewView[float32](c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	return &d
}

// byUnits reads weights off the outputs for v[j] = e_b, a different element b for each of as many keys as a value has elements.
func byUnits(ws *attn.Workspace, m attn.Mechanism, c *attn.Call) (*Weights, error) {
	w := newWeights(c)
	w.Linear = true
	for j0 := 0; j0 < c.KeyLen; j0 += c.V.Dim {
		n := min(c.V.Dim, c.KeyLen-j0)
		d := with(c, attn.NewView[float32](1, c.KeyLen, c.V.Heads, c.V.Dim))
		for b := range n {
			for g := range c.V.Heads {
				d.V.Row(0, j0+b, g)[b] = 1
			}
		}
		if err := m.Forward(ws, d); err != nil {
			return nil, err
		}
		for h := range c.Heads {
			for i := range c.QueryLen {
				for b, x := range d.Out.Row(0, i, h)[:min(n, c.ValueDim)] {
					w.Heads[h][i][j0+b] = float64(x)
				}
			}
		}
	}
	return w, nil
}

// predicts reports whether Σ_j w[i,j] v[j] is the output, for the call's values and for two random ones.
func predicts(ws *attn.Workspace, m attn.Mechanism, c *attn.Call, w *Weights) (bool, error) {
	if c.V.Dim != c.ValueDim || c.V.Heads != c.KVHeads && c.V.Heads != c.Heads {
		return false, nil
	}
	r := rand.New(rand.NewPCG(c.Seed, 1))
	for try := range 3 {
		v := c.V
		if try > 0 {
			v = attn.NewView[float32](1, c.KeyLen, c.V.Heads, c.V.Dim)
			for i := range v.Data {
				v.Data[i] = float32(r.NormFloat64())
			}
		}
		d := with(c, v)
		if err := m.Forward(ws, d); err != nil {
			return false, err
		}
		if !(Miss(d, w) <= exact) {
			return false, nil
		}
	}
	return true, nil
}

// Miss returns how far Σ_j w[i,j] v[j] is from the output of the call, relatively: the root of Σ(o - Σwv)² / Σo².
func Miss(c *attn.Call, w *Weights) float64 {
	diff, size := 0.0, 0.0
	for h := range c.Heads {
		for i := range c.QueryLen {
			sum := WeightedSum(c, w, h, i)
			for b, o := range c.Out.Row(0, i, h) {
				diff += (float64(o) - sum[b]) * (float64(o) - sum[b])
				size += float64(o) * float64(o)
			}
		}
	}
	if diff == 0 {
		return 0
	}
	return math.Sqrt(diff / size)
}

// WeightedSum returns Σ_j w[i,j] v[j] of a head.
func WeightedSum(c *attn.Call, w *Weights, h, i int) []float64 {
	sum := make([]float64, c.V.Dim)
	for j, p := range w.Heads[h][i] {
		if p == 0 { // a value that is not looked at may be anything
			continue
		}
		for b, x := range c.V.Row(0, j, valueHead(c, h)) {
			sum[b] += p * float64(x)
		}
	}
	return sum
}

// valueHead is the head of the values that query head h reads.
func valueHead(c *attn.Call, h int) int {
	if c.V.Heads == c.Heads {
		return h
	}
	return c.KVHead(h)
}
