package tile

import (
	"math"
	"math/bits"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// levelsGrad is a block with what its backward pass needs besides: from the last block to the first, the gradients of the ranges before it.
type levelsGrad struct {
	levelsBlock                    // ranges are gradients
	since       [64]float64        // gradients of the log decays since the ends of ranges
	q, k, do    []float32          // queries and keys (times their factors) [lanes, key dim], gradients of outputs [lanes, value dim]
	p, a, da    []float32          // q·k of pairs, their weights, and the gradients of these, [lanes, lanes]
	vt, rt      []float32          // values and a state transposed, in panels
	x           []float32          // [lanes, key dim] of scratch
	dq, dk, dv  []float32          // [lanes, dim]
	dg          [lanes + 1]float32 // of the log decay of each token
}

func newLevelsGrad(s *attn.Scratch, a *recurArgs, width, ranges int) levelsGrad {
	t := levelsGrad{levelsBlock: newLevels(s, a, width, ranges)}
	dk, dv := lanes*a.c.KeyDim, lanes*a.c.ValueDim
	t.q, t.k, t.do = s.Floats(dk), s.Floats(dk), s.Floats(dv)
	t.p, t.a, t.da = s.Floats(lanes*lanes), s.Floats(lanes*lanes), s.Floats(lanes*lanes)
	t.vt, t.rt, t.x = s.Floats(dv), s.Floats(panels(a.c.KeyDim)*a.c.ValueDim), s.Floats(dk)
	t.dq, t.dk, t.dv = s.Floats(dk), s.Floats(dk), s.Floats(dv)
	return t
}

func (r *Levels) gradFloats(s attn.Shape, ranges int) int {
	dk, dv, pairs := lanes*s.KeyDim, lanes*s.ValueDim, lanes*lanes
	return r.blockFloats(s, ranges) + attn.ScratchFloats(dk, dk, dv, pairs, pairs, pairs, dv, panels(s.KeyDim)*s.ValueDim, dk, dk, dk, dv)
}

// Backward adds to the gradients in g, for calls that have passed Check, from what Forward left in c.Saved: after each block the range that
// ends with it, and the block's log decays.
func (r *Levels) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	mark := ws.Mark()
	a := levelsArgs{recurArgs: r.args(c), width: r.Width}
	a.g = g
	a.plan(ws)
	a.records = c.Saved.Part(0)
	a.down = ws.Zeros(c.NumSegments() * c.Heads * r.Own.width(c.Shape))
	floats := r.gradFloats(c.Shape, rangesOf(c.KeyLen))
	pass := func() {
		attn.Parallel(ws, a.heads(), floats, a, levelsGradTask)
		attn.Parallel(ws, a.heads(), floats, a.recurArgs, ownGradTask)
	}
	if !keysOverlap(c) {
		pass()
	} else {
		for i := range c.NumSegments() {
			a.lo, a.hi = i, i+1
			pass()
		}
	}
	for n := c.Heads * r.Own.width(c.Shape); len(a.down) > 0; a.down = a.down[n:] {
		kernel.Add(g.Learned[0], a.down[:n])
	}
	ws.Release(mark)
}

