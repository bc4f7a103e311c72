package linear

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// nystromPart is sequences of equally many queries and keys: all rows of a call, or one segment of it.
type nystromPart struct {
	m      nystrom
	call   attn.Call  // of the part alone, without segments
	grads  attn.Grads // the same
	row    int        // of the whole call, that is the part's first
	worker int        // floats of scratch
	sums   []float32  // [rows, heads, queries] of the softmax of F, or of the exact one
	// With landmarks: those of queries and keys, BV and ZBV, all [rows, landmarks, heads, ·]; and the softmax sums of B.
	q, k, w, y     attn.View
	sumsB          []float32
	dq, dk, dw, dy attn.View // gradients of q, k, w, y
	alone          attn.View // the output without the convolution, for gradients
	kernels        []float32 // [batch, heads, conv]: gradients of the kernels
}

// numParts returns how many parts a call has.
func numParts(c *attn.Call) int {
	if c.Segments == nil {
		return min(c.Batch, 1)
	}
	return len(c.Segments)
}

// part returns part i of a call; back is its gradients, or nil.
func (m nystrom) part(c *attn.Call, back *attn.Grads, i, worker int) nystromPart {
	g, n := c.Segment(i), 1
	if c.Segments == nil {
		n = c.Batch
	}
	p := nystromPart{m: m, call: *c, row: g.Row, worker: worker}
	p.call.Saved, p.call.Segments, p.call.Batch, p.call.QueryLen, p.call.KeyLen = nil, nil, n, g.Queries, g.Keys
	queries := func(v attn.View) attn.View { return stretchOf(v, g.Row, n, g.Query0, g.Queries) }
	keys := func(v attn.View) attn.View { return stretchOf(v, g.Row, n, g.Key0, g.Keys) }
	p.call.Q, p.call.Out, p.call.K, p.call.V = queries(c.Q), queries(c.Out), keys(c.K), keys(c.V)
	if back != nil {
		p.grads = attn.Grads{Out: queries(back.Out), Q: queries(back.Q), K: keys(back.K), V: keys(back.V)}
	}
	return p
}

// stretchOf returns the n rows of v from row on, and of them the times from t on.
func stretchOf(v attn.View, row, n, t, times int) attn.View {
	v.Data, v.Batch, v.Time = v.From(row, t, 0), n, times
	return v
}

func (p *nystromPart) exact() bool { return p.m.exact(p.call.QueryLen, p.call.KeyLen) }

// rows is how many landmarks the heads of all rows have together.
func (p *nystromPart) rows() int { return p.call.Batch * p.call.Heads * p.m.o.Landmarks }

func (p *nystromPart) room(ws *attn.Workspace, dim int) attn.View {
	return attn.ViewAs(ws.Floats(p.rows()*dim), p.call.Batch, p.m.o.Landmarks, p.call.Heads, dim)
}

// f and b are the calls of the products with F and with B.
func (p *nystromPart) f() attn.Call {
	c := p.call
	c.Shape, _ = p.m.halves(c.Shape)
	c.K, c.V, c.Learned = p.k, p.y, nil
	return c
}

func (p *nystromPart) b() attn.Call {
	c := p.call
	_, c.Shape = p.m.halves(c.Shape)
	c.Q, c.Out, c.Learned = p.q, p.w, nil
	return c
}

// means writes the landmarks of a head.
func (p *nystromPart) means(task int) {
	c := &p.call
	row, h := task/c.Heads, task%c.Heads
	for r := range p.m.o.Landmarks {
		lo, hi := p.m.stretch(r, c.QueryLen)
		mean(p.q.Row(row, r, h), &c.Q, row, h, lo, hi)
		lo, hi = p.m.stretch(r, c.KeyLen)
		mean(p.k.Row(row, r, h), &c.K, row, c.KVHead(h), lo, hi)
	}
}

func mean(dst []float32, x *attn.View, row, h, lo, hi int) {
	clear(dst)
	for t := lo; t < hi; t++ {
		tile.Axpy(1/float32(hi-lo), x.Row(row, t, h), dst)
	}
}

// convolve adds the convolution of the values to the output of a head, sign times.
func (p *nystromPart) convolve(s *attn.Scratch, sign float32, out *attn.View, task int) {
	c, n := &p.call, p.m.o.Conv
	row, h := task/c.Heads, task%c.Heads
	taps := s.Floats(n)
	for u, x := range c.Learned[0][h*n:][:n] {
		taps[u] = sign * x
	}
	for i := range c.QueryLen {
		first, lo, hi := p.m.window(i+c.KeyLen-c.QueryLen, c.KeyLen)
		if lo < hi {
			tile.Combine(out.Row(row, i, h), taps[lo:hi], tile.HeadRows(&c.V, row, first, c.KVHead(h)))
		}
	}
}

