package wrapped

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

func init() { attn.RegisterWrapper("bidir", Bidir) }

// Bidir returns the mechanism bidir(X) for a causal X, under the bidirectional mask: the mean of what X gives and what it gives when time
// runs backwards,
//
//	out = (X(x) + reverse(X(reverse(x)))) / 2
//
// with the same inputs and learned tensors both ways. Every query with a key of its own sees all keys, that one twice; a query
// in front of the first key gives zeros, as under X. Two passes with one set of weights are how recurrences are made bidirectional since Schuster
// and Paliwal 1997. It does not decode.
func Bidir(m attn.Mechanism) (attn.Mechanism, error) {
	info, defined, err := base("bidir", m)
	if err != nil {
		return nil, err
	}
	of := m.Info()
	switch {
	case of.Masks&attn.Causal == 0:
		return nil, fmt.Errorf("mask is %v: want causal", of.Masks)
	case of.RotatesInside:
		return nil, fmt.Errorf("%s rotates inside: want one that the layer rotates for", of.Name)
	}
	d, ok := m.(attn.Differentiable)
	if !ok {
		return nil, fmt.Errorf("%s has no backward pass: want one that has", of.Name)
	}
	b := &bidir{of: d, defined: defined}
	info.Title += ", in both directions"
	info.Masks = attn.Bidirectional
	info.CheckShape = func(s attn.Shape) error {
		if of.CheckShape == nil {
			return nil
		}
		if err := of.CheckShape(causal(s)); err != nil {
			return err
		}
		return of.CheckShape(back(s))
	}
	info.Cost = b.cost
	b.info, b.ofInfo = info, of
	return b, nil
}

type bidir struct {
	of           attn.Differentiable
	defined      attn.Defined
	info, ofInfo attn.Info
}

func causal(s attn.Shape) attn.Shape {
	s.Mask = attn.Causal
	return s
}

// back is the shape of the pass against time, which has a query for each key.
func back(s attn.Shape) attn.Shape {
	s.Mask, s.QueryLen = attn.Causal, s.KeyLen
	return s
}

func (b *bidir) Info() attn.Info { return b.info }

// turned is a call against time, with memory of its own.
type turned[F attn.Float] struct {
	call     attn.CallOf[F]
	segments []attn.Segment
}

// turn makes t the call c against time: each sequence's tokens from its last key to its first, queries where the keys of the same
// tokens lie, and zeros where there is none. alloc gives the memory.
func (t *turned[F]) turn(c *attn.CallOf[F], info *attn.Info, alloc func(n int) []F) {
	extra, segments := t.call.Extra[:0], t.segments[:0]
	if segments == nil {
		segments = []attn.Segment{} // none at all are not nil, which would be whole rows
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		segments = append(segments, attn.Segment{Row: g.Row, Query0: g.Key0, Queries: g.Keys, Key0: g.Key0, Keys: g.Keys, Pos0: g.Pos0})
	}
	t.segments = segments
	t.call = *c
	t.call.Shape, t.call.Segments, t.call.Extra = back(c.Shape), segments, extra
	for i := range info.Inputs {
		in := &info.Inputs[i]
		x := c.Input(info, i)
		y := attn.ViewOf[F]{}
		if !x.Empty() {
			y = attn.ViewAs(alloc(c.Batch*c.KeyLen*x.Heads*x.Dim), c.Batch, c.KeyLen, x.Heads, x.Dim)
			clear(y.Data)
			t.eachRow(c, in.From == attn.QuerySide, x, y, func(x, y []F) { copy(y, x) })
		}
		t.call.SetInput(info, i, y)
	}
}

// eachRow calls f with the rows of the same token and head in a view x of the call c and a view y of the turned one.
func (t *turned[F]) eachRow(c *attn.CallOf[F], query bool, x, y attn.ViewOf[F], f func(x, y []F)) {
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for j := range g.Keys {
			at := g.Key0 + j
			if query {
				if at = g.Query0 + j - g.Offset(); j < g.Offset() {
					continue
				}
			}
			for h := range x.Heads {
				f(x.Row(g.Row, at, h), y.Row(g.Row, g.Key0+g.Keys-1-j, h))
			}
		}
	}
}

// Define computes the equation of Bidir by X's definition.
func (b *bidir) Define(c *attn.Call64) error {
	if err := c.Check(&b.info); err != nil {
		return err
	}
	f := *c
	f.Mask = attn.Causal
	if err := b.defined.Define(&f); err != nil {
		return err
	}
	var t turned[float64]
	t.turn(c, &b.info, func(n int) []float64 { return make([]float64, n) })
	t.call.Out = attn.NewView[float64](c.Batch, c.KeyLen, c.Heads, c.ValueDim)
	if err := b.defined.Define(&t.call); err != nil {
		return err
	}
	t.eachRow(c, true, c.Out, t.call.Out, func(x, y []float64) {
		for i := range x {
			x[i] = (x[i] + y[i]) / 2
		}
	})
	return nil
}

// both is what one call needs beside the workspace, used again.
type both struct {
	forward attn.Call
	turned[float32]
	direct, grads attn.Grads
}

func (p *both) release() {
	p.forward = attn.Call{}
	p.call = attn.Call{Extra: p.call.Extra[:0]}
	p.direct = attn.Grads{}
	p.grads = attn.Grads{Extra: p.grads.Extra[:0], Learned: p.grads.Learned[:0]}
}

