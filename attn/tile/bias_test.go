package tile

import (
	"math"
	"testing"
)

// TestSlope: the slopes of the paper's own code, for head counts that are powers of two and others, of which a single geometric series knows
// nothing (of 6 heads it would give 0.39685 first).
func TestSlope(t *testing.T) {
	for _, want := range [][]float64{
		{1. / 256},
		{1. / 16, 1. / 256},
		{1. / 16, 1. / 256, 1. / 4},
		{1. / 4, 1. / 16, 1. / 64, 1. / 256, 1. / 2},
		{1. / 4, 1. / 16, 1. / 64, 1. / 256, 1. / 2, 1. / 8},
		{1. / 2, 1. / 4, 1. / 8, 1. / 16, 1. / 32, 1. / 64, 1. / 128, 1. / 256},
		{1. / 2, 1. / 4, 1. / 8, 1. / 16, 1. / 32, 1. / 64, 1. / 128, 1. / 256, 0.7071067811865476, 0.35355339059327379, 0.17677669529663689, 0.088388347648318447},
	} {
		for h, m := range want {
			if got := Slope(h, len(want)); math.Abs(got-m) > 1e-15 {
				t.Errorf("head %d of %d: %v: want %v", h, len(want), got, m)
			}
		}
	}
}
