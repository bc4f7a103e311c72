//go:build !purego

package kernel

import "unsafe"

func mulLevel(accumulate bool, scale []float32, m, n, k int, a, b, c *Mat, scratch []float32) {
	if level == levelGeneric {
		mulGeneric(accumulate, scale, m, n, k, *a, *b, *c)
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
		none := Mat{Data: c.Data}
		a, b = &none, &none
	}
	// A copied panel pays once it serves many rows, and only where B is neither narrow nor small.
	if m >= 64 && n >= 16 && b.Row >= 128 && k*b.Row >= 1<<14 {
		// Aᵀ is worth a copy. A by rows arrives in time from wherever it lies, unless its rows
		// fall in the same cache sets and are read for many panels.
		columns := a.Row == 1 && a.Col >= 64 && n >= 64
		rows := a.Col == 1 && a.Row%1024 == 0 && n >= 512
		if len(scratch) < MulScratch || !columns && !rows {
			scratch = nil
		}
		mulPanels(mode, scale, m, n, k, a, b, c, scratch)
		return
	}
	mulDirect(mode, scale, m, n, k, a, b, c)
}

// mulDirect multiplies in place: a row of register tiles at a time, so that the rows of A are
// read from memory once. Matrices come by pointer, as copies of them take longer than a tile.
func mulDirect(mode int, scale []float32, m, n, k int, a, b, c *Mat) {
	wide := level == levelAVX512
	height, whole, rest := 6, m/6, m%6
	width, panels, edge := 16, n/16, n%16
	if wide {
		height, whole, rest = 8, m/8, m%8
		width, panels, edge = 32, n/32, n%32
	}
	// A short last tile would leave the multipliers waiting for its few accumulators, so it shares
	// the rows of the tile before it: 6+2 becomes 4+4.
	if 0 < rest && rest < 4 && whole > 0 {
		whole--
		rest += height
	}
	most := whole // row tiles a call
	if m*n*k > maxWork {
		most = max(1, maxWork/(height*max(width, n)*k))
	}
	// t is set field by field: what is stored through a pointer counts as escaped, and with it
	// the slices of the caller.
	var t tile
	t.brow, t.bnext, t.arow, t.acol, t.crow = 4*b.Row, 4*width, 4*a.Row, 4*a.Col, 4*c.Row
	t.k, t.mode = k, mode
	kind := full
	for j := 0; j < n; j = n - edge {
		t.b, t.panels = first(b.Data[j:]), panels
		if j > 0 || panels == 0 {
			kind, t.panels, t.cols = edgeHalf, 1, edge
			if edge > width/2 {
				kind, t.cols = edgeTwo, edge-width/2
			}
			edge = 0
		}
		if mode == rescale {
			t.scale = first(scale[j:])
		}
		for i := 0; i < m; {
			r := height
			switch left := m - i; {
			case left > rest:
				t.tiles = min(most, (left-rest)/height)
			case left > height:
				r, t.tiles = (left+1)/2, 1
			default:
				r, t.tiles = left, 1
			}
			t.a, t.c = first(a.Data[i*a.Row:]), first(c.Data[i*c.Row+j:])
			p := (*uint64)(unsafe.Pointer(&t))
			if wide {
				tileAVX512(p, 3*r+kind)
			} else {
				tileAVX2(p, 3*r+kind)
			}
			i += r * t.tiles
		}
	}
}

func first(x []float32) *float32 { return unsafe.SliceData(x) }
