package sliding

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("longformer", Longformer{Window: 256, Global: 16}, Longformer.New) }

// Longformer holds the options of Longformer attention, spelled longformer:window=256,global=16.
type Longformer struct {
	Window int `opt:"window"` // keys on each side of the query that it sees beside its own (the paper's window is twice that); at least 0
	Global int `opt:"global"` // first tokens, which see all and are seen by all; at least 0
}

// New returns Longformer attention with the options o.
func (o Longformer) New() (attn.Mechanism, error) {
	switch {
	case o.Window < 0 || o.Window > most:
		return nil, attn.OptionError("window", o.Window, "an integer from 0 to 2^40")
	case o.Global < 0 || o.Global > most:
		return nil, attn.OptionError("global", o.Global, "an integer from 0 to 2^40")
	}
	m := longformer{o: o, segments: new(tile.SegmentPool)}
	m.local = tile.Softmax{Pattern: beside{Sliding{Window: o.Window + 1, Sinks: o.Global, Dilation: 1}}, Window: o.Window + 1, Sinks: o.Global}
	m.global = tile.Softmax{Pattern: tile.Dense{}}
	inputs := append(attn.QKV(), attn.QKV()...)
	for i, name := range []string{"qg", "kg", "vg"} {
		inputs[3+i].Name = name
	}
	m.info = &attn.Info{
		Name: attn.Spell("longformer", o), Family: "sliding", Title: "Longformer, window and global tokens",
		Paper: "Beltagy et al. 2020, arXiv:2004.05150", Year: 2020, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional, Inputs: inputs, Cost: m.cost,
		Limits: []attn.Limit{
			{
				Spec:    func(s attn.Shape) string { return attn.Spell("longformer", Longformer{s.KeyLen, 0}) },
				Equals:  "full",
				Convert: func(c *attn.Call64) *attn.Call64 { return plain(c, c.Q, c.K, c.V) },
			},
			{
				Spec:    func(s attn.Shape) string { return attn.Spell("longformer", Longformer{0, s.KeyLen}) },
				Equals:  "full",
				Convert: func(c *attn.Call64) *attn.Call64 { return plain(c, c.Extra[0], c.Extra[1], c.Extra[2]) },
			},
		},
	}
	return m, nil
}

// plain returns the call c with other inputs and none beside.
func plain[F attn.Float](c *attn.CallOf[F], q, k, v attn.ViewOf[F]) *attn.CallOf[F] {
	d := *c
	d.Q, d.K, d.V, d.Extra = q, k, v, nil
	return &d
}

type longformer struct {
	o             Longformer
	info          *attn.Info
	local, global tile.Softmax
	segments      *tile.SegmentPool
}

// Define computes, for each head, with the query at position t = i + Keys - Queries and G the first Global tokens of the sequence,
//
//	t ∉ G  softmax attention by q, k, v to {j : |t-j| ≤ Window} ∪ G, each key once
//	t ∈ G  softmax attention by q^g, k^g, v^g, projections of their own, to all keys
//
// both with j ≤ t under the causal mask, for which G is a prefix. A query that sees no key gives zeros. Beltagy et al. 2020
// (arXiv:2004.05150) §3.1.
func (m longformer) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			t, q := i+h.Offset(), h.Q(i)
			key, value, all := h.K, h.V, t >= 0 && t < m.o.Global
			if all {
				q = h.QuerySide(0, i)
				key, value = func(j int) []float64 { return h.KeySide(1, j) }, func(j int) []float64 { return h.KeySide(2, j) }
			}
			p := make([]float64, h.Keys)
			for j := range p {
				p[j] = math.Inf(-1)
				if h.Sees(i, j) && (all || j < m.o.Global || max(t-j, j-t) <= m.o.Window) {
					p[j] = attn.Dot(q, key(j)) / math.Sqrt(float64(c.KeyDim))
				}
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for j := range p {
				if p[j] != 0 { // an unseen value may be NaN
					attn.Axpy(p[j], value(j), h.Out(i))
				}
			}
		}
	})
	return nil
}

// beside is the pattern of the queries that are not global.
type beside struct{ Sliding }

