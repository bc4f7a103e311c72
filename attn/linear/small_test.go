package linear

import (
	"math"
	"testing"
)

func TestLog1p(t *testing.T) {
	for _, x := range []float32{-0.5, -0.49, -0.1, -1e-7, 0, 1e-30, 1e-7, 0.001, 0.3, 0.7, 1} {
		if got, want := float64(log1p(x)), math.Log1p(float64(x)); !(math.Abs(got-want) <= 3e-7*math.Abs(want)) {
			t.Errorf("log(1+%v): %v: want %v", x, got, want)
		}
	}
}
