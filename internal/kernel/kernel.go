// Package kernel holds the few float32 inner loops that decide the speed of everything above it.
//
// Each primitive is an exported Go function that checks its bounds and then runs the fastest
// implementation that the processor has: generated assembly, or the generic Go loop in
// generic.go, which is the specification. A caller never sees assembly, and never needs to
// know which level runs; all levels accept every size and any slice alignment.
//
// Layout conventions, shared by all levels:
//
//   - A tile is Lanes (32) columns wide. In the attention kernels the lanes are queries:
//     a tile of scores is Sᵀ, one row a key, so that softmax needs no reduction along a vector.
//   - Matrices are row-major with a row stride in floats; strides may exceed the width.
//   - The left operand of Mul is read element by element through two strides, so that one
//     kernel serves A and Aᵀ.
package kernel

// Lanes is the width of a tile in float32: the number of queries that a tile product works on.
const Lanes = 32

// A Mat is a read-only or writable matrix of float32 inside a slice: element (i, j) lies at
// Data[i*Row + j*Col].
type Mat struct {
	Data     []float32
	Row, Col int // strides in floats
}

// Rows returns a matrix whose rows lie ld floats apart, with unit column stride.
func Rows(data []float32, ld int) Mat { return Mat{data, ld, 1} }

// T returns the transpose of m, sharing its data.
func (m Mat) T() Mat { return Mat{m.Data, m.Col, m.Row} }

// From returns the part of m that starts at element (i, j).
func (m Mat) From(i, j int) Mat {
	off := i*m.Row + j*m.Col
	if off >= len(m.Data) {
		return Mat{nil, m.Row, m.Col}
	}
	return Mat{m.Data[off:], m.Row, m.Col}
}

// holds tells whether an [r, c] matrix fits its slice.
func (m *Mat) holds(r, c int) bool {
	return m.Row >= 0 && m.Col >= 0 && (r == 0 || c == 0 || (r-1)*m.Row+(c-1)*m.Col < len(m.Data))
}

func tooSmall(name string) {
	panic("kernel: matrix " + name + " is too small for its shape")
}

// Mul computes C = A·B for A [m, k], B [k, n] and C [m, n]. The columns of B and C must be
// contiguous (Col 1); A may have any strides. k = 0 gives zeros. C must not overlap A or B.
//
//	c[i][j] = Σ_p a[i][p]·b[p][j]
//
// Every element is summed in the order of p by fused multiply-add (levels with vectors) or
// multiply and add (generic).
func Mul(m, n, k int, a, b, c Mat) { mul(false, nil, m, n, k, &a, &b, &c, nil) }

// MulAdd computes C += A·B, as Mul.
func MulAdd(m, n, k int, a, b, c Mat) { mul(true, nil, m, n, k, &a, &b, &c, nil) }

// MulScale computes C = C·diag(scale) + A·B with one factor a column: the online softmax's
// rescaled accumulation. scale has at least n elements.
func MulScale(scale []float32, m, n, k int, a, b, c Mat) {
	mul(true, scale[:max(n, 0)], m, n, k, &a, &b, &c, nil)
}

// MulScratch is the number of floats that MulWith and MulAddWith can use: 208 KiB.
const MulScratch = 256 * (192 + 16)

// MulWith is Mul, with the same bits, for large products: where it pays, above all for a transposed A as in the
// gradient of weights (Xᵀ·dY), it copies blocks of A to scratch, which has MulScratch floats (fewer: Mul).
func MulWith(scratch []float32, m, n, k int, a, b, c Mat) {
	mul(false, nil, m, n, k, &a, &b, &c, scratch)
}

// MulAddWith is MulAdd in the way of MulWith.
func MulAddWith(scratch []float32, m, n, k int, a, b, c Mat) {
	mul(true, nil, m, n, k, &a, &b, &c, scratch)
}

func mul(add bool, scale []float32, m, n, k int, a, b, c *Mat, scratch []float32) {
	switch {
	case m <= 0 || n <= 0:
		return
	case b.Col != 1 || c.Col != 1:
		panic("kernel: Mul wants contiguous columns of B and C")
	case k < 0:
		panic("kernel: negative k")
	case !a.holds(m, k):
		tooSmall("A")
	case !b.holds(k, n):
		tooSmall("B")
	case !c.holds(m, n):
		tooSmall("C")
	}
	if counting.Load() {
		count(m, n, k, m*k+k*n)
	}
	mulLevel(add, scale, m, n, k, a, b, c, scratch)
}
