package explain

import (
	"math"

	"attnbench/attn"
)

// byGradient computes the weights as the mean diagonal of d out[i] / d v[j], a backward pass for each element of each output.
func byGradient(ws *attn.Workspace, m attn.Differentiable, c *attn.Call) (*Weights, error) {
	w := newWeights(c)
	info := m.Info()
	d := with(c, c.V)
	d.Saved = attn.NewSaved(new(attn.Arena))
	if err := m.Forward(ws, d); err != nil {
		return nil, err
	}
	g := gradients(&info, d)
	all, off := 0.0, 0.0 // Σ‖J‖² and Σ‖J - wI‖²
	for h := range c.Heads {
		for i := range c.QueryLen {
			squares := make([]float64, c.KeyLen)
			for a := range c.ValueDim {
				clear(g.Out.Data)
				clear(g.V.Data)
				g.Out.Row(0, i, h)[a] = 1
				if err := m.Backward(ws, d, g); err != nil {
					return nil, err
				}
				for j := range c.KeyLen {
					row := g.V.Row(0, j, valueHead(c, h))
					if a < len(row) {
						w.Heads[h][i][j] += float64(row[a])
					}
					for _, x := range row {
						squares[j] += float64(x) * float64(x)
					}
				}
			}
			for j, s := range squares {
				p := w.Heads[h][i][j] / float64(c.ValueDim)
				w.Heads[h][i][j] = p
				all += s
				off += max(0, s-float64(c.ValueDim)*p*p)
			}
		}
	}
	if all > 0 {
		w.Off = math.Sqrt(off / all)
	}
	return w, nil
}

// gradients returns zeroed gradients for the call, each in memory of its own.
func gradients(info *attn.Info, c *attn.Call) *attn.Grads {
	like := func(v attn.View) attn.View {
		if v.Empty() {
			return v
		}
		return attn.NewView[float32](v.Batch, v.Time, v.Heads, v.Dim)
	}
	g := &attn.Grads{Out: like(c.Out), Q: like(c.Q), K: like(c.K), V: like(c.V)}
	for _, x := range c.Extra {
		g.Extra = append(g.Extra, like(x))
	}
	for i := range info.Learned {
		g.Learned = append(g.Learned, make([]float32, len(c.Learned[i])))
	}
	if c.Initial != nil {
		g.Initial = make([]float32, len(c.Initial))
	}
	return g
}
