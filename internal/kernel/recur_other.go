//go:build !amd64 || purego

package kernel

func mapRowsLevel(which int, dst, src Mat, rows, cols int) {
	mapRowsGeneric(which, dst, src, rows, cols)
}
func elu1Grad(d, f []float32)                                                     { elu1GradGeneric(d, f) }
func scaleRows(f []float32, m Mat, cols int)                                      { scaleRowsGeneric(f, m, cols) }
func timesRows(f []float32, m Mat, rows int)                                      { timesRowsGeneric(f, m, rows) }
func lower(sums []float32, m Mat, keep, cols int)                                 { lowerGeneric(sums, m, keep, cols) }
func decay(s Mat, a, b []float32, cols int)                                       { decayGeneric(s, a, b, cols) }
func flushBelow(least float32, x []float32)                                       { flushBelowGeneric(least, x) }
func cumulate(total []float32, q, e Mat, rows int)                                { cumulateGeneric(total, q, e, rows) }
func decayWeights(a, q, e Mat, kt []float32, d int)                               { decayWeightsGeneric(a, q, e, kt, d) }
func aheadHeight() int                                                            { return 3 }
func mulAheadLevel(_ *Ahead, mode int, f, g []float32, m, n, k int, a, b, c *Mat) { panic("no level") }
func packELU1(dst, sums []float32, src Mat, rows int)                             { packELU1Generic(dst, sums, src, rows) }
func copyFinite(dst, src Mat, rows, cols int) bool                                { return copyFiniteGeneric(dst, src, rows, cols) }
func squares(dst, src Mat, unit, root float32, rows, n int) {
	squaresGeneric(dst, src, unit, root, rows, n)
}
