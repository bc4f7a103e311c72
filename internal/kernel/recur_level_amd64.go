//go:build !purego

package kernel

import "unsafe"

func mapRowsLevel(which int, dst, src Mat, rows, cols int) {
	if level == levelGeneric || cols > strip {
		mapRowsGeneric(which, dst, src, rows, cols)
		return
	}
	for r := 0; r < rows; {
		n := min(rows-r, max(1, strip/cols))
		d, s, dld, sld := &dst.Data[r*dst.Row], &src.Data[r*src.Row], 4*dst.Row, 4*src.Row
		wide := level == levelAVX512
		switch {
		case which == elu1Map && wide:
			elu1AVX512(d, dld, s, sld, n, cols)
		case which == elu1Map:
			elu1AVX2(d, dld, s, sld, n, cols)
		case which == reluMap && wide:
			reluAVX512(d, dld, s, sld, n, cols)
		case which == reluMap:
			reluAVX2(d, dld, s, sld, n, cols)
		case which == lostMap && wide:
			lostAVX512(d, dld, s, sld, n, cols)
		case which == lostMap:
			lostAVX2(d, dld, s, sld, n, cols)
		case wide:
			expRowsAVX512(d, dld, s, sld, n, cols)
		default:
			expRowsAVX2(d, dld, s, sld, n, cols)
		}
		r += n
	}
}

func packELU1(dst, sums []float32, src Mat, rows int) {
	if !short(Lanes, len(sums)) {
		packELU1Generic(dst, sums, src, rows)
		return
	}
	for r := 0; r < Lanes; r += 8 {
		if r >= rows {
			pack8AVX2(&dst[r], &dst[r], 0, 0, len(sums), 0)
			continue
		}
		packELU1x8AVX2(&dst[r], &sums[0], &src.Data[r*src.Row], 4*src.Row, min(8, rows-r), len(sums))
	}
}

func squares(dst, src Mat, unit, root float32, rows, n int) {
	if level == levelGeneric || n*(n+1)/2 > strip {
		squaresGeneric(dst, src, unit, root, rows, n)
		return
	}
	for r := 0; r < rows; {
		m := min(rows-r, max(1, 2*strip/(n*(n+1))))
		d, s := &dst.Data[r*dst.Row], &src.Data[r*src.Row]
		if level == levelAVX512 {
			squaresAVX512(d, 4*dst.Row, s, 4*src.Row, m, n, unit, root)
		} else {
			squaresAVX2(d, 4*dst.Row, s, 4*src.Row, m, n, unit, root)
		}
		r += m
	}
}

func copyFinite(dst, src Mat, rows, cols int) bool {
	switch {
	case !short(rows, cols):
		return copyFiniteGeneric(dst, src, rows, cols)
	case level == levelAVX512:
		return copyFiniteAVX512(&dst.Data[0], 4*dst.Row, &src.Data[0], 4*src.Row, rows, cols) == 0
	}
	return copyFiniteAVX2(&dst.Data[0], 4*dst.Row, &src.Data[0], 4*src.Row, rows, cols) == 0
}

func elu1Grad(d, f []float32) {
	if level == levelGeneric {
		elu1GradGeneric(d, f)
		return
	}
	for len(d) > 0 {
		n := min(len(d), strip)
		if level == levelAVX512 {
			elu1GradAVX512(&f[0], &d[0], n)
		} else {
			elu1GradAVX2(&f[0], &d[0], n)
		}
		d, f = d[n:], f[n:]
	}
}

// The kernels below work on parts of a chunk: a call is short for the sizes of any head. Others run the generic loop.

func short(rows, cols int) bool { return level != levelGeneric && rows*cols <= 1<<16 }

func scaleRows(f []float32, m Mat, cols int) {
	switch {
	case !short(len(f), cols):
		scaleRowsGeneric(f, m, cols)
	case level == levelAVX512:
		scaleRowsAVX512(&f[0], &m.Data[0], 4*m.Row, len(f), cols)
	default:
		scaleRowsAVX2(&f[0], &m.Data[0], 4*m.Row, len(f), cols)
	}
}

func timesRows(f []float32, m Mat, rows int) {
	switch {
	case !short(rows, len(f)):
		timesRowsGeneric(f, m, rows)
	case level == levelAVX512:
		timesRowsAVX512(&f[0], &m.Data[0], 4*m.Row, rows, len(f))
	default:
		timesRowsAVX2(&f[0], &m.Data[0], 4*m.Row, rows, len(f))
	}
}

