package tile

import (
	"math"
	"runtime"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Forward computes c.Out, and c.Final unless nil, from a call that has passed Check.
//
// A task takes some heads of a segment and goes through its blocks in turn, all its heads at each block: so memory is
// read about in the order in which it lies, [time, heads, dim]. With more workers than heads it takes some columns of the
// values of one head. Columns are computed independently, so the bits do not depend on the sharing.
func (r *Recurrence) Forward(ws *attn.Workspace, c *attn.Call) {
	c.ZeroPadding()
	for i := range c.NumSegments() {
		if c.Mask == attn.Causal {
			zeroQueries(c, c.Segment(i))
		}
	}
	a := r.args(c)
	a.initial, a.final = c.Initial, c.Final
	r.forward(ws, a)
}

// args returns the pass over all segments of c.
func (r *Recurrence) args(c *attn.Call) recurArgs {
	a := recurArgs{Recurrence: *r, c: c, hi: c.NumSegments()}
	if a.Scale == 0 {
		a.Scale = float32(1 / math.Sqrt(float64(c.KeyDim)))
	}
	return a
}

// zeroQueries clears the outputs of queries in front of the first key.
func zeroQueries(c *attn.Call, g attn.Segment) {
	for i := range min(g.Queries, -g.Offset()) {
		for h := range c.Heads {
			clear(c.Out.Row(g.Row, g.Query0+i, h))
		}
	}
}

func (r *Recurrence) forward(ws *attn.Workspace, a recurArgs) {
	mark := ws.Mark()
	a.plan(ws)
	c, s := a.c, a.c.Shape
	if a.causal() {
		if c.Saved != nil {
			a.records = c.Saved.Floats(a.keyChunks() * r.recordLen(s))
		}
	} else if c.Saved != nil {
		a.sums = c.Saved.Floats(a.heads() * r.stateLen(s))
	} else {
		a.sums = ws.Floats(a.heads() * r.stateLen(s))
	}
	if c.Saved != nil && r.Normalize {
		a.factors = c.Saved.Floats(s.Batch * s.Heads * s.QueryLen)
	}
	a.share()
	attn.Parallel(ws, c.NumSegments()*a.groups*a.panels, r.reserve(r.forwardFloats(s)), a, forwardTask)
	if !a.causal() {
		attn.Parallel(ws, a.queryChunks(), r.reserve(r.forwardFloats(s)), a, readTask)
	}
	ws.Release(mark)
}

// headsATask is the most heads that a task takes: their states and the rows that they read stay in the second cache.
const headsATask = 8

// share cuts the work of forward in tasks: as few as keep all workers busy.
func (a *recurArgs) share() {
	workers, pairs, s := runtime.GOMAXPROCS(0), a.heads(), a.c.Shape
	least := (s.KVHeads + headsATask - 1) / headsATask
	a.groups, a.panels = min(max(least, (workers+a.hi-a.lo-1)/max(1, a.hi-a.lo)), s.KVHeads), 1
	// Panels of columns share the normaliser: where a state is changed in place, one panel would read what another has written.
	if pairs > 0 && pairs < workers && !a.Dual && !(a.Normalize && a.byRow) {
		a.panels = min((workers+pairs-1)/pairs, (s.ValueDim+lanes-1)/lanes)
	}
}

// forwardTask does some heads of a segment, or some columns of one.
func forwardTask(s *attn.Scratch, a *recurArgs, task int) {
	panel, task := task%a.panels, task/a.panels
	group, seg := task%a.groups, task/a.groups
	columns := (a.c.ValueDim + lanes - 1) / lanes
	from, to := panel*columns/a.panels*lanes, min((panel+1)*columns/a.panels*lanes, a.c.ValueDim)
	a.segment(s, seg, group*a.c.KVHeads/a.groups, (group+1)*a.c.KVHeads/a.groups, from, to)
}

// segment goes through segment seg with key/value heads kv0 ≤ kv < kv1 and columns from to to of the values.
func (a *recurArgs) segment(s *attn.Scratch, seg, kv0, kv1, from, to int) {
	t := newBlock(s, a, from, to)
	g := a.c.Segment(seg)
	states := s.Floats(min(headsATask, a.c.KVHeads) * a.workLen(a.c.Shape))
	work := func(kv int) []float32 { return states[(kv-kv0)*a.workLen(a.c.Shape):][:a.workLen(a.c.Shape)] }
	for kv := kv0; kv < kv1; kv++ {
		t.use(work(kv))
		t.load(a.state(a.initial, seg, kv))
		if a.Before {
			t.readInitial(g, kv)
		}
	}
	for first := 0; first < g.Keys; {
		chunk := first / a.Chunk
		n := min(t.rows, (chunk+1)*a.Chunk-first)
		for kv := kv0; kv < kv1; kv++ {
			t.use(work(kv))
			t.at(g, kv, first, n)
			if kv+1 < kv1 {
				t.expect(g, kv+1, first, n)
			} else if next := first + n; next < g.Keys {
				t.expect(g, kv0, next, min(t.rows, (next/a.Chunk+1)*a.Chunk-next))
			} else {
				t.expect(g, kv, g.Keys, 0)
			}
			t.loadKeys()
			if a.records != nil {
				t.record(a.record(kv, int(a.keys[seg])+chunk), first == chunk*a.Chunk)
			}
			switch {
			case a.Dual:
				t.emitDual()
			case a.causal():
				t.emit()
			}
			t.update()
		}
		first += n
	}
	for kv := kv0; kv < kv1; kv++ {
		t.use(work(kv))
		t.store(a.state(a.final, seg, kv))
		if a.sums != nil {
			t.store(a.sum(a.sums, seg, kv))
		}
	}
}

// readTask computes the outputs of one query chunk from the state of all keys.
func readTask(s *attn.Scratch, a *recurArgs, task int) {
	kv, chunk := a.chunk(a.queries, task)
	seg, i := find(a.queries, chunk)
	t := newBlock(s, a, 0, a.c.ValueDim)
	t.use(s.Floats(a.workLen(a.c.Shape)))
	t.load(a.sum(a.sums, seg, kv))
	g := a.c.Segment(seg)
	for first, end := i*a.Chunk, min((i+1)*a.Chunk, g.Queries); first < end; first += t.rows {
		t.atQueries(g, kv, first, min(t.rows, end-first))
		t.emit()
	}
}

// use makes x, of workLen, the state that the block works on.
func (t *recurBlock) use(x []float32) {
	n := (t.c.KeyDim + t.rows) * t.width
	t.s, t.z = x[:n], x[n:]
	if !t.Normalize {
		t.z = nil
	} else {
		t.z = t.z[:t.c.KeyDim]
	}
}

// workLen is a state with room for the values of a block behind S: then both are one operand.
func (r *Recurrence) workLen(s attn.Shape) int {
	n := (s.KeyDim + r.rows()) * s.ValueDim
	if r.Normalize {
		n += s.KeyDim
	}
	return n
}

// load copies the block's columns from a state; nil is zeros.
func (t *recurBlock) load(x []float32) {
	n := t.c.KeyDim * t.width
	if x == nil {
		clear(t.s[:n])
		clear(t.z)
		return
	}
	kernel.Copy(kernel.Rows(t.s, t.width), kernel.Rows(x, t.c.ValueDim).From(0, t.from), t.c.KeyDim, t.width)
	copy(t.z, x[t.c.KeyDim*t.c.ValueDim:])
}

// store is the way back; a nil x keeps nothing.
func (t *recurBlock) store(x []float32) {
	if x == nil {
		return
	}
	kernel.Copy(kernel.Rows(x, t.c.ValueDim).From(0, t.from), kernel.Rows(t.s, t.width), t.c.KeyDim, t.width)
	if t.from == 0 {
		copy(x[t.c.KeyDim*t.c.ValueDim:], t.z)
	}
}

// record keeps for Backward the state before a chunk, from its first block, and the sums of its log decays.
func (t *recurBlock) record(x []float32, first bool) {
	sums := x[t.stateLen(t.c.Shape):]
	if first {
		t.store(x[:t.stateLen(t.c.Shape)])
	}
	if t.from > 0 {
		return
	}
	if first {
		clear(sums)
	}
	kernel.Add(sums, t.decay.sums)
}
