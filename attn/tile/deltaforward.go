package tile

import "attnbench/attn"

// Forward computes c.Out, and c.Final unless nil, from a call that has passed Check. Tasks are those of Recurrence.Forward.
func (d *Delta) Forward(ws *attn.Workspace, c *attn.Call) {
	c.ZeroPadding()
	for i := range c.NumSegments() {
		zeroQueries(c, c.Segment(i))
	}
	a := d.args(c)
	a.initial, a.final = c.Initial, c.Final
	d.forward(ws, a)
}

func (d *Delta) forward(ws *attn.Workspace, a ruleArgs) {
	mark := ws.Mark()
	a.plan(ws)
	c, s := a.c, a.c.Shape
	if c.Saved != nil {
		a.records = c.Saved.Floats(a.keyChunks() * a.recordLen(s))
		a.errors = c.Saved.Floats(a.keyChunks() * a.Chunk * s.ValueDim)
	}
	a.share()
	attn.Parallel(ws, c.NumSegments()*a.groups*a.panels, d.forwardFloats(s), a, ruleTask)
	ws.Release(mark)
}

// ruleTask does some heads of a segment, or some columns of one.
func ruleTask(s *attn.Scratch, a *ruleArgs, task int) {
	panel, task := task%a.panels, task/a.panels
	group, seg := task%a.groups, task/a.groups
	columns := (a.c.ValueDim + lanes - 1) / lanes
	from, to := panel*columns/a.panels*lanes, min((panel+1)*columns/a.panels*lanes, a.c.ValueDim)
	a.segment(s, seg, group*a.c.KVHeads/a.groups, (group+1)*a.c.KVHeads/a.groups, from, to)
}

// segment goes through segment seg with key/value heads kv0 ≤ kv < kv1 and columns from to to of the values.
func (a *ruleArgs) segment(s *attn.Scratch, seg, kv0, kv1, from, to int) {
	if a.erase {
		a.eraseSegment(s, seg, kv0, kv1, from, to)
		return
	}
	t := newRuleBlock(s, a, from, to)
	g, n := a.c.Segment(seg), a.workLen(a.c.Shape)
	states := s.Floats(min(headsATask, a.c.KVHeads) * n)
	work := func(kv int) []float32 { return states[(kv-kv0)*n:][:n] }
	for kv := kv0; kv < kv1; kv++ {
		t.use(work(kv))
		t.load(a.state(a.initial, seg, kv))
	}
	size := func(first int) int { return min(t.rows, (first/a.Chunk+1)*a.Chunk-first) }
	for first := 0; first < g.Keys; {
		chunk, n := first/a.Chunk, size(first)
		for kv := kv0; kv < kv1; kv++ {
			t.use(work(kv))
			t.at(g, kv, first, n)
			if kv+1 < kv1 {
				t.expect(g, kv+1, first, n)
			} else if next := first + n; next < g.Keys {
				t.expect(g, kv0, next, size(next))
			} else {
				t.expect(g, kv, g.Keys, 0)
			}
			t.loadKeys()
			errors := a.errorsOf(kv, int(a.keys[seg])+chunk)
			if a.records != nil {
				t.record(a.record(kv, int(a.keys[seg])+chunk), first == chunk*a.Chunk)
				errors = errors[(first-chunk*a.Chunk)*a.c.ValueDim:]
			}
			t.solve(errors)
			t.emit()
			t.update()
		}
		first += n
	}
	for kv := kv0; kv < kv1; kv++ {
		t.use(work(kv))
		t.store(a.state(a.final, seg, kv))
	}
}
