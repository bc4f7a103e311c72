package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// A Mat is a matrix of float32 inside a slice: element (i, j) lies at Data[i*Row+j*Col].
type Mat = kernel.Mat

// Log2E is log₂(e).
const Log2E = kernel.Log2E

// Rows returns a matrix whose rows lie ld floats apart.
func Rows(data []float32, ld int) Mat { return kernel.Rows(data, ld) }

// HeadRows returns head h of batch row b as a matrix [time, dim], from time t on.
func HeadRows(v *attn.View, b, t, h int) Mat { return kernel.Rows(v.From(b, t, h), v.TimeStride) }

// Mul computes C = A·B for A [m, k], B [k, n] and C [m, n]; the columns of B and C must be contiguous.
func Mul(m, n, k int, a, b, c Mat) { kernel.Mul(m, n, k, a, b, c) }

// MulAdd computes C += A·B, as Mul.
func MulAdd(m, n, k int, a, b, c Mat) { kernel.MulAdd(m, n, k, a, b, c) }

// MulScale computes C = C·diag(scale) + A·B, one factor a column, as Mul.
func MulScale(scale []float32, m, n, k int, a, b, c Mat) { kernel.MulScale(scale, m, n, k, a, b, c) }

// Pack writes the transpose of scale·src[:rows][:cols] to dst as cols rows of Lanes floats; lanes
// from rows on become 0.
func Pack(dst []float32, src Mat, rows, cols int, scale float32) {
	kernel.Pack(dst, src, rows, cols, scale)
}

// Unpack is the way back: dst[r][c] = src[c*Lanes+r]·scale[r]; a nil scale means 1, and where
// scale is 0 the result is 0 whatever src holds.
func Unpack(dst Mat, src []float32, rows, cols int, scale []float32) {
	kernel.Unpack(dst, src, rows, cols, scale)
}

// UnpackAdd is Unpack with += in place of =.
func UnpackAdd(dst Mat, src []float32, rows, cols int, scale []float32) {
	kernel.UnpackAdd(dst, src, rows, cols, scale)
}

// Dot returns Σ x[i]·y[i] over len(x) elements, summed in a fixed order.
func Dot(x, y []float32) float32 { return kernel.Dot(x, y) }

// Axpy computes y[i] += a·x[i] over len(x) elements.
func Axpy(a float32, x, y []float32) { kernel.Axpy(a, x, y) }

// Dots computes out[r] = x·m[r] for the rows r of m.
func Dots(out, x []float32, m Mat, rows int) { kernel.Dots(out, x, m, rows) }

// Combine computes acc += Σ_r w[r]·m[r] over the rows of m, in order.
func Combine(acc, w []float32, m Mat) { kernel.Combine(acc, w, m) }

// Update computes S = diag(decay)·S + k·vᵀ for a state S [len(k), len(v)]; a nil decay means 1.
func Update(s Mat, decay, k, v []float32) { kernel.Update(s, decay, k, v) }

// Exp replaces each x[i] by e^x[i].
func Exp(x []float32) { kernel.Exp(x) }

// ExpSum replaces each x[i] by e^(x[i]-max) and returns their sum; -Inf gives 0, also for max = -Inf.
func ExpSum(x []float32, max float32) float32 { return kernel.ExpSum(x, max) }

// Max returns the largest element, -Inf for none; NaN if any element is NaN.
func Max(x []float32) float32 { return kernel.Max(x) }

// RowsFinite reports whether the first n rows of m, dim wide, are finite. It may say no to elements beyond 1e15 as well.
func RowsFinite(m Mat, n, dim int) bool {
	for i := range n {
		if !finite(m.Data[i*m.Row:][:dim]) {
			return false
		}
	}
	return true
}

// KeysOverlap reports whether two segments of a call may share keys.
func KeysOverlap(c *attn.Call) bool { return keysOverlap(c) }

// SoftmaxRow replaces x by its softmax.
func SoftmaxRow(x []float32) { kernel.SoftmaxRow(x) }

// Scale computes x[i] *= a.
func Scale(a float32, x []float32) { kernel.Scale(a, x) }

// Times computes dst[i] *= x[i].
func Times(dst, x []float32) { kernel.Times(dst, x) }

// Sum returns Σ x[i].
func Sum(x []float32) float32 { return kernel.Sum(x) }

// SumSquares returns Σ x[i]².
func SumSquares(x []float32) float32 { return kernel.SumSquares(x) }
