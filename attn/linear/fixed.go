package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// fixed is a recurrence whose decay is a constant of the head.
type fixed struct {
	derived
	decay func(s attn.Shape, h int) float64 // the log decay of key/value head h
}

func newFixed(r tile.Recurrence, decay func(s attn.Shape, h int) float64) fixed {
	r.Decay, r.Fixed = tile.HeadDecay, true
	m := fixed{derived{recurrent: recurrent{rec: r}}, decay}
	m.prepare = func(ws *attn.Workspace, c *attn.Call, d *derivation) {
		g := ws.Floats(c.KVHeads)
		for h := range g {
			g[h] = float32(decay(c.Shape, h))
		}
		d.inputs[0] = attn.View{Data: g, Batch: c.Batch, Time: c.KeyLen, Heads: c.KVHeads, Dim: 1, HeadStride: 1}
		d.call.Extra = d.inputs[:1]
	}
	m.floats = func(s attn.Shape) (int, int) { return attn.ScratchFloats(s.KVHeads), 0 }
	return m
}

// asGated is the limit by which the mechanism of the spelling spec is gated linear attention with its decays; the outputs of
// both are divided by √d, or else only gla's.
func (m *fixed) asGated(spec string, divided bool) attn.Limit {
	return attn.Limit{
		Spec: func(attn.Shape) string { return spec }, Equals: "gla",
		Convert: func(c *attn.Call64) *attn.Call64 {
			d := *c
			g := attn.NewView[float64](c.Batch, c.KeyLen, c.KVHeads, c.KeyDim)
			for i := range g.Data {
				g.Data[i] = m.decay(c.Shape, i/c.KeyDim%c.KVHeads)
			}
			d.Extra = []attn.View64{g}
			if !divided {
				d.Q = scaled(c.Q, math.Sqrt(float64(c.KeyDim)))
			}
			return &d
		},
	}
}

// scaled returns a copy of v times f.
func scaled(v attn.View64, f float64) attn.View64 {
	w := attn.NewView[float64](v.Batch, v.Time, v.Heads, v.Dim)
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				for i, x := range v.Row(b, t, h) {
					w.Row(b, t, h)[i] = f * x
				}
			}
		}
	}
	return w
}
