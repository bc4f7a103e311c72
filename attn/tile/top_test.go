package tile

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTop holds Top against a sort, over scores with many ties, both zeros and NaN, cut into pieces.
func TestTop(t *testing.T) {
	values := []float32{-2, -1, float32(math.Copysign(0, -1)), 0, 0.5, 3, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 1e-42, -1e-42}
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, 70).Draw(t, "k")
		scores := make([]float32, rapid.IntRange(0, 900).Draw(t, "n"))
		for i := range scores {
			scores[i] = values[rapid.IntRange(0, len(values)-1).Draw(t, "score")]
		}
		want := make([]int, len(scores))
		for i := range want {
			want[i] = i
		}
		slices.SortStableFunc(want, func(a, b int) int {
			x, y := scores[a], scores[b]
			switch {
			case x > y, x == x && y != y:
				return -1
			case x < y, x != x && y == y:
				return 1
			}
			return 0
		})
		want = want[:min(k, len(want))]
		slices.Sort(want)
		top := NewTop(make([]float32, TopFloats(k)), k)
		for range 2 { // Sorted leaves it empty
			for at := 0; at < len(scores); {
				n := rapid.IntRange(1, len(scores)-at).Draw(t, "piece")
				top.Take(scores[at:at+n], at)
				at += n
			}
			index, held := make([]int32, k), make([]float32, k)
			if rapid.Bool().Draw(t, "unsorted") {
				n := top.Held(index)
				slices.Sort(index[:n])
				if n != len(want) || !slices.EqualFunc(index[:n], want, func(a int32, b int) bool { return int(a) == b }) {
					t.Fatalf("held %v of %v: want %v", index[:n], scores, want)
				}
				continue
			}
			n := top.Sorted(index, held)
			if n != len(want) {
				t.Fatalf("%d held: want %d", n, len(want))
			}
			for i, j := range index[:n] {
				if int(j) != want[i] {
					t.Fatalf("held %v of %v: want %v", index[:n], scores, want)
				}
				if x := scores[j]; held[i] != x && x == x {
					t.Fatalf("score %v of index %d: want %v", held[i], j, x)
				}
			}
		}
	})
}
