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
	j := n / width * width
	if j > 0 {
		t.a, t.b, t.c, t.scale = first(a.Data), first(b.Data), first(c.Data), first(scale)
		t.panels = n / width
		run(t, m, height, width, full)
	}
	if rest := n - j; rest > 0 {
		t.a, t.b, t.c = first(a.Data), first(b.Data[j:]), first(c.Data[j:])
		if mode == rescale {
			t.scale = first(scale[j:])
		}
		t.panels = 1
		if rest > width/2 {
			t.cols = rest - width/2
			run(t, m, height, width, edgeTwo)
		} else {
			t.cols = rest
			run(t, m, height, width, edgeHalf)
		}
	}
}

func first(x []float32) *float32 { return unsafe.SliceData(x) }
