package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// halves is the room of a forward pass whose products are of bfloat16 pairs (Softmax.Pairs): the block of keys rounded to pairs
// along the width, that of values to pairs of keys, both once for all tiles of the group; the tiles of queries to pairs along
// the width, once a walk; and the weights of a step to pairs of keys. Scores, maxima, sums and outputs are float32.
type halves struct {
	q, k, v, p []uint32
	own        []uint32 // values of a block that begins between the two keys of a pair
}

// halvesFloats is what newHalves asks for.
func (a Softmax) halvesFloats(tiles, dk, dv int) []int {
	if !a.Pairs {
		return nil
	}
	w, keys := kernel.PairsOf(dk), kernel.PairsOf(keyBlock)
	return []int{tiles * w * Lanes, keyBlock * w, keys * dv, keys * Lanes, keys * dv}
}

func newHalves(s *attn.Scratch, sizes []int) halves {
	return halves{words(s, sizes[0]), words(s, sizes[1]), words(s, sizes[2]), words(s, sizes[3]), words(s, sizes[4])}
}

func words(s *attn.Scratch, n int) []uint32 { return kernel.Words(s.Floats(n)) }

// roundQ rounds tile i of Qᵀ, [dk, Lanes]. The scale is left to the products: so q itself is what is rounded.
func (f *forwardHead) roundQ(i int) {
	kernel.RoundPairs(f.half.q[i*kernel.PairsOf(f.dk)*Lanes:], Lanes, kernel.Rows(f.tileQ(i), Lanes), f.dk, Lanes)
}

// roundBlock rounds the keys and values from first on.
func (f *forwardHead) roundBlock(first, keys int) {
	f.first = first
	kernel.RoundRows(f.half.k, kernel.PairsOf(f.dk), f.k.rows(first), keys, f.dk)
	kernel.RoundPairs(f.half.v, f.dv, f.v.rows(first), keys, f.dv)
}

// stepPairs is step by products of pairs. A value of the next key may stand beside the last one of a block: its weight is 0, and a
// tile that it makes NaN is guarded.
func (f *forwardHead) stepPairs(i int, b block, guarded bool) {
	h, keys, at := &f.half, b.hi-b.lo, b.lo-f.first
	w := kernel.PairsOf(f.dk)
	st, scores := &f.state[i], kernel.Rows(f.scores, Lanes)
	kernel.MulPairs(keys, Lanes, w, f.scale, kernel.PairRows(h.k[at*w:], w), kernel.PairRows(h.q[i*w*Lanes:], Lanes), scores)
	f.soft.soften(f.scores[:keys*Lanes], nil, kernel.Log2E)
	f.bias.add(f.walk[i].t, b.lo, b.hi, f.scores)
	if b.parts > 0 {
		f.tested[i] = true
		b.hide(f.p, f.walk[i].t, f.scores, kernel.NegInf)
	}
	st.Step(f.scores, keys)
	kernel.RoundPairs(h.p, Lanes, scores, keys, Lanes)
	v := h.v[at/2*f.dv:]
	switch {
	case guarded:
		f.finiteValues(b)
		kernel.RoundPairs(h.own, f.dv, kernel.Rows(f.room, f.dv), keys, f.dv)
		v = h.own
	case at%2 > 0:
		kernel.RoundPairs(h.own, f.dv, f.v.rows(b.lo), keys, f.dv)
		v = h.own
	}
	kernel.MulScalePairs(st.Scale[:], f.dv, Lanes, kernel.PairsOf(keys), kernel.Pairs{Data: v, Row: 1, Col: f.dv}, kernel.PairRows(h.p, Lanes), kernel.Rows(f.tileO(i), Lanes))
	if guarded {
		f.addOthers(i, b)
	}
}
