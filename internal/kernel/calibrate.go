package kernel

// FMALoop runs n rounds of independent fused multiply-adds on registers, at the width of the
// level in use, and returns how many floating-point operations that were. Timed, it gives the peak that every other
// kernel is held against. A round takes about 10 ns with vectors.
func FMALoop(n int) (flops int64) {
	for n > 0 {
		r := min(n, 4096) // a call must not hold its thread for long
		flops += fmaLoop(r)
		n -= r
	}
	return flops
}

// ReadLoop reads x from start to end as fast as the level in use can and returns a value that depends on
// it. Timed over slices of different sizes it gives the read bandwidth of each cache and of memory.
func ReadLoop(x []float32) float32 {
	var s float32
	for len(x) > 0 {
		n := min(len(x), 1<<16)
		s += readLoop(x[:n])
		x = x[n:]
	}
	return s
}

func fmaLoopGeneric(n int) int64 {
	var s [8]float32
	for range n {
		for i := range s {
			s[i] += float32(s[i] * s[i])
		}
	}
	if s[0] != 0 { // never, but the compiler must not know
		return 0
	}
	return int64(n) * 16
}

func readLoopGeneric(x []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(x) >= 4 {
		s0, s1, s2, s3 = s0+x[0], s1+x[1], s2+x[2], s3+x[3]
		x = x[4:]
	}
	for _, v := range x {
		s0 += v
	}
	return (s0 + s1) + (s2 + s3)
}
