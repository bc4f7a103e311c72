package sparse

import (
	"errors"
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// A policy says which tokens of a cache are kept, from the weights that queries give them. Until its prompt has ended a row keeps all
// tokens and attends to all of them.
type policy struct {
	budget     int  // tokens that are kept when the prompt ends
	observe    int  // last queries of the call that ends the prompt whose weights count; 0: all queries of the prompt
	accumulate bool // weights are summed up over all queries, also later ones, and kept with the tokens
	wide       bool // all heads together keep the same tokens; else each key/value head has its own
	steady     bool // every later token brings one too many, and one goes; else later tokens stay

	// choose writes the slots that are kept, budget of them and in order, given the weights of more.
	choose func(kept []int32, weights []float32)
	// drop returns the slot that goes, given the weights of one too many; only if steady.
	drop func(weights []float32) int
}

// kept is the decoding state of a policy: what it keeps of each row, head-major and in the order of the tokens.
type kept struct {
	policy   *policy
	name     string // of the mechanism
	shape    attn.Shape
	seen     []int  // tokens, by row
	held     []int  // of them kept: the same number for each head
	ended    []bool // the row's prompt has ended
	capacity int    // slots of each row and head
	k, v     []float32
	weight   []float32 // [batch, kv heads, capacity], if the policy accumulates
	// Segments of the call that extends it: of rows in their prompts, over what is kept, and of the others.
	prompt, later []attn.Segment
}

func newKept(p *policy, name string, s attn.Shape) (attn.State, error) {
	s.QueryLen, s.KeyLen = 0, 0
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: state for mask %v: want causal", name, s.Mask)
	}
	return &kept{
		policy: p, name: name, shape: s, seen: make([]int, s.Batch), held: make([]int, s.Batch), ended: make([]bool, s.Batch),
		prompt: make([]attn.Segment, 0, s.Batch), later: make([]attn.Segment, 0, s.Batch),
	}, nil
}

// Len returns the number of tokens that row has seen.
func (s *kept) Len(row int) int { return s.seen[row] }

// tokenFloats returns what one kept token takes, of one head.
func (p *policy) tokenFloats(s attn.Shape) int {
	n := s.KeyDim + s.ValueDim
	if p.accumulate {
		n++
	}
	return n
}

// Bytes returns the bytes of all that is kept.
func (s *kept) Bytes() int64 {
	n := 0
	for _, x := range s.held {
		n += x
	}
	return 4 * int64(n) * int64(s.shape.KVHeads) * int64(s.policy.tokenFloats(s.shape))
}

// ReadBytes is Bytes: the next token sees all that is kept.
func (s *kept) ReadBytes() int64 { return s.Bytes() }

// Reset empties a row.
func (s *kept) Reset(row int) { s.seen[row], s.held[row], s.ended[row] = 0, 0, false }

// Reorder makes row i a copy of what row from[i] was.
func (s *kept) Reorder(from []int) error {
	if len(from) != s.shape.Batch {
		return fmt.Errorf("%s: reorder of %d rows: want %d", s.name, len(from), s.shape.Batch)
	}
	for _, f := range from {
		if f < 0 || f >= s.shape.Batch {
			return fmt.Errorf("%s: reorder from row %d: want 0 to %d", s.name, f, s.shape.Batch-1)
		}
	}
	s.seen, s.held, s.ended = picked(s.seen, from), picked(s.held, from), picked(s.ended, from)
	s.k, s.v, s.weight = picked(s.k, from), picked(s.v, from), picked(s.weight, from)
	return nil
}

// picked returns the equally long pieces of x, one a row, in another order.
func picked[T any](x []T, from []int) []T {
	y, n := make([]T, len(x)), len(x)/max(1, len(from))
	for i, f := range from {
		copy(y[i*n:(i+1)*n], x[f*n:])
	}
	return y
}

