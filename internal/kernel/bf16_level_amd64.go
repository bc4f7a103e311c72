//go:build !purego

package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// hasPairs is set once at start-up (and by tests): the level avx512 has VDPBF16PS.
var hasPairs = cpu.X86.HasAVX512BF16

func nativePairs() bool { return level == levelAVX512 && hasPairs }

func roundRows(dst []uint32, ld int, src Mat, rows, cols int) {
	from := 0 // columns done
	if native := nativePairs(); level != levelGeneric {
		step, unit := max(1, maxWork/64/cols), 16
		if native {
			unit = 32
		}
		from = cols / unit * unit
		for r := 0; r < rows && from > 0; r += step {
			n := min(step, rows-r)
			if native {
				roundRowsAVX512(&dst[r*ld], 4*ld, &src.Data[r*src.Row], 4*src.Row, n, from)
			} else {
				roundRowsAVX2(&dst[r*ld], 4*ld, &src.Data[r*src.Row], 4*src.Row, n, from)
			}
		}
	}
	if from < cols {
		roundRowsGeneric(dst, ld, src, rows, from, cols)
	}
}

func roundPairs(dst []uint32, ld int, src Mat, rows, cols int) {
	from, even := 0, rows&^1
	if native := nativePairs(); level != levelGeneric && even > 0 {
		step, unit := max(2, maxWork/64/cols&^1), 8
		if native {
			unit = 16
		}
		from = cols / unit * unit
		for r := 0; r < even && from > 0; r += step {
			n := min(step, even-r) / 2
			if native {
				roundPairsAVX512(&dst[r/2*ld], 4*ld, &src.Data[r*src.Row], 4*src.Row, n, from)
			} else {
				roundPairsAVX2(&dst[r/2*ld], 4*ld, &src.Data[r*src.Row], 4*src.Row, n, from)
			}
		}
	}
	if from < cols {
		roundPairsGeneric(dst, ld, src, even, from, cols)
	}
	if even < rows {
		roundPairsGeneric(dst[even/2*ld:], ld, src.From(even, 0), 1, 0, cols)
	}
}

func widen(dst []float32, src []uint32) {
	n := 0
	if level != levelGeneric {
		n = len(src) &^ 15
	}
	for i := 0; i < n; i += strip {
		widenAVX2(&dst[2*i], &src[i], min(strip, n-i))
	}
	widenGeneric(dst[2*n:], src[n:])
}

func turn(dst []uint32, ld int, src []uint32, rows, cols int) {
	if level == levelGeneric {
		turnGeneric(dst, ld, src, rows, cols)
		return
	}
	for c := 0; c < cols; c += 512 {
		n := min(cols-c, 512)
		for r := 0; r < rows; r += 8 {
			turn8AVX2((*float32)(unsafe.Pointer(&dst[r*ld+c])), 4*ld, (*float32)(unsafe.Pointer(&src[c*Lanes+r])), min(8, rows-r), n)
		}
	}
}

func mulPairsLevel(mode int, factor float32, scale []float32, m, n, k int, a, b *Pairs, c *Mat) {
	if level == levelGeneric {
		mulPairsGeneric(mode, factor, scale, m, n, k, a, b, c)
		return
	}
	for j := 0; j < n; j += Lanes {
		var s []float32
		if mode == rescale {
			s = scale[j:]
		}
		bj, cj := PairRows(b.Data[min(j, len(b.Data)):], b.Row), Rows(c.Data[j:], c.Row)
		if n-j >= Lanes {
			mulPairsPanel(mode, factor, s, m, k, a, &bj, &cj)
		} else {
			mulPairsEdge(mode, factor, s, m, n-j, k, a, &bj, &cj)
		}
	}
}

// mulPairsEdge computes a panel of cols < Lanes columns in a whole one of its own.
func mulPairsEdge(mode int, factor float32, scale []float32, m, cols, k int, a, b *Pairs, c *Mat) {
	const height = 24
	var tile [height * Lanes]float32
	var factors [Lanes]float32
	copy(factors[:cols], scale)
	for i := 0; i < m; i += height {
		rows := min(height, m-i)
		for r := range rows {
			copy(tile[r*Lanes:][:cols], c.Data[(i+r)*c.Row:])
		}
		ai, t := PairRows(a.Data[min(i*a.Row, len(a.Data)):], a.Row), Rows(tile[:], Lanes)
		mulPairsPanel(mode, factor, factors[:], rows, k, &ai, b, &t)
		for r := range rows {
			copy(c.Data[(i+r)*c.Row:][:cols], tile[r*Lanes:])
		}
	}
}

// mulPairsPanel computes Lanes columns.
func mulPairsPanel(mode int, factor float32, scale []float32, m, k int, a, b *Pairs, c *Mat) {
	if k == 0 { // A and B may be empty: take their addresses from C, none is read
		none := Pairs{Data: Words(c.Data)}
		a, b = &none, &none
	}
	if pairTiles() {
		mulPairTiles(mode, factor, scale, m, k, a, b, c)
		return
	}
	height, width := 6, 16
	if nativePairs() {
		height, width = 8, 32
	}
	most := max(1, maxWork/(2*height*width*max(k, 1))) // tiles a call
	for j := 0; j < Lanes; j += width {
		bp := &b.Data[0]
		if k > 0 {
			bp = &b.Data[j]
		}
		sp := &c.Data[0]
		if mode == rescale {
			sp = &scale[j]
		}
		for i := 0; i < m; {
			rows, tiles := height, min((m-i)/height, most)
			if tiles == 0 {
				rows, tiles = m-i, 1
			}
			pairTile(rows, &a.Data[i*a.Row], 4*a.Row, bp, 4*b.Row, &c.Data[i*c.Row+j], 4*c.Row, k, tiles, mode, sp, factor)
			i += rows * tiles
		}
	}
}

func pairTile(rows int, a *uint32, arow int, b *uint32, brow int, c *float32, crow, k, tiles, mode int, scale *float32, factor float32) {
	if nativePairs() {
		switch rows {
		case 1:
			pairs1x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 2:
			pairs2x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 3:
			pairs3x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 4:
			pairs4x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 5:
			pairs5x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 6:
			pairs6x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 7:
			pairs7x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		case 8:
			pairs8x32AVX512(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
		}
		return
	}
	switch rows {
	case 1:
		pairs1x16AVX2(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
	case 2:
		pairs2x16AVX2(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
	case 3:
		pairs3x16AVX2(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
	case 4:
		pairs4x16AVX2(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
	case 5:
		pairs5x16AVX2(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
	case 6:
		pairs6x16AVX2(a, arow, b, brow, c, crow, k, tiles, mode, scale, factor)
	}
}
