package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Backward adds to the gradients of q, k and v, for a checked call that Forward computed with
// c.Saved set. It recomputes the weights P from the saved sums and takes five products a block:
//
//	Sᵀ = K·Qᵀ, dPᵀ = V·dOᵀ, dS = P∘(dP - D)·scale with D[i] = do[i]·o[i],
//	dV += Pᵀ·dO, dK += dSᵀ·Q, dQᵀ += Kᵀ·dSᵀ
//
// A task takes blocks of keys of one key/value head, each past all queries that see it, so that the block and its
// gradients stay in the near cache (Dao 2023, arXiv:2307.08691). Where there are fewer than 8 such heads, each is shared
// by several tasks: by its query heads, whose sums of dK and dV then go to scratch that is added afterwards, in
// order, and by its blocks, with sums of dQ. The split depends on the shape alone, and so do the bits.
func (a Softmax) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	a.BackwardSums(ws, c, g, c.Saved.Part(0))
}

// BackwardSums is Backward with the sums that ForwardSums left in lse.
func (a Softmax) BackwardSums(ws *attn.Workspace, c *attn.Call, g *attn.Grads, lse []float32) {
	if c.Batch == 0 || c.QueryLen == 0 || c.KeyLen == 0 {
		return
	}
	if !a.Forget || !keysOverlap(c) {
		a.backward(ws, c, g, lse)
		return
	}
	for i := range c.Segments {
		one := *c
		one.Segments = c.Segments[i : i+1]
		a.backward(ws, &one, g, lse)
	}
}

func (a Softmax) backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads, lse []float32) {
	mark := ws.Mark()
	defer ws.Release(mark)
	n := backwardSplit(c.Shape)
	args := backwardArgs{
		Softmax: a, call: *c, grads: *g, scale: a.scale(c), lse: lse, parts: n,
		delta: ws.Floats(c.Batch * c.Heads * c.QueryLen),
		dq:    ws.Floats(n.extraQ(c.Shape)),
		dk:    ws.Floats(n.extraKV(c.Shape) * c.KeyDim),
		dv:    ws.Floats(n.extraKV(c.Shape) * c.ValueDim),
		gates: a.gates(ws, c),
		df:    ws.Floats(a.forgetSums(c.Shape)),
	}
	args.call.Saved = nil
	attn.Parallel(ws, c.Batch*c.Heads, 0, deltaArgs{args}, func(_ *attn.Scratch, a *deltaArgs, task int) { a.run(task) })
	tasks := c.Batch * c.KVHeads * n.heads * n.blocks
	if a.SinkLogit {
		args.sinkGrad(ws)
	}
	attn.Parallel(ws, tasks, max(a.reserve, a.backwardFloats(c.Shape)), args, func(s *attn.Scratch, a *backwardArgs, task int) {
		a.run(s, task)
	})
	if a.Forget {
		args.gateGrads(ws)
	}
	if n.heads*n.blocks > 1 {
		attn.Parallel(ws, c.Batch*c.KVHeads, 0, mergeArgs{args}, func(_ *attn.Scratch, a *mergeArgs, task int) {
			a.run(task)
		})
	}
}

// split is the number of tasks that share a key/value head.
type split struct {
	heads  int // by query heads: sums of dK and dV for each but the first
	blocks int // by blocks of keys: sums of dQ for each but the first
}

func backwardSplit(s attn.Shape) split {
	want := ceil(8, max(1, s.Batch*s.KVHeads))
	heads := min(s.Heads/s.KVHeads, want)
	return split{heads, max(1, min(ceil(want, heads), ceil(s.KeyLen, backKeys(s))))}
}

func (n split) extraQ(s attn.Shape) int {
	return s.Batch * s.Heads * (n.blocks - 1) * s.QueryLen * s.KeyDim
}

// extraKV returns the number of rows of dK, and of dV.
func (n split) extraKV(s attn.Shape) int { return s.Batch * s.KVHeads * (n.heads - 1) * s.KeyLen }

func (a Softmax) backwardFloats(s attn.Shape) int {
	dk, dv := s.KeyDim, s.ValueDim
	keys := backKeys(s)
	block, step, ones := a.forgetFloats(s)
	return attn.ScratchFloats(a.slopeFloats(), a.biasFloats(), queryFloats(dk, dv), queryFloats(dk, dv),
		keys*dk, keys*dv, keys*dk, keys*dv, kernel.PackedFloats(dk, keys), keyBlock*dk, block, step, ones) + a.backPairFloats(s)
}

