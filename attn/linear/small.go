package linear

import (
	"math"

	"attnbench/internal/kernel"
)

// forget writes 1-e^f to omega for f ≤ 0. Near 0 that difference would lose digits, and a polynomial takes its place, without a branch:
// random gates are on either side.
func forget(omega, f []float32) {
	copy(omega, f)
	kernel.Exp(omega)
	for i, e := range omega {
		x := f[i]
		q := x * x
		near := -x * ((1 + x*(1./2)) + q*((1./6+x*(1./24))+q*((1./120+x*(1./720))+q*(1./5040))))
		bits := math.Float32bits(x)
		weak := uint32(int32(bits&^(1<<31)-quarter) >> 31) // all ones for |x| < 1/4
		omega[i] = math.Float32frombits(math.Float32bits(near)&weak | math.Float32bits(1-e)&^weak)
	}
}

const quarter = 0x3e800000 // the bits of 1/4

// log1p returns log(1+x) for -1/2 ≤ x ≤ 1, to 3e-7 of it: 2·atanh(s) with s = x/(2+x), |s| ≤ 1/3, by its series.
func log1p(x float32) float32 {
	s := x / (2 + x)
	q := s * s
	return 2 * s * (1 + q*(1./3+q*(1./5+q*(1./7+q*(1./9+q*(1./11+q*(1./13+q*(1./15))))))))
}

// abs32 is |x|.
func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
