package sparse

import (
	"math/bits"
	"math/rand/v2"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("bigbird", BigBird{Block: 64, Global: 1, Window: 3, Random: 3}, BigBird.New)
}

// BigBird holds the options of BigBird attention, spelled bigbird:block=64,global=1,window=3,random=3,seed=7.
type BigBird struct {
	Block  int    `opt:"block"`  // tokens a block; at least 1
	Global int    `opt:"global"` // first blocks, and when bidirectional last ones, that see all and are seen by all; at least 0
	Window int    `opt:"window"` // neighbouring blocks, the own one in the middle; odd. The causal form sees the earlier half
	Random int    `opt:"random"` // further blocks, drawn for each layer, head and block of queries; 0 to 64
	Seed   uint64 `opt:"seed"`   // of the draw
}

const mostRandom = 64

// New returns BigBird attention with the options o.
func (o BigBird) New() (attn.Mechanism, error) {
	switch {
	case o.Block < 1 || o.Block > most:
		return nil, attn.OptionError("block", o.Block, "an integer from 1 to 2^30")
	case o.Global < 0 || o.Global > most:
		return nil, attn.OptionError("global", o.Global, "an integer from 0 to 2^30")
	case o.Window < 1 || o.Window > most || o.Window%2 == 0:
		return nil, attn.OptionError("window", o.Window, "an odd integer from 1 to 2^30")
	case o.Random < 0 || o.Random > mostRandom:
		return nil, attn.OptionError("random", o.Random, "an integer from 0 to 64")
	}
	return bigBird{newMechanism(attn.Info{
		Name: attn.Spell("bigbird", o), Title: "BigBird, internal transformer construction", Revision: 1, Budget: "window",
		Paper: "Zaheer et al. 2020, arXiv:2007.14062", Year: 2020,
		Limits: []attn.Limit{{
			Spec: func(s attn.Shape) string {
				one := o
				one.Block = max(s.KeyLen, 1)
				return attn.Spell("bigbird", one)
			},
			Equals: "full",
		}},
	}, o, o.Block, o.sees)}, nil
}

type bigBird struct{ mechanism }

// Define computes, for each head, softmax attention over the keys whose block c the query's block a sees, of n
// blocks of keys. With g = Global, w = (Window-1)/2 and R(a) drawn without replacement from the seed, layer, head and a:
//
//	bidirectional  all c for a < g or a ≥ n-g, else c < g, c ≥ n-g, |a-c| ≤ w, or c in R(a),
//	               Random blocks out of g..n-g-1 without a-w..a+w
//	causal         c ≤ a and (c < g, a-c ≤ w, or c in R(a)), Random blocks out of g..a-w-1
//
// where there are fewer to draw from, all are taken. Zaheer et al. 2020 (arXiv:2007.14062) §2 and App. D; the
// causal form is a port whose layout does not depend on the length: the paper has none.
func (m bigBird) Define(c *attn.Call64) error {
	define(c, m.size, m.sees)
	return nil
}

func (o BigBird) sees(h attn.Head64, a, c int) bool {
	n, w := ceil(h.Keys, o.Block), (o.Window-1)/2
	if h.Call.Mask == attn.Causal {
		n = a + 1 // no block of keys behind the query's own, and none of those is global
	} else if a < o.Global || a >= n-o.Global || c >= n-o.Global {
		return true
	}
	if c < o.Global || max(a-c, c-a) <= w {
		return true
	}
	var r [mostRandom]int
	return slices.Contains(o.draw(&r, h.Call.Mask, h.Call.Layer, h.H, a, n), c)
}

// draw returns R(a), sorted, for n blocks of keys.
func (o BigBird) draw(buf *[mostRandom]int, mask attn.Mask, layer, head, a, n int) []int {
	lo, before, gapEnd, m := o.candidates(mask, a, n)
	r := buf[:0]
	var pcg rand.PCG
	pcg.Seed(o.Seed, mix(mix(uint64(layer))^uint64(head))^uint64(a))
	for j := max(m-o.Random, 0); j < m; j++ { // Floyd's sample of distinct numbers below m
		hi, _ := bits.Mul64(mix(pcg.Uint64()), uint64(j+1))
		x := int(hi)
		if slices.Contains(r, x) {
			x = j
		}
		r = append(r, x)
	}
	slices.Sort(r)
	for i, x := range r {
		if r[i] = lo + x; x >= before {
			r[i] = gapEnd + x - before
		}
	}
	return r
}

// candidates describes the m blocks that R(a) is drawn from: before of them from lo on, the others
// from gapEnd on, behind the window.
func (o BigBird) candidates(mask attn.Mask, a, n int) (lo, before, gapEnd, m int) {
	w := (o.Window - 1) / 2
	lo, hi := o.Global, n-o.Global
	if mask == attn.Causal {
		hi = a - w
	}
	gap := max(lo, min(a-w, hi))
	gapEnd = max(gap, min(a+w+1, hi))
	before = gap - lo
	return lo, before, gapEnd, before + max(hi-gapEnd, 0)
}

func (o BigBird) count(mask attn.Mask, a, n int) int {
	w := (o.Window - 1) / 2
	_, _, _, m := o.candidates(mask, a, n)
	if mask == attn.Causal {
		return union(n, [2]int{0, o.Global}, [2]int{a - w, a + 1}) + min(m, o.Random)
	}
	if a < o.Global || a >= n-o.Global {
		return n
	}
	return union(n, [2]int{0, o.Global}, [2]int{a - w, a + w + 1}, [2]int{n - o.Global, n}) + min(m, o.Random)
}

// mix spreads the bits of x (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (o BigBird) next(t tile.Tile, a, c, n int) int {
	w, end, global := (o.Window-1)/2, n, n-o.Global
	if t.Mask == attn.Causal {
		if end = min(n, a+1); end <= c {
			return n
		}
		global = end
	} else if a < o.Global || a >= global {
		return c
	}
	if c < min(o.Global, end) || c >= global {
		return c
	}
	at := end
	if t.Mask != attn.Causal {
		at = min(max(global, 0), n)
	}
	if local := max(c, a-w); local <= a+w {
		at = min(at, local)
	}
	if at > c && o.Random > 0 {
		var buf [mostRandom]int
		blocks := n
		if t.Mask == attn.Causal {
			blocks = a + 1
		}
		r := o.draw(&buf, t.Mask, t.Layer, t.Head, a, blocks)
		if i, _ := slices.BinarySearch(r, c); i < len(r) {
			at = min(at, r[i])
		}
	}
	if at >= end {
		return n
	}
	return at
}