type backwardArgs struct {
	Softmax
	call       attn.Call
	grads      attn.Grads
	scale      float32
	lse, delta []float32 // [batch, heads, queries]
	parts      split
	dq         []float32 // [batch, heads, parts.blocks-1, queries, dim]
	dk, dv     []float32 // [batch, kv heads, parts.heads-1, keys, dim]
	gates, df  []float32 // see forget.go
}

// backKeys is the number of keys that share a walk over the queries, which come from further away. Their rows, Kᵀ and the
// gradients of both should stay in the second-level cache; where heads are few, tasks are made of short blocks.
func backKeys(s attn.Shape) int {
	n := keyBlock
	if s.Batch*s.Heads < 8 {
		return n
	}
	for n < 4*keyBlock && 2*n*(3*s.KeyDim+2*s.ValueDim) <= backFloats {
		n *= 2
	}
	return n
}

// backFloats is 640 KiB: twice 256 keys of 64 floats. On a core with a second-level cache of 2 MiB 512 keys of 64 were 2 points
// of the peak better than 256, and 4 better than 128; of 128 floats 512 and 256 were alike.
const backFloats = 640 << 10 / 4

// ahead is the number of rows that are asked for at once.
const ahead = 8

// prefetch asks for rows of a head from time t on, as far as there are any.
func prefetch(v *attn.View, row, t, head int) {
	if n := min(ahead, v.Time-t); n > 0 {
		kernel.Prefetch(kernel.Rows(v.From(row, t, head), v.TimeStride), n, v.Dim)
	}
}

type deltaArgs struct{ backwardArgs }

// run computes scale·D of all queries of a head.
func (a *deltaArgs) run(task int) {
	c := &a.call
	row, head := task/c.Heads, task%c.Heads
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		for q := g.Query0; q < g.Query0+g.Queries; q++ {
			if (q-g.Query0)%ahead == 0 {
				prefetch(&a.grads.Out, row, q+ahead, head)
				prefetch(&c.Out, row, q+ahead, head)
			}
			a.delta[task*c.QueryLen+q] = a.scale * kernel.Dot(a.grads.Out.Row(row, q, head), c.Out.Row(row, q, head))
		}
	}
}

// backwardHead is a worker's view of one key/value head.
type backwardHead struct {
	p      Pattern
	soft   *Softmax
	slope  []float32 // of the bent scores; nil without Cap
	bias   bias
	dk, dv int
	k, v   side
	// The block of keys: rows of K and V, Kᵀ, and their gradients.
	lo, hi                    int
	keys, vals                kernel.Mat
	packed                    kernel.Packed
	gk, gv                    []float32
	roomK, roomV, room, clean []float32

	queryTile                // the one at hand
	other          queryTile // the one beside it: the first while the second is at hand
	held           block     // what P and dS of the first tile wait with for those of the second
	waits, holding bool      // the tile at hand is to wait; one waits

	gf, row, ones []float32 // of forgetting attention
	pairs         pairBack
}

// newHead returns a worker's view with its scratch.
func (a *backwardArgs) newHead(s *attn.Scratch) backwardHead {
	dk, dv, keys := a.call.KeyDim, a.call.ValueDim, backKeys(a.call.Shape)
	return backwardHead{
		p: a.Pattern, soft: &a.Softmax, slope: a.slopeRoom(s), bias: a.newBias(s.Floats(a.biasFloats())), dk: dk, dv: dv,
		roomK: s.Floats(keys * dk), roomV: s.Floats(keys * dv), gk: s.Floats(keys * dk), gv: s.Floats(keys * dv),
		room: s.Floats(kernel.PackedFloats(dk, keys)), clean: s.Floats(keyBlock * dk),
		queryTile: newQueryTile(s, dk, dv), other: newQueryTile(s, dk, dv),
	}
}

