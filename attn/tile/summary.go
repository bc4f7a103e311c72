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
	SumBoth                      // Σ_j k[j], then the mean of v[j]
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
		for e := range dst[dk:] {
			dst[dk+e] /= float32(m.Block) // so that the mean of equal values is that value
		}
	}
}

// Floats is the room that Compute needs for a call of that shape at full length.
func (m Summary) Floats(s attn.Shape) int {
	return s.Batch * m.blocks(s.KeyLen) * s.KVHeads * m.Width(s)
}

// Layout appends to dst the segments that the queries of c and the summaries of their keys make, Pos0 the position of the first query,
// and returns them and the most summaries of a row. In a Cache (cached) a row's begin at 0.
func (m Summary) Layout(dst []attn.Segment, c *attn.Call, cached bool) ([]attn.Segment, int) {
	row, at, most := -1, 0, 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			row, at = g.Row, 0
		}
		n := m.blocks(g.Keys)
		dst = append(dst, attn.Segment{Row: g.Row, Query0: g.Query0, Queries: g.Queries, Key0: at, Keys: n, Pos0: g.Offset()})
		if !cached {
			at += n
		}
		most = max(most, at, n)
	}
	return dst, most
}

// Compute summarises the keys of a call as [batch, blocks, kv heads, width], by what Layout returned for it. Blocks that are not
// complete have none.
func (m Summary) Compute(ws *attn.Workspace, c *attn.Call, layout []attn.Segment, most int) attn.View {
	width := m.Width(c.Shape)
	v := headMajor(ws.Floats(c.Batch*most*c.KVHeads*width), c.Batch, most, c.KVHeads, width)
	args := summaryArgs{m, *c, v, layout}
	args.call.Saved = nil
	attn.Parallel(ws, len(layout)*c.KVHeads, 0, args, func(_ *attn.Scratch, a *summaryArgs, task int) {
		c := &a.call
		to, kv := a.layout[task/c.KVHeads], task%c.KVHeads
		g := c.Segment(task / c.KVHeads)
		for n := range to.Keys {
			a.block(a.to.Row(to.Row, to.Key0+n, kv), sideOf(&c.K, g, kv), sideOf(&c.V, g, kv), n, c.KeyDim, c.ValueDim)
		}
	})
	return v
}

type summaryArgs struct {
	Summary
	call   attn.Call
	to     attn.View
	layout []attn.Segment
}

// Parts returns the two parts of summaries: of the keys and, of SumBoth, of the values.
func (m Summary) Parts(v attn.View, s attn.Shape) (k, w attn.View) {
	k, w = v, v
	k.Dim, w.Dim = s.KeyDim, v.Dim-s.KeyDim
	if len(v.Data) > 0 {
		w.Data = v.Data[s.KeyDim:]
	}
	return k, w
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
	k, v := s.View(0), s.View(1)
	sums, g := s.summaries(), attn.Segment{Row: row}
	for n := m.blocks(from); n < m.blocks(to); n++ {
		m.block(sums.Row(row, n, head), sideOf(&k, g, head), sideOf(&v, g, head), n, s.shape.KeyDim, s.shape.ValueDim)
	}
}

// summaryFloats returns the floats that the state of n tokens of a sequence keeps beside them.
func (a Softmax) summaryFloats(s attn.Shape, n int) int64 {
	return int64(a.Summary.blocks(n)) * int64(s.KVHeads) * int64(a.Summary.Width(s))
}
