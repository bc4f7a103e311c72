package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// ColumnsFloats is the scratch of Columns.
func ColumnsFloats(s attn.Shape) int {
	return attn.ScratchFloats(s.KeyDim*Lanes, keyBlock*Lanes, Lanes, Lanes, keyBlock)
}

// Columns adds to sums[j] the weight Σ_i p[i,j] that the queries of segment g of a call give key j, those of one head from query
// first on. lse [batch, heads, queries] is what ForwardSums left. The mask is causal.
func (a Softmax) Columns(s *attn.Scratch, c *attn.Call, g attn.Segment, head, first int, lse, sums []float32) {
	q, scores := s.Floats(c.KeyDim*Lanes), s.Floats(keyBlock*Lanes)
	top, ones, add := s.Floats(Lanes), s.Floats(Lanes), s.Floats(keyBlock)
	for l := range ones {
		ones[l] = 1
	}
	k := sideOf(&c.K, g, c.KVHead(head))
	for i := first; i < g.Queries; i += Lanes {
		n := min(Lanes, g.Queries-i)
		t := Tile{Mask: attn.Causal, Head: head, First: i + g.Offset(), Rows: n, Keys: g.Keys}
		rows := kernel.Rows(c.Q.From(g.Row, g.Query0+i, head), c.Q.TimeStride)
		kernel.Pack(q, rows, n, c.KeyDim, a.scale(c)*kernel.Log2E)
		copy(top, lse[(g.Row*c.Heads+head)*c.QueryLen+g.Query0+i:][:n])
		for l := n; l < Lanes; l++ {
			top[l] = kernel.NegInf
		}
		for lo := 0; lo <= t.Last(); lo += keyBlock {
			keys := min(keyBlock, t.Last()+1-lo)
			kernel.Mul(keys, Lanes, c.KeyDim, k.rows(lo), kernel.Rows(q, Lanes), kernel.Rows(scores, Lanes))
			for j := max(lo, t.First+1); j < lo+keys; j++ { // keys behind the first query
				for l := range min(Lanes, j-t.First) {
					scores[(j-lo)*Lanes+l] = kernel.NegInf
				}
			}
			kernel.Weights(scores, keys, top)
			kernel.Dots(add, ones, kernel.Rows(scores, Lanes), keys)
			kernel.Add(sums[lo:lo+keys], add)
		}
	}
}
