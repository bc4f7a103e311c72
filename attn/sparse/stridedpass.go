package sparse

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// The far keys of a merged pattern are those of the query's own residue class of positions. A tile of 32 neighbours sees 32 stripes of which each of them needs one
// key in 32; the queries of one class see the same ones, and are tiles of full attention over views whose tokens lie a stride apart. So Forward takes the near keys
// by tiles of neighbours, the far ones by classes, and merges the two by their sums.

// classes reports whether a call is computed so.
func (o Strided) classes(s attn.Shape) bool {
	return o.Use == "merged" && o.Stride > 1 && s.Batch > 0 && s.QueryLen > 0 && s.KeyLen > 0
}

// classShape is the largest shape of a call of classes.
func (o Strided) classShape(s attn.Shape) attn.Shape {
	s.Batch, s.QueryLen, s.KeyLen = min(o.Stride, s.QueryLen), ceil(s.QueryLen, o.Stride), ceil(s.KeyLen, o.Stride)
	return s
}

// classFloats are the lengths of what Forward takes beside the two engines: sums of the near keys, outputs and sums of the far ones of a segment.
func (o Strided) classFloats(s attn.Shape) (near, out, far int) {
	return s.Batch * s.Heads * s.QueryLen, s.QueryLen * s.Heads * s.ValueDim, s.Heads * (s.QueryLen + min(o.Stride, s.QueryLen))
}

// classWorker is the scratch of a worker in both engines, in bytes.
func (m strided) classWorker(s attn.Shape) int64 {
	_, near := m.near.Scratch(s, attn.PassForward)
	_, far := m.far.Scratch(m.o.classShape(s), attn.PassForward)
	return max(near, far)
}

func (m strided) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := m.mechanism.cost(s, p)
	if p == attn.PassForward && m.o.classes(s) {
		near, out, far := m.o.classFloats(s)
		c.Shared, c.PerWorker = 4*int64(attn.ScratchFloats(near, out, far)), m.classWorker(s)
	}
	return c
}

// Forward computes the output.
func (m strided) Forward(ws *attn.Workspace, c *attn.Call) error {
	if !m.o.classes(c.Shape) {
		return m.mechanism.Forward(ws, c)
	}
	if err := c.Check(m.info); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	near, out, far := m.o.classFloats(c.Shape)
	room := int(m.classWorker(c.Shape) / 4)
	a := attn.Reused[strideArgs](ws)
	*a = strideArgs{call: *c, stride: m.o.Stride, near: ws.Floats(near), out: ws.Floats(out), far: ws.Floats(far)}
	if c.Saved != nil {
		a.near = c.Saved.Floats(near)
	}
	m.near.Reserve(room).ForwardSums(ws, c, a.near)
	a.call.Saved = nil
	engine := m.far.Reserve(room)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		// Neighbours from the first query on are of classes whose first keys are neighbours too, up to the last class; the others are a second call.
		for first, end := max(0, -g.Offset()), min(g.Queries, max(0, -g.Offset())+m.o.Stride); first < end; {
			n := min(end-first, m.o.Stride-(first+g.Offset())%m.o.Stride)
			m.pass(ws, a, engine, g, first, n)
			first += n
		}
	}
	*a = strideArgs{}
	return nil
}

// strideArgs is a call and one of the calls of classes.
type strideArgs struct {
	call           attn.Call
	stride         int
	near, out, far []float32
	g              attn.Segment
	first, queries int       // of the segment: that of the first class; of the largest class
	inner          attn.Call // its batch are the classes
}

// pass computes the n classes of the queries from first on and merges them into the output.
func (m strided) pass(ws *attn.Workspace, a *strideArgs, engine tile.Softmax, g attn.Segment, first, n int) {
	c := &a.call
	spread := func(v attn.View, from int) attn.View {
		v.Data = v.Data[g.Row*v.BatchStride+from*v.TimeStride:]
		v.Batch, v.BatchStride, v.TimeStride = n, v.TimeStride, a.stride*v.TimeStride
		return v
	}
	at := first + g.Offset()
	a.g, a.first, a.queries = g, first, ceil(g.Queries-first, a.stride)
	out := attn.ViewAs(a.out, 1, c.QueryLen, c.Heads, c.ValueDim)
	a.inner = attn.Call{Shape: c.Shape, Out: attn.View{Data: out.Data[first*out.TimeStride:], Time: a.queries, Heads: c.Heads, Dim: c.ValueDim,
		Batch: n, BatchStride: out.TimeStride, TimeStride: a.stride * out.TimeStride, HeadStride: out.HeadStride}}
	d := &a.inner
	d.Q, d.K, d.V = spread(c.Q, g.Query0+first), spread(c.K, g.Key0+at%a.stride), spread(c.V, g.Key0+at%a.stride)
	d.Batch, d.QueryLen, d.KeyLen = n, a.queries, ceil(g.Keys, a.stride)
	d.Q.Time, d.K.Time, d.V.Time = d.QueryLen, d.KeyLen, d.KeyLen
	d.Segments = m.segments.Take()
	for r := range n {
		queries := ceil(g.Queries-first-r, a.stride)
		last := at + r + (queries-1)*a.stride // its position: it sees those of its class before it
		d.Segments = append(d.Segments, attn.Segment{Row: r, Queries: queries, Keys: last / a.stride})
	}
	engine.ForwardPart(ws, d, a.far)
	attn.Parallel(ws, ceil(g.Queries-first, mergeRows), 0, *a, mergeFar)
	m.segments.Put(d.Segments)
	d.Segments = nil
}

// mergeRows is the number of queries of a task.
const mergeRows = 64

// mergeFar merges the far keys of some neighbours, those whose class there is, into the output and the sums, both logarithms to base 2.
func mergeFar(_ *attn.Scratch, a *strideArgs, task int) {
	c := &a.call
	for i := task * mergeRows; i < min((task+1)*mergeRows, a.g.Queries-a.first); i++ {
		r, q := i%a.stride, a.g.Query0+a.first+i
		if r >= a.inner.Batch {
			continue
		}
		for h := range c.Heads {
			near := &a.near[(a.g.Row*c.Heads+h)*c.QueryLen+q]
			far := a.far[(r*c.Heads+h)*a.queries+i/a.stride]
			*near = float32(tile.Merge(c.Out.Row(a.g.Row, q, h), float64(*near)*math.Ln2,
				a.inner.Out.Row(r, i/a.stride, h), float64(far)*math.Ln2) / math.Ln2)
		}
	}
}
