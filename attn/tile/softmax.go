// Package tile holds what a fast mechanism is written with: softmax attention over any pattern of visible
// pairs, key/value caches, and the tile primitives themselves.
//
// The layout is that of internal/kernel: a tile is 32 queries of one head, the lanes of all
// products; a tile of scores is Sᵀ, one row a key. K and V are read where they lie.
package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Softmax is exact softmax attention over the pairs that a pattern admits, by online softmax in
// tiles (Milakov & Gimelshein 2018; Rabe & Staats 2021; Dao et al. 2022, arXiv:2205.14135):
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(scale·q[i]·k[j]) over the keys j that i sees
//
// A query that sees no key gives exact zeros and no gradient. A NaN or Inf of token j reaches only
// rows that see j. It is a value to be embedded in a mechanism; its methods are a mechanism's.
type Softmax struct {
	Pattern Pattern
	Scale   float64 // 0 means 1/√(key dim)
	// Window and Sinks bound what a Cache keeps: the first Sinks and the last Window tokens of a sequence.
	// The pattern lets no query see others. Window 0 keeps all.
	Window, Sinks int
	// Reads, unless nil, returns how many floats of a sequence of n tokens the next token reads, for a pattern that only a call's
	// content decides.
	Reads func(s attn.Shape, n int) int64
	// Summary is what a Cache keeps of each complete block of keys beside the keys; only without Window.
	Summary Summary
	// Linear subtracts from the score of query i and key j their distance |i-j| times the head's Slope (ALiBi).
	Linear bool
	// Forget adds the log decays of the tokens from behind a key to a query to their score (see forget.go): Call.Extra[0] holds them,
	// [batch, key, heads, 1]; causal only.
	Forget bool
	// Cap, unless 0, bends the scores s to Cap·tanh(s/Cap).
	Cap float64
	// SinkLogit: each head has a learned score, the first of Call.Learned, that takes part in the softmax but has no value.
	SinkLogit bool
	// Pairs rounds queries, keys, values and weights to bfloat16, of which the products are then (see pairs.go).
	Pairs bool

	inPairs bool // the keys and values of the call at hand are pairs: those of a Cache
	reserve int  // floats a worker that are asked for at least: what an engine around this one asks for in its own passes
}

func (a Softmax) scale(c *attn.Call) float32 {
	if a.Scale != 0 {
		return float32(a.Scale)
	}
	return float32(1 / math.Sqrt(float64(c.KeyDim)))
}

// plain reports whether weights are powers of products of queries and keys, and of nothing else.
func (a *Softmax) plain() bool { return !a.Pairs && a.Cap == 0 && a.biasFloats() == 0 }

// forwardTiles is the number of query tiles that share a walk over the keys, so that a block of K and V is read from the
// near cache by all but the first.
const forwardTiles = 32

func ceil(a, b int) int { return (a + b - 1) / b }

// side is the keys or the values of one head of a segment.
type side struct {
	data   []float32
	stride int
}

func sideOf(v *attn.View, g attn.Segment, head int) side {
	return side{v.From(g.Row, g.Key0, head), v.TimeStride}
}

// rows returns the matrix [keys, dim] from key j on.
func (s side) rows(j int) kernel.Mat { return kernel.Rows(s.data[j*s.stride:], s.stride) }

// apart reports whether the rows lie apart, with those of other heads between them. Then they share few sets of the
// caches and lie in many pages: for 8 heads of 128 all of them in one set of the nearest cache.
func (s side) apart(dim int) bool { return s.stride > dim }

func (s side) row(j, dim int) []float32 { return s.data[j*s.stride:][:dim] }

// finite reports whether all elements are finite. It may say no to elements beyond 1e15 as well;
// the guarded path that a no leads to is right for any input.
func finite(x []float32) bool {
	s := kernel.SumSquares(x)
	return s-s == 0
}

// tileAt returns tile n of head h in segment g, the call's number i.
func tileAt(c *attn.Call, g attn.Segment, i, h, n int) Tile {
	q := n * Lanes
	return Tile{c.Mask, c.Layer, h, q + g.Offset(), min(Lanes, g.Queries-q), g.Keys, i, q, g.Pos0}
}

// longest returns the largest number of queries in a segment.
func longest(c *attn.Call) int {
	if c.Segments == nil {
		return c.QueryLen
	}
	n := 0
	for _, g := range c.Segments {
		n = max(n, g.Queries)
	}
	return n
}

func log(x float32) float32 { return float32(math.Log(float64(x))) }
