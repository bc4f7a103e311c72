package sparse

import (
	"fmt"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("strided", Strided{Stride: 128, Use: "merged"}, Strided.New)
	attn.Register("fixed", Fixed{Stride: 128, Columns: 8, Use: "merged"}, Fixed.New)
}

// uses are the ways in which the two sets of keys of a factorised pattern are shared out.
var uses = []string{"merged", "heads", "layers"}

// both returns which of the sets A and B a head of a layer takes.
func both(use string, layer, head int) (a, b bool) {
	switch use {
	case "heads":
		return head%2 == 0, head%2 == 1
	case "layers":
		return layer%2 == 0, layer%2 == 1
	case "near": // stridedpass.go
		return true, false
	}
	return true, true
}

func checkFactorised(stride int, use string) error {
	if stride < 1 || stride > most {
		return attn.OptionError("stride", stride, "an integer from 1 to 2^30")
	}
	if !slices.Contains(uses, use) {
		return attn.OptionError("use", use, "merged, heads or layers")
	}
	return nil
}

func factorised(o any, name, title string, pattern tile.Pattern, pairs func(s attn.Shape, layer, head int) int64, sees func(h attn.Head64, i, j int) bool) mechanism {
	info := attn.Info{
		Name: attn.Spell(name, o), Title: title, Revision: 1, Masks: attn.Causal,
		Paper: "Child et al. 2019, arXiv:1904.10509", Year: 2019,
	}
	return newPattern(info, pattern, func(s attn.Shape) int64 {
		n := int64(0)
		for h := range s.Heads {
			n += pairs(s, s.Layer, h)
		}
		return n
	}, 1, sees)
}

// Strided holds the options of the strided pattern of the Sparse Transformer, spelled strided:stride=128,use=heads.
type Strided struct {
	Stride int    `opt:"stride"` // l: the nearest l keys, and every l-th one before; at least 1
	Use    string `opt:"use"`    // merged: every head sees both sets; heads: even heads the near keys, odd ones the others; layers: the same by layer
}

// New returns strided attention with the options o.
func (o Strided) New() (attn.Mechanism, error) {
	if err := checkFactorised(o.Stride, o.Use); err != nil {
		return nil, err
	}
	m := strided{mechanism: factorised(o, "strided", "Sparse Transformer, strided", o, o.pairs, o.sees), o: o, segments: new(tile.SegmentPool)}
	m.near, m.far = tile.Softmax{Pattern: Strided{o.Stride, "near"}}, tile.Softmax{Pattern: tile.Dense{}}
	m.info.Budget, m.info.Cost = "stride", m.cost
	m.info.Limits = []attn.Limit{{Spec: func(attn.Shape) string { return attn.Spell("strided", Strided{Stride: 1, Use: "merged"}) }, Equals: "full"}}
	return m, nil
}

type strided struct {
	mechanism
	o         Strided
	near, far tile.Softmax // see stridedpass.go
	segments  *tile.SegmentPool
}

// Define computes, for each head, softmax attention of the query at position t over the keys of A, of B or of both, as use says:
//
//	A(t) = {j : t-l < j ≤ t}
//	B(t) = {j ≤ t : l divides t-j}
//
// Child et al. 2019 (arXiv:1904.10509) §4.3, with positions from 0 and the query's own token in each set.
func (m strided) Define(c *attn.Call64) error {
	define(c, m.size, m.sees)
	return nil
}

func (o Strided) sees(h attn.Head64, t, j int) bool {
	a, b := both(o.Use, h.Call.Layer, h.H)
	return a && t-j < o.Stride || b && (t-j)%o.Stride == 0
}

func (o Strided) pairs(s attn.Shape, layer, head int) int64 {
	a, b := both(o.Use, layer, head)
	n := int64(0)
	for t := max(0, s.KeyLen-s.QueryLen); t < s.KeyLen; t++ {
		near, far := min(o.Stride, t+1), t/o.Stride // the own token counts as near
		switch {
		case a && b:
			n += int64(near + far)
		case a:
			n += int64(near)
		default:
			n += int64(far + 1)
		}
	}
	return n
}

// Next implements tile.Pattern: stripes as wide as the tile, then the window.
func (o Strided) Next(t tile.Tile, from int) tile.Run {
	a, b := both(o.Use, t.Layer, t.Head)
	end := min(t.Keys, t.Last()+1)
	window := end
	if a {
		window = max(from, t.First-o.Stride+1)
	}
	if b && from < window {
		past := ((from-t.First)%o.Stride + o.Stride) % o.Stride // how far from lies behind the last stripe's first key
		lo := from
		if past >= t.Rows {
			lo, past = from+o.Stride-past, 0
		}
		if lo < window {
			return tile.Run{Lo: lo, Hi: min(lo+t.Rows-past, window, end)}
		}
	}
	if window >= end {
		return tile.Run{Lo: window, Hi: end}
	}
	switch all := t.Last() - o.Stride + 1; { // all queries see the keys from all to t.First
	case window < all:
		return tile.Run{Lo: window, Hi: min(all, end)}
	case window <= t.First:
		return tile.Run{Lo: window, Hi: min(t.First+1, end), Full: true}
	}
	return tile.Run{Lo: window, Hi: end}
}

