package sparse

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// lshWork is what a pass works with: the tokens of each head sorted, one round after another.
type lshWork struct {
	o        LSH
	call     attn.Call
	segments []attn.Segment // of the call, queries and keys equally many
	rope     *attn.Rope
	round    int
	cols     int        // columns of planes
	planes   []float32  // [key dim, cols] of the round
	order    []int32    // [rounds, batch, heads, tokens] places in a segment, sorted
	cos, sin []float32  // [tokens, pairs]
	q, k, v  attn.View  // sorted: rotated queries, rotated keys of length 1, values
	out      attn.View  // forward: of the round; backward: the whole one, sorted
	lse      []float32  // the same: log₂ of the softmax sums
	total    []float32  // of all rounds, in place
	grads    attn.Grads // backward: of the call
	sorted   attn.Grads // backward: of the sorted
}

func (m lsh) newWork(ws *attn.Workspace, c *attn.Call, order []int32, total []float32) lshWork {
	n := c.Batch * c.KeyLen * c.Heads
	view := func(dim int) attn.View { return attn.ViewAs(ws.Floats(n*dim), c.Batch, c.KeyLen, c.Heads, dim) }
	w := lshWork{o: m.o, call: *c, rope: c.Rope, cols: ceil(m.o.chunks(c.KeyLen), 2), order: order, total: total}
	w.call.Saved = nil
	w.planes = ws.Floats(c.KeyDim * w.cols)
	w.cos, w.sin = ws.Floats(c.KeyLen*c.KeyDim), ws.Floats(c.KeyLen*c.KeyDim)
	w.q, w.k, w.v, w.out, w.lse = view(c.KeyDim), view(c.KeyDim), view(c.ValueDim), view(c.ValueDim), ws.Floats(n)
	w.segments = m.segments.Take()
	for i := range c.NumSegments() {
		g := c.Segment(i)
		g.Queries = min(g.Queries, g.Keys)
		g.Keys = g.Queries
		w.segments = append(w.segments, g)
	}
	if w.rope != nil {
		pairs := w.rope.Pairs(c.KeyDim)
		for t := range c.KeyLen {
			w.rope.Angles(w.cos[t*pairs:], w.sin[t*pairs:], t, c.KeyDim)
		}
	}
	return w
}

// workBytes is the scratch of newWork.
func (m lsh) workBytes(s attn.Shape) int64 {
	n := s.Batch * s.KeyLen * s.Heads
	return 4 * int64(attn.ScratchFloats(s.KeyDim*ceil(m.o.chunks(s.KeyLen), 2), s.KeyLen*s.KeyDim, s.KeyLen*s.KeyDim,
		n*s.KeyDim, n*s.KeyDim, n*s.ValueDim, n*s.ValueDim, n))
}

// places returns the order of a head of a segment in the round.
func (w *lshWork) places(g attn.Segment, h int) []int32 {
	c := &w.call
	return w.order[((w.round*c.Batch+g.Row)*c.Heads+h)*c.KeyLen+g.Key0:][:g.Keys]
}

// turn rotates a row to a position of its sequence.
func (w *lshWork) turn(dst, src []float32, pos int) {
	if w.rope == nil {
		copy(dst, src)
		return
	}
	pairs := w.rope.Pairs(len(src))
	w.rope.Turn(dst, src, w.cos[pos*pairs:][:pairs], w.sin[pos*pairs:][:pairs])
}

// callOf is the call over the sorted sequences.
func (w *lshWork) callOf() attn.Call {
	c := w.call
	c.Q, c.K, c.V, c.Out, c.Segments, c.Aux = w.q, w.k, w.v, w.out, w.segments, nil
	return c
}

// draw fills the planes of the round.
func (w *lshWork) draw() {
	for p := range w.cols {
		draw := newPlane(w.call.Seed, w.call.Layer, w.round, p)
		for e := range w.call.KeyDim {
			w.planes[e*w.cols+p] = draw.next()
		}
	}
}

func (m lsh) hashFloats(s attn.Shape) int {
	cols := ceil(m.o.chunks(s.KeyLen), 2)
	return attn.ScratchFloats(tile.Lanes*cols, s.KeyLen, 2*cols+1)
}

// sort finds the order of one head of a segment in the round.
func (w *lshWork) sort(s *attn.Scratch, task int) {
	c := &w.call
	g, h := w.segments[task/c.Heads], task%c.Heads
	x, bucket, start := s.Floats(tile.Lanes*w.cols), s.Ints(c.KeyLen), s.Ints(2*w.cols+1)
	u := ceil(w.o.chunks(g.Keys), 2)
	clear(start[:2*u+1])
	for i := 0; i < g.Keys; i += tile.Lanes {
		n := min(tile.Lanes, g.Keys-i)
		tile.Mul(n, u, c.KeyDim, tile.HeadRows(&c.Q, g.Row, g.Query0+i, h), tile.Rows(w.planes, w.cols), tile.Rows(x, w.cols))
		for l := range n {
			b := largestSign(x[l*w.cols:][:u])
			bucket[i+l] = int32(b)
			start[b+1]++
		}
	}
	for b := range 2 * u {
		start[b+1] += start[b]
	}
	places := w.places(g, h)
	for i, b := range bucket[:g.Keys] {
		places[start[b]] = int32(i)
		start[b]++
	}
}

