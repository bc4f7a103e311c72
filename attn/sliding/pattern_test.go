package sliding

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
		o := Sliding{Window: draw("window", 1, 80), Sinks: draw("sinks", 0, 50), Dilation: draw("dilation", 1, 5)}
		x := tile.Tile{Mask: attn.Mask(draw("mask", 1, 2)), First: draw("first", -40, 90), Rows: draw("rows", 1, tile.Lanes)}
		x.Keys = max(0, x.Last()+1) + draw("keys behind", 0, 60)
		call := attn.Call64{Shape: attn.Shape{Mask: x.Mask}}
		// Query 0 of a segment lies at position Keys-Queries.
		h := attn.Head64{Call: &call, Segment: attn.Segment{Queries: x.Keys - x.First, Keys: x.Keys}}
		seen, last := make([]uint32, x.Keys), 0
		for r := o.Next(x, 0); r.Lo < r.Hi; r = o.Next(x, r.Hi) {
			if r.Lo < last || r.Hi > x.Keys {
				t.Fatalf("run %+v after %d of %d keys", r, last, x.Keys)
			}
			last = r.Hi
			for j := r.Lo; j < r.Hi; j++ {
				if seen[j] = o.Sees(x, j); r.Full {
					seen[j] = tile.Bits(0, tile.Lanes)
				}
			}
		}
		for j := range seen {
			for l := range x.Rows {
				if got, want := seen[j]>>l&1 == 1, o.sees(h, l, j); got != want {
					t.Fatalf("%+v, %+v: query %d sees key %d: %v, want %v", o, x, l, j, got, want)
				}
			}
		}
	})
}
