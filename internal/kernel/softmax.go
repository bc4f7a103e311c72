package kernel

import "math"

// Log2E is log₂(e): scores are multiplied by it once, so that softmax can use powers of two.
const Log2E = 1.4426950408889634

// NegInf marks a score that takes no part in a softmax.
var NegInf = float32(math.Inf(-1))

// leastPower is the power of two below which a weight is 0. Beside the largest, which is 1, no float32 sum would show it; and its
// products with values would be subnormal numbers, each of which costs the processor a hundred others: with a
// decay on the scores nine of ten.
const leastPower = -63

// A Softmax is the running state of an online softmax over Lanes independent rows (queries):
// the maximum and the sum of the weights so far, in the log2 domain (Milakov & Gimelshein 2018).
type Softmax struct {
	Max   [Lanes]float32 // -Inf before the first visible score
	Sum   [Lanes]float32 // Σ 2^(s-Max)
	Scale [Lanes]float32 // factor that the last step asks the accumulators to be multiplied by
}

// Reset empties the state.
func (s *Softmax) Reset() {
	for i := range s.Max {
		s.Max[i], s.Sum[i], s.Scale[i] = NegInf, 0, 0
	}
}

// Step takes the next tile of scores, rows of Lanes floats in tile[:rows*Lanes], already multiplied by
// Log2E, and replaces each score s by its weight 2^(s-Max) under the new maximum. It sets
// Scale to 2^(old Max - new Max), by which the caller multiplies what it has accumulated
// (MulScale does), and adds the new weights to Sum.
//
// Weights and scales below 2^-63 are exactly 0. A score of -Inf gets weight exactly 0, also when a whole lane is -Inf so far: Scale is then
// 1 and nothing is NaN. A score that is NaN or +Inf makes its own lane NaN and no other.
func (s *Softmax) Step(tile []float32, rows int) { s.step(tile[:rows*Lanes]) }

// mostLag and leastFirst are the powers of two by which LazyStep lets scores be above Max, and a first maximum below 0.
const (
	mostLag    = 24
	leastFirst = 8
)

// LazyStep is Step under a Max that lags behind the maximum: it stays while no score of the lane is above it by more than 24, else it becomes the
// next whole number from the maximum up. The first is 0 where that is neither 24 below nor 8 above the maximum. So Max is 0, and MulPowers possible, for most scores that attention meets;
// weights are at most 2^24, and those below 2^-63 are at least 2^-55 below the largest. Sum, Scale and LogSum2 go by this Max.
//
// What becomes of a lane depends on its own scores alone.
func (s *Softmax) LazyStep(tile []float32, rows int) { s.lazyStep(tile[:rows*Lanes]) }

// MulPowers is Mul and LazyStep in one for most blocks in which every Max is 0, or the state empty, and no score A·B, of A [rows, k] and B [k, Lanes], is beyond 24 or -24: then it
// returns true and all bits of tile and s are those of Mul and LazyStep. Elsewhere it returns false with anything in tile
// and s as it was. Levels other than avx512 always do.
//
// With hidden the caller is to set the weights of pairs that are hidden to 0 and to add what remains to Sum, by Take; the state must not be empty then.
func (s *Softmax) MulPowers(rows, k int, a, b Mat, tile []float32, hidden bool) bool {
	tile = tile[:rows*Lanes]
	if hidden && s.Max[0] == NegInf {
		return false
	}
	old := *s
	if !s.mulPowers(rows, k, &a, &b, tile) {
		*s = old
		return false
	}
	if hidden {
		s.Sum = old.Sum
	}
	return true
}

// Take adds rows of weights to Sum, in their order.
func (s *Softmax) Take(tile []float32, rows int) {
	var ones [64]float32
	for i := range ones {
		ones[i] = 1
	}
	for r := 0; r < rows; r += len(ones) {
		Combine(s.Sum[:], ones[:min(rows-r, len(ones))], Rows(tile[r*Lanes:], Lanes))
	}
}

// Inverse writes 1/Sum to dst[:Lanes], 0 where no score was visible.
func (s *Softmax) Inverse(dst []float32) {
	dst = dst[:Lanes]
	for i, l := range s.Sum {
		dst[i] = 0
		if l != 0 {
			dst[i] = 1 / l
		}
	}
}

