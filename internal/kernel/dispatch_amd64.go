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

// strip is how many elements one call into assembly gets: a few µs, since it cannot be preempted.
// Sums are formed strip by strip, so it is part of their order.
const strip = 1 << 13

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

func dot(x, y []float32) float32 {
	if level == levelGeneric {
		return dotGeneric(x, y)
	}
	var s float32
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			s += dotAVX512(&x[0], &y[0], n)
		} else {
			s += dotAVX2(&x[0], &y[0], n)
		}
		x, y = x[n:], y[n:]
	}
	return s
}

func sum(x []float32) float32 {
	if level == levelGeneric {
		return sumGeneric(x)
	}
	var s float32
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			s += sumAVX512(&x[0], n)
		} else {
			s += sumAVX2(&x[0], n)
		}
		x = x[n:]
	}
	return s
}

func sumSquares(x []float32) float32 {
	if level == levelGeneric {
		return dotGeneric(x, x)
	}
	var s float32
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			s += sumSquaresAVX512(&x[0], n)
		} else {
			s += sumSquaresAVX2(&x[0], n)
		}
		x = x[n:]
	}
	return s
}

func above(bits []uint64, x []float32, least float32) {
	if level == levelGeneric {
		aboveGeneric(bits, x, least)
		return
	}
	for ; len(x) > 0; bits = bits[min(strip/64, len(bits)):] {
		n := min(len(x), strip)
		if level == levelAVX512 {
			aboveAVX512(&bits[0], &x[0], n, least)
		} else {
			aboveAVX2(&bits[0], &x[0], n, least)
		}
		x = x[n:]
	}
}

func maxOf(x []float32) float32 {
	if level == levelGeneric {
		return maxGeneric(x)
	}
	m := NegInf
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			m = max(m, maxAVX512(&x[0], n)) // the builtin keeps NaN
		} else {
			m = max(m, maxAVX2(&x[0], n))
		}
		x = x[n:]
	}
	return m
}
