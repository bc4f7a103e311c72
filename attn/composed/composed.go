// Package composed makes a mechanism out of some twenty lines of autograd operations.
//
// The author's function computes one query head of one sequence; the package walks batches, heads and segments, differentiates, keeps
// the decoding state, and counts scratch. The mechanism satisfies the whole contract of package attn. It is the short way to write one,
// not the fast one: heads are computed one after another, with the operations spread over the cores.
package composed

import (
	"sync"

	"attnbench/attn"
	"attnbench/autograd"
)

// Inputs is what the author's function sees: one query head of one sequence.
type Inputs struct {
	Q, K, V autograd.Var   // [queries, key dim], [keys, key dim], [keys, value dim]
	Extra   []autograd.Var // the further inputs in the order of Info.Inputs, [queries or keys, width]; None for one left out
	Learned []autograd.Var // the learned tensors in the order of Info, [first dim, the rest], of all heads

	// Causal is the mask: query i sees keys j ≤ i + Keys - Queries. When false it sees all keys. Tape.Scores and
	// Tape.Weigh take it.
	Causal        bool
	Queries, Keys int
	Head          int // of the query heads
	Shape         attn.Shape
}

// Mechanism is what New makes: it can be trained through and decodes.
type Mechanism interface {
	attn.Differentiable
	attn.Incremental
}

// New returns the mechanism that info describes and forward computes: the output [queries, value dim] of one query head of one
// sequence. forward is called concurrently from callers with tapes of their own and keeps nothing.
//
// Of info.Cost, which may be nil, scratch, saved bytes and state are computed here; its other figures stay, and where it gives no FLOPs
// they are counted from forward's products. Mechanisms made this way have no recurrent state to carry.
func New(info attn.Info, forward func(t *autograd.Tape, in Inputs) autograd.Var) Mechanism {
	m := &mechanism{forward: forward}
	if info.Inputs == nil {
		info.Inputs = attn.QKV()
	}
	m.given = info.Cost
	info.Cost = m.cost
	m.info = &info
	return m
}

type mechanism struct {
	info    *attn.Info
	forward func(t *autograd.Tape, in Inputs) autograd.Var
	given   func(attn.Shape, attn.Pass) attn.Cost

	mu   sync.Mutex
	free []*run // used again, so that a call after the first allocates nothing
}

// run is what one call works with.
type run struct {
	tape           *autograd.Tape
	inputs         []autograd.Var // as declared
	extra, learned []autograd.Var
	sized          attn.Shape // sizes are those of the learned tensors at this shape
	sizes          [][2]int
}

func (m *mechanism) take(ws *attn.Workspace) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r *run
	if n := len(m.free); n > 0 {
		r, m.free = m.free[n-1], m.free[:n-1]
	} else {
		r = &run{tape: autograd.NewTape(ws)}
	}
	r.tape.Attach(ws)
	return r
}

func (m *mechanism) put(r *run) {
	r.tape.Attach(nil) // let go of the caller's memory
	clear(r.inputs[:cap(r.inputs)])
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, r)
}

// Info describes the mechanism.
func (m *mechanism) Info() attn.Info { return *m.info }

// Forward computes the output, head by head.
func (m *mechanism) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	r := m.take(ws)
	defer m.put(r)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for h := range c.Heads {
			mark := ws.Mark()
			r.tape.Attach(ws)
			m.headForward(r, c, g, h)
			ws.Release(mark)
		}
	}
	return nil
}

// headForward computes one head of one segment and writes its output. A tape that measures does the same without data.
func (m *mechanism) headForward(r *run, c *attn.Call, g attn.Segment, h int) {
	t := r.tape
	if g.Queries == 0 {
		return
	}
	t.NoGrad = true
	out := m.head(r, c, nil, g, h)
	y := t.Value(out)
	for i := 0; i < g.Queries && y != nil; i++ {
		copy(c.Out.Row(g.Row, g.Query0+i, h), y[i*c.ValueDim:(i+1)*c.ValueDim])
	}
}

