package kernel

import "unsafe"

// Products of bfloat16: the operands are rounded to 8 bits of significand, two of them in a word, and every product is
// added to a float32 sum. Where the processor has AMX_BF16 its TDPBF16PS takes 16 words of 16 rows and 16 columns at a time. Where it has
// AVX512_BF16 alone its VDPBF16PS takes a word of each side; elsewhere fused multiply-adds in its order give the same bits. The
// order of TDPBF16PS is another one. generic_bf16.go is the specification of both.

// Pairs is a matrix of pairs of bfloat16 inside a slice of words: pair (i, j) lies at Data[i*Row+j], the first of the two in the
// low half.
type Pairs struct {
	Data []uint32
	Row  int // stride in words
}

// PairRows returns a matrix of pairs whose rows lie ld words apart.
func PairRows(data []uint32, ld int) Pairs { return Pairs{data, ld} }

// Words returns the memory of x as words.
func Words(x []float32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// PairsOf returns the number of pairs that hold n numbers.
func PairsOf(n int) int { return (n + 1) / 2 }

// holds tells whether an [r, c] matrix fits its slice.
func (m *Pairs) holds(r, c int) bool {
	return m.Row >= 0 && (r == 0 || c == 0 || (r-1)*m.Row+c-1 < len(m.Data))
}

// NativePairs names the processor's own instructions on which the products of pairs run: "amx", "avx512", or "" for none.
func NativePairs() string {
	switch {
	case pairTiles():
		return "amx"
	case nativePairs():
		return "avx512"
	}
	return ""
}

// RoundRows rounds src [rows, cols] to pairs of neighbours in a row, dst [rows, PairsOf(cols)] with rows ld words apart: K, of
// which a product takes two elements of a row at a time. Behind an odd row stands a 0.
//
// Rounding is to the nearest, ties to even; subnormal numbers become 0, what is too large becomes Inf, NaN stays NaN.
func RoundRows(dst []uint32, ld int, src Mat, rows, cols int) {
	d := PairRows(dst, ld)
	if checkRound(&d, &src, rows, PairsOf(cols), rows, cols) {
		roundRows(dst, ld, src, rows, cols)
	}
}

// RoundPairs rounds src [rows, cols] to pairs of neighbours in a column, dst [PairsOf(rows), cols] with rows ld words apart: V
// and the weights, of which a product takes two keys at a time. Below an odd row stands a row of 0.
func RoundPairs(dst []uint32, ld int, src Mat, rows, cols int) {
	d := PairRows(dst, ld)
	if checkRound(&d, &src, PairsOf(rows), cols, rows, cols) {
		roundPairs(dst, ld, src, rows, cols)
	}
}

// RoundColumns is RoundPairs with the result transposed, dst [cols, PairsOf(rows)] with rows ld words apart: Vᵀ, of which a product takes
// a row of pairs an element. room has PairsOf(rows)·Lanes words.
func RoundColumns(dst []uint32, ld int, src Mat, rows, cols int, room []uint32) {
	d, n := PairRows(dst, ld), PairsOf(rows)
	if !checkRound(&d, &src, cols, n, rows, cols) {
		return
	}
	for c := 0; c < cols; c += Lanes {
		lanes := min(Lanes, cols-c)
		RoundPairs(room, Lanes, src.From(0, c), rows, lanes)
		turn(dst[c*ld:], ld, room[:n*Lanes], lanes, n)
	}
}

func checkRound(dst *Pairs, src *Mat, dr, dc, rows, cols int) bool {
	switch {
	case rows <= 0 || cols <= 0:
		return false
	case src.Col != 1:
		panic("kernel: rounding wants contiguous columns")
	case !src.holds(rows, cols):
		tooSmall("src")
	case !dst.holds(dr, dc):
		tooSmall("dst")
	}
	return true
}

// Widen turns pairs into floats: dst[2i] and dst[2i+1] are the low and the high half of src[i]. len(dst) is 2·len(src).
func Widen(dst []float32, src []uint32) {
	if len(dst) != 2*len(src) {
		panic("kernel: Widen wants two floats for each pair")
	}
	widen(dst, src)
}

// MulPairs computes C = factor·(A·B) for A [m, k] and B [k, n] of pairs, which is a sum over 2k products, and C [m, n] of float32.
// The columns of C must be contiguous, and the rows of B must go on up to a multiple of Lanes, whatever they hold there. C must
// not overlap A or B.
//
// Each element is one chain in the order of p: c = hi(a)·hi(b) + c, then c = lo(a)·lo(b) + c, each product exact and each sum
// rounded once. With AMX it is a sum over chunks of 16 pairs, each of two such chains, of the low halves and of the high ones.
// Subnormal numbers are taken as 0 and come out as 0, in the chain and in what surrounds it. No bit depends on m or n.
func MulPairs(m, n, k int, factor float32, a, b Pairs, c Mat) {
	mulPairs(overwrite, factor, nil, m, n, k, &a, &b, &c)
}

// MulAddPairs computes C += A·B, as MulPairs.
func MulAddPairs(m, n, k int, a, b Pairs, c Mat) { mulPairs(add, 1, nil, m, n, k, &a, &b, &c) }

// MulScalePairs computes C = C·diag(scale) + A·B, one factor a column, as MulPairs.
func MulScalePairs(scale []float32, m, n, k int, a, b Pairs, c Mat) {
	mulPairs(rescale, 1, scale[:max(n, 0)], m, n, k, &a, &b, &c)
}

func mulPairs(mode int, factor float32, scale []float32, m, n, k int, a, b *Pairs, c *Mat) {
	switch {
	case m <= 0 || n <= 0:
		return
	case c.Col != 1:
		panic("kernel: MulPairs wants contiguous columns of C")
	case k < 0:
		panic("kernel: negative k")
	case !a.holds(m, k):
		tooSmall("A")
	case !b.holds(k, (n+Lanes-1)/Lanes*Lanes):
		tooSmall("B")
	case !c.holds(m, n):
		tooSmall("C")
	}
	if counting.Load() {
		count(m, n, 2*k, m*k+k*n) // a pair is as wide as a float
	}
	mulPairsLevel(mode, factor, scale, m, n, k, a, b, c)
}

// DotsPairs computes out[r] = Σ x[i]·m[r][i] for rows of PairsOf(len(x)) pairs that lie one after the other, as Dots does over the
// widened rows, which go through room a piece at a time: at least 2·PairsOf(len(x)) floats, at best half of the nearest cache.
func DotsPairs(out, x []float32, m []uint32, room []float32) {
	words := PairsOf(len(x))
	if len(x) == 0 {
		clear(out)
		return
	}
	countPairs(len(out), len(x))
	for step := pieceRows(words, room); len(out) > 0; {
		n := min(step, len(out))
		w := room[:2*words*n]
		widen(w, m[:n*words])
		dots(out[:n], x, Rows(w, 2*words))
		out, m = out[n:], m[n*words:]
	}
}

// CombinePairs computes acc += Σ_r w[r]·m[r] over such rows, of PairsOf(len(acc)) pairs, in order.
func CombinePairs(acc, w []float32, m []uint32, room []float32) {
	words := PairsOf(len(acc))
	if len(acc) == 0 {
		return
	}
	countPairs(len(w), len(acc))
	for step := pieceRows(words, room); len(w) > 0; {
		n := min(step, len(w))
		v := room[:2*words*n]
		widen(v, m[:n*words])
		combine(acc, w[:n], Rows(v, 2*words))
		w, m = w[n:], m[n*words:]
	}
}

// pieceRows returns how many rows of pairs room takes as floats.
func pieceRows(words int, room []float32) int {
	n := len(room) / (2 * words)
	if n == 0 {
		tooSmall("room")
	}
	return n
}

func countPairs(rows, dim int) {
	if counting.Load() {
		count(rows, 1, dim, rows*PairsOf(dim))
	}
}
