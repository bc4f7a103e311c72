package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Backward adds to the gradients in g, for calls that have passed Check, from what Forward left in c.Saved: the state before
// each chunk, and the errors.
//
// The gradient of the state before a chunk depends on that behind it through the solution of the chunk's system, so chunks of
// a head follow one another.
func (d *Delta) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	mark := ws.Mark()
	a := d.args(c)
	a.g = g
	a.plan(ws)
	a.records, a.errors = c.Saved.Part(0), c.Saved.Part(1)
	if keysOverlap(c) { // segments that share keys add to the same gradients: one after the other
		for i := range c.NumSegments() {
			a.lo, a.hi = i, i+1
			d.backward(ws, a)
		}
	} else {
		d.backward(ws, a)
	}
	ws.Release(mark)
}

func (d *Delta) backward(ws *attn.Workspace, a ruleArgs) {
	a.share()
	attn.Parallel(ws, (a.hi-a.lo)*a.groups, d.backwardFloats(a.c.Shape), a, ruleGradTask)
}

// ruleGradTask does some heads of one segment in turn, from the last chunk to the first.
func ruleGradTask(s *attn.Scratch, a *ruleArgs, task int) {
	group, seg := task%a.groups, a.lo+task/a.groups
	kv0, kv1 := group*a.c.KVHeads/a.groups, (group+1)*a.c.KVHeads/a.groups
	t := newRuleGrad(s, a)
	g := a.c.Segment(seg)
	var states [headsATask][]float32 // gradients of the states after the chunk
	for kv := kv0; kv < kv1; kv++ {
		if kv > kv0 {
			t.s = s.Floats(len(t.s))
		}
		states[kv-kv0] = t.s
		a.loadFinal(t.s, seg, kv)
	}
	for i := a.chunks(g.Keys) - 1; i >= 0; i-- {
		for kv := kv0; kv < kv1; kv++ {
			t.atChunk(g, kv, i)
			if kv+1 < kv1 {
				t.expect(kv+1, i)
			} else {
				t.expect(kv0, i-1)
			}
			ds, chunk := states[kv-kv0], int(a.keys[seg])+i
			if a.erase {
				t.loadErase()
				t.eraseGradients(a.record(kv, chunk), ds, a.errorsOf(kv, chunk))
			} else {
				t.loadKeys()
				t.gradients(a.record(kv, chunk), ds, a.errorsOf(kv, chunk))
			}
			t.advance(ds, t.decaySums(), t.u)
			a.flush(ds, a.before(g, i*a.Chunk), a.Chunk)
		}
	}
	for kv := kv0; kv < kv1; kv++ {
		a.storeInitial(seg, kv, states[kv-kv0])
	}
}

// ruleGrad is a chunk with what its backward pass needs. Its dv is the gradient of the w.
type ruleGrad struct {
	recurGrad
	w []float32 // [n, value dim]
	eraseParts
}

// newRuleGrad lays a chunk out on s; backwardFloats counts the same.
func newRuleGrad(s *attn.Scratch, a *ruleArgs) ruleGrad {
	t := ruleGrad{recurGrad: newBackward(s, &a.recurArgs)}
	t.w = s.Floats(a.Chunk * a.c.ValueDim)
	if a.erase {
		t.addErase(s)
	}
	return t
}

func (d *Delta) backwardFloats(s attn.Shape) int {
	r := d.recurrence()
	f := r.backwardFloats(s) + attn.ScratchFloats(d.Chunk*s.ValueDim)
	if d.Erase {
		f += eraseGradFloats(d.Chunk, s)
	}
	return f
}

