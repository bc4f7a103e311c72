//go:build !purego

package kernel

import "unsafe"

// A tile is the argument of the generated tile products: `tiles` row tiles, one under the other,
// times `panels` column panels. Strides are in bytes. Its fields are read by their order
// (gen/mul.go, tileFields), and all of them are one word.
type tile struct {
	a          *float32
	arow, acol int
	b          *float32
	brow       int
	bnext      int // from one panel of B to the next
	c          *float32
	crow       int
	k          int
	tiles      int
	panels     int
	mode       int
	scale      *float32
	cols       int // columns of the last vector, for edge kernels
}

// How C starts.
const (
	overwrite = iota // C = A·B
	add              // C += A·B
	rescale          // C = C·diag(scale) + A·B
)

// Which columns a tile kernel works on.
const (
	full     = iota // whole panels
	edgeTwo         // one panel, its second vector masked
	edgeHalf        // half a panel, masked
)

// maxWork bounds the multiply-adds of one call into assembly, which cannot be preempted: 60 µs
// on a core with 70 GFLOP/s.
const maxWork = 2 << 20

// off returns the address n floats after p.
func off(p *float32, n int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n))
}

// run multiplies m rows. A short last tile would leave the multipliers waiting for its few
// accumulators, so it shares the rows of the tile before it: 6+2 becomes 4+4.
//
// t is passed by value: what is stored through a pointer counts as escaped, and with it the
// slices of the caller.
func run(t tile, m, height, width, kind int) {
	whole, rest := m/height, m%height
	if rest > 0 && rest < 4 && whole > 0 {
		whole--
		rest += height
	}
	most := max(1, maxWork/(height*width*max(1, t.k)*t.panels))
	i := 0
	for whole > 0 {
		n := min(whole, most)
		runTiles(t, i, height, n, kind)
		i += n * height
		whole -= n
	}
	if rest > height {
		runTiles(t, i, (rest+1)/2, 1, kind)
		i += (rest + 1) / 2
		rest /= 2
	}
	if rest > 0 {
		runTiles(t, i, rest, 1, kind)
	}
}

// runTiles runs tiles of r rows from row i on.
func runTiles(t tile, i, r, tiles, kind int) {
	t.a, t.c = off(t.a, i*t.arow/4), off(t.c, i*t.crow/4)
	t.tiles = tiles
	p := (*uint64)(unsafe.Pointer(&t))
	if level == levelAVX512 {
		tileAVX512(p, 3*r+kind)
	} else {
		tileAVX2(p, 3*r+kind)
	}
}

func tileAVX2(t *uint64, which int) {
	switch which {
	case 3*1 + full:
		mul1x16AVX2(t)
	case 3*1 + edgeTwo:
		mul1x16edgeAVX2(t)
	case 3*1 + edgeHalf:
		mul1x8edgeAVX2(t)
	case 3*2 + full:
		mul2x16AVX2(t)
	case 3*2 + edgeTwo:
		mul2x16edgeAVX2(t)
	case 3*2 + edgeHalf:
		mul2x8edgeAVX2(t)
	case 3*3 + full:
		mul3x16AVX2(t)
	case 3*3 + edgeTwo:
		mul3x16edgeAVX2(t)
	case 3*3 + edgeHalf:
		mul3x8edgeAVX2(t)
	case 3*4 + full:
		mul4x16AVX2(t)
	case 3*4 + edgeTwo:
		mul4x16edgeAVX2(t)
	case 3*4 + edgeHalf:
		mul4x8edgeAVX2(t)
	case 3*5 + full:
		mul5x16AVX2(t)
	case 3*5 + edgeTwo:
		mul5x16edgeAVX2(t)
	case 3*5 + edgeHalf:
		mul5x8edgeAVX2(t)
	case 3*6 + full:
		mul6x16AVX2(t)
	case 3*6 + edgeTwo:
		mul6x16edgeAVX2(t)
	case 3*6 + edgeHalf:
		mul6x8edgeAVX2(t)
	default:
		panic("kernel: no such tile")
	}
}

func tileAVX512(t *uint64, which int) {
	switch which {
	case 3*1 + full:
		mul1x32AVX512(t)
	case 3*1 + edgeTwo:
		mul1x32edgeAVX512(t)
	case 3*1 + edgeHalf:
		mul1x16edgeAVX512(t)
	case 3*2 + full:
		mul2x32AVX512(t)
	case 3*2 + edgeTwo:
		mul2x32edgeAVX512(t)
	case 3*2 + edgeHalf:
		mul2x16edgeAVX512(t)
	case 3*3 + full:
		mul3x32AVX512(t)
	case 3*3 + edgeTwo:
		mul3x32edgeAVX512(t)
	case 3*3 + edgeHalf:
		mul3x16edgeAVX512(t)
	case 3*4 + full:
		mul4x32AVX512(t)
	case 3*4 + edgeTwo:
		mul4x32edgeAVX512(t)
	case 3*4 + edgeHalf:
		mul4x16edgeAVX512(t)
	case 3*5 + full:
		mul5x32AVX512(t)
	case 3*5 + edgeTwo:
		mul5x32edgeAVX512(t)
	case 3*5 + edgeHalf:
		mul5x16edgeAVX512(t)
	case 3*6 + full:
		mul6x32AVX512(t)
	case 3*6 + edgeTwo:
		mul6x32edgeAVX512(t)
	case 3*6 + edgeHalf:
		mul6x16edgeAVX512(t)
	case 3*7 + full:
		mul7x32AVX512(t)
	case 3*7 + edgeTwo:
		mul7x32edgeAVX512(t)
	case 3*7 + edgeHalf:
		mul7x16edgeAVX512(t)
	case 3*8 + full:
		mul8x32AVX512(t)
	case 3*8 + edgeTwo:
		mul8x32edgeAVX512(t)
	case 3*8 + edgeHalf:
		mul8x16edgeAVX512(t)
	default:
		panic("kernel: no such tile")
	}
}
