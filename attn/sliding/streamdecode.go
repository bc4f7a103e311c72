package sliding

import (
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// Extend appends the call's keys and values and computes its queries: the first tokens of a sequence together, later ones one by one.
func (m streaming) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	s, ok := state.(*tile.Cache)
	if !ok || s == nil {
		return fmt.Errorf("%s: state is a %T: want one of its own", m.info.Name, state)
	}
	if err := s.Accepts(m.info.Name, c); err != nil {
		return fmt.Errorf("%s: %w", m.info.Name, err)
	}
	for i := range c.NumSegments() {
		if g := c.Segment(i); g.Queries > g.Keys && s.Len(g.Row) > 0 {
			return fmt.Errorf("%s: row %d: %d queries with %d new keys: want no more queries than keys", m.info.Name, g.Row, g.Queries, g.Keys)
		}
	}
	d := *c
	d.Saved = nil
	c.ZeroPadding()
	if c.Batch == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	first, rest, one := m.segments.Take(), m.segments.Take(), m.segments.Take()
	most, longest := 0, 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if s.Len(g.Row) == 0 {
			first = append(first, g)
			continue
		}
		rest = append(rest, g)
		longest, most = max(longest, g.Keys), max(most, s.Len(g.Row)+g.Keys)
	}
	t := m.turn(ws, c, state, m.tokenFloats(c.Shape, most))
	var err error
	if len(first) > 0 {
		d.Segments = first
		m.attend(ws, &d, t)
		for i := range first {
			first[i].Queries = 0
		}
		d.K = t.k
		err = m.cache.ExtendOver(ws, m.info.Name, state, &d)
	}
	d.K = t.k
	a := tokenArgs{call: *c, turned: t, state: s, sinks: m.o.Sinks, rest: rest}
	a.call.Saved = nil
	for a.n = 0; a.n < longest && err == nil; a.n++ {
		one = one[:0]
		for _, g := range rest {
			if a.n < g.Keys {
				one = append(one, attn.Segment{Row: g.Row, Key0: g.Key0 + a.n, Keys: 1})
			}
		}
		d.Segments = one
		err = m.cache.ExtendOver(ws, m.info.Name, state, &d)
		attn.Parallel(ws, len(rest)*c.Heads, max(turnFloats(c.Shape), m.tokenFloats(c.Shape, most)), a, func(s *attn.Scratch, a *tokenArgs, task int) { a.run(s, task) })
	}
	m.segments.Put(first)
	m.segments.Put(rest)
	m.segments.Put(one)
	return err
}

// tokenFloats is the scratch of a worker for one query behind at most so many tokens, its own included.
func (m streaming) tokenFloats(s attn.Shape, tokens int) int {
	return attn.ScratchFloats(min(tokens, m.o.Sinks+m.o.Window))
}

type tokenArgs struct {
	call   attn.Call
	turned turnedCall
	state  *tile.Cache
	sinks  int
	rest   []attn.Segment
	n      int // the token of each segment that was just appended
}

// run computes the query of one token and head, if it asks.
func (a *tokenArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	g, h := a.rest[task/c.Heads], task%c.Heads
	i := a.n - g.Offset()
	if a.n >= g.Keys || i < 0 {
		return
	}
	i += g.Query0
	held, k, v := a.state.Held(g.Row), a.state.View(0), a.state.View(1)
	x, kv, sinks := s.Floats(held), c.KVHead(h), min(a.sinks, held)
	tile.Dots(x[:sinks], a.turned.capped.Row(g.Row, i, h), tile.HeadRows(&k, g.Row, 0, kv), sinks)
	tile.Dots(x[sinks:], a.turned.q.Row(g.Row, i, h), tile.HeadRows(&k, g.Row, sinks, kv), held-sinks)
	for j := range x {
		x[j] *= rootOf(c.KeyDim)
	}
	out := c.Out.Row(g.Row, i, h)
	clear(out)
	sum := tile.ExpSum(x, tile.Max(x))
	tile.Combine(out, x, tile.HeadRows(&v, g.Row, 0, kv))
	for e := range out {
		out[e] /= sum
	}
}

func (m streaming) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := m.cache.Cost(s, p, m.o.pairs(s)*int64(s.Heads))
	c.Shared, c.PerWorker, c.Saved = 0, 0, 0
	if s.Batch == 0 || s.QueryLen == 0 {
		return c
	}
	keys, n := s.KeyLen, s.Batch*s.Heads*s.QueryLen
	before := s.KeyLen - s.QueryLen
	if p == attn.PassDecode {
		keys = s.QueryLen
	}
	turned := attn.ScratchFloats(n*s.KeyDim, n*s.KeyDim, s.Batch*keys*s.KVHeads*s.KeyDim)
	if p == attn.PassDecode && before > 0 {
		c.Shared, c.PerWorker = 4*int64(turned), 4*int64(max(turnFloats(s), m.tokenFloats(s, s.KeyLen)))
		return c
	}
	_, c.PerWorker = m.near.Scratch(s, attn.PassForward)
	c.Shared = 4 * int64(turned+attn.ScratchFloats(n, n, n*s.ValueDim))
	return c
}
