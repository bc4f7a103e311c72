//go:build !purego

package kernel

// ahead is the distance in bytes at which the row kernels prefetch: whole rows, so that it serves any
// stride, and about 4 KiB.
func ahead(ld int) int { return max(8, 4096/max(4, 4*ld)) * 4 * ld }

// rowsPerCall bounds a call that reads rows of n floats to a quarter MiB: some 20 µs from memory.
func rowsPerCall(n int) int { return max(4, (1<<16)/n) }

func dots(out, x []float32, m Mat) {
	switch {
	case level == levelGeneric:
		dotsGeneric(out, x, m)
		return
	case len(x) > strip:
		for r := range out {
			out[r] = dot(x, m.Data[r*m.Row:][:len(x)])
		}
		return
	}
	pstride, pstep := 4*m.Row, 64
	if m.Row == len(x) && m.Row%16 == 0 {
		pstride, pstep = 64, 256
	}
	for r := 0; r < len(out); {
		n := min(len(out)-r, rowsPerCall(len(x)))
		if level == levelAVX512 {
			dotsAVX512(&out[r], &x[0], len(x), &m.Data[r*m.Row], 4*m.Row, n, ahead(m.Row), pstride, pstep)
		} else {
			dotsAVX2(&out[r], &x[0], len(x), &m.Data[r*m.Row], 4*m.Row, n, ahead(m.Row), pstride, pstep)
		}
		r += n
	}
}

func combine(acc, w []float32, m Mat) {
	if level == levelGeneric {
		combineGeneric(acc, w, m)
		return
	}
	// Up to one block of columns is held in registers over all rows. Wider ones go 4 rows at a time with acc in
	// memory, so that memory is read in the order in which it lies.
	held := 64
	if level == levelAVX512 {
		held = 128
	}
	for j := 0; j < len(acc); j += strip {
		c := min(len(acc)-j, strip)
		for r := 0; r < len(w); {
			n := min(len(w)-r, rowsPerCall(c))
			wide := 0
			if c > held && n >= 4 {
				wide = c / (held / 2) * (held / 2)
				n &^= 3
			}
			p, ld, next := &m.Data[r*m.Row+j], 4*m.Row, ahead(m.Row)
			if wide > 0 {
				if level == levelAVX512 {
					combineWideAVX512(&acc[j], wide, &w[r], p, ld, n/4, next)
				} else {
					combineWideAVX2(&acc[j], wide, &w[r], p, ld, n/4, next)
				}
			}
			if wide < c {
				p := &m.Data[r*m.Row+j+wide]
				if level == levelAVX512 {
					combineAVX512(&acc[j+wide], c-wide, &w[r], p, ld, n, next)
				} else {
					combineAVX2(&acc[j+wide], c-wide, &w[r], p, ld, n, next)
				}
			}
			r += n
		}
	}
}

func update(s Mat, decay, k, v []float32) {
	if level == levelGeneric {
		updateGeneric(s, decay, k, v)
		return
	}
	for j := 0; j < len(v); j += strip {
		c := min(len(v)-j, strip)
		for r := 0; r < len(k); {
			n := min(len(k)-r, rowsPerCall(c))
			p := &s.Data[r*s.Row+j]
			switch {
			case decay == nil && level == levelAVX512:
				outerAVX512(p, 4*s.Row, &k[r], n, &v[j], c)
			case decay == nil:
				outerAVX2(p, 4*s.Row, &k[r], n, &v[j], c)
			case level == levelAVX512:
				updateAVX512(p, 4*s.Row, &decay[r], &k[r], n, &v[j], c)
			default:
				updateAVX2(p, 4*s.Row, &decay[r], &k[r], n, &v[j], c)
			}
			r += n
		}
	}
}

func copyRows(dst, src Mat, rows, cols int) {
	if level == levelGeneric || cols > strip {
		copyRowsGeneric(dst, src, rows, cols)
		return
	}
	for r := 0; r < rows; {
		n := min(rows-r, rowsPerCall(cols))
		copyRowsAVX2(&dst.Data[r*dst.Row], 4*dst.Row, &src.Data[r*src.Row], 4*src.Row, n, cols)
		r += n
	}
}

// The transposes have one vector form: wider registers gain nothing there.

func pack(dst []float32, src Mat, rows, cols int, scale float32) {
	if level == levelGeneric {
		packGeneric(dst, src, rows, cols, scale)
		return
	}
	for c := 0; c < cols; c += 512 {
		n := min(cols-c, 512)
		for r := 0; r < Lanes; r += 8 {
			if r >= rows { // nothing to read: any address will do
				pack8AVX2(&dst[c*Lanes+r], &dst[c*Lanes+r], 0, 0, n, scale)
				continue
			}
			pack8AVX2(&dst[c*Lanes+r], &src.Data[r*src.Row+c], 4*src.Row, min(8, rows-r), n, scale)
		}
	}
}

func unpack(dst Mat, src []float32, rows, cols int, scale []float32) {
	if level == levelGeneric {
		unpackGeneric(dst, src, rows, cols, scale, false)
		return
	}
	unpackLanes(dst, src, rows, cols, scale, false)
}

func unpackAdd(dst Mat, src []float32, rows, cols int, scale []float32) {
	if level == levelGeneric {
		unpackGeneric(dst, src, rows, cols, scale, true)
		return
	}
	unpackLanes(dst, src, rows, cols, scale, true)
}

func unpackLanes(dst Mat, src []float32, rows, cols int, scale []float32, add bool) {
	var s [Lanes]float32
	if scale != nil {
		copy(s[:rows], scale)
	} else {
		for i := range s {
			s[i] = 1
		}
	}
	for c := 0; c < cols; c += 512 {
		n := min(cols-c, 512)
		for r := 0; r < rows; r += 8 {
			if add {
				unpackAdd8AVX2(&dst.Data[r*dst.Row+c], 4*dst.Row, &src[c*Lanes+r], min(8, rows-r), n, &s[r])
			} else {
				unpack8AVX2(&dst.Data[r*dst.Row+c], 4*dst.Row, &src[c*Lanes+r], min(8, rows-r), n, &s[r])
			}
		}
	}
}
