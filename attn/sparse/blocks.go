// Package sparse holds attention over fixed layouts of blocks.
package sparse

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// A layout says which blocks of keys a block of queries sees. Blocks are numbered by position,
// so those of queries in front of the first key are negative.
type layout interface {
	// next returns the first key block at or after c that query block a of the tile's head sees, of n
	// blocks of keys; n or more when there is none.
	next(t tile.Tile, a, c, n int) int
	// count returns how many of the n blocks that is.
	count(mask attn.Mask, a, n int) int
}

// blocks is the pattern of a layout with the given number of tokens a block. Under the causal
// mask the diagonal block is cut at each query's own position.
type blocks struct {
	layout layout
	size   int
}

// floor returns ⌊a/b⌋ for b > 0.
func floor(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func ceil(a, b int) int { return -floor(-a, b) }

// Next implements tile.Pattern.
func (p blocks) Next(t tile.Tile, from int) tile.Run {
	n := ceil(t.Keys, p.size)
	first, last := floor(t.First, p.size), floor(t.Last(), p.size)
	at, all := n, true // the nearest block that some query sees, and whether all do
	for a := first; a <= last; a++ {
		next := min(p.layout.next(t, a, from/p.size, n), n)
		all = all && (a == first || next == at)
		at = min(at, next)
	}
	run := tile.Run{Lo: max(from, at*p.size), Hi: min((at+1)*p.size, t.Keys), Full: all}
	if t.Mask != attn.Causal {
		return run
	}
	if run.Hi = min(run.Hi, t.Last()+1); !all {
		return run
	}
	if run.Lo <= t.First {
		run.Hi = min(run.Hi, t.First+1)
		return run
	}
	run.Full = false
	return run
}

// Sees implements tile.Pattern.
func (p blocks) Sees(t tile.Tile, j int) uint32 {
	n, c := ceil(t.Keys, p.size), j/p.size
	seen := uint32(0)
	for a := floor(t.First, p.size); a*p.size <= t.Last(); a++ {
		if p.layout.next(t, a, c, n) == c {
			seen |= tile.Bits(a*p.size-t.First, (a+1)*p.size-t.First)
		}
	}
	if t.Mask == attn.Causal {
		seen &= tile.Bits(j-t.First, tile.Lanes)
	}
	return seen
}

// pairs counts the visible pairs of all heads at full length. Under the causal mask they have equally many.
func (p blocks) pairs(s attn.Shape) int64 {
	if s.Mask == attn.Causal {
		return int64(s.Heads) * p.headPairs(s, 0)
	}
	total := int64(0)
	for h := range s.Heads {
		total += p.headPairs(s, h)
	}
	return total
}

// headPairs counts the visible pairs of one head, block by block.
func (p blocks) headPairs(s attn.Shape, head int) int64 {
	n, b, offset := ceil(s.KeyLen, p.size), p.size, s.KeyLen-s.QueryLen
	total := int64(0)
	for from := offset; from < s.KeyLen; {
		a := floor(from, b)
		to := min((a+1)*b, s.KeyLen) // the queries at positions from to to-1 lie in block a
		if s.Mask != attn.Causal {
			keys := p.layout.count(s.Mask, a, n) * b
			if n > 0 && p.layout.next(tile.Tile{Mask: s.Mask, Layer: s.Layer, Head: head}, a, n-1, n) == n-1 {
				keys -= n*b - s.KeyLen // the last block is not full
			}
			total += int64(to-from) * int64(keys)
		} else if a >= 0 { // the own block is always seen, up to the own position
			before, rows := p.layout.count(s.Mask, a, a+1)-1, to-from
			total += int64(rows)*int64(before*b+from-a*b) + int64(rows)*int64(rows+1)/2
		}
		from = to
	}
	return total
}

// union counts the numbers in any of the ranges [lo, hi), which are sorted by lo, cut to [0, end).
func union(end int, ranges ...[2]int) int {
	n, at := 0, 0
	for _, r := range ranges {
		lo, hi := max(r[0], at), min(r[1], end)
		if lo < hi {
			n, at = n+hi-lo, hi
		}
	}
	return n
}

// define computes, for each head, softmax attention of query i, at position t = i + Keys - Queries,
// over the keys j that the mask lets i see and for which sees(h, ⌊t/size⌋, ⌊j/size⌋) holds:
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d)
//
// A query that sees no key gives zeros.
func define(c *attn.Call64, size int, sees func(h attn.Head64, a, b int) bool) {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		p, seen := make([]float64, h.Keys), make([]bool, h.Keys)
		for i := range h.Queries {
			for j := range p {
				seen[j] = h.Sees(i, j) && sees(h, floor(i+h.Offset(), size), j/size)
				p[j] = math.Inf(-1)
				if seen[j] {
					p[j] = attn.Dot(h.Q(i), h.K(j)) / math.Sqrt(float64(c.KeyDim))
				}
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for j := range p {
				if seen[j] { // an unseen value may be NaN
					attn.Axpy(p[j], h.V(j), h.Out(i))
				}
			}
		}
	})
}

// mechanism is softmax attention over a pattern.
type mechanism struct {
	tile.Softmax
	info  *attn.Info
	size  int // tokens that the definition's rule takes together
	sees  func(h attn.Head64, a, b int) bool
	pairs func(s attn.Shape) int64 // visible ones of all heads, at full length
}

// newMechanism completes info and returns the mechanism; sees says for the definition what l says for the kernel.
func newMechanism(info attn.Info, l layout, size int, sees func(h attn.Head64, a, b int) bool) mechanism {
	b := blocks{l, size}
	info.Masks, info.Quick = attn.Causal|attn.Bidirectional, true
	return newPattern(info, b, b.pairs, size, sees)
}

// newPattern is newMechanism for any pattern.
func newPattern(info attn.Info, p tile.Pattern, pairs func(attn.Shape) int64, size int, sees func(h attn.Head64, a, b int) bool) mechanism {
	m := mechanism{Softmax: tile.Softmax{Pattern: p}, info: &info, size: size, sees: sees, pairs: pairs}
	info.Family, info.Approximates, info.Inputs, info.Cost = "sparse", true, attn.QKV(), m.cost
	return m
}

// Info describes the mechanism.
func (m mechanism) Info() attn.Info { return *m.info }

func (m mechanism) cost(s attn.Shape, p attn.Pass) attn.Cost { return m.Softmax.Cost(s, p, m.pairs(s)) }

// Forward computes the output.
func (m mechanism) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	m.Softmax.Forward(ws, c)
	return nil
}

// Backward adds the gradients of q, k and v.
func (m mechanism) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.Softmax.Backward(ws, c, g)
	return nil
}

// NewState returns an empty cache of all keys and values.
func (m mechanism) NewState(s attn.Shape) (attn.State, error) {
	return m.Softmax.NewState(m.info.Name, s)
}

// Extend appends the call's keys and values and computes its queries.
func (m mechanism) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	return m.Softmax.Extend(ws, m.info, s, c)
}