// run takes the blocks of keys of a head whose number leaves the task's part as the remainder.
func (a *backwardArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	part := task % a.parts.blocks
	heads := task / a.parts.blocks % a.parts.heads
	kv := task / a.parts.blocks / a.parts.heads % c.KVHeads
	row := task / a.parts.blocks / a.parts.heads / c.KVHeads
	group := c.Heads / c.KVHeads
	b := a.newHead(s)
	a.newPairs(s, &b)
	if a.Forget {
		block, step, ones := a.forgetFloats(c.Shape)
		b.gf, b.row, b.ones = s.Floats(block), s.Floats(step), s.Floats(ones)
		for l := range b.ones {
			b.ones[l] = 1
		}
	}
	for head := kv*group + heads; part > 0 && head < (kv+1)*group; head += a.parts.heads {
		clear(a.sumQ(row, head, part))
	}
	unit, keys := 0, backKeys(c.Shape)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		b.k, b.v = sideOf(&c.K, g, kv), sideOf(&c.V, g, kv)
		for lo := 0; lo < g.Keys; lo += keys {
			if unit++; (unit-1)%a.parts.blocks != part {
				continue
			}
			b.load(lo, min(lo+keys, g.Keys))
			for head := kv*group + heads; head < (kv+1)*group; head += a.parts.heads {
				clear(b.gf)
				a.head(&b.bias, c, g, head, a.gates)
				for n := 0; n*Lanes < g.Queries; n += a.abreast() {
					a.queries(&b, g, i, head, n, part)
				}
				if a.Forget {
					copy(a.df[(row*c.Heads+head)*c.KeyLen+g.Key0+b.lo:], b.gf[:b.hi-b.lo])
				}
			}
			a.store(&b, g, kv, heads)
		}
	}
}

// sumQ returns the scratch for dQ of a part after the first, [queries, dim].
func (a *backwardArgs) sumQ(row, head, part int) []float32 {
	n := a.call.QueryLen * a.call.KeyDim
	return a.dq[((row*a.call.Heads+head)*(a.parts.blocks-1)+part-1)*n:][:n]
}

// sumsKV returns the scratch for dK and dV of the query heads after the first ones, [keys, dim].
func (a *backwardArgs) sumsKV(row, kv, heads int) (dk, dv []float32) {
	c := &a.call
	n := ((row*c.KVHeads+kv)*(a.parts.heads-1) + heads - 1) * c.KeyLen
	return a.dk[n*c.KeyDim:][:c.KeyLen*c.KeyDim], a.dv[n*c.ValueDim:][:c.KeyLen*c.ValueDim]
}

// load brings the keys lo to hi-1.
func (b *backwardHead) load(lo, hi int) {
	n := hi - lo
	b.lo, b.hi, b.keys, b.vals = lo, hi, b.k.rows(lo), b.v.rows(lo)
	if b.k.apart(b.dk) {
		b.keys = kernel.Rows(b.roomK, b.dk)
		kernel.Copy(b.keys, b.k.rows(lo), n, b.dk)
	}
	if b.v.apart(b.dv) {
		b.vals = kernel.Rows(b.roomV, b.dv)
		kernel.Copy(b.vals, b.v.rows(lo), n, b.dv)
	}
	b.packed = kernel.PackColumns(b.room, b.dk, n, b.keys.T())
	b.round(n)
	clear(b.gk[:n*b.dk])
	clear(b.gv[:n*b.dv])
}

// store adds the gradients of the block to where they go.
func (a *backwardArgs) store(b *backwardHead, g attn.Segment, kv, heads int) {
	for j := b.lo; j < b.hi; j++ {
		if heads == 0 && (j-b.lo)%ahead == 0 {
			prefetch(&a.grads.K, g.Row, g.Key0+j+ahead, kv)
			prefetch(&a.grads.V, g.Row, g.Key0+j+ahead, kv)
		}
		gk, gv := b.gk[(j-b.lo)*b.dk:][:b.dk], b.gv[(j-b.lo)*b.dv:][:b.dv]
		if heads == 0 {
			kernel.Add(a.grads.K.Row(g.Row, g.Key0+j, kv), gk)
			kernel.Add(a.grads.V.Row(g.Row, g.Key0+j, kv), gv)
			continue
		}
		sumK, sumV := a.sumsKV(g.Row, kv, heads)
		copy(sumK[(g.Key0+j)*b.dk:], gk)
		copy(sumV[(g.Key0+j)*b.dv:], gv)
	}
}

type mergeArgs struct{ backwardArgs }

