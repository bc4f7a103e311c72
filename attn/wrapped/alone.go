// Package wrapped holds what makes one mechanism of another: alone(X) and bidir(X).
package wrapped

import (
	"fmt"

	"attnbench/attn"
)

func init() { attn.RegisterWrapper("alone", Alone) }

// Alone returns the mechanism alone(X): X on each token by itself, as if there were no others. A model with it shows what a task asks of
// attention at all: what it reaches without. It does not decode.
func Alone(m attn.Mechanism) (attn.Mechanism, error) {
	switch m.(type) {
	case *alone, *trainedAlone:
		return nil, fmt.Errorf("%s: each token is alone already", m.Info().Name)
	}
	info, defined, err := base("alone", m)
	if err != nil {
		return nil, err
	}
	of := m.Info()
	info.Title += ", each token alone"
	info.Masks &^= attn.Cross
	if info.Masks == 0 {
		return nil, fmt.Errorf("mask is %v: want causal or bidirectional", of.Masks)
	}
	if of.RotatesInside {
		return nil, fmt.Errorf("%s rotates inside: want one that the layer rotates for", of.Name)
	}
	info.CheckShape = func(s attn.Shape) error {
		if of.CheckShape == nil {
			return nil
		}
		return of.CheckShape(each(s, min(s.QueryLen, s.KeyLen)))
	}
	info.Cost = func(s attn.Shape, p attn.Pass) attn.Cost {
		n := min(s.QueryLen, s.KeyLen)
		if p == attn.PassDecode || n == 0 || s.Batch == 0 {
			return attn.Cost{}
		}
		c := of.Cost(each(s, n), p)
		rows := int64(s.Batch)
		c.FLOPs, c.Bytes, c.Saved, c.State, c.Read = rows*c.FLOPs, rows*c.Bytes, rows*c.Saved, 0, 0
		return c
	}
	a := &alone{of: m, defined: defined, info: info}
	if d, ok := m.(attn.Differentiable); ok {
		return &trainedAlone{a, d}, nil
	}
	return a, nil
}

// base returns the description that both wrappers start from.
func base(name string, m attn.Mechanism) (attn.Info, attn.Defined, error) {
	info := m.Info()
	d, ok := m.(attn.Defined)
	if !ok {
		return info, nil, fmt.Errorf("%s has no definition: want one that has", info.Name)
	}
	if _, ok := m.(attn.Updater); ok || info.Cost == nil {
		return info, nil, fmt.Errorf("%s has buffers that training changes, or no costs: want neither", info.Name)
	}
	info.Name = name + "(" + info.Name + ")"
	info.Approximates, info.Quick, info.Decode, info.Carry, info.Limits, info.Budget = false, false, attn.DecodeNever, nil, nil, ""
	return info, d, nil
}

type alone struct {
	of      attn.Mechanism
	defined attn.Defined
	info    attn.Info
}

type trainedAlone struct {
	*alone
	d attn.Differentiable
}

// each is the shape of n tokens, each alone.
func each(s attn.Shape, n int) attn.Shape {
	s.Batch, s.QueryLen, s.KeyLen = n, 1, 1
	return s
}

// part is the call of one segment's tokens, each a row of its own, used again.
type part[F attn.Float] struct {
	call attn.CallOf[F]
}

// take makes p the call of segment i of c and reports whether it has any query with a key of its own.
func (p *part[F]) take(c *attn.CallOf[F], info *attn.Info, i int) bool {
	g := c.Segment(i)
	n := min(g.Queries, g.Keys)
	extra := p.call.Extra[:0]
	p.call = *c
	p.call.Shape, p.call.Segments, p.call.Extra = each(c.Shape, n), nil, extra
	if n == 0 {
		return false
	}
	p.call.Out = rows(c.Out, g, n, true)
	for k := range info.Inputs {
		in := &info.Inputs[k]
		p.call.SetInput(info, k, rows(c.Input(info, k), g, n, in.From == attn.QuerySide))
	}
	return true
}

// rows returns the last n tokens of segment g in v as rows of one token.
func rows[F attn.Float](v attn.ViewOf[F], g attn.Segment, n int, query bool) attn.ViewOf[F] {
	if v.Empty() {
		return v
	}
	at := g.Key0 + g.Keys - n
	if query {
		at = g.Query0 + g.Queries - n
	}
	v.Data = v.From(g.Row, at, 0)
	v.Batch, v.Time, v.BatchStride = n, 1, v.TimeStride
	return v
}

// clearOut makes the outputs zeros that no token alone gives.
func clearOut[F attn.Float](c *attn.CallOf[F]) {
	c.ZeroPadding()
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for q := range max(0, g.Queries-g.Keys) {
			for h := range c.Heads {
				clear(c.Out.Row(g.Row, g.Query0+q, h))
			}
		}
	}
}

func (a *alone) Info() attn.Info { return a.info }

// Define computes X's definition on each token by itself.
func (a *alone) Define(c *attn.Call64) error {
	if err := c.Check(&a.info); err != nil {
		return err
	}
	clearOut(c)
	var p part[float64]
	for i := range c.NumSegments() {
		if p.take(c, &a.info, i) {
			if err := a.defined.Define(&p.call); err != nil {
				return err
			}
		}
	}
	return nil
}

// work is what one call needs beside the workspace, used again.
type work struct {
	part[float32]
	grads attn.Grads
}

func (w *work) release() {
	w.call = attn.Call{Extra: w.call.Extra[:0]}
	w.grads = attn.Grads{Extra: w.grads.Extra[:0]}
}

func (a *alone) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(&a.info); err != nil {
		return err
	}
	w := attn.Reused[work](ws)
	defer w.release()
	clearOut(c)
	for i := range c.NumSegments() {
		if !w.take(c, &a.info, i) {
			continue
		}
		if c.Saved != nil {
			w.call.Saved = c.Saved.Inner(i)
		}
		if err := a.of.Forward(ws, &w.call); err != nil {
			return err
		}
	}
	return nil
}

func (a *trainedAlone) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(&a.info); err != nil {
		return err
	}
	if err := g.Check(&a.info, c); err != nil {
		return err
	}
	w := attn.Reused[work](ws)
	defer w.release()
	for i := range c.NumSegments() {
		if !w.take(c, &a.info, i) {
			continue
		}
		w.call.Saved = c.Saved.Inner(i)
		s, n := c.Segment(i), w.call.Batch
		t := &w.grads
		extra := t.Extra[:0]
		*t = *g
		t.Out, t.Extra = rows(g.Out, s, n, true), extra
		for j := range a.info.Inputs {
			t.SetInput(&a.info, j, rows(g.Input(&a.info, j), s, n, a.info.Inputs[j].From == attn.QuerySide))
		}
		if err := a.d.Backward(ws, &w.call, t); err != nil {
			return err
		}
	}
	return nil
}
