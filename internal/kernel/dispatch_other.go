//go:build !amd64 || purego

package kernel

// Without assembly every primitive runs its generic loop.

func mulLevel(add bool, scale []float32, m, n, k int, a, b, c *Mat, _ []float32) {
	mulGeneric(add, scale, m, n, k, *a, *b, *c)
}
func prefetch(*Mat, int, int)                   {}
func packLevel(dst []float32, m, k int, a *Mat) { packColumnsGeneric(dst, m, k, a) }
func mulPackedLevel(mode int, scale []float32, n, k int, a *Packed, b, c *Mat) {
	mulPackedGeneric(mode, scale, n, k, a, b, c)
}
func (s *Softmax) step(tile []float32)     { s.stepGeneric(tile, false) }
func (s *Softmax) lazyStep(tile []float32) { s.stepGeneric(tile, true) }
func (s *Softmax) mulPowers(_, _ int, _, _ *Mat, _ []float32) bool {
	return false
}
func mulAddTwo(_, n int, _, _ []float32, _, _, _ *Mat) (i, j int) { return 0, n }
func mulWeights(_, _ int, _, _ *Mat, _, _ []float32) int          { return 0 }
func mulWeightsGrad(_, _ int, _, _ *Mat, _, _, _ []float32) int {
	return 0
}
func weights(tile, lse []float32)                      { weightsGeneric(tile, lse) }
func weightsGrad(p, dp, delta []float32)               { weightsGradGeneric(p, dp, delta) }
func put(tile []float32, masks []uint32, x float32)    { putGeneric(tile, masks, x) }
func expSum(x []float32, max float32) float32          { return expSumGeneric(x, max) }
func maxOf(x []float32) float32                        { return maxGeneric(x) }
func above(bits []uint64, x []float32, least float32)  { aboveGeneric(bits, x, least) }
func dot(x, y []float32) float32                       { return dotGeneric(x, y) }
func axpy(a float32, x, y []float32)                   { axpyGeneric(a, x, y) }
func dots(out, x []float32, m Mat)                     { dotsGeneric(out, x, m) }
func combine(acc, w []float32, m Mat)                  { combineGeneric(acc, w, m) }
func update(s Mat, decay, k, v []float32)              { updateGeneric(s, decay, k, v) }
func pack(dst []float32, src Mat, r, c int, s float32) { packGeneric(dst, src, r, c, s) }
func unpack(dst Mat, src []float32, r, c int, s []float32) {
	unpackGeneric(dst, src, r, c, s, false)
}
func unpackAdd(dst Mat, src []float32, r, c int, s []float32) {
	unpackGeneric(dst, src, r, c, s, true)
}

func highest() int { return levelGeneric }

func fmaLoop(n int) int64                          { return fmaLoopGeneric(n) }
func readLoop(x []float32) float32                 { return readLoopGeneric(x) }
func scaleBy(a float32, x []float32)               { scaleGeneric(a, x) }
func addTo(dst, x []float32)                       { addGeneric(dst, x) }
func times(dst, x []float32)                       { timesGeneric(dst, x) }
func addTimes(dst, w, x []float32)                 { addTimesGeneric(dst, w, x) }
func softplus(dst, x []float32)                    { softplusGeneric(dst, x) }
func sum(x []float32) float32                      { return sumGeneric(x) }
func sumSquares(x []float32) float32               { return dotGeneric(x, x) }
func sigmoid(dst, x []float32)                     { sigmoidGeneric(dst, x) }
func silu(dst, x []float32)                        { siluGeneric(dst, x) }
func siluGrad(dx, x, dy []float32)                 { siluGradGeneric(dx, x, dy) }
func gelu(dst, x []float32)                        { geluGeneric(dst, x) }
func geluGrad(dx, x, dy []float32)                 { geluGradGeneric(dx, x, dy) }
func adamW(p, g, m, v []float32, c *adamConstants) { adamWGeneric(p, g, m, v, c) }
func copyRows(dst, src Mat, rows, cols int)        { copyRowsGeneric(dst, src, rows, cols) }
