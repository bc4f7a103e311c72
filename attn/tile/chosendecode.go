package tile

import "attnbench/attn"

// chosenPattern is what the queries of one call see of a cache: the blocks that they chose, and their own up to themselves.
type chosenPattern struct {
	Chosen
	shape    attn.Shape
	segments []attn.Segment
	choice   []int32
}

// Next implements Pattern for tiles of one query.
func (p *chosenPattern) Next(t Tile, from int) Run {
	if t.First < 0 {
		return Run{}
	}
	for _, b := range p.Choice(p.choice, &p.shape, p.segments[t.Segment], t.Head*p.Sets(p.shape)/p.shape.Heads, t.Query) {
		if b < 0 {
			break
		}
		if end := (int(b) + 1) * p.Size; from < end {
			return Run{max(from, int(b)*p.Size), end, true}
		}
	}
	return Run{max(from, t.First/p.Size*p.Size), t.First + 1, true}
}

// Sees implements Pattern; all runs are full.
func (p *chosenPattern) Sees(Tile, int) uint32 { return Bits(0, Lanes) }

// Few reports whether all segments of a call have so few queries that each walks over the cache by itself.
func Few(c *attn.Call) bool { return longest(c) < few }

// Decode computes the few queries of a call that Append returned, or of one over summaries of what it holds.
func (a Softmax) Decode(ws *attn.Workspace, c *attn.Call) { a.decode(ws, c, nil) }

// Decode computes the queries of a call that Append returned, few of them, from their choices.
func (a Chosen) Decode(ws *attn.Workspace, c *attn.Call, state attn.State, choice []int32) {
	s := state.(*Cache)
	s.chosen = chosenPattern{a, c.Shape, c.Segments, choice}
	a.Softmax.Pattern = &s.chosen
	a.decode(ws, c, s)
	s.chosen = chosenPattern{}
}

// FewQueries is the number of queries of a segment from which on Decode is not for it.
const FewQueries = few
