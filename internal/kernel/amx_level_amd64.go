//go:build !purego

package kernel

import "sync"

// hasTiles reports whether the processor has AMX_BF16 and the system lets us use it. It asks at the first product: a process that has leave needs larger
// signal stacks, which is no business of one that never makes one. Tests set it.
var hasTiles = sync.OnceValue(tilesAllowed)

func pairTiles() bool { return level == levelAVX512 && hasTiles() }

// A tileConfig is what LDTILECFG reads: palette 1, and bytes of a row and rows of each of the eight registers.
type tileConfig [64]byte

func (c *tileConfig) set(tile, rows, words int) {
	c[0] = 1
	c[16+2*tile], c[48+tile] = byte(4*words), byte(rows)
}

// wholeTiles is for tiles32: all registers are whole.
var wholeTiles = func() (c tileConfig) {
	for t := range 8 {
		c.set(t, 16, chunkPairs)
	}
	return c
}()

// edgeTiles is for tiles16: two accumulators, then A and two panels of B of a chunk, and those of the rest.
func edgeTiles(rows, rest int) (c tileConfig) {
	c.set(0, rows, 16)
	c.set(1, rows, 16)
	c.set(2, rows, chunkPairs)
	c.set(3, chunkPairs, 16)
	c.set(4, chunkPairs, 16)
	if rest > 0 {
		c.set(5, rows, rest)
		c.set(6, rest, 16)
		c.set(7, rest, 16)
	}
	return c
}

// mulPairTiles computes Lanes columns in tile registers. A thread has them between the two ends of a call into assembly, which cannot be
// preempted: a goroutine may go on on another.
func mulPairTiles(mode int, factor float32, scale []float32, m, k int, a, b *Pairs, c *Mat) {
	chunks, rest := k/chunkPairs, k%chunkPairs
	sp := &c.Data[0]
	if mode == rescale {
		sp = &scale[0]
	}
	i := 0
	if rest == 0 && k > 0 {
		for most := max(1, maxWork/(32*Lanes*k)) * 32; i+32 <= m; {
			rows := min((m-i)&^31, most)
			tiles32AVX512(&wholeTiles[0], &a.Data[i*a.Row], 4*a.Row, &b.Data[0], 4*b.Row, &c.Data[i*c.Row], 4*c.Row, chunks, 0, rows, mode, sp, factor)
			i += rows
		}
	}
	for i < m {
		rows := min(16, m-i)
		config := edgeTiles(rows, rest)
		tiles16AVX512(&config[0], &a.Data[i*a.Row], 4*a.Row, &b.Data[0], 4*b.Row, &c.Data[i*c.Row], 4*c.Row, chunks, rest, rows, mode, sp, factor)
		i += rows
	}
}
