package tile

import (
	"fmt"
	"testing"

	"attnbench/attn"
)

func benchCall(n int, dim int, mask attn.Mask) *attn.Call {
	s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 8, KVHeads: 8, KeyDim: dim, ValueDim: dim, Mask: mask}
	c := &attn.Call{Shape: s}
	view := func() attn.View {
		v := attn.NewView[float32](1, n, 8, dim)
		for i := range v.Data {
			v.Data[i] = float32(i*2654435761%1000)/500 - 1
		}
		return v
	}
	c.Q, c.K, c.V, c.Out = view(), view(), view(), view()
	return c
}

func BenchmarkSoftmax(b *testing.B) {
	a := Softmax{Pattern: Dense{}}
	for _, pass := range []attn.Pass{attn.PassForward, attn.PassBackward} {
		for _, mask := range []attn.Mask{attn.Bidirectional, attn.Causal} {
			for _, dim := range []int{64, 128} {
				for _, n := range []int{512, 2048} {
					b.Run(fmt.Sprintf("%d/%v/dim=%d/n=%d", pass, mask, dim, n), func(b *testing.B) {
						c := benchCall(n, dim, mask)
						ws := attn.NewWorkspace()
						g := &attn.Grads{Out: c.Q, Q: benchCall(n, dim, mask).Q, K: benchCall(n, dim, mask).K, V: benchCall(n, dim, mask).V}
						c.Saved = attn.NewSaved(new(attn.Arena))
						a.Forward(ws, c)
						saved := c.Saved
						c.Saved = nil
						for b.Loop() {
							if pass == attn.PassForward {
								a.Forward(ws, c)
								continue
							}
							c.Saved = saved
							a.Backward(ws, c, g)
						}
						flops := a.Cost(c.Shape, pass, c.Shape.Pairs()*8).FLOPs
						b.ReportMetric(float64(flops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
						b.ReportMetric(0, "ns/op")
					})
				}
			}
		}
	}
}
