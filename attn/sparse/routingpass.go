package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// routed is a pass over a call. What a cluster takes of a segment is a row of an inner call, that of full attention to what was taken:
// row segment·clusters + c, [rows, of, heads, ·] with of = Window or the longest segment, if that is shorter.
type routed struct {
	m            routing
	segment      int // of the task at hand
	call         attn.Call
	clusters     int
	inner        attn.Call
	queries      []int32 // [rows, heads, of]: the queries that each row has, in order
	keys         []int32 // [rows, kv heads, of]
	lse          []float32
	loss         []float32 // [segments, heads and key/value heads]: Σ(x/|x| - μ)²
	grads, taken attn.Grads
	aux          float32 // gradient of a number's square in the loss
}

// innerShape is the shape of the inner call for so many segments of at most so many queries and keys.
func (m routing) innerShape(s attn.Shape, segments, queries, keys int) attn.Shape {
	s.Batch, s.QueryLen, s.KeyLen = segments*m.o.clusters(s), min(m.o.Window, queries), min(m.o.Window, keys)
	s.Mask = attn.Cross
	return s
}

// shapeOf is that for a call.
func (m routing) shapeOf(c *attn.Call) attn.Shape {
	queries, keys := c.QueryLen, c.KeyLen
	if c.Segments != nil {
		queries, keys = 0, 0
		for _, g := range c.Segments {
			queries, keys = max(queries, g.Queries), max(keys, g.Keys)
		}
	}
	return m.innerShape(c.Shape, c.NumSegments(), queries, keys)
}

func (m routing) newRouted(ws *attn.Workspace, c *attn.Call) routed {
	w := routed{m: m, call: *c, clusters: m.o.clusters(c.Shape)}
	w.inner.Shape = m.shapeOf(c)
	w.call.Saved, w.call.Aux = nil, nil
	s := &w.inner.Shape
	view := func(n, heads, dim int) attn.View {
		return attn.ViewAs(ws.Floats(s.Batch*n*heads*dim), s.Batch, n, heads, dim)
	}
	w.inner.Q, w.inner.K, w.inner.V = view(s.QueryLen, s.Heads, s.KeyDim), view(s.KeyLen, s.KVHeads, s.KeyDim), view(s.KeyLen, s.KVHeads, s.ValueDim)
	if c.Segments != nil {
		w.inner.Segments = m.segments.Take()
		for i := range s.Batch {
			g := c.Segments[i/w.clusters]
			w.inner.Segments = append(w.inner.Segments, attn.Segment{Row: i, Queries: min(s.QueryLen, g.Queries), Keys: min(s.KeyLen, g.Keys)})
		}
	}
	return w
}

func (w *routed) free() {
	if w.inner.Segments != nil {
		w.m.segments.Put(w.inner.Segments)
	}
}

// queriesOf and keysOf return what row of the inner call a head took.
func (w *routed) queriesOf(row, h int) []int32 {
	s := &w.inner.Shape
	n := min(s.QueryLen, w.call.Segment(row/w.clusters).Queries)
	return w.queries[(row*s.Heads+h)*s.QueryLen:][:n]
}

func (w *routed) keysOf(row, kv int) []int32 {
	s := &w.inner.Shape
	n := min(s.KeyLen, w.call.Segment(row/w.clusters).Keys)
	return w.keys[(row*s.KVHeads+kv)*s.KeyLen:][:n]
}

// gather copies what the clusters take of a query head, and of its keys, if it is the first of its group.
func (w *routed) gather(i, h int) {
	c, g, kv := &w.call, w.call.Segment(i), w.call.KVHead(h)
	for row := i * w.clusters; row < (i+1)*w.clusters; row++ {
		for x, t := range w.queriesOf(row, h) {
			copy(w.inner.Q.Row(row, x, h), c.Q.Row(g.Row, g.Query0+int(t), h))
		}
		if h%(c.Heads/c.KVHeads) > 0 {
			continue
		}
		for x, t := range w.keysOf(row, kv) {
			copy(w.inner.K.Row(row, x, kv), c.K.Row(g.Row, g.Key0+int(t), kv))
			copy(w.inner.V.Row(row, x, kv), c.V.Row(g.Row, g.Key0+int(t), kv))
		}
	}
}

