package tile

import (
	"math/bits"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Lanes is the number of queries in a tile.
const Lanes = kernel.Lanes

// A Tile is what a Pattern is asked about: up to Lanes consecutive queries of one head of one
// sequence. Positions count from the sequence's first key, queries and keys aligned at their
// ends; those of queries in front of the first key are negative. Under the cross mask positions mean nothing.
type Tile struct {
	Mask        attn.Mask
	Layer, Head int
	First, Rows int // position of the first query, number of queries
	Keys        int // keys of the sequence
	// Segment is the number of the sequence in the call and Query that of the first query in the sequence: a pattern made for one
	// call, of what its queries chose, is asked by them.
	Segment, Query int
	Pos0           int // of the sequence, as its Segment says
}

// Last returns the position of the tile's last query.
func (t Tile) Last() int { return t.First + t.Rows - 1 }

// A Run is a range of keys [Lo, Hi) that some query of a tile sees; Full when each query of
// the tile sees each key of the run. An empty run ends a walk.
type Run struct {
	Lo, Hi int
	Full   bool
}

// A Pattern says which keys a query sees, the call's mask included. Runs that no query sees are
// never computed; in full ones no pair is tested.
//
// A pattern must not look further than its mask: under the causal one the keys of a query must not depend on t.Keys,
// and whether a pair is visible must not depend on the tile in which it is asked.
type Pattern interface {
	// Next returns the first run that begins at from or later, cut to [from, t.Keys).
	Next(t Tile, from int) Run
	// Sees returns the queries of the tile that see key j, bit l for the query at t.First+l.
	// It is asked for the keys of runs that are not full; bits from t.Rows on do not matter.
	Sees(t Tile, j int) uint32
}

// Bits returns the set of the lanes lo to hi-1, both cut to 0..Lanes.
func Bits(lo, hi int) uint32 {
	lo, hi = max(lo, 0), min(hi, Lanes)
	if lo >= hi {
		return 0
	}
	return uint32(1<<hi - 1<<lo)
}

// Dense is the pattern of full attention: the mask alone.
type Dense struct{}

// Next implements Pattern.
func (Dense) Next(t Tile, from int) Run {
	if t.Mask != attn.Causal {
		return Run{from, t.Keys, true}
	}
	if from <= t.First {
		return Run{from, min(t.First+1, t.Keys), true}
	}
	return Run{from, min(t.Last()+1, t.Keys), false}
}

// Sees implements Pattern.
func (Dense) Sees(t Tile, j int) uint32 {
	if t.Mask != attn.Causal {
		return Bits(0, Lanes)
	}
	return Bits(j-t.First, Lanes)
}

// Pairs counts the pairs of one batch row at full length that p admits, over all heads.
func Pairs(p Pattern, s attn.Shape) int64 {
	n := int64(0)
	for h := range s.Heads {
		for q := 0; q < s.QueryLen; q += Lanes {
			t := Tile{Mask: s.Mask, Layer: s.Layer, Head: h, First: q + s.KeyLen - s.QueryLen, Rows: min(Lanes, s.QueryLen-q), Keys: s.KeyLen, Query: q}
			n += tilePairs(p, t)
		}
	}
	return n
}

func tilePairs(p Pattern, t Tile) int64 {
	n := int64(0)
	for r := p.Next(t, 0); r.Lo < r.Hi; r = p.Next(t, r.Hi) {
		if r.Full {
			n += int64(t.Rows) * int64(r.Hi-r.Lo)
			continue
		}
		for j := r.Lo; j < r.Hi; j++ {
			n += int64(bits.OnesCount32(p.Sees(t, j) & Bits(0, t.Rows)))
		}
	}
	return n
}

// keyBlock is the number of keys that one softmax step takes: its scores (16 KiB) stay in the
// first-level cache.
const keyBlock = 128

// A block is a range of at most keyBlock keys to compute, of which the keys in part[:parts] need
// a test for each pair.
type block struct {
	lo, hi int
	part   [2]Run
	parts  int
}

// A cursor walks the blocks of a tile in order.
type cursor struct {
	t   Tile
	run Run
}

func newCursor(p Pattern, t Tile) cursor { return cursor{t, p.Next(t, 0)} }

// done reports whether no keys are left.
func (c *cursor) done() bool { return c.run.Lo >= c.run.Hi }

// block returns the next block in front of end; runs that touch become one block.
func (c *cursor) block(p Pattern, end int) (b block, ok bool) {
	b.lo, b.hi = c.run.Lo, c.run.Lo
	for !c.done() && c.run.Lo == b.hi && c.run.Lo < end {
		hi := min(c.run.Hi, end)
		if !c.run.Full {
			switch {
			case b.parts > 0 && b.part[b.parts-1].Hi == c.run.Lo:
				b.part[b.parts-1].Hi = hi
			case b.parts == len(b.part):
				return b, true
			default:
				b.part[b.parts] = Run{Lo: c.run.Lo, Hi: hi}
				b.parts++
			}
		}
		b.hi = hi
		if hi < c.run.Hi {
			c.run.Lo = hi
		} else {
			c.run = p.Next(c.t, hi)
		}
	}
	return b, b.lo < b.hi
}

// hide sets the scores, or weights, of pairs that p does not admit to x.
func (b *block) hide(p Pattern, t Tile, scores []float32, x float32) {
	var hidden [keyBlock]uint32
	for _, r := range b.part[:b.parts] {
		for j := r.Lo; j < r.Hi; j++ {
			hidden[j-r.Lo] = ^p.Sees(t, j)
		}
		kernel.Put(scores[(r.Lo-b.lo)*Lanes:], hidden[:r.Hi-r.Lo], x)
	}
}
