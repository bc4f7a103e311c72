package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Backward adds to the gradients in g, for calls that have passed Check, from what Forward left in
// c.Saved: the state before each chunk (of all keys, without the causal mask) and, with Normalize,
// the factors r.
func (r *Recurrence) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	mark := ws.Mark()
	a := r.args(c)
	a.g = g
	a.plan(ws)
	if a.causal() {
		a.records = c.Saved.Part(r.Part)
	} else {
		a.sums = c.Saved.Part(r.Part)
	}
	if r.Normalize {
		a.factors = c.Saved.Part(r.Part + 1)
	}
	if r.Own != OwnNothing {
		a.down = ws.Zeros(c.NumSegments() * c.Heads * r.Own.width(c.Shape))
	}
	if !keysOverlap(c) {
		r.backward(ws, a)
	} else { // segments that share keys add to the same gradients: one after the other
		for i := range c.NumSegments() {
			a.lo, a.hi = i, i+1
			r.backward(ws, a)
		}
	}
	if r.Own != OwnNothing {
		for n := c.Heads * r.Own.width(c.Shape); len(a.down) > 0; a.down = a.down[n:] {
			kernel.Add(g.Learned[0], a.down[:n])
		}
	}
	ws.Release(mark)
}

// keysOverlap reports whether two segments may share keys.
func keysOverlap(c *attn.Call) bool {
	for i := 1; i < len(c.Segments); i++ {
		a, b := c.Segments[i-1], c.Segments[i]
		if a.Row == b.Row && b.Key0 < a.Key0+a.Keys {
			return true
		}
	}
	return false
}

func (r *Recurrence) backward(ws *attn.Workspace, a recurArgs) {
	mark := ws.Mark()
	s := a.c.Shape
	floats := r.reserve(r.backwardFloats(s))
	split := a.heads() < recurSplit
	n := r.stateLen(s)
	switch {
	case a.causal() && split:
		a.grads = ws.Floats(last(a.keys) * s.KVHeads * n)
		attn.Parallel(ws, a.keyChunks(), floats, a, gradContributeTask)
		attn.Parallel(ws, a.heads(), floats, a, gradScanTask)
		attn.Parallel(ws, a.keyChunks(), floats, a, gradTask)
	case a.causal():
		a.share()
		attn.Parallel(ws, (a.hi-a.lo)*a.groups, floats, a, gradHeadTask)
	default:
		a.dsums = ws.Floats(a.c.NumSegments() * s.KVHeads * n)
		if split {
			a.grads = ws.Floats(last(a.queries) * s.KVHeads * n)
			attn.Parallel(ws, a.queryChunks(), floats, a, gradReadTask)
		}
		attn.Parallel(ws, a.heads(), floats, a, gradSumTask)
		attn.Parallel(ws, a.keyChunks(), floats, a, gradWriteTask)
	}
	if a.Own != OwnNothing {
		attn.Parallel(ws, a.heads(), floats, a, ownGradTask)
	}
	ws.Release(mark)
}

// grad returns the gradient of the state that belongs to a chunk.
func (a *recurArgs) grad(starts []int32, kv, chunk int) []float32 {
	n := a.stateLen(a.c.Shape)
	i := (kv*last(starts) + chunk) * n
	return a.grads[i : i+n]
}

// loadFinal and storeInitial are the ends of the chain of state gradients.
func (a *recurArgs) loadFinal(s []float32, seg, kv int) {
	if x := a.state(a.g.Final, seg, kv); x != nil {
		copy(s, x)
	} else {
		clear(s)
	}
}

func (a *recurArgs) storeInitial(seg, kv int, s []float32) {
	if x := a.state(a.g.Initial, seg, kv); x != nil {
		kernel.Axpy(1, s, x)
	}
}

// gradContributeTask writes what the outputs of one chunk ask of the state before it.
func gradContributeTask(s *attn.Scratch, a *recurArgs, task int) {
	kv, chunk := a.chunk(a.keys, task)
	seg, i := find(a.keys, chunk)
	t := newBackward(s, a)
	t.atChunk(a.c.Segment(seg), kv, i)
	t.loadGate()
	clear(t.u)
	if t.row0 < t.row1 {
		for h := range t.group() {
			t.loadQueries(t.queryHead(h))
			t.loadOutGrads(t.queryHead(h))
			t.contributeGrad()
		}
	}
	copy(a.grad(a.keys, kv, chunk), t.u)
}

