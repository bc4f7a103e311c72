//go:build !purego

package kernel

import "unsafe"

func mulLevel(accumulate bool, scale []float32, m, n, k int, a, b, c Mat) {
	if level == levelGeneric {
		mulGeneric(accumulate, scale, m, n, k, a, b, c)
		return
	}
	mode := overwrite
	if accumulate {
		mode = add
		if scale != nil {
			mode = rescale
		}
	}
	if k == 0 { // A and B may be empty: take their addresses from C, none is read
		a.Data, b.Data = c.Data, c.Data
		a.Row, a.Col, b.Row = 0, 0, 0
	}
	mulDirect(mode, scale, m, n, k, a, b, c)
}

// mulDirect multiplies in place, a row of register tiles at a time.
func mulDirect(mode int, scale []float32, m, n, k int, a, b, c Mat) {
	height, width := 6, 16
	if level == levelAVX512 {
		height, width = 8, 32
	}
	t := tile{
		arow: 4 * a.Row, acol: 4 * a.Col, brow: 4 * b.Row, bnext: 4 * width, crow: 4 * c.Row,
		k: k, mode: mode,
	}
	strip := func(j, panels, kind, cols int) {
		t.a = unsafe.SliceData(a.Data)
		t.b = off(unsafe.SliceData(b.Data), j)
		t.c = off(unsafe.SliceData(c.Data), j)
		if mode == rescale {
			t.scale = off(unsafe.SliceData(scale), j)
		}
		t.panels, t.cols = panels, cols
		t.run(m, height, width, kind)
	}
	j := 0
	if n >= width {
		strip(0, n/width, full, 0)
		j = n / width * width
	}
	switch rest := n - j; {
	case rest > width/2:
		strip(j, 1, edgeTwo, rest-width/2)
	case rest > 0:
		strip(j, 1, edgeHalf, rest)
	}
}
