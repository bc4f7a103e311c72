package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Softmax attention on products of bfloat16 (Kalamkar et al. 2019, arXiv:1905.12322), as Softmax.Pairs asks for. With r the
// rounding to 8 bits of significand,
//
//	s[j] = scale·r(q)·r(k[j]),  w[j] = 2^(s[j]·log₂e-max),  o = Σ_j r(w[j]) r(v[j]) / Σ_j w[j]
//
// where products are exact and all sums, the scores and the softmax are float32's. What is beyond bfloat16's range, 3.39e38, is
// infinite; subnormal numbers are 0.
//
// The products take two numbers in a word: of K and Q neighbours in d, of the weights and V neighbours in time, from the first
// key of a block on, which is a tile's own: no bit depends on the tiles that share a walk. A block of K and V is rounded once for
// all of them. What surrounds the products, the walk, masks, the online softmax and the guarded path, is forward.go's.
//
// Backward recomputes the scores from the same pairs, so that its weights are those of the forward pass and add up to 1 with the
// sums saved there, at any size of the scores. The other four products are float32's; that with V takes r(v), of which the output
// is that D = do·o is taken from: a row with one key has no gradient of its score. A Cache without window keeps the pairs
// themselves.

// pairHead is a worker's room for what is rounded.
type pairHead struct {
	factor  float32      // of the scores: scale·log₂e
	q       []uint32     // tiles of Qᵀ, [PairsOf(dk), Lanes] each
	roomK   []uint32     // [keys, PairsOf(dk)]
	keys    kernel.Pairs // of the block that all tiles take in turn
	v, own  []uint32     // [dv, half]: of that block, and of one that is a tile's own
	weights []uint32     // [half, Lanes], and the room in which values are turned
	last    int          // one past the last key of the block that all tiles take
}

// half is the number of pairs of a block.
const half = keyBlock / 2

// pairFloats is forwardFloats with Pairs.
func (a Softmax) pairFloats(s attn.Shape, tiles int) int {
	kw := kernel.PairsOf(s.KeyDim)
	return attn.ScratchFloats(a.biasFloats(), tiles*s.ValueDim*Lanes, keyBlock*Lanes, s.KeyDim*Lanes, keyBlock*2*kernel.PairsOf(s.ValueDim),
		tiles*kw*Lanes, keyBlock*kw, half*s.ValueDim, half*s.ValueDim, half*Lanes)
}

// newPairs lays the room out on s.
func (f *forwardHead) newPairs(s *attn.Scratch, a *forwardArgs) {
	kw := kernel.PairsOf(f.dk)
	f.q, f.room = s.Floats(f.dk*Lanes), s.Floats(keyBlock*2*kernel.PairsOf(f.dv))
	words := func(n int) []uint32 { return kernel.Words(s.Floats(n)) }
	f.pairs = pairHead{
		factor: a.scale * kernel.Log2E, q: words(a.tiles * kw * Lanes), roomK: words(keyBlock * kw),
		v: words(half * f.dv), own: words(half * f.dv), weights: words(half * Lanes),
	}
}

// packScale returns what packed queries are multiplied by: nothing if they are to be rounded.
func (a Softmax) packScale(factor float32) float32 {
	if a.Pairs {
		return 1
	}
	return factor
}

// roundQuery rounds the packed tile i of Qᵀ.
func (f *forwardHead) roundQuery(i int) {
	if f.soft.Pairs {
		kernel.RoundPairs(f.pairQ(i).Data, Lanes, kernel.Rows(f.tileQ(i), Lanes), f.dk, Lanes)
	}
}

func (f *forwardHead) pairQ(i int) kernel.Pairs {
	n := kernel.PairsOf(f.dk) * Lanes
	return kernel.PairRows(f.pairs.q[i*n:][:n], Lanes)
}

// loadPairs is load with Pairs.
func (f *forwardHead) loadPairs(keys int) {
	f.pairs.last = f.first + keys
	f.pairs.keys = f.keyPairs(f.first, keys)
	f.roundValues(f.pairs.v, f.first, keys)
}

// keyPairs returns keys from lo on as pairs, which a Cache has and others round.
func (f *forwardHead) keyPairs(lo, keys int) kernel.Pairs {
	if f.soft.inPairs {
		return kernel.PairRows(kernel.Words(f.k.data[lo*f.k.stride:]), f.k.stride)
	}
	kw := kernel.PairsOf(f.dk)
	kernel.RoundRows(f.pairs.roomK, kw, f.k.rows(lo), keys, f.dk)
	return kernel.PairRows(f.pairs.roomK, kw)
}

// roundValues rounds values from key lo on to pairs of neighbours in time.
func (f *forwardHead) roundValues(dst []uint32, lo, keys int) {
	rows := f.v.rows(lo)
	if f.soft.inPairs {
		f.widenValues(lo, keys)
		rows = f.valueRoom()
	}
	kernel.RoundColumns(dst, half, rows, keys, f.dv, f.pairs.weights)
}

// widenValues brings values that a Cache keeps to the room of floats.
func (f *forwardHead) widenValues(lo, keys int) {
	w := kernel.PairsOf(f.dv)
	for j := range keys {
		kernel.Widen(f.room[j*2*w:][:2*w], kernel.Words(f.v.row(lo+j, w)))
	}
}

