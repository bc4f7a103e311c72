//go:build !amd64 || purego

package kernel

func nativePairs() bool { return false }
func pairTiles() bool   { return false }

func roundRows(dst []uint32, ld int, src Mat, rows, cols int) {
	roundRowsGeneric(dst, ld, src, rows, 0, cols)
}
func roundPairs(dst []uint32, ld int, src Mat, rows, cols int) {
	roundPairsGeneric(dst, ld, src, rows, 0, cols)
}
func turn(dst []uint32, ld int, src []uint32, rows, cols int) { turnGeneric(dst, ld, src, rows, cols) }
func widen(dst []float32, src []uint32)                       { widenGeneric(dst, src) }
func mulPairsLevel(mode int, factor float32, scale []float32, m, n, k int, a, b *Pairs, c *Mat) {
	mulPairsGeneric(mode, factor, scale, m, n, k, a, b, c)
}