func (b *bidir) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(&b.info); err != nil {
		return err
	}
	p := attn.Reused[both](ws)
	defer p.release()
	mark := ws.Mark()
	defer ws.Release(mark)
	p.forward = *c
	p.forward.Mask = attn.Causal
	p.turn(c, &b.info, ws.Floats)
	n, m := c.Batch*c.QueryLen*c.Heads*c.ValueDim, c.Batch*c.KeyLen*c.Heads*c.ValueDim
	var out, against []float32
	if c.Saved != nil {
		out, against = c.Saved.Floats(n), c.Saved.Floats(m)
		p.forward.Saved, p.call.Saved = c.Saved.Inner(0), c.Saved.Inner(1)
	} else {
		out, against = ws.Floats(n), ws.Floats(m)
	}
	p.forward.Out = attn.ViewAs(out, c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	p.call.Out = attn.ViewAs(against, c.Batch, c.KeyLen, c.Heads, c.ValueDim)
	if err := b.of.Forward(ws, &p.forward); err != nil {
		return err
	}
	if err := b.of.Forward(ws, &p.call); err != nil {
		return err
	}
	c.ZeroPadding()
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for q := range g.Queries {
			for h := range c.Heads {
				copy(c.Out.Row(g.Row, g.Query0+q, h), p.forward.Out.Row(g.Row, g.Query0+q, h))
			}
		}
	}
	p.eachRow(c, true, c.Out, p.call.Out, func(x, y []float32) {
		for i := range x {
			x[i] = 0.5*x[i] + 0.5*y[i]
		}
	})
	return nil
}

func (b *bidir) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(&b.info); err != nil {
		return err
	}
	if err := g.Check(&b.info, c); err != nil {
		return err
	}
	p := attn.Reused[both](ws)
	defer p.release()
	mark := ws.Mark()
	defer ws.Release(mark)
	p.turn(c, &b.info, ws.Floats)
	p.forward = *c
	p.forward.Mask, p.forward.Saved, p.call.Saved = attn.Causal, c.Saved.Inner(0), c.Saved.Inner(1)
	p.forward.Out = attn.ViewAs(c.Saved.Part(0), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	p.call.Out = attn.ViewAs(c.Saved.Part(1), c.Batch, c.KeyLen, c.Heads, c.ValueDim)
	half := attn.ViewAs(ws.Zeros(len(c.Saved.Part(0))), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	against := attn.ViewAs(ws.Zeros(len(c.Saved.Part(1))), c.Batch, c.KeyLen, c.Heads, c.ValueDim)
	p.eachRow(c, true, g.Out, against, func(x, y []float32) {
		for i := range x {
			y[i] = 0.5 * x[i]
		}
	})
	for i := range c.NumSegments() {
		s := c.Segment(i)
		for q := max(0, -s.Offset()); q < s.Queries; q++ {
			for h := range c.Heads {
				kernel.Axpy(0.5, g.Out.Row(s.Row, s.Query0+q, h), half.Row(s.Row, s.Query0+q, h))
			}
		}
	}
	p.direct = *g
	p.direct.Out = half
	if err := b.of.Backward(ws, &p.forward, &p.direct); err != nil {
		return err
	}
	t := &p.grads
	*t = attn.Grads{Out: against, Extra: t.Extra[:0], Learned: append(t.Learned[:0], g.Learned...), Aux: g.Aux}
	for i := range b.info.Inputs {
		x := p.call.Input(&b.info, i)
		dx := attn.View{}
		if !x.Empty() {
			dx = attn.ViewAs(ws.Zeros(x.Batch*x.Time*x.Heads*x.Dim), x.Batch, x.Time, x.Heads, x.Dim)
		}
		t.SetInput(&b.info, i, dx)
	}
	if err := b.of.Backward(ws, &p.call, t); err != nil {
		return err
	}
	add := func(x, y []float32) { kernel.Axpy(1, y, x) }
	for i := range b.info.Inputs {
		if from := t.Input(&b.info, i); !from.Empty() {
			p.eachRow(c, b.info.Inputs[i].From == attn.QuerySide, g.Input(&b.info, i), from, add)
		}
	}
	return nil
}

// cost is that of two passes, and of the copies against time.
func (b *bidir) cost(s attn.Shape, p attn.Pass) attn.Cost {
	if p == attn.PassDecode {
		return attn.Cost{}
	}
	x, y := b.ofInfo.Cost(causal(s), p), b.ofInfo.Cost(back(s), p)
	floats := func(n ...int) (bytes int64) { return 4 * int64(attn.ScratchFloats(n...)) }
	outs := floats(s.Batch*s.QueryLen*s.Heads*s.ValueDim, s.Batch*s.KeyLen*s.Heads*s.ValueDim)
	copies := int64(0)
	for i := range b.info.Inputs {
		heads, width := b.info.Inputs[i].Size(s)
		copies += floats(s.Batch * s.KeyLen * heads * width)
	}
	c := attn.Cost{FLOPs: x.FLOPs + y.FLOPs, Bytes: x.Bytes + y.Bytes, Saved: x.Saved + y.Saved + outs}
	before := copies + outs
	if p == attn.PassBackward {
		y.Shared += copies // the gradients of the copies
	}
	// The larger of two sums that grow with the workers, where one of both is not larger throughout, is not of Cost's form: both take the
	// same engine, and the one with more tokens takes more of each.
	c.Shared, c.PerWorker = before+max(x.Shared, y.Shared), max(x.PerWorker, y.PerWorker)
	return c
}
