package tile

import (
	"math"
	"testing"
)

func TestMerge(t *testing.T) {
	none := math.Inf(-1)
	nan := float32(math.NaN())
	for _, c := range []struct {
		name          string
		a             float32
		la            float64
		b             float32
		lb            float64
		want, wantLSE float64
	}{
		{"two empty parts", 0, none, 0, none, 0, none},
		{"second empty", 5, 1, 0, none, 5, 1},
		{"first empty", 0, none, 5, 1, 5, 1},
		{"empty part holds a NaN", 5, 1, nan, none, 5, 1},
		{"scores 1, 2 and 3", 17.310586, 2.3132617, 40, 3, 32.404513, 3.4076060},
		{"scores 3 and 1, 2", 40, 3, 17.310586, 2.3132617, 32.404513, 3.4076060},
		{"scores beyond e^x", 1, 1e4, 3, 1e4, 2, 1e4 + math.Ln2},
		{"one part outweighs the other", 1, -1e4, 3, 1e4, 3, 1e4},
	} {
		a, b := []float32{c.a}, []float32{c.b}
		lse := Merge(a, c.la, b, c.lb)
		if got := float64(a[0]); !(math.Abs(got-c.want) <= 1e-6*math.Abs(c.want)) || lse != c.wantLSE && !(math.Abs(lse-c.wantLSE) < 1e-6) {
			t.Errorf("%s: (%v, %v): want (%v, %v)", c.name, a[0], lse, c.want, c.wantLSE)
		}
	}
}
