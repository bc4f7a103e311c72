//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// highest is the best level of this processor. x/sys/cpu also asks the operating system whether it
// saves the wide registers.
func highest() int {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA:
		return levelGeneric
	case x.HasAVX512F && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512BW:
		return levelAVX512
	}
	return levelAVX2
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

func fmaLoop(n int) int64 {
	switch level {
	case levelAVX512:
		fmaLoopAVX512(n)
		return int64(n) * 4 * 24 * 16 * 2
	case levelAVX2:
		fmaLoopAVX2(n)
		return int64(n) * 4 * 12 * 8 * 2
	}
	return fmaLoopGeneric(n)
}

func readLoop(x []float32) float32 {
	var s float32
	switch level {
	case levelAVX512:
		if n := len(x) / 128; n > 0 {
			s = readLoopAVX512(&x[0], n)
			x = x[n*128:]
		}
	case levelAVX2:
		if n := len(x) / 64; n > 0 {
			s = readLoopAVX2(&x[0], n)
			x = x[n*64:]
		}
	}
	return s + readLoopGeneric(x)
}