// without writes the output of a head as it is before the convolution.
func (p *nystromPart) without(s *attn.Scratch, task int) {
	row, h := task/p.call.Heads, task%p.call.Heads
	for i := range p.call.QueryLen {
		copy(p.alone.Row(row, i, h), p.call.Out.Row(row, i, h))
	}
	p.convolve(s, -1, &p.alone, task)
}

// Forward computes the output. With c.Saved set, the softmax sums, BV and ZBV stay there.
func (m nystrom) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	worker := m.workerFloats(c.Shape, attn.PassForward)
	engine := dense.Reserve(worker)
	var kept nystromKept
	if c.Saved != nil {
		kept.sums = c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
		if n := m.landmarks(c); n > 0 {
			kept.sumsB, kept.w, kept.y = c.Saved.Floats(n), c.Saved.Floats(n*c.ValueDim), c.Saved.Floats(n*c.ValueDim)
		}
	}
	for i := range numParts(c) {
		p := m.part(c, nil, i, worker)
		if c.Saved != nil {
			kept.take(&p)
		}
		if p.call.QueryLen == 0 {
			continue
		}
		if p.call.KeyLen == 0 {
			clearRows(&p.call.Out)
			continue
		}
		mark := ws.Mark()
		if c.Saved == nil && !p.exact() {
			p.sumsB, p.w, p.y = ws.Floats(p.rows()), p.room(ws, c.ValueDim), p.room(ws, c.ValueDim)
		}
		if p.exact() {
			engine.ForwardSums(ws, &p.call, p.sums)
		} else {
			p.landmarks(ws)
			b := p.b()
			engine.ForwardSums(ws, &b, p.sumsB)
			attn.Parallel(ws, p.call.Batch*c.Heads, worker, p, func(s *attn.Scratch, p *nystromPart, task int) { p.inner(s, task) })
			f := p.f()
			engine.ForwardSums(ws, &f, p.sums)
		}
		if m.o.Conv > 0 {
			attn.Parallel(ws, p.call.Batch*c.Heads, worker, p, func(s *attn.Scratch, p *nystromPart, task int) {
				p.convolve(s, 1, &p.call.Out, task)
			})
		}
		ws.Release(mark)
	}
	return nil
}

// nystromKept is what is left of what a call saves: of the parts to come.
type nystromKept struct{ sums, sumsB, w, y []float32 }

// take hands the next part its own.
func (k *nystromKept) take(p *nystromPart) {
	c := &p.call
	p.sums, k.sums = cut(k.sums, c.Batch*c.Heads*c.QueryLen)
	if p.exact() {
		return
	}
	p.sumsB, k.sumsB = cut(k.sumsB, p.rows())
	p.w = attn.ViewAs(k.w, c.Batch, p.m.o.Landmarks, c.Heads, c.ValueDim)
	p.y = attn.ViewAs(k.y, c.Batch, p.m.o.Landmarks, c.Heads, c.ValueDim)
	k.w, k.y = k.w[p.rows()*c.ValueDim:], k.y[p.rows()*c.ValueDim:]
}

// landmarks finds the landmarks.
func (p *nystromPart) landmarks(ws *attn.Workspace) {
	p.q, p.k = p.room(ws, p.call.KeyDim), p.room(ws, p.call.KeyDim)
	attn.Parallel(ws, p.call.Batch*p.call.Heads, p.worker, *p, func(_ *attn.Scratch, p *nystromPart, task int) { p.means(task) })
}

// landmarks counts the landmarks of all parts and heads of a call.
func (m nystrom) landmarks(c *attn.Call) (n int) {
	for i := range numParts(c) {
		if p := m.part(c, nil, i, 0); !p.exact() {
			n += p.rows()
		}
	}
	return n
}

func cut(x []float32, n int) (first, rest []float32) { return x[:n], x[n:] }

func clearRows(v *attn.View) {
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				clear(v.Row(b, t, h))
			}
		}
	}
}

// Backward adds the gradients of q, k, v and the kernels.
func (m nystrom) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	worker := m.workerFloats(c.Shape, attn.PassBackward)
	kept := nystromKept{sums: c.Saved.Part(0)}
	if m.landmarks(c) > 0 {
		kept.sumsB, kept.w, kept.y = c.Saved.Part(1), c.Saved.Part(2), c.Saved.Part(3)
	}
	var kernels []float32
	if m.o.Conv > 0 && c.QueryLen > 0 && c.KeyLen > 0 {
		kernels = ws.Zeros(c.Batch * c.Heads * m.o.Conv)
	}
	for i := range numParts(c) {
		p := m.part(c, g, i, worker)
		if p.call.QueryLen == 0 || p.call.KeyLen == 0 {
			kept.take(&p)
			continue
		}
		p.kernels = kernels
		kept.take(&p)
		inside := ws.Mark()
		p.backward(ws)
		ws.Release(inside)
	}
	for i, x := range kernels {
		g.Learned[0][i%(c.Heads*m.o.Conv)] += x
	}
	return nil
}