// run adds the sums in scratch to the gradients of a key/value head and its query heads.
func (a *mergeArgs) run(task int) {
	c := &a.call
	kv, row, group := task%c.KVHeads, task/c.KVHeads, c.Heads/c.KVHeads
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		for heads := 1; heads < a.parts.heads; heads++ {
			dk, dv := a.sumsKV(row, kv, heads)
			for j := g.Key0; j < g.Key0+g.Keys; j++ {
				kernel.Add(a.grads.K.Row(row, j, kv), dk[j*c.KeyDim:][:c.KeyDim])
				kernel.Add(a.grads.V.Row(row, j, kv), dv[j*c.ValueDim:][:c.ValueDim])
			}
		}
		for part := 1; part < a.parts.blocks; part++ {
			for head := kv * group; head < (kv+1)*group; head++ {
				dq := a.sumQ(row, head, part)
				for q := g.Query0; q < g.Query0+g.Queries; q++ {
					kernel.Add(a.grads.Q.Row(row, q, head), dq[q*c.KeyDim:][:c.KeyDim])
				}
			}
		}
	}
}

// step takes a range of the block's keys.
func (b *backwardHead) step(blk block) {
	if b.waits {
		b.release() // the room of P and dS is needed
	}
	n, at := blk.hi-blk.lo, blk.lo-b.lo
	if b.soft.plain() {
		kernel.MulWeights(n, b.dk, b.keys.From(at, 0), kernel.Rows(b.qt, Lanes), b.s, b.lse)
	} else {
		b.weights(blk)
	}
	blk.hide(b.p, b.t, b.s, 0) // what came out there may be a NaN
	kernel.MulWeightsGrad(n, b.dv, b.vals.From(at, 0), kernel.Rows(b.dot, Lanes), b.s, b.ds, b.delta)
	if b.gf != nil {
		b.addGates(blk)
	}
	if b.slope != nil {
		kernel.Times(b.ds[:n*Lanes], b.slope[:n*Lanes])
	}
	if blk.parts > 0 && !b.partsFinite(blk) {
		b.guardedDQ(blk)
	} else {
		kernel.MulAddPacked(Lanes, n, b.packed.From(at), kernel.Rows(b.ds, Lanes), kernel.Rows(b.dqt, Lanes))
	}
	if blk.parts > 0 && (!finite(b.qt) || !finite(b.dot)) {
		b.releaseOther()
		b.guardedDKV(blk)
		return
	}
	switch one := &b.other; {
	case b.waits:
		b.held, b.holding = blk, true
	case b.holding && b.held.lo == blk.lo && b.held.hi == blk.hi && b.t.Rows == Lanes:
		b.holding = false
		kernel.MulAddTwo(n, b.dv, one.s, b.s, one.dRow, b.dRow, kernel.Rows(b.gv[at*b.dv:], b.dv))
		kernel.MulAddTwo(n, b.dk, one.ds, b.ds, one.qRow, b.qRow, kernel.Rows(b.gk[at*b.dk:], b.dk))
	default:
		b.releaseOther()
		b.addKV(blk)
	}
}

// weights computes the weights of a range of keys whose scores are not products alone.
func (b *backwardHead) weights(blk block) {
	n, at := blk.hi-blk.lo, blk.lo-b.lo
	if b.soft.Pairs {
		b.scorePairs(n, at)
	} else {
		kernel.Mul(n, Lanes, b.dk, b.keys.From(at, 0), kernel.Rows(b.qt, Lanes), kernel.Rows(b.s, Lanes))
	}
	if b.slope != nil {
		b.soft.soften(b.s[:n*Lanes], b.slope[:n*Lanes], kernel.Log2E)
		blk.hide(b.p, b.t, b.slope, 0)
	}
	b.bias.add(b.t, blk.lo, blk.hi, b.s)
	kernel.Weights(b.s, n, b.lse)
}

// addKV adds to the gradients of a range of keys.
func (b *backwardHead) addKV(blk block) {
	n, at := blk.hi-blk.lo, blk.lo-b.lo
	kernel.MulAdd(n, b.dv, b.t.Rows, kernel.Rows(b.s, Lanes), b.dRow, kernel.Rows(b.gv[at*b.dv:], b.dv))
	kernel.MulAdd(n, b.dk, b.t.Rows, kernel.Rows(b.ds, Lanes), b.qRow, kernel.Rows(b.gk[at*b.dk:], b.dk))
}
