package tile

import (
	"errors"
	"fmt"

	"attnbench/attn"
)

// A Cache is the decoding state of a softmax mechanism: the keys and values (and what else it keeps) of the tokens that
// later queries can see, head-major, for a batch of sequences of independent lengths.
//
// With a window it is a ring: it keeps the first sinks tokens and the last window ones, and takes no
// more memory once these are there. Without, it grows by doubling. Bytes counts the tokens that it holds.
type Cache struct {
	softmax  Softmax
	name     string // of the mechanism
	shape    attn.Shape
	length   []int // tokens seen, by row
	capacity int   // slots of each row and head
	pairs    bool  // a token is kept as pairs of bfloat16, a Kept's Dim counting these
	kept     []Kept
	summary  []float32      // of complete blocks, [batch, kv heads, blocks of capacity, width]
	chosen   chosenPattern  // of the call that extends it
	extra    [1]attn.View   // of the call that it makes of itself
	own      []attn.Segment // of the call that extends it
	seen     []attn.Segment // the same over the keys that their queries see
}

// Kept is what a cache keeps of each token: so many heads of one input, of that width.
type Kept struct {
	Heads, Dim int
	data       []float32 // [batch, heads, capacity, dim]
}

const mostKept = 3

// NewState returns an empty cache of keys and values for the mechanism with that name.
func (a Softmax) NewState(name string, s attn.Shape) (attn.State, error) {
	dk, dv := a.keptDims(s)
	kept := []Kept{{Heads: s.KVHeads, Dim: dk}, {Heads: s.KVHeads, Dim: dv}}
	if a.Forget {
		kept = append(kept, Kept{Heads: s.Heads, Dim: 1})
	}
	c, err := a.NewCache(name, s, kept...)
	if err != nil {
		return nil, err // not a nil *Cache in a State
	}
	c.pairs = a.keepsPairs()
	return c, nil
}

// NewCache is NewState for mechanisms that keep something else, at most 3 inputs, and without window.
func (a Softmax) NewCache(name string, s attn.Shape, kept ...Kept) (*Cache, error) {
	s.QueryLen, s.KeyLen = 0, 0
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Mask == attn.Bidirectional {
		return nil, fmt.Errorf("%s: state for mask %v: want causal or cross", name, s.Mask)
	}
	return &Cache{
		softmax: a, name: name, shape: s, length: make([]int, s.Batch), kept: kept,
		own: make([]attn.Segment, 0, s.Batch), seen: make([]attn.Segment, 0, s.Batch),
	}, nil
}

// limit returns how many tokens of a sequence are kept at most, 0 for all.
func (a Softmax) limit() int {
	if a.Window == 0 {
		return 0
	}
	return a.Sinks + a.Window
}

// held returns how many of n tokens are kept.
func (a Softmax) held(n int) int {
	if a.Window == 0 {
		return n
	}
	return min(n, a.limit())
}

// slot returns where token n of a sequence lies.
func (a Softmax) slot(n int) int {
	if a.Window == 0 || n < a.Sinks {
		return n
	}
	return a.Sinks + (n-a.Sinks)%a.Window
}

// Len returns the number of tokens that row has seen.
func (s *Cache) Len(row int) int { return s.length[row] }

// Bytes returns the bytes kept of all tokens held, and of the summaries of their blocks.
func (s *Cache) Bytes() int64 {
	n := int64(0)
	for _, l := range s.length {
		n += int64(s.softmax.held(l))
	}
	n *= s.tokenBytes()
	for _, l := range s.length {
		n += 4 * s.softmax.summaryFloats(s.shape, l)
	}
	return n
}

// tokenBytes returns the bytes kept of one token.
func (s *Cache) tokenBytes() int64 {
	n := 0
	for _, x := range s.kept {
		n += x.Heads * x.Dim
	}
	return 4 * int64(n)
}

// ReadBytes returns the bytes held of the tokens that the next token of each row sees.
func (s *Cache) ReadBytes() int64 {
	if _, dense := s.softmax.Pattern.(Dense); dense && s.softmax.Reads == nil {
		return s.Bytes()
	}
	n := int64(0)
	for _, l := range s.length {
		n += s.softmax.reads(s.shape, l)
	}
	return 4 * n
}

// reads returns how many floats of the n tokens of one sequence the next one reads.
func (a Softmax) reads(s attn.Shape, n int) int64 {
	if a.Reads != nil {
		return a.Reads(s, n)
	}
	return a.tokensRead(s, n) * a.tokenFloats(s)
}

// tokensRead returns how many of the n tokens of one sequence the next one sees, summed over the
// key/value heads; a token counts once for all query heads that share it.
func (a Softmax) tokensRead(s attn.Shape, n int) int64 {
	total, group := int64(0), s.Heads/s.KVHeads
	counted := make([]bool, n)
	for h := range s.Heads {
		if h%group == 0 {
			clear(counted)
		}
		t := Tile{Mask: s.Mask, Layer: s.Layer, Head: h, First: n, Rows: 1, Keys: n + 1}
		if s.Mask == attn.Cross {
			t.Keys = n
		}
		for r := a.Pattern.Next(t, 0); r.Lo < r.Hi; r = a.Pattern.Next(t, r.Hi) {
			for j := r.Lo; j < min(r.Hi, n); j++ {
				if !counted[j] && (r.Full || a.Pattern.Sees(t, j)&1 != 0) {
					counted[j] = true
					total++
				}
			}
		}
	}
	return total
}

