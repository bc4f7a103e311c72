package kernel

// Dot returns Σ x[i]·y[i] over len(x) elements, summed in a fixed order.
func Dot(x, y []float32) float32 {
	if counting.Load() {
		count(1, 1, len(x), len(x))
	}
	return dot(x, y[:len(x)])
}

// Axpy computes y[i] += a·x[i] over len(x) elements.
func Axpy(a float32, x, y []float32) {
	if counting.Load() {
		count(1, len(x), 1, len(x))
	}
	axpy(a, x, y[:len(x)])
}

// Dots computes out[r] = x·m[r] for rows r of m (row stride m.Row, unit column stride, each
// len(x) long): the scores of one query against a block of cached keys.
func Dots(out []float32, x []float32, m Mat, rows int) {
	if rows == 0 {
		return
	}
	rowMajor(m)
	if !m.holds(rows, len(x)) {
		tooSmall("M")
	}
	if counting.Load() {
		count(rows, 1, len(x), rows*len(x))
	}
	if len(x) == 0 {
		clear(out[:rows])
		return
	}
	dots(out[:rows], x, m)
}

// Combine computes acc += Σ_r w[r]·m[r] over the rows of m, each len(acc) long, in the order of
// r: the weighted sum of a block of cached values, and the read qᵀS of a state.
func Combine(acc []float32, w []float32, m Mat) {
	if len(w) == 0 || len(acc) == 0 {
		return
	}
	rowMajor(m)
	if !m.holds(len(w), len(acc)) {
		tooSmall("M")
	}
	if counting.Load() {
		count(1, len(acc), len(w), len(w)*len(acc))
	}
	combine(acc, w, m)
}

// Update computes S = diag(decay)·S + k vᵀ for a state S of len(k) rows, each len(v) wide: the
// recurrent step of gated linear attention. A nil decay means 1; under a decay, elements below the smallest
// normal float32 become 0 (they would rest at subnormals for ever, slowly).
func Update(s Mat, decay, k, v []float32) {
	if len(k) == 0 || len(v) == 0 {
		return
	}
	rowMajor(s)
	if !s.holds(len(k), len(v)) {
		tooSmall("S")
	}
	if decay != nil {
		decay = decay[:len(k)]
	}
	if counting.Load() {
		count(len(k), len(v), 1, len(k)*len(v))
	}
	update(s, decay, k, v)
}

// Copy writes src[r][c] to dst[r][c] for r < rows, c < cols: strided keys and values of a head, brought
// together once, no longer share cache sets and pages with those of other heads.
func Copy(dst, src Mat, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	rowMajor(dst)
	rowMajor(src)
	if !dst.holds(rows, cols) {
		tooSmall("dst")
	}
	if !src.holds(rows, cols) {
		tooSmall("src")
	}
	copyRows(dst, src, rows, cols)
}

// Prefetch asks for rows that will be read soon, where the processor can be asked: the next row of strided keys lies in
// another page, and no processor guesses that. It changes no result.
func Prefetch(m Mat, rows, cols int) {
	rowMajor(m)
	if rows > 0 && cols > 0 && m.holds(rows, cols) {
		prefetch(&m, rows, cols)
	}
}

// Pack writes the transpose of src[:rows][:cols] times scale to dst as cols rows of Lanes floats: dst[c*Lanes+r] =
// scale·src[r][c]. Lanes from rows on are set to 0. rows is at most Lanes.
func Pack(dst []float32, src Mat, rows, cols int, scale float32) {
	rowMajor(src)
	if !src.holds(rows, cols) {
		tooSmall("src")
	}
	atMostLanes(rows)
	pack(dst[:cols*Lanes], src, rows, cols, scale)
}

// Unpack is the way back: dst[r][c] = src[c*Lanes+r]·scale[r] for r < rows, c < cols; a nil
// scale means 1. Where scale is 0 the result is 0 whatever src holds.
func Unpack(dst Mat, src []float32, rows, cols int, scale []float32) {
	rowMajor(dst)
	if !dst.holds(rows, cols) {
		tooSmall("dst")
	}
	atMostLanes(rows)
	if rows > 0 && cols > 0 {
		unpack(dst, src[:cols*Lanes], rows, cols, scale)
	}
}

// UnpackAdd is Unpack with dst[r][c] += in place of =.
func UnpackAdd(dst Mat, src []float32, rows, cols int, scale []float32) {
	rowMajor(dst)
	if !dst.holds(rows, cols) {
		tooSmall("dst")
	}
	atMostLanes(rows)
	if rows > 0 && cols > 0 {
		unpackAdd(dst, src[:cols*Lanes], rows, cols, scale)
	}
}

func rowMajor(m Mat) {
	if m.Col != 1 {
		panic("kernel: want contiguous rows")
	}
}

func atMostLanes(rows int) {
	if rows > Lanes {
		panic("kernel: a tile has at most Lanes rows")
	}
}
