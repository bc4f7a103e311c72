package tile

import (
	"slices"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Backward adds to the gradients of q, k and v, for a checked call that Forward computed with
// c.Saved set. It recomputes the weights P from the saved sums and takes five products a block:
//
//	Sᵀ = K·Qᵀ, dPᵀ = V·dOᵀ, dS = P∘(dP - D)·scale with D[i] = do[i]·o[i],
//	dV += Pᵀ·dO, dK += dSᵀ·Q, dQᵀ += Kᵀ·dSᵀ
//
// A task owns dK and dV of one key/value head and sums them over its query heads and tiles in
// order. Where there are fewer than 8 such heads, each is shared by several tasks; the
// first adds to the gradient, the others to scratch that is added afterwards, in order. The
// split depends on the shape alone, and so do the bits.
func (a Softmax) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	if c.Batch == 0 || c.QueryLen == 0 || c.KeyLen == 0 {
		return
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	parts := backwardParts(c.Shape)
	extra := c.Batch * c.KVHeads * (parts - 1)
	args := backwardArgs{
		Softmax: a, call: *c, grads: *g, scale: a.scale(c), lse: c.Saved.Part(0), parts: parts,
		tiles: min(backwardTiles, ceil(c.QueryLen, Lanes)),
		dk:    ws.Floats(extra * c.KeyLen * c.KeyDim),
		dv:    ws.Floats(extra * c.KeyLen * c.ValueDim),
	}
	args.call.Saved = nil
	tasks := c.Batch * c.KVHeads * parts
	attn.Parallel(ws, tasks, backwardFloats(c.Shape, args.tiles), args, func(s *attn.Scratch, a *backwardArgs, task int) {
		a.run(s, task)
	})
	if parts > 1 {
		attn.Parallel(ws, c.Batch*c.KVHeads, 0, partsArgs{args}, func(_ *attn.Scratch, a *partsArgs, task int) {
			a.merge(task)
		})
	}
}

// backwardParts returns the number of tasks that share a key/value head.
func backwardParts(s attn.Shape) int {
	heads := max(1, s.Batch*s.KVHeads)
	units := s.Heads / s.KVHeads * ceil(s.QueryLen, backwardTiles*Lanes)
	return max(1, min(ceil(8, heads), units))
}

func backwardFloats(s attn.Shape, tiles int) int {
	dk, dv := s.KeyDim, s.ValueDim
	return attn.ScratchFloats(tiles*dk*Lanes, tiles*dv*Lanes, tiles*dk*Lanes, tiles*Lanes, tiles*Lanes,
		keyBlock*Lanes, keyBlock*Lanes, keyBlock*dk, Lanes*dk, Lanes*dv)
}

type backwardArgs struct {
	Softmax
	call   attn.Call
	grads  attn.Grads
	scale  float32
	lse    []float32 // [batch, heads, queries]
	parts  int       // tasks a key/value head
	tiles  int       // in a group
	dk, dv []float32 // [batch, kv heads, parts-1, keys, dim], the sums of all parts but the first
}

// backwardHead is a worker's view of one query head and group of tiles.
type backwardHead struct {
	p            Pattern
	dk, dv       int
	k, v         side
	gk, gv       side      // where their gradients go
	qt, dot      []float32 // tiles of Qᵀ·scale·log₂e and dOᵀ·scale
	dqt          []float32
	lse, delta   []float32
	s, ds        []float32 // Sᵀ, then P; dPᵀ, then dSᵀ
	cleanK       []float32 // for the guarded path: without the rows that are not finite; else a panel of K
	cleanQ       []float32 // the same, of a tile of Q
	cleanDO      []float32
	panel        int // first key of the panel of K in cleanK, -1 for none
	q, do        [backwardTiles]side
	dirty        [backwardTiles]bool // a row of Q or dO is not finite
	nan          [backwardTiles]bool // a row saw a NaN
	walk         [backwardTiles]cursor
	tileK, tileV int // floats a tile of width dk and dv
}

// run adds the query groups of one key/value head whose number leaves the task's part as the
// remainder.
func (a *backwardArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	part := task % a.parts
	kv := task / a.parts % c.KVHeads
	row := task / a.parts / c.KVHeads
	group := c.Heads / c.KVHeads
	dk, dv := c.KeyDim, c.ValueDim
	b := backwardHead{
		p: a.Pattern, dk: dk, dv: dv, tileK: dk * Lanes, tileV: dv * Lanes,
		qt: s.Floats(a.tiles * dk * Lanes), dot: s.Floats(a.tiles * dv * Lanes), dqt: s.Floats(a.tiles * dk * Lanes),
		lse: s.Floats(a.tiles * Lanes), delta: s.Floats(a.tiles * Lanes),
		s: s.Floats(keyBlock * Lanes), ds: s.Floats(keyBlock * Lanes),
		cleanK: s.Floats(keyBlock * dk), cleanQ: s.Floats(Lanes * dk), cleanDO: s.Floats(Lanes * dv),
	}
	sumK, sumV := a.sums(row, kv, part)
	if part > 0 {
		clear(sumK)
		clear(sumV)
	}
	unit := 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row || g.Keys == 0 {
			continue
		}
		b.k, b.v = sideOf(&c.K, g, kv), sideOf(&c.V, g, kv)
		if part == 0 {
			b.gk, b.gv = sideOf(&a.grads.K, g, kv), sideOf(&a.grads.V, g, kv)
		} else {
			b.gk, b.gv = side{sumK[g.Key0*dk:], dk}, side{sumV[g.Key0*dv:], dv}
		}
		for head := kv * group; head < (kv+1)*group; head++ {
			for first := 0; first*Lanes < g.Queries; first += backwardTiles {
				if unit%a.parts == part {
					a.group(&b, g, head, first)
				}
				unit++
			}
		}
	}
}

