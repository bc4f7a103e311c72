package all

import (
	"math"
	"math/rand/v2"
	"testing"

	"attnbench/attn"
)

// TestRowsApart: rows of a head that lie 4 KiB apart are copied together first; whatever the layout, out and gradients
// have the same bits, also where the guarded path for a NaN takes the copy's place.
func TestRowsApart(t *testing.T) {
	const n, heads, dim = 300, 8, 128
	for _, spec := range []string{"full", "full:precision=bf16", "sliding:window=50", "sliding:window=70,sinks=3", "blocksparse:block=16,local=2,stride=4"} {
		for _, bad := range []bool{false, true} {
			m, err := attn.New(spec)
			if err != nil {
				t.Fatal(err)
			}
			var got [2][]attn.View
			for layout := range got {
				r := rand.New(rand.NewPCG(1, 2))
				view := func() attn.View {
					v := attn.NewView[float32](1, n, heads, dim)
					if layout == 1 { // head-major: the rows of a head are neighbours
						v.TimeStride, v.HeadStride = dim, n*dim
					}
					return v
				}
				draw := func() attn.View {
					v := view()
					for i := range n {
						for h := range heads {
							for d := range dim {
								v.Row(0, i, h)[d] = float32(r.NormFloat64())
							}
						}
					}
					return v
				}
				ws := attn.NewWorkspace()
				c := &attn.Call{
					Shape: attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: heads, KVHeads: heads, KeyDim: dim, ValueDim: dim, Mask: attn.Causal, Layers: 1},
					Q:     draw(), K: draw(), V: draw(), Out: view(), Saved: attn.NewSaved(new(attn.Arena)),
				}
				if bad {
					c.K.Row(0, 170, 3)[5] = float32(math.NaN())
					c.V.Row(0, 40, 2)[7] = float32(math.NaN())
				}
				if err := m.Forward(ws, c); err != nil {
					t.Fatal(err)
				}
				g := &attn.Grads{Out: draw(), Q: view(), K: view(), V: view()}
				if err := m.(attn.Differentiable).Backward(ws, c, g); err != nil {
					t.Fatal(err)
				}
				got[layout] = []attn.View{c.Out, g.Q, g.K, g.V}
			}
			for k, name := range []string{"out", "dq", "dk", "dv"} {
				a, b := got[0][k], got[1][k]
				for i := range n * heads * dim {
					x, y := a.Row(0, i/heads/dim, i/dim%heads)[i%dim], b.Row(0, i/heads/dim, i/dim%heads)[i%dim]
					if x != y && (x == x || y == y) {
						t.Fatalf("%s, NaN %v: %s[%d] is %v with rows apart, %v side by side", spec, bad, name, i, x, y)
					}
				}
			}
		}
	}
}