func lower(sums []float32, m Mat, keep, cols int) {
	switch {
	case !short(len(sums), cols):
		lowerGeneric(sums, m, keep, cols)
	case level == levelAVX512:
		lowerAVX512(&sums[0], &m.Data[0], 4*m.Row, keep, len(sums), cols)
	default:
		lowerAVX2(&sums[0], &m.Data[0], 4*m.Row, keep, len(sums), cols)
	}
}

func decay(s Mat, a, b []float32, cols int) {
	switch {
	case !short(len(a), cols):
		decayGeneric(s, a, b, cols)
	case level == levelAVX512:
		decayAVX512(&s.Data[0], 4*s.Row, &a[0], &b[0], len(a), cols)
	default:
		decayAVX2(&s.Data[0], 4*s.Row, &a[0], &b[0], len(a), cols)
	}
}

func flushBelow(least float32, x []float32) {
	if level == levelGeneric {
		flushBelowGeneric(least, x)
		return
	}
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			flushBelowAVX512(least, &x[0], n)
		} else {
			flushBelowAVX2(least, &x[0], n)
		}
		x = x[n:]
	}
}

func cumulate(total []float32, q, e Mat, rows int) {
	switch {
	case !short(rows, len(total)):
		cumulateGeneric(total, q, e, rows)
	case level == levelAVX512:
		cumulateAVX512(&q.Data[0], 4*q.Row, &e.Data[0], 4*e.Row, rows, len(total), &total[0])
	default:
		cumulateAVX2(&q.Data[0], 4*q.Row, &e.Data[0], 4*e.Row, rows, len(total), &total[0])
	}
}

func decayWeights(a, q, e Mat, kt []float32, d int) {
	switch {
	case !short(DecayBlock, d):
		decayWeightsGeneric(a, q, e, kt, d)
	case level == levelAVX512:
		decayWeightsAVX512(&a.Data[0], 4*a.Row, &q.Data[0], 4*q.Row, &e.Data[0], 4*e.Row, &kt[0], d)
	default:
		decayWeightsAVX2(&a.Data[0], 4*a.Row, &q.Data[0], 4*q.Row, &e.Data[0], 4*e.Row, &kt[0], d)
	}
}

// aheadTile is the argument of mulAhead. Its fields are read by their order (gen/recurmul.go, aheadFields), and all of them are
// one word; strides are in bytes.
type aheadTile struct {
	a        *float32
	arow     int
	b        *float32
	brow     int
	bnext    int // from one panel of B to the next
	c        *float32
	crow     int
	k        int
	rows     int
	panels   int
	mode     int // overwrite, add, advance or scaled
	factors  *float32
	more     int       // from factors to b
	list     *segments // what to ask for
	parts    int       // of it
	segments int       // left of the first part
	each     int       // segments a tile
}

func aheadHeight() int {
	if level == levelAVX512 {
		return 8
	}
	return 3
}

func mulAheadLevel(next *Ahead, mode int, f, g []float32, m, n, k int, a, b, c *Mat) {
	var t aheadTile
	t.a, t.arow, t.b, t.brow, t.bnext = first(a.Data), 4*a.Row, first(b.Data), 4*b.Row, 128
	t.c, t.crow, t.k, t.rows, t.panels, t.mode, t.factors = first(c.Data), 4*c.Row, k, m, n/32, mode, first(f)
	if mode == advance {
		t.more = int(uintptr(unsafe.Pointer(first(g))) - uintptr(unsafe.Pointer(first(f))))
	}
	if next != nil && next.first < next.n {
		t.list, t.parts, t.each = &next.list[next.first], next.n-next.first, next.each
	}
	if level == levelAVX512 {
		mulAheadAVX512((*uint64)(unsafe.Pointer(&t)))
	} else {
		mulAheadAVX2((*uint64)(unsafe.Pointer(&t)))
	}
	if t.list != nil {
		next.first = next.n - t.parts
		if t.parts > 0 {
			p := &next.list[next.first]
			p.from = (*float32)(unsafe.Add(unsafe.Pointer(p.from), (p.rows-t.segments)*p.ld))
			p.rows = t.segments
		}
	}
}