// counts returns how many clusters took each query of a head.
func (w *routed) counts(s *attn.Scratch, i, h int) []int32 {
	n := s.Ints(w.call.QueryLen)[:w.call.Segment(i).Queries]
	clear(n)
	for row := i * w.clusters; row < (i+1)*w.clusters; row++ {
		for _, t := range w.queriesOf(row, h) {
			n[t]++
		}
	}
	return n
}

// mean writes the outputs of a query head.
func (w *routed) mean(s *attn.Scratch, i, h int) {
	c, g, counts := &w.call, w.call.Segment(i), w.counts(s, i, h)
	for t := range counts {
		clear(c.Out.Row(g.Row, g.Query0+t, h))
	}
	for row := i * w.clusters; row < (i+1)*w.clusters; row++ {
		for x, t := range w.queriesOf(row, h) {
			tile.Axpy(1/float32(counts[t]), w.inner.Out.Row(row, x, h), c.Out.Row(g.Row, g.Query0+int(t), h))
		}
	}
}

// Forward computes the output. With c.Saved set, sums, what was taken and the outputs of the clusters stay there.
func (m routing) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	if c.Batch == 0 || c.QueryLen == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	w := m.newRouted(ws, c)
	defer w.free()
	s := &w.inner.Shape
	rows := s.Batch * s.QueryLen * s.Heads
	var out []float32
	if c.Saved != nil {
		w.lse, out = c.Saved.Floats(rows), c.Saved.Floats(rows*s.ValueDim)
		w.queries, w.keys = c.Saved.Ints(rows), c.Saved.Ints(s.Batch*s.KeyLen*s.KVHeads)
	} else {
		w.lse, out = ws.Floats(rows), ws.Floats(rows*s.ValueDim)
		w.queries, w.keys = ws.Ints(rows), ws.Ints(s.Batch*s.KeyLen*s.KVHeads)
	}
	w.inner.Out = attn.ViewAs(out, s.Batch, s.QueryLen, s.Heads, s.ValueDim)
	sides := c.NumSegments() * (c.Heads + c.KVHeads)
	w.loss = ws.Zeros(sides)
	floats := m.workerFloats(c.Shape, attn.PassForward)
	attn.Parallel(ws, sides, floats, w, func(s *attn.Scratch, w *routed, task int) { w.choose(s, task) })
	tasks := c.NumSegments() * c.Heads
	attn.Parallel(ws, tasks, floats, w, func(_ *attn.Scratch, w *routed, task int) { w.gather(task/w.call.Heads, task%w.call.Heads) })
	dense.Reserve(floats).ForwardSums(ws, &w.inner, w.lse)
	attn.Parallel(ws, tasks, floats, w, func(s *attn.Scratch, w *routed, task int) { w.mean(s, task/w.call.Heads, task%w.call.Heads) })
	if c.Aux == nil {
		return nil
	}
	attn.Parallel(ws, sides, floats, w, func(s *attn.Scratch, w *routed, task int) { w.far(s, task) })
	sum := 0.0
	for _, x := range w.loss {
		sum += float64(x)
	}
	*c.Aux += float32(routingLoss * sum / float64(routingNumbers(c)))
	return nil
}

