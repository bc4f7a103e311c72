//go:build !amd64 || purego

package kernel

// Without assembly every primitive runs its generic loop.

func mulLevel(add bool, scale []float32, m, n, k int, a, b, c Mat) {
	mulGeneric(add, scale, m, n, k, a, b, c)
}
func (s *Softmax) step(tile []float32)                 { s.stepGeneric(tile) }
func weights(tile, lse []float32)                      { weightsGeneric(tile, lse) }
func weightsGrad(p, dp, delta []float32)               { weightsGradGeneric(p, dp, delta) }
func expSum(x []float32, max float32) float32          { return expSumGeneric(x, max) }
func maxOf(x []float32) float32                        { return maxGeneric(x) }
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

func fmaLoop(n int) int64          { return fmaLoopGeneric(n) }
func readLoop(x []float32) float32 { return readLoopGeneric(x) }