// sums returns the scratch of a part, nothing for part 0.
func (a *backwardArgs) sums(row, kv, part int) (dk, dv []float32) {
	if part == 0 {
		return nil, nil
	}
	c := &a.call
	n := ((row*c.KVHeads+kv)*(a.parts-1) + part - 1) * c.KeyLen
	return a.dk[n*c.KeyDim:][:c.KeyLen*c.KeyDim], a.dv[n*c.ValueDim:][:c.KeyLen*c.ValueDim]
}

type partsArgs struct{ backwardArgs }

// merge adds the sums of all parts but the first to the gradient of a key/value head.
func (a *partsArgs) merge(task int) {
	c := &a.call
	kv, row := task%c.KVHeads, task/c.KVHeads
	for part := 1; part < a.parts; part++ {
		dk, dv := a.sums(row, kv, part)
		for j := range c.KeyLen {
			kernel.Axpy(1, dk[j*c.KeyDim:][:c.KeyDim], a.grads.K.Row(row, j, kv))
			kernel.Axpy(1, dv[j*c.ValueDim:][:c.ValueDim], a.grads.V.Row(row, j, kv))
		}
	}
}

// group computes up to backwardTiles tiles of a head, all of them over one panel of keys before the next.
func (a *backwardArgs) group(b *backwardHead, g attn.Segment, head, first int) {
	c := &a.call
	n := min(backwardTiles, ceil(g.Queries, Lanes)-first)
	for i := range n {
		a.load(b, g, head, first, i)
	}
	for {
		next := -1
		for i := range n {
			if w := &b.walk[i]; !w.done() && (next < 0 || w.run.Lo < next) {
				next = w.run.Lo
			}
		}
		if next < 0 {
			break
		}
		end := (next/keyBlock + 1) * keyBlock
		b.panel = -1
		if b.k.apart(b.dk) {
			b.panel = next
			kernel.Copy(kernel.Rows(b.cleanK, b.dk), b.k.rows(next), min(end, g.Keys)-next, b.dk)
		}
		for i := range n {
			for blk, ok := b.walk[i].block(b.p, end); ok; blk, ok = b.walk[i].block(b.p, end) {
				b.step(i, blk)
			}
		}
	}
	for i := range n {
		dq := kernel.Rows(a.grads.Q.From(g.Row, g.Query0+(first+i)*Lanes, head), a.grads.Q.TimeStride)
		kernel.UnpackAdd(dq, b.dqt[i*b.tileK:], b.walk[i].t.Rows, c.KeyDim, nil)
	}
}