// lanes returns the queries of a tile that are global, as a range.
func (p beside) lanes(t tile.Tile) (lo, hi int) {
	return max(0, -t.First), min(t.Rows, p.Sinks-t.First)
}

// Next implements tile.Pattern.
func (p beside) Next(t tile.Tile, from int) tile.Run {
	lo, hi := p.lanes(t)
	if lo >= hi {
		return p.Sliding.Next(t, from)
	}
	if lo == 0 && hi == t.Rows {
		return tile.Run{}
	}
	r := p.Sliding.Next(t, from)
	r.Full = false
	return r
}

// Sees implements tile.Pattern.
func (p beside) Sees(t tile.Tile, j int) uint32 {
	lo, hi := p.lanes(t)
	return p.Sliding.Sees(t, j) &^ tile.Bits(lo, hi)
}

// Info describes the mechanism.
func (m longformer) Info() attn.Info { return *m.info }

// globals appends the segments that the global queries of c make, over the keys that they see.
func (m longformer) globals(dst []attn.Segment, c *attn.Call) []attn.Segment {
	for i := range c.NumSegments() {
		g := c.Segment(i)
		first, last := max(0, -g.Offset()), min(g.Queries, m.o.Global-g.Offset())
		if first >= last {
			continue
		}
		if c.Mask == attn.Causal {
			g.Keys = last + g.Offset() // the last of them stands at the last key that one sees
		}
		g.Query0, g.Queries = g.Query0+first, last-first
		dst = append(dst, g)
	}
	return dst
}

// Forward computes the output.
func (m longformer) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	var local, global []float32
	if n := c.Batch * c.Heads * c.QueryLen; c.Saved != nil {
		local, global = c.Saved.Floats(n), c.Saved.Floats(n)
	}
	d := *c
	d.Saved = nil
	m.local.ForwardPart(ws, &d, local)
	d = *plain(&d, c.Extra[0], c.Extra[1], c.Extra[2])
	d.Segments = m.globals(m.segments.Take(), c)
	m.global.ForwardPart(ws, &d, global)
	m.segments.Put(d.Segments)
	return nil
}

// Backward adds the gradients of all inputs.
func (m longformer) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	d, gr := *c, *g
	d.Saved = nil
	m.local.BackwardSums(ws, &d, &gr, c.Saved.Part(0))
	d = *plain(&d, c.Extra[0], c.Extra[1], c.Extra[2])
	gr.Q, gr.K, gr.V, gr.Extra = g.Extra[0], g.Extra[1], g.Extra[2], nil
	d.Segments = m.globals(m.segments.Take(), c)
	m.global.BackwardSums(ws, &d, &gr, c.Saved.Part(1))
	m.segments.Put(d.Segments)
	return nil
}

func (m longformer) cost(s attn.Shape, p attn.Pass) attn.Cost {
	pairs := int64(0)
	g, wide := attn.Segment{Queries: s.QueryLen, Keys: s.KeyLen}, Sliding{Window: m.o.Window + 1, Sinks: m.o.Global, Dilation: 1}
	for i := range s.QueryLen {
		if t := i + g.Offset(); t >= 0 && t < m.o.Global {
			pairs += int64(tile.Seen(s.Mask, g, i))
		} else {
			pairs += wide.rowPairs(s, i)
		}
	}
	c := m.local.Cost(s, p, pairs*int64(s.Heads))
	kv := int64(s.Batch) * int64(s.KVHeads) * int64(s.KeyDim+s.ValueDim)
	if s.KeyLen < m.o.Global { // the state has not seen all global tokens yet
		c.State += 4 * kv * int64(s.KeyLen)
		c.Read += 4 * kv * int64(s.KeyLen)
	}
	n := int64(min(s.QueryLen, m.o.Global))
	c.Bytes += 4 * n * int64(s.Batch) * int64(s.Heads) * int64(s.KeyDim)
	switch p {
	case attn.PassForward:
		c.Saved *= 2
	case attn.PassDecode:
		if before := s.KeyLen - s.QueryLen; before < m.o.Global {
			c.Bytes += 4 * kv * int64(before)
			local, global := m.reserved(s, before)
			shared, _ := global.Scratch(m.part(s, before), p)
			c.Shared, c.PerWorker = local.Scratch(s, p)
			c.Shared = max(c.Shared, shared)
		}
	}
	return c
}

