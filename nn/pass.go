package nn

import (
	"attnbench/attn"
	"attnbench/autograd"
)

// Layout says how the tokens of a batch are cut into sequences.
type Layout struct {
	Batch            int
	QueryLen, KeyLen int            // tokens a row, padding included; equal in self-attention
	Segments         []attn.Segment // nil for one sequence a row, at full length
	Pos0             int            // absolute position of the first key of every row when Segments is nil
	Start            []int          // tokens that each row has seen before, when decoding; nil for none
	EndOfPrompt      bool           // the tokens end a prompt, when decoding

	queries, keys side
}

// side describes the tokens of the query or the memory side.
type side struct {
	back []int32 // tokens of the same sequence directly before, in this call
	pos  []int32 // absolute position
}

// Pass is one walk of a batch through the layers of a model, used again from step to step.
type Pass struct {
	Tape  *autograd.Tape
	Train bool
	Seed  uint64       // of everything random in this step
	Aux   autograd.Var // [1, 1]: where mechanisms add their auxiliary losses; may be None
	Layout

	first  []named // inputs of the first layer, for those that want them later
	values []autograd.Var
	learn  []autograd.Var
	call   autograd.AttentionCall
}

type named struct {
	name  string
	value autograd.Var
}

// Begin starts a walk over tokens laid out as l.
func (p *Pass) Begin(l Layout) {
	p.Layout = l
	p.first = p.first[:0]
	p.keys = p.side(l.KeyLen, false)
	p.queries = p.keys
	if !p.self() {
		p.queries = p.side(l.QueryLen, true)
	}
}

// self reports whether queries and keys are the same tokens.
func (p *Pass) self() bool {
	if p.QueryLen != p.KeyLen {
		return false
	}
	for _, g := range p.Segments {
		if g.Query0 != g.Key0 || g.Queries != g.Keys {
			return false
		}
	}
	return true
}

func (p *Pass) side(length int, query bool) side {
	s := side{p.Tape.Ints(p.Batch * length), p.Tape.Ints(p.Batch * length)}
	clear(s.back)
	clear(s.pos)
	segments := len(p.Segments)
	if p.Segments == nil {
		segments = p.Batch
	}
	for i := range segments {
		g := attn.Segment{Row: i, Queries: p.QueryLen, Keys: p.KeyLen, Pos0: p.Pos0}
		if p.Segments != nil {
			g = p.Segments[i]
		}
		at, n, pos := g.Key0, g.Keys, g.Pos0
		if query {
			at, n, pos = g.Query0, g.Queries, g.Pos0+max(g.Offset(), 0)
		}
		if p.Start != nil {
			pos += p.Start[g.Row]
		}
		for j := range n {
			s.back[g.Row*length+at+j] = int32(j)
			s.pos[g.Row*length+at+j] = int32(pos + j)
		}
	}
	return s
}

// Positions returns the absolute position of every token of the query side.
func (p *Pass) Positions() []int32 { return p.queries.pos }