// load packs tile i of a group.
func (a *backwardArgs) load(b *backwardHead, g attn.Segment, head, first, i int) {
	c := &a.call
	t := tileAt(c, g, head, first+i)
	at := g.Query0 + (first+i)*Lanes
	b.walk[i] = newCursor(b.p, t)
	b.q[i] = side{c.Q.From(g.Row, at, head), c.Q.TimeStride}
	b.do[i] = side{a.grads.Out.From(g.Row, at, head), a.grads.Out.TimeStride}
	qt, dot := b.qt[i*b.tileK:][:b.tileK], b.dot[i*b.tileV:][:b.tileV]
	kernel.Pack(qt, b.q[i].rows(0), t.Rows, b.dk, a.scale*kernel.Log2E)
	kernel.Pack(dot, b.do[i].rows(0), t.Rows, b.dv, a.scale)
	b.dirty[i] = !finite(qt) || !finite(dot)
	clear(b.dqt[i*b.tileK:][:b.tileK])
	lse, delta := b.lse[i*Lanes:][:Lanes], b.delta[i*Lanes:][:Lanes]
	copy(lse, a.lse[(g.Row*c.Heads+head)*c.QueryLen+at:][:t.Rows])
	for l := range t.Rows {
		delta[l] = a.scale * kernel.Dot(b.do[i].row(l, b.dv), c.Out.Row(g.Row, at+l, head))
	}
	b.nan[i] = slices.ContainsFunc(lse[:t.Rows], func(x float32) bool { return x != x })
	for l := t.Rows; l < Lanes; l++ {
		lse[l], delta[l] = kernel.NegInf, 0
	}
}

// step takes a block of keys into tile i.
func (b *backwardHead) step(i int, blk block) {
	t, keys := b.walk[i].t, blk.hi-blk.lo
	p, ds := kernel.Rows(b.s, Lanes), kernel.Rows(b.ds, Lanes)
	k := b.k.rows(blk.lo)
	kernel.Mul(keys, Lanes, b.dk, k, kernel.Rows(b.qt[i*b.tileK:], Lanes), p)
	blk.hide(b.p, t, b.s, kernel.NegInf)
	kernel.Weights(b.s, keys, b.lse[i*Lanes:])
	if b.nan[i] { // -Inf minus NaN
		blk.hide(b.p, t, b.s, 0)
	}
	kernel.Mul(keys, Lanes, b.dv, b.v.rows(blk.lo), kernel.Rows(b.dot[i*b.tileV:], Lanes), ds)
	kernel.WeightsGrad(b.s, b.ds, keys, b.delta[i*Lanes:])
	dq := kernel.Rows(b.dqt[i*b.tileK:], Lanes)
	if blk.parts > 0 && !b.partsFinite(blk) {
		b.guardedDQ(i, blk, dq)
		b.panel = -1
	} else {
		if b.panel >= 0 {
			k = kernel.Rows(b.cleanK[(blk.lo-b.panel)*b.dk:], b.dk)
		}
		kernel.MulAdd(b.dk, Lanes, keys, k.T(), ds, dq)
	}
	if blk.parts > 0 && b.dirty[i] {
		b.guardedDKV(i, blk)
		return
	}
	// Every row of a tile is read once for each 6 keys: side by side they stay in the nearest cache.
	do, q := kernel.Rows(b.cleanDO, b.dv), kernel.Rows(b.cleanQ, b.dk)
	kernel.Copy(do, b.do[i].rows(0), t.Rows, b.dv)
	kernel.Copy(q, b.q[i].rows(0), t.Rows, b.dk)
	kernel.MulAdd(keys, b.dv, t.Rows, p, do, b.gv.rows(blk.lo))
	kernel.MulAdd(keys, b.dk, t.Rows, ds, q, b.gk.rows(blk.lo))
}