func (p *nystromPart) backward(ws *attn.Workspace) {
	c, engine := &p.call, dense.Reserve(p.worker)
	heads := c.Batch * c.Heads
	if p.m.o.Conv > 0 {
		attn.Parallel(ws, c.Batch*c.KVHeads, p.worker, *p, func(s *attn.Scratch, p *nystromPart, task int) { p.convolveGrads(s, task) })
		p.alone = attn.ViewAs(ws.Floats(heads*c.QueryLen*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
		attn.Parallel(ws, heads, p.worker, *p, func(s *attn.Scratch, p *nystromPart, task int) { p.without(s, task) })
		c.Out = p.alone
	}
	if p.exact() {
		engine.BackwardSums(ws, c, &p.grads, p.sums)
		return
	}
	p.landmarks(ws)
	p.dq, p.dk, p.dw, p.dy = p.room(ws, c.KeyDim), p.room(ws, c.KeyDim), p.room(ws, c.ValueDim), p.room(ws, c.ValueDim)
	clear(p.dk.Data)
	clear(p.dy.Data)
	f := p.f()
	engine.BackwardSums(ws, &f, &attn.Grads{Out: p.grads.Out, Q: p.grads.Q, K: p.dk, V: p.dy}, p.sums)
	attn.Parallel(ws, heads, p.worker, *p, func(s *attn.Scratch, p *nystromPart, task int) { p.innerGrads(s, task) })
	b := p.b()
	engine.BackwardSums(ws, &b, &attn.Grads{Out: p.dw, Q: p.dq, K: p.grads.K, V: p.grads.V}, p.sumsB)
	attn.Parallel(ws, c.Batch*c.KVHeads, p.worker, *p, func(_ *attn.Scratch, p *nystromPart, task int) { p.spread(task) })
}

// convolveGrads adds the gradients that the convolution has for the values of a key/value head and for its kernels:
//
//	dv[j] += Σ_i c[u] do[i],  dc[u] += Σ_i do[i]·v[j],  u = j - i + ⌊w/2⌋ - keys + queries
func (p *nystromPart) convolveGrads(s *attn.Scratch, task int) {
	c, n := &p.call, p.m.o.Conv
	row, kv, group := task/c.KVHeads, task%c.KVHeads, c.Heads/c.KVHeads
	taps, dots := s.Floats(n), s.Floats(n)
	for h := kv * group; h < (kv+1)*group; h++ {
		for u, x := range c.Learned[0][h*n:][:n] {
			taps[n-1-u] = x
		}
		for j := range c.KeyLen {
			if first, lo, hi := p.m.window(j+c.QueryLen-c.KeyLen, c.QueryLen); lo < hi {
				tile.Combine(p.grads.V.Row(row, j, kv), taps[lo:hi], tile.HeadRows(&p.grads.Out, row, first, h))
			}
		}
		sums := p.kernels[((p.row+row)*c.Heads+h)*n:][:n]
		for i := range c.QueryLen {
			if first, lo, hi := p.m.window(i+c.KeyLen-c.QueryLen, c.KeyLen); lo < hi {
				tile.Dots(dots, p.grads.Out.Row(row, i, h), tile.HeadRows(&c.V, row, first, kv), hi-lo)
				tile.Axpy(1, dots[:hi-lo], sums[lo:])
			}
		}
	}
}

// spread adds the gradients of the landmarks of a key/value head to those of the tokens that they are means of.
func (p *nystromPart) spread(task int) {
	c := &p.call
	row, kv, group := task/c.KVHeads, task%c.KVHeads, c.Heads/c.KVHeads
	for h := kv * group; h < (kv+1)*group; h++ {
		for r := range p.m.o.Landmarks {
			lo, hi := p.m.stretch(r, c.QueryLen)
			for t := lo; t < hi; t++ {
				tile.Axpy(1/float32(hi-lo), p.dq.Row(row, r, h), p.grads.Q.Row(row, t, h))
			}
			lo, hi = p.m.stretch(r, c.KeyLen)
			for t := lo; t < hi; t++ {
				tile.Axpy(1/float32(hi-lo), p.dk.Row(row, r, h), p.grads.K.Row(row, t, kv))
			}
		}
	}
}