// resize gives each row and head so many slots.
func (s *kept) resize(slots int) {
	rows := s.shape.Batch * s.shape.KVHeads
	move := func(x []float32, width int) []float32 {
		y := make([]float32, rows*slots*width)
		for i := range rows {
			copy(y[i*slots*width:(i+1)*slots*width], x[i*s.capacity*width:(i+1)*s.capacity*width])
		}
		return y
	}
	s.k, s.v = move(s.k, s.shape.KeyDim), move(s.v, s.shape.ValueDim)
	if s.policy.accumulate {
		s.weight = move(s.weight, 1)
	}
	s.capacity = slots
}

// grow makes room for n tokens in each row.
func (s *kept) grow(n int) {
	if n <= s.capacity {
		return
	}
	room := max(n, 2*s.capacity, 16)
	if n <= s.shape.MaxLen {
		room = min(room, s.shape.MaxLen)
	}
	s.resize(room)
}

// shrink gives memory back after an eviction.
func (s *kept) shrink() {
	most := 0
	for _, n := range s.held {
		most = max(most, n)
	}
	if room := most + 1; 2*room < s.capacity {
		s.resize(room)
	}
}

func (s *kept) views() (k, v attn.View) {
	view := func(x []float32, dim int) attn.View {
		return attn.View{
			Data: x, Batch: s.shape.Batch, Time: s.capacity, Heads: s.shape.KVHeads, Dim: dim,
			BatchStride: s.shape.KVHeads * s.capacity * dim, TimeStride: dim, HeadStride: s.capacity * dim,
		}
	}
	return view(s.k, s.shape.KeyDim), view(s.v, s.shape.ValueDim)
}

// weights returns the accumulated weights of a row and head, nil if the policy has none.
func (s *kept) weights(row, kv int) []float32 {
	if !s.policy.accumulate {
		return nil
	}
	return s.weight[(row*s.shape.KVHeads+kv)*s.capacity:][:s.capacity]
}

// put writes token t of segment g of the call to a slot.
func (s *kept) put(c *attn.Call, g attn.Segment, t, kv, slot int) {
	k, v := s.views()
	copy(k.Row(g.Row, slot, kv), c.K.Row(g.Row, g.Key0+t, kv))
	copy(v.Row(g.Row, slot, kv), c.V.Row(g.Row, g.Key0+t, kv))
	if w := s.weights(g.Row, kv); w != nil {
		w[slot] = 0
	}
}

// keep leaves only the given slots of a row and head, in order.
func (s *kept) keep(row, kv int, slots []int32) {
	k, v := s.views()
	w := s.weights(row, kv)
	for to, from := range slots {
		if to == int(from) {
			continue
		}
		copy(k.Row(row, to, kv), k.Row(row, int(from), kv))
		copy(v.Row(row, to, kv), v.Row(row, int(from), kv))
		if w != nil {
			w[to] = w[from]
		}
	}
}

// remove takes one of n slots of a row and head out; the later ones move up.
func (s *kept) remove(row, kv, slot, n int) {
	move := func(x []float32, width int) {
		at := (row*s.shape.KVHeads + kv) * s.capacity
		copy(x[(at+slot)*width:(at+n-1)*width], x[(at+slot+1)*width:(at+n)*width])
	}
	move(s.k, s.shape.KeyDim)
	move(s.v, s.shape.ValueDim)
	if s.policy.accumulate {
		move(s.weight, 1)
	}
}

// accepts reports why the call cannot extend the state.
func (s *kept) accepts(name string, c *attn.Call) error {
	if s.name != name {
		return fmt.Errorf("state of %s: want one of this mechanism", s.name)
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
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if i > 0 && g.Row == c.Segment(i-1).Row {
			return fmt.Errorf("segment %d: second of row %d: want one a row when decoding", i, g.Row)
		}
		if s.ended[g.Row] && g.Queries > g.Keys {
			return fmt.Errorf("row %d: %d queries with %d new keys after the prompt: want no more queries than keys", g.Row, g.Queries, g.Keys)
		}
	}
	return nil
}

var errState = errors.New("state is not one of its own")

// dense is attention to all that is kept.
var dense = tile.Softmax{Pattern: tile.Dense{}}
