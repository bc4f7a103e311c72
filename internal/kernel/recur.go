package kernel

import "math"

// ELU1 computes dst[r][c] = elu(src[r][c]) + 1, that is x+1 above 0 and e^x below, for r < rows, c < cols: the feature
// map of linear attention. dst may be src.
func ELU1(dst, src Mat, rows, cols int) { mapRows(elu1Map, dst, src, rows, cols) }

// PackELU1 is ELU1 and Pack in one: dst[c*Lanes+r] = φ(src[r][c]), and 0 for lanes from rows on. It adds Σ_r φ(src[r][c]) to sums[c],
// for c < len(sums). rows is at most Lanes.
func PackELU1(dst, sums []float32, src Mat, rows int) {
	atMostLanes(rows)
	dst = dst[:len(sums)*Lanes]
	if part(src, rows, len(sums)) {
		if counting.Load() {
			count(1, len(sums), rows, 0) // the sums, as Combine with weights of 1
		}
		packELU1(dst, sums, src, rows)
	} else {
		clear(dst)
	}
}

// Squares computes the features whose products are squares of products, unit·√2·x_a x_b for each a in turn and b > a, behind unit·x_a²: of the n
// numbers x of a row of src n(n+1)/2 numbers of one of dst.
func Squares(dst, src Mat, unit float32, rows, n int) {
	if part(dst, rows, n*(n+1)/2) && part(src, rows, n) {
		squares(dst, src, unit, unit*math.Sqrt2, rows, n)
	}
}

// CopyFinite is Copy, and reports whether all numbers are finite.
func CopyFinite(dst, src Mat, rows, cols int) bool {
	if !part(dst, rows, cols) || !part(src, rows, cols) {
		return true
	}
	return copyFinite(dst, src, rows, cols)
}

// ExpRows computes dst[r][c] = e^src[r][c] for r < rows, c < cols; dst may be src.
func ExpRows(dst, src Mat, rows, cols int) { mapRows(expMap, dst, src, rows, cols) }

// ReLU computes dst[r][c] = max(src[r][c], 0) for r < rows, c < cols, NaN staying NaN; dst may be src.
func ReLU(dst, src Mat, rows, cols int) { mapRows(reluMap, dst, src, rows, cols) }

// Lost computes dst[r][c] = 1 - e^src[r][c] for r < rows, c < cols: what a log decay of at most 0 loses, to 8e-7 of itself also near 0. dst may
// be src.
func Lost(dst, src Mat, rows, cols int) { mapRows(lostMap, dst, src, rows, cols) }

const (
	elu1Map = iota
	expMap
	reluMap
	lostMap
)

func mapRows(which int, dst, src Mat, rows, cols int) {
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
	mapRowsLevel(which, dst, src, rows, cols)
}

// ELU1Grad computes d[i] *= min(f[i], 1) over len(d) elements: the derivative of ELU1 where its value is f.
func ELU1Grad(d, f []float32) { elu1Grad(d, f[:len(d)]) }

// ScaleRows computes m[r][c] *= f[r] for c < cols.
func ScaleRows(f []float32, m Mat, cols int) {
	if part(m, len(f), cols) {
		scaleRows(f, m, cols)
	}
}

// TimesRows computes m[r][c] *= f[c] for r < rows.
func TimesRows(f []float32, m Mat, rows int) {
	if part(m, rows, len(f)) {
		timesRows(f, m, rows)
	}
}

// part tells whether there is anything to do in the [rows, cols] part of m, which must fit.
func part(m Mat, rows, cols int) bool {
	if rows <= 0 || cols <= 0 {
		return false
	}
	rowMajor(m)
	if !m.holds(rows, cols) {
		tooSmall("M")
	}
	return true
}

// Lower clears what lies right of the diagonal and sums the rest: row r of m keeps its first keep+r of cols elements, whatever
// the others hold, and sums[r] becomes their sum. There are len(sums) rows.
func Lower(sums []float32, m Mat, keep, cols int) {
	if keep < 0 {
		panic("kernel: Lower keeps less than nothing")
	}
	if cols <= 0 {
		clear(sums)
	}
	if part(m, len(sums), cols) {
		lower(sums, m, keep, cols)
	}
}

// Decay computes S = diag(a)·S + diag(b)·S for a state S of len(a) rows, each cols wide. a = e^g and b = 0 is a decay; a = 1 and b =
// e^g-1 is one so weak that much of it would be lost in the rounding of e^g.
func Decay(s Mat, a, b []float32, cols int) {
	b = b[:len(a)]
	if part(s, len(a), cols) {
		decay(s, a, b, cols)
	}
}

// FlushBelow sets x[i] to 0 where |x[i]| < least.
func FlushBelow(least float32, x []float32) { flushBelow(least, x) }

// Cumulate multiplies row i of q by the product of the rows 0 to i of e, for rows rows of len(total), and
// sets total to the product of all rows.
func Cumulate(total []float32, q, e Mat, rows int) {
	if !part(q, rows, len(total)) || !part(e, rows, len(total)) {
		for i := range total {
			total[i] = 1
		}
		return
	}
	cumulate(total, q, e, rows)
}

// DecayBlock is the number of tokens that DecayWeights works on.
const DecayBlock = 16

// DecayWeights computes the weights of gated linear attention among DecayBlock tokens,
//
//	a[i][j] = Σ_c q[i][c]·k[j][c]·Π_{j<t≤i} e[t][c]  for j ≤ i, 0 for j > i
//
// with d channels c and decays e. The keys lie transposed in kt, channel c from kt[c*Lanes] on, and are left there decayed to
// the end of the block: times Π_{t>j} e[t][c]. Tokens that are not there have q = 0, k = 0 and e = 1.
// Each sum is a chain of multiply-adds in the order of c, each product one of multiplications in the order of t.
func DecayWeights(a, q, e Mat, kt []float32, d int) {
	if !part(a, DecayBlock, DecayBlock) || !part(q, DecayBlock, d) || !part(e, DecayBlock, d) {
		return
	}
	if len(kt) < (d-1)*Lanes+DecayBlock {
		tooSmall("K")
	}
	if counting.Load() {
		count(DecayBlock, DecayBlock, d, 2*DecayBlock*d) // half of it for a, half for the decays
	}
	decayWeights(a, q, e, kt, d)
}