func levelsGradTask(s *attn.Scratch, a *levelsArgs, task int) {
	seg, kv := a.head(task)
	g := a.c.Segment(seg)
	t := newLevelsGrad(s, &a.recurArgs, a.width, rangesOf(g.Keys))
	blocks, first := a.chunks(g.Keys), int(a.keys[seg])
	n := a.stateLen(a.c.Shape)
	for b := blocks - 1; b >= 0; b-- {
		t.at(g, kv, b*lanes, lanes)
		t.expect(g, kv, g.Keys, 0)
		t.loadKeys()
		t.begin()
		// sums are those of blocks e ≤ i < b, to which the merge after block b adds its own.
		for e := uint(b); e != 0; e &= e - 1 {
			z := bits.TrailingZeros(e)
			t.sums[z] = 0
			for i := int(e); i < b; i++ {
				t.sums[z] += float64(a.record(kv, first+i)[n])
			}
		}
		merged := -1 // the slot of the range that ends with this block
		if b+1 < blocks {
			merged = bits.TrailingZeros(uint(b + 1))
		}
		for e := uint(b); e != 0; e &= e - 1 {
			z := bits.TrailingZeros(e)
			switch {
			case merged < 0:
				clear(t.ranges[z])
				t.since[z] = 0
			case z < merged:
				f := float32(math.Exp(t.sums[z] + float64(t.decay.sums[0])))
				copy(t.ranges[z], t.ranges[merged])
				kernel.Scale(f, t.ranges[z])
				t.since[z] = float64(kernel.Dot(t.ranges[z], a.record(kv, first+int(e)-1)))
			}
		}
		all := float32(0)
		for e := uint(b); e != 0; e &= e - 1 {
			all += float32(t.since[bits.TrailingZeros(e)])
		}
		for i := range t.n {
			t.dg[i] += all
		}
		for i := range t.group() {
			if t.row0 < t.row1 {
				t.head(t.queryHead(i), b, first)
			}
		}
		if merged >= 0 {
			t.blockState(t.ranges[merged])
		}
		t.finish()
	}
}

// begin loads the block's keys as rows and clears the gradients.
func (t *levelsGrad) begin() {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	kernel.Unpack(kernel.Rows(t.k, dk), t.recurBlock.k, t.n, dk, nil)
	kernel.Pack(t.vt, t.values(), t.n, dv, 1)
	clear(t.dk[:t.n*dk])
	clear(t.dv[:t.n*dv])
	clear(t.dg[:])
}

// head adds what one query head of block b gives.
func (t *levelsGrad) head(h, b, first int) {
	dk, dv, n, own := t.c.KeyDim, t.c.ValueDim, t.n, t.row1-t.row0
	q, do, k := kernel.Rows(t.q, dk), kernel.Rows(t.do, dv), kernel.Rows(t.k, dk)
	clear(t.q[:n*dk])
	clear(t.do[:n*dv])
	kernel.Copy(q.From(t.row0, 0), t.queryRows(&t.c.Q, t.row0, h), own, dk)
	kernel.Copy(do.From(t.row0, 0), t.queryRows(&t.g.Out, t.row0, h), own, dv)
	guard := !t.finite || !RowsFinite(q, n, dk) || !RowsFinite(k, n, dk) || !RowsFinite(do, n, dv)
	p, da, a := kernel.Rows(t.p, lanes), kernel.Rows(t.da, lanes), kernel.Rows(t.a, lanes)
	kernel.Mul(n, n, dk, q, kernel.Rows(t.recurBlock.k, lanes), p)
	kernel.Mul(n, n, dv, do, kernel.Rows(t.vt, lanes), da)
	t.pairs(h)
	upperMul(guard, n, dv, a, do, kernel.Rows(t.dv, dv))
	upperMul(guard, n, dk, da, q, kernel.Rows(t.dk, dk))
	clear(t.dq[:n*dk])
	step := n
	if guard {
		step = 1
	}
	for i := 0; i < n; i += step {
		end := min(n, i+step)
		kernel.MulAdd(end-i, dk, end, da.From(i, 0), k, kernel.Rows(t.dq[i*dk:], dk))
	}
	for e := uint(b); e != 0; e &= e - 1 {
		t.readRange(h, bits.TrailingZeros(e), t.recurArgs.record(t.kv, first+int(e)-1))
	}
	addRows(t.queryRows(&t.g.Q, t.row0, h), t.dq[t.row0*dk:], own, dk)
}