// Reset empties a row.
func (s *Cache) Reset(row int) { s.length[row] = 0 }

// Reorder makes row i a copy of what row from[i] was.
func (s *Cache) Reorder(from []int) error {
	if len(from) != s.shape.Batch {
		return fmt.Errorf("%s: reorder of %d rows: want %d", s.name, len(from), s.shape.Batch)
	}
	for _, f := range from {
		if f < 0 || f >= s.shape.Batch {
			return fmt.Errorf("%s: reorder from row %d: want 0 to %d", s.name, f, s.shape.Batch-1)
		}
	}
	length, summary := make([]int, len(from)), make([]float32, len(s.summary))
	each := len(summary) / max(1, len(from))
	for i, f := range from {
		length[i] = s.length[f]
		copy(summary[i*each:][:each], s.summary[f*each:])
	}
	for k := range s.kept {
		x := &s.kept[k]
		data, row := make([]float32, len(x.data)), x.Heads*s.capacity*x.Dim
		for i, f := range from {
			copy(data[i*row:][:row], x.data[f*row:])
		}
		x.data = data
	}
	s.length, s.summary = length, summary
	return nil
}

// grow makes room for n held tokens in each row.
func (s *Cache) grow(n int) {
	if n <= s.capacity {
		return
	}
	old := s.capacity
	room := max(2*old, n, 16)
	for _, most := range []int{s.softmax.limit(), s.shape.MaxLen} {
		if n <= most {
			room = min(room, most)
		}
	}
	s.capacity = room
	for i := range s.kept {
		x := &s.kept[i]
		x.data = regrow(x.data, s.shape.Batch*x.Heads, old*x.Dim, room*x.Dim)
	}
	if m := s.softmax.Summary; m.Block > 0 {
		width := m.Width(s.shape)
		s.summary = regrow(s.summary, s.shape.Batch*s.shape.KVHeads, m.blocks(old)*width, m.blocks(room)*width)
	}
}

// regrow copies n pieces of the old size to pieces of the new size.
func regrow(x []float32, n, from, to int) []float32 {
	y := make([]float32, n*to)
	for i := range n {
		copy(y[i*to:], x[i*from:][:from])
	}
	return y
}

// inputs are what a cache keeps of the tokens of a call: keys, values, log decays.
type inputs [mostKept]attn.View

// inputs returns those of the call.
func (a Softmax) inputs(c *attn.Call) inputs {
	in := inputs{c.K, c.V}
	if a.Forget {
		in[2] = c.Extra[0]
	}
	return in
}

// views returns what is kept as [batch, slot, heads, dim].
func (s *Cache) views() (in inputs) {
	for i := range s.kept {
		x := &s.kept[i]
		in[i] = headMajor(x.data, s.shape.Batch, s.capacity, x.Heads, x.Dim)
	}
	return in
}

func headMajor(x []float32, batch, time, heads, dim int) attn.View {
	return attn.View{
		Data: x, Batch: batch, Time: time, Heads: heads, Dim: dim,
		BatchStride: heads * time * dim, TimeStride: dim, HeadStride: time * dim,
	}
}

var errMask = errors.New("mask is bidirectional: decoding wants causal or cross")

// Accepts reports why the call c, of the mechanism with that name, cannot extend the state.
func (s *Cache) Accepts(name string, c *attn.Call) error {
	if s.name != name {
		return fmt.Errorf("state of %s: want one of this mechanism", s.name)
	}
	if c.Mask == attn.Bidirectional {
		return errMask
	}
	for _, d := range []struct {
		what      string
		got, want int
	}{
		{"batch", c.Batch, s.shape.Batch}, {"heads", c.Heads, s.shape.Heads}, {"key/value heads", c.KVHeads, s.shape.KVHeads},
		{"key dim", c.KeyDim, s.shape.KeyDim}, {"value dim", c.ValueDim, s.shape.ValueDim}, {"layer", c.Layer, s.shape.Layer},
	} {
		if d.got != d.want {
			return fmt.Errorf("%s is %d: the state wants %d", d.what, d.got, d.want)
		}
	}
	for i := 1; i < len(c.Segments); i++ {
		if c.Segments[i].Row == c.Segments[i-1].Row {
			return fmt.Errorf("segment %d: second of row %d: want one a row when decoding", i, c.Segments[i].Row)
		}
	}
	if s.softmax.Window == 0 {
		return nil
	}
	for i := range c.NumSegments() {
		if g := c.Segment(i); g.Queries > g.Keys+1 && s.length[g.Row] > s.softmax.limit() {
			return fmt.Errorf("row %d: %d queries with %d new keys: the window keeps enough for %d", g.Row, g.Queries, g.Keys, g.Keys+1)
		}
	}
	return nil
}
