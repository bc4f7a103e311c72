//go:build !purego

package kernel

import (
	"math"
	"math/bits"
)

// tileRows bounds a call over a tile: about 10 µs.
const tileRows = 1 << 9

func (s *Softmax) step(tile []float32) {
	if !stepsAtOnce(tile) {
		s.stepGeneric(tile, false)
	} else if level == levelAVX512 {
		s.mend(tile, stepAVX512(&tile[0], len(tile)/Lanes, &s.Max[0]))
	} else {
		s.mend(tile, stepAVX2(&tile[0], len(tile)/Lanes, &s.Max[0]))
	}
}

func (s *Softmax) lazyStep(tile []float32) {
	if !stepsAtOnce(tile) {
		s.stepGeneric(tile, true)
	} else if level == levelAVX512 {
		s.mend(tile, lazyStepAVX512(&tile[0], len(tile)/Lanes, &s.Max[0]))
	} else {
		s.mend(tile, lazyStepAVX2(&tile[0], len(tile)/Lanes, &s.Max[0]))
	}
}

// stepsAtOnce: the maximum needs the whole tile, so a giant one is not cut but left to the loop that can be preempted.
func stepsAtOnce(tile []float32) bool {
	return level != levelGeneric && 0 < len(tile) && len(tile) <= 8*tileRows*Lanes
}

// mend finishes the marked lanes.
func (s *Softmax) mend(tile []float32, nan uint32) {
	for ; nan != 0; nan &= nan - 1 {
		s.mendLane(tile, bits.TrailingZeros32(nan))
	}
}

// mendLane finishes a lane whose sum is NaN. The vector maximum passes over NaN, so the lane's maximum is
// still a number: unless that is +Inf, which made the NaN by itself, a score was NaN.
func (s *Softmax) mendLane(tile []float32, lane int) {
	if m := s.Max[lane]; m != m || math.IsInf(float64(m), 1) {
		return
	}
	nan := float32(math.NaN())
	s.Max[lane], s.Scale[lane] = nan, nan
	for i := lane; i < len(tile); i += Lanes {
		tile[i] = nan
	}
}

func weights(tile, lse []float32) {
	if level == levelGeneric {
		weightsGeneric(tile, lse)
		return
	}
	for len(tile) > 0 {
		n := min(len(tile)/Lanes, tileRows)
		if level == levelAVX512 {
			weightsAVX512(&tile[0], n, &lse[0])
		} else {
			weightsAVX2(&tile[0], n, &lse[0])
		}
		tile = tile[n*Lanes:]
	}
}

func weightsGrad(p, dp, delta []float32) {
	if level == levelGeneric {
		weightsGradGeneric(p, dp, delta)
		return
	}
	for len(p) > 0 {
		n := min(len(p)/Lanes, tileRows)
		if level == levelAVX512 {
			weightsGradAVX512(&p[0], &dp[0], n, &delta[0])
		} else {
			weightsGradAVX2(&p[0], &dp[0], n, &delta[0])
		}
		p, dp = p[n*Lanes:], dp[n*Lanes:]
	}
}

func put(tile []float32, masks []uint32, x float32) {
	if level == levelGeneric {
		putGeneric(tile, masks, x)
		return
	}
	for len(masks) > 0 {
		n := min(len(masks), tileRows)
		if level == levelAVX512 {
			putAVX512(&tile[0], &masks[0], n, x)
		} else {
			putAVX2(&tile[0], &masks[0], n, x)
		}
		tile, masks = tile[n*Lanes:], masks[n:]
	}
}

func expSum(x []float32, max float32) float32 {
	if level == levelGeneric {
		return expSumGeneric(x, max)
	}
	var s float32
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			s += expSumAVX512(&x[0], n, max)
		} else {
			s += expSumAVX2(&x[0], n, max)
		}
		x = x[n:]
	}
	return s
}
