package sparse

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/tile"

	"pgregory.net/rapid"
)

// TestFactorisedPattern walks random tiles and compares every pair with the definition's rule.
func TestFactorisedPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
		stride, use := draw("stride", 1, 90), uses[draw("use", 0, 2)]
		var p tile.Pattern
		var sees func(h attn.Head64, a, c int) bool
		var pairs func(s attn.Shape, layer, head int) int64
		if draw("mechanism", 0, 1) == 0 {
			o := Strided{Stride: stride, Use: use}
			p, sees, pairs = o, o.sees, o.pairs
		} else {
			o := Fixed{Stride: stride, Columns: draw("columns", 0, stride), First: rapid.Bool().Draw(t, "first"), Use: use}
			p, sees, pairs = o, o.sees, o.pairs
		}
		x := tile.Tile{Mask: attn.Causal, Layer: draw("layer", 0, 3), Head: draw("head", 0, 3), First: draw("first", -80, 300), Rows: draw("rows", 1, tile.Lanes)}
		x.Keys = max(0, x.Last()+1) + draw("keys behind", 0, 200)
		call := attn.Call64{Shape: attn.Shape{Mask: x.Mask, Layer: x.Layer}}
		h := attn.Head64{Call: &call, Segment: attn.Segment{Queries: x.Keys - x.First, Keys: x.Keys}, H: x.Head}
		seen, last := make([]uint32, x.Keys), 0
		for r := p.Next(x, 0); r.Lo < r.Hi; r = p.Next(x, r.Hi) {
			if r.Lo < last || r.Hi > x.Keys {
				t.Fatalf("run %+v after %d of %d keys", r, last, x.Keys)
			}
			last = r.Hi
			any := uint32(0)
			for j := r.Lo; j < r.Hi; j++ {
				if seen[j] = p.Sees(x, j); r.Full {
					seen[j] = tile.Bits(0, tile.Lanes)
				}
				any |= seen[j]
			}
			if any&tile.Bits(0, x.Rows) == 0 {
				t.Fatalf("run %+v is seen by no query", r)
			}
		}
		for j := range seen {
			for lane := range x.Rows {
				want := h.Sees(lane, j) && sees(h, x.First+lane, j)
				if got := seen[j]>>lane&1 == 1; got != want {
					t.Fatalf("%+v, %+v: query %d sees key %d: %v, want %v", p, x, lane, j, got, want)
				}
			}
		}
		s := attn.Shape{Mask: attn.Causal, Heads: 1, KVHeads: 1, QueryLen: draw("queries", 0, 150), KeyLen: draw("keys", 0, 150), Layer: x.Layer}
		n := int64(0)
		for q := range s.QueryLen {
			pos := q + s.KeyLen - s.QueryLen
			for j := range max(0, pos+1) {
				h := attn.Head64{Call: &attn.Call64{Shape: s}, H: 0}
				if sees(h, pos, j) {
					n++
				}
			}
		}
		if got := pairs(s, s.Layer, 0); got != n {
			t.Fatalf("%+v: %d pairs of %d x %d: want %d", p, got, s.QueryLen, s.KeyLen, n)
		}
	})
}
