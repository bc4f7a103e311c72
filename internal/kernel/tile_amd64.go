//go:build !purego

package kernel

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

// Which columns a tile kernel works on.
const (
	full     = iota // whole panels
	edgeTwo         // one panel, its second vector masked
	edgeHalf        // half a panel, masked
)

// maxWork bounds the multiply-adds of one call into assembly, which cannot be preempted: 60 µs
// on a core with 70 GFLOP/s.
const maxWork = 2 << 20

// The tables below call the tile of which/3 rows and kind which%3.

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
