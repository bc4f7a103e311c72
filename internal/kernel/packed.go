package kernel

// How C starts.
const (
	overwrite = iota // C = A·B
	add              // C += A·B
	rescale          // C = C·diag(scale) + A·B
)

// Packed is a matrix A [m, k] that a product reads by columns, copied tile by tile: Vᵀ of a block of values, for many
// tiles of queries. In place each column lies a row apart, for [T, H, D] in another page, and the rows of 64 or
// 128 floats share few sets of the nearest cache. A product with it has the bits of Mul.
type Packed struct {
	data        []float32
	m, k, first int // rows, columns copied, first column of the sum
}

// PackedFloats is the room that PackColumns needs for A [m, k].
func PackedFloats(m, k int) int { return (m + 8) * k }

// PackColumns copies A [m, k], whose columns are contiguous (Row 1), to dst of PackedFloats(m, k) floats.
func PackColumns(dst []float32, m, k int, a Mat) Packed {
	switch {
	case a.Row != 1:
		panic("kernel: PackColumns wants contiguous columns of A")
	case !a.holds(m, k):
		tooSmall("A")
	case len(dst) < PackedFloats(m, k):
		tooSmall("dst")
	}
	if m > 0 && k > 0 {
		packLevel(dst, m, k, &a)
	}
	return Packed{dst, m, k, 0}
}

// AsPacked returns what PackColumns wrote to dst.
func AsPacked(dst []float32, m, k int) Packed { return Packed{dst, m, k, 0} }

// From returns A without its first p columns.
func (a Packed) From(p int) Packed {
	a.first += p
	return a
}

// MulPacked computes C = A·B over the first k columns of A, for B [k, n] and C [m, n].
func MulPacked(n, k int, a Packed, b, c Mat) { mulPacked(overwrite, nil, n, k, &a, &b, &c) }

// MulAddPacked computes C += A·B, as MulPacked.
func MulAddPacked(n, k int, a Packed, b, c Mat) { mulPacked(add, nil, n, k, &a, &b, &c) }

// MulScalePacked computes C = C·diag(scale) + A·B, as MulPacked.
func MulScalePacked(scale []float32, n, k int, a Packed, b, c Mat) {
	mulPacked(rescale, scale[:max(n, 0)], n, k, &a, &b, &c)
}

func mulPacked(mode int, scale []float32, n, k int, a *Packed, b, c *Mat) {
	switch {
	case a.m <= 0 || n <= 0:
		return
	case b.Col != 1 || c.Col != 1:
		panic("kernel: Mul wants contiguous columns of B and C")
	case k < 0 || a.first < 0 || a.first+k > a.k:
		tooSmall("A")
	case !b.holds(k, n):
		tooSmall("B")
	case !c.holds(a.m, n):
		tooSmall("C")
	}
	if counting.Load() {
		count(a.m, n, k, a.m*k+k*n)
	}
	mulPackedLevel(mode, scale, n, k, a, b, c)
}

// The generic level keeps columns as they are.
func packColumnsGeneric(dst []float32, m, k int, a *Mat) {
	for p := range k {
		copy(dst[p*m:][:m], a.Data[p*a.Col:])
	}
}

func mulPackedGeneric(mode int, scale []float32, n, k int, a *Packed, b, c *Mat) {
	mulGeneric(mode != overwrite, scale, a.m, n, k, Mat{a.data[a.first*a.m:], 1, a.m}, *b, *c)
}