// partsFinite reports whether the keys that some query of the tile does not see are finite.
func (b *backwardHead) partsFinite(blk block) bool {
	for _, r := range blk.part[:blk.parts] {
		for j := r.Lo; j < r.Hi; j++ {
			if !finite(b.k.row(j, b.dk)) {
				return false
			}
		}
	}
	return true
}

// guardedDQ is dQᵀ += Kᵀ·dSᵀ with the keys that are not finite added to the lanes that see them alone.
func (b *backwardHead) guardedDQ(i int, blk block, dq kernel.Mat) {
	for j := blk.lo; j < blk.hi; j++ {
		row := b.cleanK[(j-blk.lo)*b.dk:][:b.dk]
		if copy(row, b.k.row(j, b.dk)); !finite(row) {
			clear(row)
		}
	}
	kernel.MulAdd(b.dk, Lanes, blk.hi-blk.lo, kernel.Rows(b.cleanK, b.dk).T(), kernel.Rows(b.ds, Lanes), dq)
	for j := blk.lo; j < blk.hi; j++ {
		k := b.k.row(j, b.dk)
		if finite(k) {
			continue
		}
		seen := blk.seen(b.p, b.walk[i].t, j)
		for l, w := range b.ds[(j-blk.lo)*Lanes:][:Lanes] {
			if seen>>l&1 == 0 {
				continue
			}
			for d, x := range k {
				dq.Data[d*Lanes+l] += w * x
			}
		}
	}
}

// guardedDKV is the last two products with the queries whose q or do is not finite added to the
// keys that they see alone.
func (b *backwardHead) guardedDKV(i int, blk block) {
	t, keys := b.walk[i].t, blk.hi-blk.lo
	bad := uint32(0)
	for l := range t.Rows {
		q, do := b.cleanQ[l*b.dk:][:b.dk], b.cleanDO[l*b.dv:][:b.dv]
		copy(q, b.q[i].row(l, b.dk))
		copy(do, b.do[i].row(l, b.dv))
		if !finite(q) || !finite(do) {
			clear(q)
			clear(do)
			bad |= 1 << l
		}
	}
	p, ds := kernel.Rows(b.s, Lanes), kernel.Rows(b.ds, Lanes)
	// A lane that is left out has q = do = 0 here, but its P and dS may be NaN: they go as well.
	for l := range t.Rows {
		if bad>>l&1 == 0 {
			continue
		}
		for j := blk.lo; j < blk.hi; j++ {
			r := (j-blk.lo)*Lanes + l
			if blk.seen(b.p, t, j)>>l&1 != 0 {
				axpySlow(b.s[r], b.do[i].row(l, b.dv), b.gv.row(j, b.dv))
				axpySlow(b.ds[r], b.q[i].row(l, b.dk), b.gk.row(j, b.dk))
			}
			b.s[r], b.ds[r] = 0, 0
		}
	}
	kernel.MulAdd(keys, b.dv, t.Rows, p, kernel.Rows(b.cleanDO, b.dv), b.gv.rows(blk.lo))
	kernel.MulAdd(keys, b.dk, t.Rows, ds, kernel.Rows(b.cleanQ, b.dk), b.gk.rows(blk.lo))
}

func axpySlow(w float32, x, y []float32) {
	for d, v := range x {
		y[d] += w * v
	}
}
