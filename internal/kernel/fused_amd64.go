//go:build !purego

package kernel

// fusedHeight is the number of rows in a tile of a fused product.
const fusedHeight = 8

// fusedRows returns how many of the rows of A·B a fused product can take, and for how many tiles at once it is to be called.
func fusedRows(rows, k int, a, b *Mat) (whole, tiles int) {
	if level != levelAVX512 || rows < fusedHeight || k <= 0 || a.Col != 1 || b.Col != 1 || b.Row != Lanes {
		return 0, 0
	}
	if !a.holds(rows, k) {
		tooSmall("A")
	}
	if !b.holds(k, Lanes) {
		tooSmall("B")
	}
	if tiles = maxWork / (fusedHeight * Lanes * k); tiles == 0 {
		return 0, 0
	}
	return rows / fusedHeight * fusedHeight, tiles
}

func countFused(rows, k int) {
	if rows > 0 && counting.Load() {
		count(rows, Lanes, k, rows*k+k*Lanes)
	}
}

func (s *Softmax) mulPowers(rows, k int, a, b *Mat, tile []float32) bool {
	whole, tiles := fusedRows(rows, k, a, b)
	if whole == 0 || whole > tiles*fusedHeight {
		return false
	}
	first := s.Max[0] == NegInf
	max := float32(0)
	if first {
		max = NegInf
	}
	if mulPowersAVX512(&a.Data[0], 4*a.Row, &b.Data[0], k, whole/fusedHeight, &tile[0], &s.Max[0], max) != 0 {
		return false
	}
	countFused(whole, k)
	s.Max = [Lanes]float32{}
	if rest := rows - whole; rest > 0 {
		tile = tile[whole*Lanes:]
		Mul(rest, Lanes, k, a.From(whole, 0), *b, Rows(tile, Lanes))
		s.LazyStep(tile, rest)
		if s.Max != [Lanes]float32{} {
			return false
		}
	}
	if first {
		least := float32(rows) / (1 << leastFirst) // a sum of so much has a score of at least -leastFirst in it
		for _, sum := range s.Sum {
			if sum < least {
				return false
			}
		}
		s.Scale = [Lanes]float32{}
	}
	return true
}

// mulWeights and mulWeightsGrad return how many rows they have done.

func mulWeights(rows, k int, a, b *Mat, tile, lse []float32) int {
	whole, tiles := fusedRows(rows, k, a, b)
	for i, n := 0, 0; i < whole; i += n {
		n = min(whole-i, tiles*fusedHeight)
		mulWeightsAVX512(&a.Data[i*a.Row], 4*a.Row, &b.Data[0], k, n/fusedHeight, &tile[i*Lanes], &lse[0])
	}
	countFused(whole, k)
	return whole
}

func mulWeightsGrad(rows, k int, a, b *Mat, p, dp, delta []float32) int {
	whole, tiles := fusedRows(rows, k, a, b)
	for i, n := 0, 0; i < whole; i += n {
		n = min(whole-i, tiles*fusedHeight)
		mulWeightsGradAVX512(&a.Data[i*a.Row], 4*a.Row, &b.Data[0], k, n/fusedHeight, &dp[i*Lanes], &p[i*Lanes], &delta[0])
	}
	countFused(whole, k)
	return whole
}

// mulAddTwo returns how many rows and columns of C it has done.
func mulAddTwo(rows, n int, p, r []float32, b, d, c *Mat) (i, j int) {
	const width = 32
	i, j = rows/fusedHeight*fusedHeight, n/width*width
	if level != levelAVX512 || i <= 0 || j <= 0 || j > maxWork/(2*Lanes*fusedHeight) || b.Col != 1 || d.Col != 1 || c.Col != 1 || b.Row != d.Row {
		return 0, n
	}
	if !b.holds(Lanes, n) || !d.holds(Lanes, n) {
		tooSmall("B")
	}
	if !c.holds(rows, n) {
		tooSmall("C")
	}
	if counting.Load() {
		count(i, j, 2*Lanes, 2*Lanes*(i+j))
	}
	most := maxWork / (2 * Lanes * fusedHeight * j)
	for at := 0; at < i; at += most * fusedHeight {
		tiles := min(most, (i-at)/fusedHeight)
		mulAddTwoAVX512(&p[at*Lanes], &r[at*Lanes], &b.Data[0], &d.Data[0], 4*b.Row, &c.Data[at*c.Row], 4*c.Row, tiles, j/width)
	}
	return i, j
}