// LogSum2 writes log₂ Σ 2^s = Max + log₂ Sum to dst[:Lanes], -Inf where no score was visible.
func (s *Softmax) LogSum2(dst []float32) {
	dst = dst[:Lanes]
	for i, l := range s.Sum {
		if l == 0 {
			dst[i] = NegInf
			continue
		}
		dst[i] = s.Max[i] + float32(math.Log2(float64(l)))
	}
}

// Weights replaces each score s of a tile (rows of Lanes floats, times Log2E) by 2^(s-lse[lane]), the
// final weight that the backward pass recomputes; -Inf scores, lanes with lse = -Inf and weights below 2^-63 give 0.
func Weights(tile []float32, rows int, lse []float32) {
	weights(tile[:rows*Lanes], lse[:Lanes])
}

// WeightsGrad replaces dp by p∘(dp-delta[lane]), the gradient of the scores, over a tile of rows of
// Lanes floats; where p is 0 the result is 0 even if dp is not finite.
func WeightsGrad(p, dp []float32, rows int, delta []float32) {
	weightsGrad(p[:rows*Lanes], dp[:rows*Lanes], delta[:Lanes])
}

// MulWeights is Mul, of A [rows, k] and B [k, Lanes], and Weights of the product.
func MulWeights(rows, k int, a, b Mat, tile, lse []float32) {
	done := mulWeights(rows, k, &a, &b, tile[:rows*Lanes], lse[:Lanes])
	if rest := rows - done; rest > 0 {
		tile = tile[done*Lanes:]
		Mul(rest, Lanes, k, a.From(done, 0), b, Rows(tile, Lanes))
		Weights(tile, rest, lse)
	}
}

// MulWeightsGrad is Mul, of A [rows, k] and B [k, Lanes], and WeightsGrad with the product as dp.
func MulWeightsGrad(rows, k int, a, b Mat, p, dp, delta []float32) {
	done := mulWeightsGrad(rows, k, &a, &b, p[:rows*Lanes], dp[:rows*Lanes], delta[:Lanes])
	if rest := rows - done; rest > 0 {
		p, dp = p[done*Lanes:], dp[done*Lanes:]
		Mul(rest, Lanes, k, a.From(done, 0), b, Rows(dp, Lanes))
		WeightsGrad(p, dp, rest, delta)
	}
}

// MulAddTwo computes C += P·B + R·D for P and R of rows by Lanes, whose rows lie together, and B and D [Lanes, n]: the bits of two
// MulAdd, with C loaded and stored once where that is faster.
func MulAddTwo(rows, n int, p, r []float32, b, d, c Mat) {
	p, r = p[:rows*Lanes], r[:rows*Lanes]
	i, j := mulAddTwo(rows, n, p, r, &b, &d, &c)
	for _, x := range [2]struct {
		t []float32
		m Mat
	}{{p, b}, {r, d}} {
		MulAdd(rows-i, n, Lanes, Rows(x.t[i*Lanes:], Lanes), x.m, c.From(i, 0))
		MulAdd(i, n-j, Lanes, Rows(x.t, Lanes), x.m.From(0, j), c.From(0, j))
	}
}

// Put sets the element of row r and lane l of a tile, one row a mask, to x where bit l of masks[r] is set.
func Put(tile []float32, masks []uint32, x float32) { put(tile[:len(masks)*Lanes], masks, x) }

// ExpSum replaces each x[i] by e^(x[i]-max) and returns the sum of the results, added in a fixed
// order. Relative error of each term is under 2e-7; -Inf gives exactly 0 (also for max = -Inf),
// results below the smallest normal float32 are 0, and NaN stays NaN.
func ExpSum(x []float32, max float32) float32 { return expSum(x, max) }

// Exp replaces each x[i] by e^x[i], as ExpSum without the sum.
func Exp(x []float32) { expSum(x, 0) }

// Max returns the largest element, -Inf for none; NaN if any element is NaN.
func Max(x []float32) float32 { return maxOf(x) }

// Above sets bit i%64 of bits[i/64] where x[i] > least, which a NaN is not, and the others of the words that there are to 0. The words are enough
// for all of x.
func Above(bits []uint64, x []float32, least float32) {
	clear(bits)
	if len(x) > 0 {
		above(bits[:(len(x)+63)/64], x, least)
	}
}
