package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// Backward adds the gradients of q, k, v and the gates; the selection is held fixed.
func (m nsa) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	if c.Batch == 0 || c.QueryLen == 0 || c.KeyLen == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	sums := summarise(ws, m.layouts, m.Summary, c, nil)
	defer m.layouts.Put(sums.layout)
	e := m.engines(c.Shape, c.KeyLen/m.o.Block)
	e.reserve(c.Shape, attn.PassBackward, c.KeyLen/m.o.Block)
	part := 0
	floats := func(int) []float32 { part++; return c.Saved.Part(part - 1) }
	w := m.work(c, e.selected.ChoiceLen(c.Shape), floats, func(int) []int32 { return c.Saved.PartInts(part) })
	args := mixArgs{call: *c, work: w, grads: *g}
	args.call.Saved = nil
	args.scale = attn.ViewAs(ws.Floats(c.Batch*c.QueryLen*c.Heads*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	spread := spreadArgs{call: args.call, grads: *g, layout: sums.layout, summary: m.Summary, sums: sums.view}
	spread.sums.Data = ws.Zeros(c.Batch * sums.most * c.KVHeads * sums.view.Dim)
	for b := range branches {
		args.gated = b
		attn.Parallel(ws, c.NumSegments()*c.Heads, 0, args, func(_ *attn.Scratch, a *mixArgs, task int) { a.gate(task) })
		d, gr := args.call, *g
		d.Out, gr.Out = w.out[b], args.scale
		switch b {
		case compressed:
			over := m.over(c, sums, w.out[b])
			gr.K, gr.V = m.Summary.Parts(spread.sums, c.Shape)
			e.compressed.BackwardSums(ws, &over, &gr, w.lse[b])
		case selected:
			e.selected.BackwardSums(ws, &d, &gr, w.lse[b], w.choice)
		case windowed:
			e.windowed.BackwardSums(ws, &d, &gr, w.lse[b])
		}
	}
	attn.Parallel(ws, c.Batch*c.KVHeads, 0, spread, func(_ *attn.Scratch, a *spreadArgs, task int) { a.run(task) })
	return nil
}

// gate adds dg[b] = do·o[b] and computes g[b]·do, of one head of a segment.
func (a *mixArgs) gate(task int) {
	c := &a.call
	g, h := c.Segment(task/c.Heads), task%c.Heads
	for i := g.Query0; i < g.Query0+g.Queries; i++ {
		do, x := a.grads.Out.Row(g.Row, i, h), c.Extra[0].Row(g.Row, i, h)[a.gated]
		a.grads.Extra[0].Row(g.Row, i, h)[a.gated] += tile.Dot(do, a.work.out[a.gated].Row(g.Row, i, h))
		to := a.scale.Row(g.Row, i, h)
		for e, y := range do {
			to[e] = x * y
		}
	}
}

// spreadArgs adds the gradients of the summaries to those of the tokens that they are of.
type spreadArgs struct {
	call    attn.Call
	grads   attn.Grads
	layout  []attn.Segment
	summary tile.Summary
	sums    attn.View
}

func (a *spreadArgs) run(task int) {
	c := &a.call
	row, kv := task/c.KVHeads, task%c.KVHeads
	share := 1 / float32(a.summary.Block) // of a mean value; of a sum of keys each has all
	for i, to := range a.layout {
		if to.Row != row {
			continue
		}
		g := c.Segment(i)
		for j := range to.Keys * a.summary.Block {
			d := a.sums.Row(row, to.Key0+j/a.summary.Block, kv)
			tile.Axpy(1, d[:c.KeyDim], a.grads.K.Row(row, g.Key0+j, kv))
			tile.Axpy(share, d[c.KeyDim:], a.grads.V.Row(row, g.Key0+j, kv))
		}
	}
}

func (m nsa) cost(s attn.Shape, p attn.Pass) attn.Cost {
	b, g := m.o.Block, attn.Segment{Queries: s.QueryLen, Keys: s.KeyLen}
	pairs := int64(0) // of one head, of all branches
	for i := range s.QueryLen {
		if n := tile.Seen(s.Mask, g, i); n > 0 {
			before := (n - 1) / b
			pairs += int64(n/b + min(before, m.o.Top-1)*b + n - before*b + min(n, m.o.Window))
		}
	}
	c := m.Softmax.Cost(s, p, pairs*int64(s.Heads))
	c.Shared, c.PerWorker, c.Saved = 0, 0, 0
	blocks, rows := s.KeyLen/b, s.Batch*s.Heads*s.QueryLen
	e := m.engines(s, blocks)
	bytes := func(n int) int64 { return 4 * int64(attn.ScratchFloats(n)) }
	work := branches*(bytes(rows*s.ValueDim)+bytes(rows)) + bytes(e.selected.ChoiceLen(s))
	if p == attn.PassForward {
		c.Saved = work
	}
	if s.Batch == 0 || s.QueryLen == 0 || p == attn.PassBackward && s.KeyLen == 0 {
		return c
	}
	c.PerWorker = 4 * int64(e.reserve(s, p, blocks))
	sums := bytes(m.Summary.Floats(s))
	switch p {
	case attn.PassForward:
		c.Shared = sums + work
	case attn.PassBackward:
		c.Shared = 2*sums + bytes(rows*s.ValueDim)
		c.Bytes += work
	case attn.PassDecode:
		c.Shared = work
	}
	nested, _ := e.scratch(s, p)
	c.Shared += nested
	c.Bytes += 4 * int64(s.Batch*s.QueryLen*s.Heads*branches) // the gates
	return c
}