// scorePairs computes the scores of a block for tile i.
func (f *forwardHead) scorePairs(i int, b block) {
	keys := f.pairs.keys
	if f.first >= 0 {
		keys.Data = keys.Data[(b.lo-f.first)*keys.Row:]
	} else {
		keys = f.keyPairs(b.lo, b.hi-b.lo)
	}
	kernel.MulPairs(b.hi-b.lo, Lanes, kernel.PairsOf(f.dk), f.pairs.factor, keys, f.pairQ(i), kernel.Rows(f.scores, Lanes))
}

// valuePairs returns the values of a block as pairs. Those of the block that all tiles take serve if no pair of them belongs to
// the block by half: the other half could be a NaN that nobody sees.
func (f *forwardHead) valuePairs(b block) []uint32 {
	if at := b.lo - f.first; f.first >= 0 && at%2 == 0 && ((b.hi-b.lo)%2 == 0 || b.hi == f.pairs.last) {
		return f.pairs.v[at/2:]
	}
	f.roundValues(f.pairs.own, b.lo, b.hi-b.lo)
	return f.pairs.own
}

// weighPairs adds the values of a block, times their weights, to the accumulators of tile i.
func (f *forwardHead) weighPairs(i, keys int, values []uint32) {
	kernel.RoundPairs(f.pairs.weights, Lanes, kernel.Rows(f.scores, Lanes), keys, Lanes)
	kernel.MulScalePairs(f.state[i].Scale[:], f.dv, Lanes, kernel.PairsOf(keys), kernel.PairRows(values, half),
		kernel.PairRows(f.pairs.weights, Lanes), kernel.Rows(f.tileO(i), Lanes))
}

// pairBack is a worker's room of the backward pass for what is rounded.
type pairBack struct {
	factor float32
	k, q   []uint32  // [keys, PairsOf(dk)] and [PairsOf(dk), Lanes]
	row    []uint32  // of values
	v      []float32 // r(v), [keys, 2·PairsOf(dv)]
}

// backPairFloats is what Pairs adds to backwardFloats.
func (a Softmax) backPairFloats(s attn.Shape) int {
	if !a.Pairs {
		return 0
	}
	kw, vw := kernel.PairsOf(s.KeyDim), kernel.PairsOf(s.ValueDim)
	return attn.ScratchFloats(backKeys(s)*kw, kw*Lanes, vw, backKeys(s)*2*vw)
}

// newPairs lays the room out on s.
func (a *backwardArgs) newPairs(s *attn.Scratch, b *backwardHead) {
	if !a.Pairs {
		return
	}
	keys, kw, vw := backKeys(a.call.Shape), kernel.PairsOf(b.dk), kernel.PairsOf(b.dv)
	b.pairs = pairBack{
		factor: a.scale * kernel.Log2E, k: kernel.Words(s.Floats(keys * kw)), q: kernel.Words(s.Floats(kw * Lanes)),
		row: kernel.Words(s.Floats(vw)), v: s.Floats(keys * 2 * vw),
	}
}

// round rounds the n keys and values of the block.
func (b *backwardHead) round(n int) {
	if !b.soft.Pairs {
		return
	}
	kernel.RoundRows(b.pairs.k, kernel.PairsOf(b.dk), b.keys, n, b.dk)
	vw := kernel.PairsOf(b.dv)
	for j := range n {
		kernel.RoundRows(b.pairs.row, vw, b.vals.From(j, 0), 1, b.dv)
		kernel.Widen(b.pairs.v[j*2*vw:][:2*vw], b.pairs.row)
	}
	b.vals = kernel.Rows(b.pairs.v, 2*vw)
}

// roundQuery rounds the packed tile of queries.
func (b *backwardHead) roundQuery() {
	if b.soft.Pairs {
		kernel.RoundPairs(b.pairs.q, Lanes, kernel.Rows(b.qt, Lanes), b.dk, Lanes)
	}
}

// scorePairs computes the scores of n keys of the block, from key at of it on: those of the forward pass.
func (b *backwardHead) scorePairs(n, at int) {
	kw := kernel.PairsOf(b.dk)
	kernel.MulPairs(n, Lanes, kw, b.pairs.factor, kernel.PairRows(b.pairs.k[at*kw:], kw), kernel.PairRows(b.pairs.q, Lanes), kernel.Rows(b.s, Lanes))
}

// keepsPairs reports whether a Cache keeps keys and values in pairs.
func (a Softmax) keepsPairs() bool { return a.Pairs && a.Window == 0 && a.Summary.Block == 0 }

// keptDims returns the floats that a Cache has for a head's key and value.
func (a Softmax) keptDims(s attn.Shape) (dk, dv int) {
	if a.keepsPairs() {
		return kernel.PairsOf(s.KeyDim), kernel.PairsOf(s.ValueDim)
	}
	return s.KeyDim, s.ValueDim
}

// tokenFloats returns the floats that a Cache keeps of a token for one key/value head.
func (a Softmax) tokenFloats(s attn.Shape) int64 {
	dk, dv := a.keptDims(s)
	return int64(dk + dv)
}

// roundRow keeps a row in pairs.
func roundRow(to, from []float32) {
	kernel.RoundRows(kernel.Words(to), len(to), kernel.Rows(from, len(from)), 1, len(from))
}

// widenFloats is the room in which decoding widens pairs, a piece of them at a time: half of the nearest cache, or two rows.
func (a Softmax) widenFloats(s attn.Shape) int {
	if !a.keepsPairs() {
		return 0
	}
	return max(24<<10/4, 2*kernel.PairsOf(s.KeyDim), 2*kernel.PairsOf(s.ValueDim))
}
