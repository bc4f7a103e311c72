package linear

import (
	"math"

	"attnbench/internal/kernel"
)

// log1p returns log(1+x) for -1/2 ≤ x ≤ 1, to 3e-7 of it: 2·atanh(s) with s = x/(2+x), |s| ≤ 1/3, by its series.
func log1p(x float32) float32 {
	s := x / (2 + x)
	q := s * s
	return 2 * s * (1 + q*(1./3+q*(1./5+q*(1./7+q*(1./9+q*(1./11+q*(1./13+q*(1./15))))))))
}

// softplus32 replaces each x by log(1+e^x), as max(x, 0) + log(1+e^-|x|).
func softplus32(x []float32) {
	var room [256]float32
	for len(x) > 0 {
		n := min(len(room), len(x))
		e := room[:n]
		for i, y := range x[:n] {
			e[i] = math.Float32frombits(math.Float32bits(y) | 1<<31) // -|y|
		}
		kernel.Exp(e)
		for i, y := range e {
			x[i] = max(x[i], 0) + log1p(y)
		}
		x = x[n:]
	}
}
