package tile

import (
	"runtime"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Forward computes c.Out for a checked call and, with c.Saved set, keeps log₂ of each row's softmax sum.
func (a Softmax) Forward(ws *attn.Workspace, c *attn.Call) {
	var lse []float32
	if c.Saved != nil {
		lse = c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
	}
	a.ForwardSums(ws, c, lse)
}

// ForwardSums is Forward for mechanisms that keep the sums themselves, [batch, heads, query]; lse may be nil.
func (a Softmax) ForwardSums(ws *attn.Workspace, c *attn.Call, lse []float32) {
	c.ZeroPadding()
	if !a.Forget || !keysOverlap(c) {
		a.forward(ws, c, lse, 0)
		return
	}
	for i := range c.Segments {
		one := *c
		one.Segments = c.Segments[i : i+1]
		a.forward(ws, &one, lse, 0)
	}
}

// ForwardPart is ForwardSums that leaves rows of c.Out outside of the segments as they are.
func (a Softmax) ForwardPart(ws *attn.Workspace, c *attn.Call, lse []float32) {
	a.forward(ws, c, lse, 0)
}

// Reserve returns a with that many floats a worker asked for in all passes, so that scratch has one closed form in an engine of
// several.
func (a Softmax) Reserve(floats int) Softmax {
	a.reserve = floats
	return a
}

// forward computes the segments of at least atLeast queries.
func (a Softmax) forward(ws *attn.Workspace, c *attn.Call, lse []float32, atLeast int) {
	n := longest(c)
	if n == 0 || n < atLeast {
		return
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	args := forwardArgs{
		Softmax: a, call: *c, scale: a.scale(c), lse: lse, atLeast: atLeast, tiles: forwardGroup(c.Shape, n), gates: a.gates(ws, c),
	}
	args.groups = ceil(n, args.tiles*Lanes)
	args.call.Saved = nil
	tasks := c.NumSegments() * c.Heads * args.groups
	attn.Parallel(ws, tasks, max(a.reserve, a.forwardFloats(c.Shape, args.tiles)), args, func(s *attn.Scratch, a *forwardArgs, task int) {
		a.run(s, task)
	})
}

// forwardGroup returns the number of query tiles in a group, fewer where there would be
// less than four groups for a core. No bit of a result depends on it.
func forwardGroup(s attn.Shape, queries int) int {
	tiles := ceil(queries, Lanes)
	return max(1, min(forwardTiles, tiles, tiles*s.Batch*s.Heads/(4*runtime.GOMAXPROCS(0))))
}

func (a Softmax) forwardFloats(s attn.Shape, tiles int) int {
	if a.Pairs {
		return a.pairFloats(s, tiles)
	}
	return attn.ScratchFloats(a.biasFloats(), tiles*s.KeyDim*Lanes, tiles*s.ValueDim*Lanes, keyBlock*Lanes,
		keyBlock*s.KeyDim, kernel.PackedFloats(s.ValueDim, keyBlock))
}

type forwardArgs struct {
	Softmax
	call    attn.Call
	scale   float32
	lse     []float32 // [batch, heads, queries]
	gates   []float32 // see forget.go
	atLeast int       // queries of a segment, less are another's
	groups  int       // of query tiles in the longest segment
	tiles   int       // in a group
}

// forwardHead is a worker's view of one head and group of tiles.
type forwardHead struct {
	p      Pattern
	soft   *Softmax
	bias   bias
	dk, dv int
	k, v   side
	q, o   []float32 // tiles of Qᵀ and Oᵀ
	scores []float32 // Sᵀ
	// The block of keys and values that all tiles of the group take in turn.
	first       int // its first key, -1 for none
	keys        kernel.Mat
	panel       kernel.Packed // of V
	roomK, room []float32
	pairs       pairHead
	state       [forwardTiles]kernel.Softmax
	walk        [forwardTiles]cursor
	tested      [forwardTiles]bool // the tile has pairs that are hidden
	lazy        bool               // softmax may let its maximum lag
}

// run computes a group of query tiles of one head. Within a head the last queries come first:
// they see the most keys.
func (a *forwardArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	group := a.groups - 1 - task%a.groups
	head := task / a.groups % c.Heads
	segment := task / a.groups / c.Heads
	g := c.Segment(segment)
	first := group * a.tiles
	n := min(a.tiles, ceil(g.Queries, Lanes)-first)
	if n <= 0 || g.Queries < a.atLeast {
		return
	}
	f := forwardHead{
		lazy: a.lse == nil && !c.Train && a.plain(),
		p:    a.Pattern, soft: &a.Softmax, bias: a.newBias(s.Floats(a.biasFloats())), dk: c.KeyDim, dv: c.ValueDim,
		k: sideOf(&c.K, g, c.KVHead(head)), v: sideOf(&c.V, g, c.KVHead(head)),
		o: s.Floats(a.tiles * c.ValueDim * Lanes), scores: s.Floats(keyBlock * Lanes),
	}
	if a.Pairs {
		f.newPairs(s, a)
	} else {
		f.q, f.roomK, f.room = s.Floats(a.tiles*c.KeyDim*Lanes), s.Floats(keyBlock*c.KeyDim), s.Floats(kernel.PackedFloats(c.ValueDim, keyBlock))
	}
	a.head(&f.bias, c, g, head, a.gates)
	for i := range n {
		t := tileAt(c, g, segment, head, first+i)
		q := kernel.Rows(c.Q.From(g.Row, g.Query0+(first+i)*Lanes, head), c.Q.TimeStride)
		kernel.Pack(f.tileQ(i), q, t.Rows, f.dk, a.packScale(a.scale*kernel.Log2E))
		f.roundQuery(i)
		f.walk[i].t = t
	}
	f.attend(0, n, false)
	var inverse, lse [Lanes]float32
	for i := range n {
		if f.tested[i] && !finite(f.tileO(i)) {
			f.attend(i, i+1, true) // hidden pairs may have met a NaN or an Inf
		}
		rows, at := f.walk[i].t.Rows, g.Query0+(first+i)*Lanes
		f.state[i].Inverse(inverse[:])
		if a.SinkLogit {
			sink(&f.state[i], c.Learned[0][head]*kernel.Log2E, inverse[:])
		} else {
			f.means(i, inverse[:])
		}
		kernel.Unpack(kernel.Rows(c.Out.From(g.Row, at, head), c.Out.TimeStride), f.tileO(i), rows, f.dv, inverse[:])
		if a.lse != nil {
			f.state[i].LogSum2(lse[:])
			copy(a.lse[(g.Row*c.Heads+head)*c.QueryLen+at:], lse[:rows])
		}
	}
}

func (f *forwardHead) tileQ(i int) []float32 {
	if f.soft.Pairs {
		i = 0 // it goes on as pairs
	}
	return f.q[i*f.dk*Lanes:][:f.dk*Lanes]
}
func (f *forwardHead) tileO(i int) []float32 { return f.o[i*f.dv*Lanes:][:f.dv*Lanes] }

// attend computes the tiles from to to-1, all of them over one panel of keys before the next.
func (f *forwardHead) attend(from, to int, guarded bool) {
	for i := from; i < to; i++ {
		clear(f.tileO(i))
		f.state[i].Reset()
		f.walk[i] = newCursor(f.p, f.walk[i].t)
	}
	for {
		next := -1
		for i := from; i < to; i++ {
			if w := &f.walk[i]; !w.done() && (next < 0 || w.run.Lo < next) {
				next = w.run.Lo
			}
		}
		if next < 0 {
			return
		}
		end := (next/keyBlock + 1) * keyBlock
		// A copy pays from the second tile on.
		users := 0
		for i := from; i < to; i++ {
			if w := &f.walk[i]; !w.done() && w.run.Lo < end {
				users++
			}
		}
		f.first = -1
		if users > 1 {
			f.load(next, min(end, f.walk[from].t.Keys)-next)
		}
		for i := from; i < to; i++ {
			for b, ok := f.walk[i].block(f.p, end); ok; b, ok = f.walk[i].block(f.p, end) {
				f.step(i, b, guarded)
			}
		}
	}
}

// load brings keys from first on, and their values, for all tiles.
func (f *forwardHead) load(first, keys int) {
	f.first = first
	if f.soft.Pairs {
		f.loadPairs(keys)
		return
	}
	f.keys = f.k.rows(first)
	if f.k.apart(f.dk) {
		f.keys = kernel.Rows(f.roomK, f.dk)
		kernel.Copy(f.keys, f.k.rows(first), keys, f.dk)
	}
	f.panel = kernel.PackColumns(f.room, f.dv, keys, f.v.rows(first).T())
}

// means divides the lanes of tile i whose sum of weights is a whole number, as that of n equal scores is, so
// that the mean of n equal values is that value: multiplying by a rounded 1/n can miss it by an ulp.
func (f *forwardHead) means(i int, inverse []float32) {
	o := f.tileO(i)
	for l, sum := range f.state[i].Sum {
		if sum < 2 || sum != float32(int32(sum)) {
			continue
		}
		for d := range f.dv {
			o[d*Lanes+l] /= sum
		}
		inverse[l] = 1
	}
}

// step takes a block of keys into tile i.
func (f *forwardHead) step(i int, b block, guarded bool) {
	keys := b.hi - b.lo
	st, o := &f.state[i], kernel.Rows(f.tileO(i), Lanes)
	scores := kernel.Rows(f.scores, Lanes)
	if b.parts > 0 {
		f.tested[i] = true
	}
	var k kernel.Mat
	switch {
	case f.soft.Pairs:
	case f.first >= 0:
		k = f.keys.From(b.lo-f.first, 0)
	default:
		k = f.k.rows(b.lo)
	}
	kept := false // what is accumulated keeps its scale
	if f.lazy && st.MulPowers(keys, f.dk, k, kernel.Rows(f.tileQ(i), Lanes), f.scores, b.parts > 0) {
		kept = true
		if b.parts > 0 {
			b.hide(f.p, f.walk[i].t, f.scores, 0)
			st.Take(f.scores, keys)
		}
	} else {
		if f.soft.Pairs {
			f.scorePairs(i, b)
		} else {
			kernel.Mul(keys, Lanes, f.dk, k, kernel.Rows(f.tileQ(i), Lanes), scores)
		}
		f.soft.soften(f.scores[:keys*Lanes], nil, kernel.Log2E)
		f.bias.add(f.walk[i].t, b.lo, b.hi, f.scores)
		if b.parts > 0 {
			b.hide(f.p, f.walk[i].t, f.scores, kernel.NegInf)
		}
		if f.lazy {
			st.LazyStep(f.scores, keys)
		} else {
			st.Step(f.scores, keys)
		}
	}
	switch {
	case guarded && b.parts > 0:
		f.guarded(i, b)
	case kept && f.first >= 0:
		kernel.MulAddPacked(Lanes, keys, f.panel.From(b.lo-f.first), scores, o)
	case f.soft.Pairs:
		f.weighPairs(i, keys, f.valuePairs(b))
	case f.first >= 0:
		kernel.MulScalePacked(st.Scale[:], Lanes, keys, f.panel.From(b.lo-f.first), scores, o)
	default:
		kernel.MulScale(st.Scale[:], f.dv, Lanes, keys, f.v.rows(b.lo).T(), scores, o)
	}
}

// guarded accumulates V of a block that holds hidden pairs: 0·NaN is NaN, so rows of V that are
// not finite are left out of the product and added to the lanes that see them alone. All other
// lanes get the bits that they would get if those rows were finite.
func (f *forwardHead) guarded(i int, b block) {
	st, o, keys := &f.state[i], f.tileO(i), b.hi-b.lo
	f.values(b.lo, keys)
	room := f.valueRoom()
	for j := range keys {
		if row := room.Data[j*room.Row:][:f.dv]; !finite(row) {
			clear(row)
		}
	}
	if f.soft.Pairs {
		kernel.RoundColumns(f.pairs.own, half, room, keys, f.dv, f.pairs.weights)
		f.weighPairs(i, keys, f.pairs.own)
	} else {
		kernel.MulScale(st.Scale[:], f.dv, Lanes, keys, room.T(), kernel.Rows(f.scores, Lanes), kernel.Rows(o, Lanes))
	}
	f.values(b.lo, keys)
	for j := range keys {
		v := room.Data[j*room.Row:][:f.dv]
		if finite(v) {
			continue
		}
		seen := b.seen(f.p, f.walk[i].t, b.lo+j)
		for l, w := range f.scores[j*Lanes:][:Lanes] {
			if seen>>l&1 == 0 {
				continue
			}
			for d, x := range v {
				o[d*Lanes+l] += w * x
			}
		}
	}
}

// valueRoom is the room in which values are rows of floats.
func (f *forwardHead) valueRoom() kernel.Mat {
	if f.soft.inPairs {
		return kernel.Rows(f.room, 2*kernel.PairsOf(f.dv))
	}
	return kernel.Rows(f.room, f.dv)
}

// values brings values from key lo on there.
func (f *forwardHead) values(lo, keys int) {
	if f.soft.inPairs {
		f.widenValues(lo, keys)
	} else {
		kernel.Copy(f.valueRoom(), f.v.rows(lo), keys, f.dv)
	}
}

// seen returns the lanes that see key j of the block.
func (b *block) seen(p Pattern, t Tile, j int) uint32 {
	for _, r := range b.part[:b.parts] {
		if r.Lo <= j && j < r.Hi {
			return p.Sees(t, j)
		}
	}
	return Bits(0, Lanes)
}