// largestSign returns the index of the largest of [x, -x], of equal ones the first.
func largestSign(x []float32) int {
	best, at := float32(math.Inf(-1)), 0
	for b, y := range x {
		if y > best {
			best, at = y, b
		}
	}
	for b, y := range x {
		if -y > best {
			best, at = -y, len(x)+b
		}
	}
	return at
}

// gather sorts the tokens of one head of a segment.
func (w *lshWork) gather(task int) {
	c := &w.call
	g, h := w.segments[task/c.Heads], task%c.Heads
	for x, i := range w.places(g, h) {
		j := int(i)
		w.turn(w.q.Row(g.Row, g.Query0+x, h), c.Q.Row(g.Row, g.Query0+j, h), j)
		k := w.k.Row(g.Row, g.Key0+x, h)
		w.turn(k, c.K.Row(g.Row, g.Key0+j, h), j)
		f := 1 / length(k)
		for e := range k {
			k[e] *= f
		}
		copy(w.v.Row(g.Row, g.Key0+x, h), c.V.Row(g.Row, g.Key0+j, h))
	}
}

func length(x []float32) float32 { return float32(math.Max(math.Sqrt(float64(tile.Dot(x, x))), tiny)) }

// merge takes what the round gave into the output of one head of a segment.
func (w *lshWork) merge(task int) {
	c := &w.call
	g, h := w.segments[task/c.Heads], task%c.Heads
	for x, i := range w.places(g, h) {
		at := (g.Row*c.Heads + h) * c.KeyLen
		total := &w.total[at+g.Query0+int(i)]
		before := math.Inf(-1)
		if w.round > 0 {
			before = float64(*total)
		}
		*total = float32(tile.Merge(c.Out.Row(g.Row, g.Query0+int(i), h), before*math.Ln2,
			w.out.Row(g.Row, g.Query0+x, h), float64(w.lse[at+g.Query0+x])*math.Ln2) / math.Ln2)
	}
}

// Forward computes the output. With c.Saved set, the orders and the sums stay there.
func (m lsh) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	if c.Batch == 0 || c.KeyLen == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	n := c.Batch * c.Heads * c.KeyLen
	var total []float32
	var order []int32
	if c.Saved != nil {
		total, order = c.Saved.Floats(n), c.Saved.Ints(n*m.o.Rounds)
	} else {
		total, order = ws.Floats(n), ws.Ints(n*m.o.Rounds)
	}
	for i := range c.NumSegments() { // queries without a key
		g := c.Segment(i)
		for j := g.Query0; j < g.Query0+g.Queries; j++ {
			for h := range c.Heads {
				clear(c.Out.Row(g.Row, j, h))
			}
		}
	}
	w := m.newWork(ws, c, order, total)
	defer m.segments.Put(w.segments)
	hash := m.hashFloats(c.Shape)
	engine := m.engine.Reserve(hash)
	tasks := len(w.segments) * c.Heads
	for w.round = range m.o.Rounds {
		w.draw()
		attn.Parallel(ws, tasks, hash, w, func(s *attn.Scratch, w *lshWork, task int) { w.sort(s, task) })
		attn.Parallel(ws, tasks, 0, w, func(_ *attn.Scratch, w *lshWork, task int) { w.gather(task) })
		d := w.callOf()
		engine.ForwardPart(ws, &d, w.lse)
		attn.Parallel(ws, tasks, 0, w, func(_ *attn.Scratch, w *lshWork, task int) { w.merge(task) })
	}
	return nil
}

// Backward adds the gradients of q, k and v; the orders are held fixed.
func (m lsh) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	if c.Batch == 0 || c.KeyLen == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	w := m.newWork(ws, c, c.Saved.PartInts(1), c.Saved.Part(0))
	defer m.segments.Put(w.segments)
	n := c.Batch * c.KeyLen * c.Heads
	view := func(dim int) attn.View { return attn.ViewAs(ws.Floats(n*dim), c.Batch, c.KeyLen, c.Heads, dim) }
	w.grads = *g
	w.sorted = attn.Grads{Out: view(c.ValueDim), Q: view(c.KeyDim), K: view(c.KeyDim), V: view(c.ValueDim)}
	tasks := len(w.segments) * c.Heads
	for w.round = range m.o.Rounds {
		attn.Parallel(ws, tasks, 0, w, func(_ *attn.Scratch, w *lshWork, task int) { w.gatherGrads(task) })
		d := w.callOf()
		m.engine.BackwardSums(ws, &d, &w.sorted, w.lse)
		attn.Parallel(ws, tasks, c.KeyDim, w, func(s *attn.Scratch, w *lshWork, task int) { w.scatter(s, task) })
	}
	return nil
}