// Sees implements tile.Pattern.
func (o Strided) Sees(t tile.Tile, j int) uint32 {
	a, b := both(o.Use, t.Layer, t.Head)
	seen, at := uint32(0), j-t.First // the lane at the key's own position
	if a {
		seen = tile.Bits(at, at+o.Stride)
	}
	if b {
		l := at
		if l < 0 {
			l += (-l + o.Stride - 1) / o.Stride * o.Stride
		}
		for ; l < tile.Lanes; l += o.Stride {
			seen |= 1 << l
		}
	}
	return seen
}

// Fixed holds the options of the fixed pattern of the Sparse Transformer, spelled fixed:stride=128,columns=8,first=true.
type Fixed struct {
	Stride  int    `opt:"stride"`  // l: tokens a block; at least 1
	Columns int    `opt:"columns"` // c: last tokens of every block, which later blocks see; 0 to l
	First   bool   `opt:"first"`   // the first token of every block is seen as well
	Use     string `opt:"use"`     // merged: every head sees both sets; heads: even heads the own block, odd ones the columns; layers: the same by layer
}

// New returns fixed attention with the options o.
func (o Fixed) New() (attn.Mechanism, error) {
	if err := checkFactorised(o.Stride, o.Use); err != nil {
		return nil, err
	}
	if o.Columns < 0 || o.Columns > o.Stride {
		return nil, attn.OptionError("columns", o.Columns, fmt.Sprintf("an integer from 0 to the stride, %d", o.Stride))
	}
	m := fixed{factorised(o, "fixed", "Sparse Transformer, fixed", o, o.pairs, o.sees)}
	m.info.Budget = "columns"
	m.info.Limits = []attn.Limit{{Spec: func(attn.Shape) string { return attn.Spell("fixed", Fixed{Stride: 4, Columns: 4, Use: "merged"}) }, Equals: "full"}}
	return m, nil
}

type fixed struct{ mechanism }

// Define computes, for each head, softmax attention of the query at position t over the keys of A, of B or of both, as use says:
//
//	A(t) = {j ≤ t : ⌊j/l⌋ = ⌊t/l⌋}
//	B(t) = {j ≤ t : j mod l ≥ l-c, or j mod l = 0 if first}
//
// A query that sees no key gives zeros: B alone may be empty. Child et al. 2019 (arXiv:1904.10509) §4.3.
func (m fixed) Define(c *attn.Call64) error {
	define(c, m.size, m.sees)
	return nil
}

func (o Fixed) column(j int) bool {
	r := j % o.Stride
	return r >= o.Stride-o.Columns || o.First && r == 0
}

func (o Fixed) sees(h attn.Head64, t, j int) bool {
	a, b := both(o.Use, h.Call.Layer, h.H)
	return a && floor(t, o.Stride) == j/o.Stride || b && o.column(j)
}

func (o Fixed) pairs(s attn.Shape, layer, head int) int64 {
	a, b := both(o.Use, layer, head)
	each := o.Columns // columns a block
	if o.First && o.Columns < o.Stride {
		each++
	}
	n := int64(0)
	for t := max(0, s.KeyLen-s.QueryLen); t < s.KeyLen; t++ {
		block, r := t/o.Stride, t%o.Stride
		own := max(0, r+1-(o.Stride-o.Columns)) // columns of the own block up to t
		if o.First && o.Columns < o.Stride {
			own++
		}
		switch {
		case a && b:
			n += int64(r + 1 + block*each)
		case a:
			n += int64(r + 1)
		default:
			n += int64(block*each + own)
		}
	}
	return n
}

// Next implements tile.Pattern: columns, then the blocks that the tile's queries lie in.
func (o Fixed) Next(t tile.Tile, from int) tile.Run {
	a, b := both(o.Use, t.Layer, t.Head)
	end := min(t.Keys, t.Last()+1)
	own := end
	if a {
		own = max(from, floor(t.First, o.Stride)*o.Stride)
	}
	if lo := o.nextColumn(from); b && lo < min(own, end) {
		hi := lo + 1
		for hi < min(own, end) && hi%o.Stride != 0 && o.column(hi) {
			hi++
		}
		if lo <= t.First {
			return tile.Run{Lo: lo, Hi: min(hi, t.First+1), Full: true}
		}
		return tile.Run{Lo: lo, Hi: hi}
	}
	if own >= end {
		return tile.Run{Lo: own, Hi: end}
	}
	switch all := floor(t.Last(), o.Stride) * o.Stride; { // all queries see the keys from all to t.First
	case own < all:
		return tile.Run{Lo: own, Hi: min(all, end)}
	case own <= t.First:
		return tile.Run{Lo: own, Hi: min(t.First+1, end), Full: true}
	}
	return tile.Run{Lo: own, Hi: end}
}

// nextColumn returns the first column at from or later, a number beyond all keys when there is none.
func (o Fixed) nextColumn(from int) int {
	switch r := from % o.Stride; {
	case o.column(from):
		return from
	case o.Columns > 0:
		return from - r + o.Stride - o.Columns
	case o.First:
		return from - r + o.Stride
	}
	return 1 << 62
}

// Sees implements tile.Pattern.
func (o Fixed) Sees(t tile.Tile, j int) uint32 {
	a, b := both(o.Use, t.Layer, t.Head)
	at := j - t.First
	if b && o.column(j) {
		return tile.Bits(at, tile.Lanes)
	}
	if a {
		return tile.Bits(at, (j/o.Stride+1)*o.Stride-t.First)
	}
	return 0
}
