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
	mulDirect(mode, scale, m, n, k, a, b, c, 0)
}

// mulDirect multiplies in place, one band of columns after the other, each by the widest tiles that fill it: whole
// panels, then what is left over in edge tiles. Within a band it goes by rows of tiles, so that the rows of A are
// read from memory once. packed is the distance of the tiles of a packed A in bytes, else 0.
// Matrices come by pointer, as copies of them take longer than a tile.
func mulDirect(mode int, scale []float32, m, n, k int, a, b, c *Mat, packed int) {
	// t is a variable whose fields are set one by one: what is stored through a pointer counts as escaped, and
	// with it the slices of the caller.
	var t tile
	t.brow, t.crow, t.k, t.mode = 4*b.Row, 4*c.Row, k, mode
	rows := a.Col == 1 && packed == 0 && level == levelAVX2
	for j, cols := 0, 0; j < n; j += cols {
		left, kind, shape := n-j, full, general
		height, width := 6, 16
		if level == levelAVX512 {
			height, width = 8, 32
		}
		t.bnext = 4 * width
		switch {
		case rows && left >= 32:
			height, cols, shape = 3, 32, rows3x32
		case left >= width:
			cols = left / width * width
			if packed > 0 {
				shape = packedTile
			} else if rows {
				shape = rows6x16
			}
		case left > width/2:
			cols, kind, t.cols = left, edgeTwo, left-width/2
		default:
			cols, kind, t.cols = left, edgeHalf, left
		}
		t.b = first(b.Data[j:])
		if mode == rescale {
			t.scale = first(scale[j:])
		}
		whole, short := split(m, height)
		most := whole // row tiles a call
		if m*cols*k > maxWork {
			most = max(1, maxWork/(height*cols*k))
		}
		for i, at := 0, 0; i < m; { // row and tile
			r := height
			if at < whole {
				t.tiles = min(most, whole-at)
			} else {
				r, shape, t.tiles = short[at-whole], general, 1
			}
			t.panels = max(1, cols/width)
			t.a, t.arow, t.acol = first(a.Data[i*a.Row:]), 4*a.Row, 4*a.Col
			switch {
			case shape == rows3x32:
				t.panels = 1
			case packed > 0:
				t.a, t.arow, t.acol = first(a.Data[at*packed/4:]), packed, 0
				if shape == general {
					t.arow, t.acol, t.tiles = 4, 4*packHeight(), 1
				}
			}
			t.c = first(c.Data[i*c.Row+j:])
			runTile((*uint64)(unsafe.Pointer(&t)), shape, r, kind)
			i += r * t.tiles
			at += t.tiles
		}
	}
}

// split cuts m rows in whole tiles and up to two short ones. A short last tile would leave the multipliers waiting
// for its few accumulators, so it shares the rows of the tile before it: 6+2 becomes 4+4. Tiles of 3 rows become
// one of 4 or 5, whose rows fit a tile of half the width.
func split(m, height int) (whole int, short [2]int) {
	whole, rest := m/height, m%height
	if 0 < rest && rest < 4 && whole > 0 {
		whole--
		rest += height
	}
	if height == 3 || rest <= height {
		return whole, [2]int{rest, 0}
	}
	return whole, [2]int{(rest + 1) / 2, rest / 2}
}

func runTile(t *uint64, shape, rows, kind int) {
	switch {
	case level == levelAVX512 && shape == packedTile:
		mul8x32packedAVX512(t)
	case level == levelAVX512:
		tileAVX512(t, 3*rows+kind)
	case shape == rows3x32:
		mul3x32rowsAVX2(t)
	case shape == rows6x16:
		mul6x16rowsAVX2(t)
	case shape == packedTile:
		mul6x16packedAVX2(t)
	default:
		tileAVX2(t, 3*rows+kind)
	}
}

// Shapes of whole tiles.
const (
	general    = iota // A by any strides
	rows3x32          // A by rows
	rows6x16          // A by rows
	packedTile        // A packed
)

func first(x []float32) *float32 { return unsafe.SliceData(x) }

// packHeight is the number of rows in a tile of a packed A.
func packHeight() int {
	if level == levelAVX512 {
		return 8
	}
	return 6
}

func packColumns(dst []float32, m, k int, a *Mat) {
	height := packHeight()
	whole, short := split(m, height)
	tile := height * k
	switch {
	case whole == 0:
	case level == levelAVX512:
		packColumns8AVX512(&dst[0], 4*tile, &a.Data[0], 4*a.Col, k, whole)
	default:
		packColumns6AVX2(&dst[0], 4*tile, &a.Data[0], 4*a.Col, k, whole)
	}
	row := whole * height
	for i, n := range short {
		for p := range k {
			for r := range n {
				dst[(whole+i)*tile+p*height+r] = a.Data[row+r+p*a.Col]
			}
		}
		row += n
	}
}

func packLevel(dst []float32, m, k int, a *Mat) {
	if level == levelGeneric {
		packColumnsGeneric(dst, m, k, a)
		return
	}
	packColumns(dst, m, k, a)
}

func mulPackedLevel(mode int, scale []float32, n, k int, a *Packed, b, c *Mat) {
	if level == levelGeneric {
		mulPackedGeneric(mode, scale, n, k, a, b, c)
		return
	}
	height := packHeight()
	m := Mat{Data: a.data[height*a.first:]}
	if k == 0 {
		m.Data, b = c.Data, &Mat{Data: c.Data}
	}
	mulDirect(mode, scale, a.m, n, k, &m, b, c, 4*height*a.k)
}

func prefetch(m *Mat, rows, cols int) {
	if level != levelGeneric {
		prefetchAVX2(&m.Data[0], 4*m.Row, rows, 4*cols)
	}
}