// gradients adds the input gradients of a chunk, from the state before it, the gradient of the state after it and its
// errors, and leaves what the chunk asks of the former in u.
//
// With R the reads S'ᵀk, so that w = β(v-R), the gradients obey
//
//	dW = Pᵀ·dO + K̂·dS + Aᵀ·dR,  dR = -β dW
//
// with the weights P of queries and the keys K̂ decayed to the end of the chunk. Then the keys that read are like one more
// query head, whose output is R.
func (t *ruleGrad) gradients(s, ds, errors []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	clear(t.u)
	clear(t.dk[:n*dk])
	clear(t.dv[:n*dv])
	w := kernel.Rows(t.w, dv)
	copy(t.w, errors[:n*dv])
	scaleByBeta(&t.recurPlace, w, dv)
	packMat(t.vt, w, n, dv)
	packMat(t.st, kernel.Rows(s, dv), dk, dv)
	if t.Decay != ChannelDecay {
		packRows(t.kt, t.k, n, dk)
	}
	if t.Decay != NoDecay {
		clear(t.dg[:n*dk])
	}
	guard := !RowsFinite(kernel.Rows(t.k, dk), n, dk) || !RowsFinite(w, n, dv)
	kernel.AdvanceAhead(&t.ahead, nil, nil, n, dv, dk, kernel.Rows(t.endedKeys(), dk), kernel.Rows(ds, dv), kernel.Rows(t.dv, dv))
	if t.row0 < t.row1 {
		for i := range t.group() {
			h := t.queryHead(i)
			t.loadQueries(h)
			t.loadOutGrads(h)
			t.weights(0)
			do := kernel.Rows(t.do, dv)
			upperMul(guard || !RowsFinite(do, n, dv), n, dv, kernel.Rows(t.a, t.Chunk), do, kernel.Rows(t.dv, dv))
			t.headGradients(guard, s, 0)
			addRows(t.queryRows(&t.g.Q, t.row0, h), t.dq[t.row0*dk:], t.row1-t.row0, dk)
		}
	}
	t.row0, t.row1 = 0, n // every key reads
	t.readers(errors)
	t.headGradients(guard, s, 1)
	kernel.Add(t.dk[:n*dk], t.dq)
	packMat(t.st, kernel.Rows(ds, dv), dk, dv)
	switch t.Decay {
	case NoDecay:
		t.mulPanels(true, n, dk, dv, w, t.st, kernel.Rows(t.dk, dk))
	case HeadDecay:
		t.throughHead(w, s, ds)
		t.addDecayGrads()
	default:
		t.throughState(w)
		t.throughDecay(s, ds)
		t.addDecayGrads()
	}
	addRows(t.keyRows(&t.g.K), t.dk, n, dk)
}

// endedKeys returns the keys with their decays to the end of the chunk.
func (t *ruleGrad) endedKeys() []float32 {
	n := t.n * t.c.KeyDim
	switch t.Decay {
	case NoDecay:
		return t.k
	case HeadDecay:
		copy(t.gate.rows, t.k[:n])
		kernel.ScaleRows(t.head.end[:t.n], kernel.Rows(t.gate.rows, t.c.KeyDim), t.c.KeyDim)
	default:
		product(t.gate.rows[:n], t.k, t.gate.toEnd)
	}
	return t.gate.rows
}

// readers solves for dW, adds the gradients of v and β, and makes the keys the queries and dR the gradient of their outputs.
func (t *ruleGrad) readers(errors []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	copy(t.q, t.k[:n*dk])
	t.weights(0)
	a, dw, dr := kernel.Rows(t.a, t.Chunk), kernel.Rows(t.dv, dv), kernel.Rows(t.do, dv)
	b, db, gv := t.keyRows(beta(t.c.Extra)), t.keyRows(beta(t.g.Extra)), t.keyRows(&t.g.V)
	for end := n; end > 0; {
		i0 := (end - 1) / ruleRows * ruleRows
		kernel.MulAdd(end-i0, dv, n-end, a.From(end, i0).T(), dr.From(end, 0), dw.From(i0, 0))
		for i := end - 1; i >= i0; i-- {
			row, x := t.do[i*dv:][:dv], t.dv[i*dv:][:dv]
			db.Data[i*db.Row] += kernel.Dot(x, errors[i*dv:])
			copy(row, x)
			kernel.Scale(-b.Data[i*b.Row], row)
			kernel.Axpy(-1, row, gv.Data[i*gv.Row:])
			for j := i0; j < i; j++ {
				kernel.Axpy(t.a[i*t.Chunk+j], row, t.dv[j*dv:])
			}
		}
		end = i0
	}
}

// headGradients sets dq, and adds to dk, dg and u, for the queries in q, their weights in a and their gradients in do. A query of
// row i reads the w of rows up to i - behind.
func (t *ruleGrad) headGradients(guard bool, s []float32, behind int) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	q, do, da := kernel.Rows(t.q, dk), kernel.Rows(t.do, dv), kernel.Rows(t.da, t.Chunk)
	guard = guard || !RowsFinite(q, n, dk) || !RowsFinite(do, n, dv)
	t.lowerProduct(0, n, dv, do, t.vt, da)
	t.clearUpper(0, da)
	if behind > 0 {
		for i := range n {
			t.da[i*t.Chunk+i] = 0
		}
	}
	t.contributeGrad()
	switch t.Decay {
	case ChannelDecay:
		t.gatedGradients(da)
	case HeadDecay:
		t.headDecayGradients(da, guard)
	default:
		t.readGradients(s)
		t.lowerMul(guard, 0, n, dk, da, kernel.Rows(t.k, dk), kernel.Rows(t.dq, dk))
		upperMul(guard, n, dk, da, q, kernel.Rows(t.dk, dk))
	}
}