// Backward adds the gradients of q, k and v; what was taken is held fixed.
func (m routing) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	if c.Batch == 0 || c.QueryLen == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	w := m.newRouted(ws, c)
	defer w.free()
	s := &w.inner.Shape
	w.lse, w.queries, w.keys = c.Saved.Part(0), c.Saved.PartInts(2), c.Saved.PartInts(3)
	w.inner.Out = attn.ViewAs(c.Saved.Part(1), s.Batch, s.QueryLen, s.Heads, s.ValueDim)
	like := func(v attn.View) attn.View {
		return attn.ViewAs(ws.Zeros(v.Batch*v.Time*v.Heads*v.Dim), v.Batch, v.Time, v.Heads, v.Dim)
	}
	w.grads, w.taken = *g, attn.Grads{Out: like(w.inner.Out), Q: like(w.inner.Q), K: like(w.inner.K), V: like(w.inner.V)}
	w.aux = 2 * routingLoss * g.Aux / float32(routingNumbers(c))
	floats, tasks := m.workerFloats(c.Shape, attn.PassBackward), c.NumSegments()*c.Heads
	attn.Parallel(ws, tasks, floats, w, func(s *attn.Scratch, w *routed, task int) { w.gatherGrads(s, task/w.call.Heads, task%w.call.Heads) })
	dense.Reserve(floats).BackwardSums(ws, &w.inner, &w.taken, w.lse)
	for i := range c.NumSegments() { // one after the other: segments may share keys
		w.segment = i
		attn.Parallel(ws, c.KVHeads, floats, w, func(s *attn.Scratch, w *routed, task int) { w.scatter(s, w.segment, task) })
	}
	return nil
}

// gatherGrads copies what the clusters take, and the gradients of their outputs.
func (w *routed) gatherGrads(s *attn.Scratch, i, h int) {
	w.gather(i, h)
	g, counts := w.call.Segment(i), w.counts(s, i, h)
	for row := i * w.clusters; row < (i+1)*w.clusters; row++ {
		for x, t := range w.queriesOf(row, h) {
			tile.Axpy(1/float32(counts[t]), w.grads.Out.Row(g.Row, g.Query0+int(t), h), w.taken.Out.Row(row, x, h))
		}
	}
}

// scatter adds the gradients of what the clusters took of a key/value head, and those of the auxiliary loss, to the tokens. Those of a token are
// summed before: hundreds of clusters may have taken it, and what it has from elsewhere may be large.
func (w *routed) scatter(s *attn.Scratch, i, kv int) {
	c, g := &w.call, w.call.Segment(i)
	group := c.Heads / c.KVHeads
	room := s.Floats(sumFloats(c.Shape))
	add := func(from, to *attn.View, head, row, t0, n int, of func(row, head int) []int32) {
		d := from.Dim
		sums := room[:n*d]
		clear(sums)
		for x := i * w.clusters; x < (i+1)*w.clusters; x++ {
			for y, t := range of(x, head) {
				tile.Axpy(1, from.Row(x, y, head), sums[int(t)*d:][:d])
			}
		}
		for t := range n {
			tile.Axpy(1, sums[t*d:][:d], to.Row(row, t0+t, head))
		}
	}
	for h := kv * group; h < (kv+1)*group; h++ {
		add(&w.taken.Q, &w.grads.Q, h, g.Row, g.Query0, g.Queries, w.queriesOf)
	}
	add(&w.taken.K, &w.grads.K, kv, g.Row, g.Key0, g.Keys, w.keysOf)
	add(&w.taken.V, &w.grads.V, kv, g.Row, g.Key0, g.Keys, w.keysOf)
	if w.aux == 0 {
		return
	}
	first := i * (c.Heads + c.KVHeads)
	a := s.Floats(w.clusters)
	for h := kv * group; h < (kv+1)*group; h++ {
		w.pull(a, first+h, &w.grads.Q, g.Row, g.Query0, h)
	}
	w.pull(a, first+c.Heads+kv, &w.grads.K, g.Row, g.Key0, kv)
}

// workerFloats is the scratch of a worker, the same in all of a pass.
func (m routing) workerFloats(s attn.Shape, p attn.Pass) int {
	_, worker := dense.Scratch(m.innerShape(s, s.Batch, s.QueryLen, s.KeyLen), p)
	if p == attn.PassBackward {
		return max(int(worker/4), m.chooseFloats(s), attn.ScratchFloats(sumFloats(s), m.o.clusters(s)))
	}
	return max(int(worker/4), m.chooseFloats(s), attn.ScratchFloats(m.o.clusters(s)))
}

// sumFloats is the room for the gradients of a head.
func sumFloats(s attn.Shape) int { return max(s.QueryLen, s.KeyLen) * max(s.KeyDim, s.ValueDim) }
