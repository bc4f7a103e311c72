package linear

import "math"

// log1p returns log(1+x) for -1/2 ≤ x ≤ 1, to 3e-7 of it: 2·atanh(s) with s = x/(2+x), |s| ≤ 1/3, by its series.
func log1p(x float32) float32 {
	s := x / (2 + x)
	q := s * s
	return 2 * s * (1 + q*(1./3+q*(1./5+q*(1./7+q*(1./9+q*(1./11+q*(1./13+q*(1./15))))))))
}

// abs32 is |x|.
func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