// gradScanTask turns these contributions into the gradients of the states after the chunks.
func gradScanTask(s *attn.Scratch, a *recurArgs, task int) {
	seg, kv := a.head(task)
	t := newBackward(s, a)
	n := len(t.s)
	a.loadFinal(t.s, seg, kv)
	for chunk := int(a.keys[seg+1]) - 1; chunk >= int(a.keys[seg]); chunk-- {
		ds := a.grad(a.keys, kv, chunk)
		copy(t.u, ds)
		copy(ds, t.s)
		t.advance(t.s, a.record(kv, chunk)[n:], t.u)
		a.flush(t.s, a.before(a.c.Segment(seg), (chunk-int(a.keys[seg]))*a.Chunk), a.Chunk)
	}
	a.readInitialGrad(seg, kv, t.s)
	a.storeInitial(seg, kv, t.s)
}

// gradTask computes the input gradients of one chunk.
func gradTask(s *attn.Scratch, a *recurArgs, task int) {
	kv, chunk := a.chunk(a.keys, task)
	seg, i := find(a.keys, chunk)
	t := newBackward(s, a)
	t.atChunk(a.c.Segment(seg), kv, i)
	t.loadKeys()
	t.gradients(a.record(kv, chunk), a.grad(a.keys, kv, chunk))
}

// gradHeadTask does some heads of one segment in turn, from the last chunk to the first.
func gradHeadTask(s *attn.Scratch, a *recurArgs, task int) {
	group, seg := task%a.groups, a.lo+task/a.groups
	kv0, kv1 := group*a.c.KVHeads/a.groups, (group+1)*a.c.KVHeads/a.groups
	t := newBackward(s, a)
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
			t.loadKeys()
			ds := states[kv-kv0]
			t.gradients(a.record(kv, int(a.keys[seg])+i), ds)
			t.advance(ds, t.decaySums(), t.u)
			a.flush(ds, a.before(g, i*a.Chunk), a.Chunk)
		}
	}
	for kv := kv0; kv < kv1; kv++ {
		a.readInitialGrad(seg, kv, states[kv-kv0])
		a.storeInitial(seg, kv, states[kv-kv0])
	}
}

// gradReadTask computes, without the causal mask, the query gradients of one chunk and what it asks
// of the state of all keys.
func gradReadTask(s *attn.Scratch, a *recurArgs, task int) {
	kv, chunk := a.chunk(a.queries, task)
	seg, i := find(a.queries, chunk)
	t := newBackward(s, a)
	t.atQueryChunk(a.c.Segment(seg), kv, i)
	t.queryGradients(a.sum(a.sums, seg, kv))
	copy(a.grad(a.queries, kv, chunk), t.u)
}

// gradSumTask adds up the gradient of the state of all keys of one head.
func gradSumTask(s *attn.Scratch, a *recurArgs, task int) {
	seg, kv := a.head(task)
	t := newBackward(s, a)
	a.loadFinal(t.s, seg, kv)
	for chunk := int(a.queries[seg]); chunk < int(a.queries[seg+1]); chunk++ {
		if a.grads != nil {
			t.advance(t.s, nil, a.grad(a.queries, kv, chunk))
			continue
		}
		t.atQueryChunk(a.c.Segment(seg), kv, chunk-int(a.queries[seg]))
		t.queryGradients(a.sum(a.sums, seg, kv))
		t.advance(t.s, nil, t.u)
	}
	copy(a.sum(a.dsums, seg, kv), t.s)
	a.storeInitial(seg, kv, t.s)
}

// gradWriteTask computes, without the causal mask, the key and value gradients of one chunk.
func gradWriteTask(s *attn.Scratch, a *recurArgs, task int) {
	kv, chunk := a.chunk(a.keys, task)
	seg, i := find(a.keys, chunk)
	t := newBackward(s, a)
	t.atChunk(a.c.Segment(seg), kv, i)
	t.loadKeys()
	clear(t.dk[:t.n*a.c.KeyDim])
	clear(t.dv[:t.n*a.c.ValueDim])
	t.writeGradients(nil, a.sum(a.dsums, seg, kv))
}
