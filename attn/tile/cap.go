package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// soften replaces scores s, times unit, by c·tanh(s/c) + c, times unit, c being Cap. The c that is too much cancels in the softmax:
//
//	c·tanh(s/c) = c·(2σ(2s/c) - 1)
//
// With slope set it gets the derivative of each, 1 - tanh² = 4σ(1-σ).
func (a Softmax) soften(scores, slope []float32, unit float64) {
	if a.Cap == 0 {
		return
	}
	kernel.Scale(float32(2/(a.Cap*unit)), scores)
	kernel.Sigmoid(scores, scores)
	if slope != nil {
		copy(slope, scores)
		kernel.Times(slope, scores)
		kernel.Scale(-4, slope)
		kernel.Axpy(4, scores, slope)
	}
	kernel.Scale(float32(2*a.Cap*unit), scores)
}

func (a Softmax) slopeFloats() int {
	if a.Cap == 0 {
		return 0
	}
	return keyBlock * Lanes
}

func (a Softmax) slopeRoom(s *attn.Scratch) []float32 {
	if a.Cap == 0 {
		return nil
	}
	return s.Floats(keyBlock * Lanes)
}