// pairs turns p, q·k, and da to the gradients of p and a to the weights, and adds the gradients of λ and of the decays between pairs.
func (t *levelsGrad) pairs(h int) {
	for r := range t.n {
		a, da, p := t.a[r*lanes:][:lanes], t.da[r*lanes:][:lanes], t.p[r*lanes:][:lanes]
		clear(a)
		if r < t.row0 || r >= t.row1 {
			clear(da)
			continue
		}
		lambda, dlambda := t.lambda(h, r), t.g.Extra[2].Row(t.Row, t.Query0+t.query0+r, h)
		between := t.decay.between[r*lanes:]
		eachLevel(r, t.most, func(level, from, to int) {
			sum, l := float32(0), lambda[level]
			for j := from; j < to; j++ {
				w := between[j]
				x := p[j] * w
				sum += da[j] * x
				a[j] = x * l
				p[j] = da[j] * a[j] // the gradient of the logarithm of the weight
				da[j] *= w * l
			}
			dlambda[level] += sum
		})
		clear(da[r+1:])
		keys := float32(0)
		for j := range r { // token j+1 ≤ r lies between the keys up to j and the query
			keys += p[j]
			t.dg[j+1] += keys
		}
	}
}

// readRange adds what the queries of one head read from the range of slot z, whose state is x.
func (t *levelsGrad) readRange(h, z int, x []float32) {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	do, f, through := kernel.Rows(t.do, dv), t.factor(z), float32(0)
	packMat(t.rt, kernel.Rows(x, dv), dk, dv)
	for j := 0; j < dk; j += lanes {
		kernel.Mul(t.n, min(lanes, dk-j), dv, do, kernel.Rows(t.rt[j*dv:], lanes), kernel.Rows(t.x, dk).From(0, j))
	}
	clear(t.scaled[:t.n*dk])
	for r := t.row1 - 1; r >= t.row0; r-- {
		l, w := t.lambda(h, r)[t.level(z)], f*t.decay.start[r]
		q, x, row := t.q[r*dk:][:dk], t.x[r*dk:][:dk], t.scaled[r*dk:][:dk]
		read := w * kernel.Dot(q, x)
		t.g.Extra[2].Row(t.Row, t.Query0+t.query0+r, h)[t.level(z)] += read
		through += l * read
		t.dg[r] += through // the range decays by the tokens up to the query's own
		kernel.Axpy(l*w, x, t.dq[r*dk:])
		copy(row, q)
		kernel.Scale(l*w, row)
	}
	for r := range t.row0 {
		t.dg[r] += through
	}
	t.since[z] += float64(through)
	kernel.MulAdd(dk, dv, t.n, kernel.Rows(t.scaled, dk).T(), do, kernel.Rows(t.ranges[z], dv))
}

// blockState adds what comes through the gradient dm of the block's state at its end.
func (t *levelsGrad) blockState(dm []float32) {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	packMat(t.rt, kernel.Rows(dm, dv), dk, dv)
	for j := 0; j < dk; j += lanes {
		kernel.Mul(t.n, min(lanes, dk-j), dv, t.values(), kernel.Rows(t.rt[j*dv:], lanes), kernel.Rows(t.x, dk).From(0, j))
	}
	before := float32(0)
	for r := range t.n {
		t.dg[r] += before
		end, k, x := t.decay.end[r], t.k[r*dk:][:dk], t.x[r*dk:][:dk]
		before += end * kernel.Dot(k, x)
		kernel.Axpy(end, x, t.dk[r*dk:])
		kernel.Scale(end, k)
	}
	kernel.MulAdd(t.n, dv, dk, kernel.Rows(t.k, dk), kernel.Rows(dm, dv), kernel.Rows(t.dv, dv))
}

// finish adds the block's gradients to the call's.
func (t *levelsGrad) finish() {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	keys, w, dw, dg := t.keyRows(&t.c.K), t.keyRows(&t.c.Extra[1]), t.keyRows(&t.g.Extra[1]), t.keyRows(&t.g.Extra[0])
	for r := range t.n {
		row := t.dk[r*dk:][:dk]
		dw.Data[r*dw.Row] += kernel.Dot(row, keys.Data[r*keys.Row:])
		kernel.Scale(w.Data[r*w.Row], row)
		dg.Data[r*dg.Row] += t.dg[r]
	}
	addRows(t.keyRows(&t.g.K), t.dk, t.n, dk)
	addRows(t.keyRows(&t.g.V), t.dv, t.n, dv)
}