// head loads the inputs of a head and calls the author's function.
func (m *mechanism) head(r *run, c *attn.Call, grads *attn.Grads, g attn.Segment, h int) autograd.Var {
	t := r.tape
	in := Inputs{
		Causal: c.Mask == attn.Causal, Queries: g.Queries, Keys: g.Keys, Head: h, Shape: c.Shape,
	}
	in.Shape.Batch, in.Shape.QueryLen, in.Shape.KeyLen = 1, g.Queries, g.Keys
	r.inputs, r.extra, r.learned = r.inputs[:0], r.extra[:0], r.learned[:0]
	for i := range m.info.Inputs {
		d := &m.info.Inputs[i]
		view := c.Input(m.info, i)
		v := autograd.None
		if !view.Empty() || t.Measuring() {
			heads, width := d.Size(c.Shape)
			time, from := g.Keys, g.Key0
			if d.From == attn.QuerySide {
				time, from = g.Queries, g.Query0
			}
			v = t.Copy(view.From(g.Row, from, headOf(c, h, heads)), view.TimeStride, time, width, grads != nil)
		}
		r.inputs = append(r.inputs, v)
		switch d.Name {
		case "q":
			in.Q = v
		case "k":
			in.K = v
		case "v":
			in.V = v
		default:
			r.extra = append(r.extra, v)
		}
	}
	r.size(m.info, c.Shape)
	for i := range m.info.Learned {
		var data, grad []float32
		if !t.Measuring() {
			data = c.Learned[i]
		}
		if grads != nil {
			grad = []float32{}
			if !t.Measuring() {
				grad = grads.Learned[i]
			}
		}
		r.learned = append(r.learned, t.Input(data, grad, r.sizes[i][0], r.sizes[i][1]))
	}
	in.Extra, in.Learned = r.extra, r.learned
	return m.forward(t, in)
}

// size finds the sizes of the learned tensors as matrices, once a shape: a declaration's Shape makes a slice a call.
func (r *run) size(info *attn.Info, s attn.Shape) {
	if r.sized == s {
		return
	}
	r.sized, r.sizes = s, r.sizes[:0]
	for i := range info.Learned {
		x := &info.Learned[i]
		rows, cols := 1, x.Len(s)
		if d := x.Shape(s); len(d) > 1 && d[0] > 0 {
			rows, cols = d[0], cols/d[0]
		}
		r.sizes = append(r.sizes, [2]int{rows, cols})
	}
}

// headOf returns which of an input's heads query head h reads.
func headOf(c *attn.Call, h, heads int) int {
	switch heads {
	case c.Heads:
		return h
	case c.KVHeads:
		return c.KVHead(h)
	}
	return 0
}

// Backward computes each head again, with records, and adds the gradients.
func (m *mechanism) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	r := m.take(ws)
	defer m.put(r)
	for i := range c.NumSegments() {
		seg := c.Segment(i)
		for h := range c.Heads {
			mark := ws.Mark()
			r.tape.Attach(ws)
			err := m.headBackward(r, c, g, seg, h)
			ws.Release(mark)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mechanism) headBackward(r *run, c *attn.Call, g *attn.Grads, seg attn.Segment, h int) error {
	t := r.tape
	if seg.Queries == 0 {
		return nil
	}
	t.NoGrad = false
	out := m.head(r, c, g, seg, h)
	dy := t.SeedGrad(out)
	for i := 0; i < seg.Queries && dy != nil; i++ {
		copy(dy[i*c.ValueDim:(i+1)*c.ValueDim], g.Out.Row(seg.Row, seg.Query0+i, h))
	}
	if err := t.BackwardAll(); err != nil {
		return err
	}
	for i, v := range r.inputs {
		d := &m.info.Inputs[i]
		dx := t.Grad(v)
		if dx == nil {
			continue
		}
		view := g.Input(m.info, i)
		heads, width := d.Size(c.Shape)
		at := seg.Key0
		if d.From == attn.QuerySide {
			at = seg.Query0
		}
		for j := 0; j*width < len(dx); j++ {
			row := view.Row(seg.Row, at+j, headOf(c, h, heads))
			for e, x := range dx[j*width : (j+1)*width] {
				row[e] += x
			}
		}
	}
	return nil
}