// gatherGrads sorts what the backward pass of a round takes.
func (w *lshWork) gatherGrads(task int) {
	w.gather(task)
	c := &w.call
	g, h := w.segments[task/c.Heads], task%c.Heads
	at := (g.Row*c.Heads + h) * c.KeyLen
	for x, i := range w.places(g, h) {
		from, to := g.Query0+int(i), g.Query0+x
		copy(w.out.Row(g.Row, to, h), c.Out.Row(g.Row, from, h))
		copy(w.sorted.Out.Row(g.Row, to, h), w.grads.Out.Row(g.Row, from, h))
		w.lse[at+to] = w.total[at+from]
		clear(w.sorted.Q.Row(g.Row, to, h))
		clear(w.sorted.K.Row(g.Row, to, h))
		clear(w.sorted.V.Row(g.Row, to, h))
	}
}

// scatter adds the gradients of a round to those of the tokens. For a key k of length 1 made of x = |x|·k it is
//
//	dx = (dk - k(k·dk))/|x|
func (w *lshWork) scatter(s *attn.Scratch, task int) {
	c := &w.call
	g, h := w.segments[task/c.Heads], task%c.Heads
	back := s.Floats(c.KeyDim)
	for x, i := range w.places(g, h) {
		j := int(i)
		w.turnBack(back, w.sorted.Q.Row(g.Row, g.Query0+x, h), j)
		tile.Axpy(1, back, w.grads.Q.Row(g.Row, g.Query0+j, h))
		k, dk := w.k.Row(g.Row, g.Key0+x, h), w.sorted.K.Row(g.Row, g.Key0+x, h)
		if size := length(c.K.Row(g.Row, g.Key0+j, h)); size > tiny {
			along := tile.Dot(k, dk)
			for e := range dk {
				dk[e] = (dk[e] - along*k[e]) / size
			}
			w.turnBack(back, dk, j)
			tile.Axpy(1, back, w.grads.K.Row(g.Row, g.Key0+j, h))
		}
		tile.Axpy(1, w.sorted.V.Row(g.Row, g.Key0+x, h), w.grads.V.Row(g.Row, g.Key0+j, h))
	}
}

// turnBack rotates a row back from a position.
func (w *lshWork) turnBack(dst, src []float32, pos int) {
	if w.rope == nil {
		copy(dst, src)
		return
	}
	n := w.rope.Pairs(len(src))
	cos, sin := w.cos[pos*n:][:n], w.sin[pos*n:][:n]
	copy(dst, src)
	for p := range n {
		a, b := p, p+n
		if w.rope.Pairing == attn.Neighbours {
			a, b = 2*p, 2*p+1
		}
		dst[a], dst[b] = float32(src[a]*cos[p])+float32(src[b]*sin[p]), float32(src[b]*cos[p])-float32(src[a]*sin[p])
	}
}

func (m lsh) cost(s attn.Shape, p attn.Pass) attn.Cost {
	rounds, heads := int64(m.o.Rounds), int64(s.Heads)
	c := m.engine.Cost(s, p, rounds*heads*m.o.pairs(s.KeyLen))
	c.State, c.Read = 0, 0
	n := s.Batch * s.Heads * s.KeyLen
	saved := 4 * int64(attn.ScratchFloats(n)+attn.ScratchFloats(n*m.o.Rounds))
	empty := s.Batch == 0 || s.KeyLen == 0
	if p == attn.PassForward {
		c.FLOPs += 2 * rounds * heads * int64(s.Batch) * int64(s.KeyLen) * int64(s.KeyDim) * int64(ceil(m.o.chunks(s.KeyLen), 2))
		c.Saved = saved
	}
	c.Shared, c.PerWorker = 0, 0
	if empty || p == attn.PassDecode {
		return c
	}
	var shared int64
	if p == attn.PassForward {
		shared, c.PerWorker = m.engine.Reserve(m.hashFloats(s)).Scratch(s, p)
		c.Shared = m.workBytes(s) + saved + shared
		return c
	}
	shared, c.PerWorker = m.engine.Scratch(s, p)
	c.Shared = m.workBytes(s) + shared + 4*int64(attn.ScratchFloats(n*s.ValueDim, n*s.KeyDim, n*s.KeyDim, n*s.ValueDim))
	c.Bytes += saved
	return c
}