// part returns the shape of the global tokens that Extend meets behind so many tokens.
func (m longformer) part(s attn.Shape, before int) attn.Shape {
	q := min(s.QueryLen, m.o.Global-before)
	s.QueryLen, s.KeyLen = q, before+q
	return s
}

// reserved returns the engines with the same scratch a worker in Extend, for a shape of which so many tokens were there before.
func (m longformer) reserved(s attn.Shape, before int) (local, global tile.Softmax) {
	_, x := m.local.Scratch(s, attn.PassDecode)
	_, y := m.global.Scratch(m.part(s, before), attn.PassDecode)
	n := int(max(x, y) / 4)
	return m.local.Reserve(n), m.global.Reserve(n)
}

// longState is what Longformer keeps: a ring of the window's tokens behind the global ones, and the global ones' other keys and values
// until all of these have asked.
type longState struct {
	*tile.Cache // of q, k, v
	m           longformer
	global      *tile.Cache
	shape       attn.Shape
	segments    []attn.Segment
}

// NewState returns an empty state.
func (m longformer) NewState(s attn.Shape) (attn.State, error) {
	local, err := m.local.NewState(m.info.Name, s)
	if err != nil {
		return nil, err
	}
	if s.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: state for mask %v: want causal", m.info.Name, s.Mask)
	}
	global, err := m.global.NewState(m.info.Name, s)
	if err != nil {
		return nil, err
	}
	return &longState{Cache: local.(*tile.Cache), m: m, global: global.(*tile.Cache), shape: s}, nil
}

// Bytes returns the bytes of all that is kept.
func (s *longState) Bytes() int64 { return s.Cache.Bytes() + s.global.Bytes() }

// ReadBytes returns the bytes that the next token of each row reads: of the one part or the other.
func (s *longState) ReadBytes() int64 { return s.Cache.ReadBytes() + s.global.Bytes() }

// Reset empties a row.
func (s *longState) Reset(row int) {
	s.Cache.Reset(row)
	s.global.Reset(row)
}

// Reorder makes row i a copy of what row from[i] was.
func (s *longState) Reorder(from []int) error {
	if err := s.Cache.Reorder(from); err != nil {
		return err
	}
	return s.global.Reorder(from)
}

// Extend appends the call's keys and values and computes its queries.
func (m longformer) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	s, ok := state.(*longState)
	if !ok || s == nil {
		return fmt.Errorf("%s: state is a %T: want one of its own", m.info.Name, state)
	}
	s.segments = s.segments[:0]
	before := m.o.Global // of the rows that have global tokens to come
	for i := range c.NumSegments() {
		g := c.Segment(i)
		n := s.Len(g.Row)
		if left := m.o.Global - n; left > 0 {
			before = min(before, n)
			cut := max(0, g.Keys-left) // tokens behind the global ones, and their queries
			g.Keys, g.Queries = g.Keys-cut, max(0, g.Queries-cut)
			s.segments = append(s.segments, g)
		}
	}
	local, global := m.local, m.global
	if before < m.o.Global {
		local, global = m.reserved(c.Shape, before)
	}
	if err := local.Extend(ws, m.info, s.Cache, c); err != nil {
		return err
	}
	if len(s.segments) == 0 {
		return nil
	}
	d := *plain(c, c.Extra[0], c.Extra[1], c.Extra[2])
	d.Segments = s.segments
	if err := global.ExtendOver(ws, m.info.Name, s.global, &d); err != nil {
		return err
	}
	return s.release()
}

// release lets go of what no query can ask for any more.
func (s *longState) release() error {
	all, some := true, false
	for row := range s.shape.Batch {
		if s.Len(row) < s.m.o.Global {
			all = false
		} else if s.global.Len(row) > 0 {
			s.global.Reset(row)
			some = true
		}
	}
	if !all || !some {
		return nil
	}
	fresh, err := s.m.global.NewState(s.m.info.Name, s.shape)
	if err == nil {
		s.global = fresh.(*tile.Cache)
	}
	return err
}
