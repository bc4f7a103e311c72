package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// A Summary says what is kept of each complete block of keys, for queries to choose by. The zero Summary keeps nothing.
type Summary struct {
	Block int // tokens a block
	Kind  SummaryKind
}

// SummaryKind names what a summary holds, a key/value head.
type SummaryKind uint8

const (
	SumKeys   SummaryKind = iota // Σ_j k[j]: blocks are equally long, so that sums rank as means do
	SumBoth                      // Σ_j k[j], then Σ_j v[j]
	BoundKeys                    // max_j k[j], then min_j k[j], by channel
)

// Width returns the floats a block and key/value head.
func (m Summary) Width(s attn.Shape) int {
	switch m.Kind {
	case SumBoth:
		return s.KeyDim + s.ValueDim
	case BoundKeys:
		return 2 * s.KeyDim
	}
	return s.KeyDim
}

// blocks returns the complete blocks of n tokens.
func (m Summary) blocks(n int) int {
	if m.Block == 0 {
		return 0
	}
	return n / m.Block
}

// block computes the summary of block n.
func (m Summary) block(dst []float32, k, v side, n, dk, dv int) {
	first := n * m.Block
	if m.Kind == BoundKeys {
		hi, lo := dst[:dk], dst[dk:2*dk]
		copy(hi, k.row(first, dk))
		copy(lo, hi)
		for j := first + 1; j < first+m.Block; j++ {
			for e, x := range k.row(j, dk) {
				hi[e], lo[e] = max(hi[e], x), min(lo[e], x)
			}
		}
		return
	}
	clear(dst)
	for j := first; j < first+m.Block; j++ {
		kernel.Add(dst[:dk], k.row(j, dk))
	}
	if m.Kind == SumBoth {
		for j := first; j < first+m.Block; j++ {
			kernel.Add(dst[dk:], v.row(j, dv))
		}
	}
}

// Floats is the room that Compute needs, for so many segments of at most so many keys.
func (m Summary) Floats(s attn.Shape, segments, keys int) int {
	return segments * m.blocks(keys) * s.KVHeads * m.Width(s)
}

// Compute summarises the keys of a call as [segments, blocks, kv heads, width]; keys is the most of a segment. Blocks that are not
// complete have none.
func (m Summary) Compute(ws *attn.Workspace, c *attn.Call, keys int) attn.View {
	time, width := m.blocks(keys), m.Width(c.Shape)
	v := headMajor(ws.Floats(m.Floats(c.Shape, c.NumSegments(), keys)), c.NumSegments(), time, c.KVHeads, width)
	args := summaryArgs{m, *c, v}
	args.call.Saved = nil
	attn.Parallel(ws, c.NumSegments()*c.KVHeads, 0, args, func(_ *attn.Scratch, a *summaryArgs, task int) {
		c := &a.call
		segment, kv := task/c.KVHeads, task%c.KVHeads
		g := c.Segment(segment)
		for n := range a.blocks(g.Keys) {
			a.block(a.to.Row(segment, n, kv), sideOf(&c.K, g, kv), sideOf(&c.V, g, kv), n, c.KeyDim, c.ValueDim)
		}
	})
	return v
}

type summaryArgs struct {
	Summary
	call attn.Call
	to   attn.View
}

// MostKeys returns the largest number of keys in a segment.
func MostKeys(c *attn.Call) int {
	if c.Segments == nil {
		return c.KeyLen
	}
	n := 0
	for _, g := range c.Segments {
		n = max(n, g.Keys)
	}
	return n
}

// Summaries returns what a Cache keeps of its complete blocks, [rows, blocks, kv heads, width].
func Summaries(state attn.State) attn.View {
	s := state.(*Cache)
	return s.summaries()
}

func (s *Cache) summaries() attn.View {
	return headMajor(s.summary, s.shape.Batch, s.softmax.Summary.blocks(s.capacity), s.shape.KVHeads, s.softmax.Summary.Width(s.shape))
}

// summarise computes the blocks of a row and head that are complete at to tokens and were not at from.
func (s *Cache) summarise(row, head, from, to int) {
	m := s.softmax.Summary
	if m.Block == 0 {
		return
	}
	k, v := s.views()
	sums, g := s.summaries(), attn.Segment{Row: row}
	for n := m.blocks(from); n < m.blocks(to); n++ {
		m.block(sums.Row(row, n, head), sideOf(&k, g, head), sideOf(&v, g, head), n, s.shape.KeyDim, s.shape.ValueDim)
	}
}

// summaryFloats returns the floats that the state of n tokens of a sequence keeps beside them.
func (a Softmax) summaryFloats(s attn.Shape, n int) int64 {
	return int64(a.Summary.blocks(n)) * int64(s.KVHeads) * int64(a.Summary.Width(s))
}
