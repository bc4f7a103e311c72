package sparse

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/tile"

	"pgregory.net/rapid"
)

// TestPattern walks random tiles and compares every pair with the definition's rule.
func TestPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
		size := draw("block", 1, 70)
		var l layout
		var sees func(h attn.Head64, a, c int) bool
		if draw("mechanism", 0, 1) == 0 {
			o := BlockSparse{Block: size, Local: draw("local", 1, 4), Stride: draw("stride", 0, 5)}
			l, sees = o, o.sees
		} else {
			o := BigBird{Block: size, Global: draw("global", 0, 3), Window: 2*draw("half window", 0, 2) + 1, Random: draw("random", 0, 5), Seed: uint64(draw("seed", 0, 99))}
			l, sees = o, o.sees
		}
		p := blocks{l, size}
		x := tile.Tile{Mask: attn.Mask(draw("mask", 1, 2)), Layer: draw("layer", 0, 3), Head: draw("head", 0, 3),
			First: draw("first", -80, 300), Rows: draw("rows", 1, tile.Lanes)}
		x.Keys = max(0, x.Last()+1) + draw("keys behind", 0, 200)
		call := attn.Call64{Shape: attn.Shape{Mask: x.Mask, Layer: x.Layer}}
		h := attn.Head64{Call: &call, Segment: attn.Segment{Queries: x.Keys - x.First, Keys: x.Keys}, H: x.Head}
		seen, last := make([]uint32, x.Keys), 0
		for r := p.Next(x, 0); r.Lo < r.Hi; r = p.Next(x, r.Hi) {
			if r.Lo < last || r.Hi > x.Keys {
				t.Fatalf("run %+v after %d of %d keys", r, last, x.Keys)
			}
			last = r.Hi
			for j := r.Lo; j < r.Hi; j++ {
				if seen[j] = p.Sees(x, j); r.Full {
					seen[j] = tile.Bits(0, tile.Lanes)
				}
			}
		}
		for j := range seen {
			for lane := range x.Rows {
				want := h.Sees(lane, j) && sees(h, floor(x.First+lane, size), j/size)
				if got := seen[j]>>lane&1 == 1; got != want {
					t.Fatalf("%+v, %+v: query %d sees key %d: %v, want %v", l, x, lane, j, got, want)
				}
			}
		}
	})
}
