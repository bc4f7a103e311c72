package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// addOwn adds what Own says to columns from to from+width of the output of query i of head h; x is scratch, [key dim].
func (a *recurArgs) addOwn(x []float32, g attn.Segment, kv, h, i, from, width int) {
	c, j := a.c, g.Key0+i+g.Offset()
	w := float32(0)
	if a.Own == OwnSkip {
		w = c.Learned[0][h]
	} else {
		copy(x, c.Q.Row(g.Row, g.Query0+i, h*c.Q.Heads/c.Heads))
		kernel.Times(x, c.Learned[0][h*c.KeyDim:])
		w = kernel.Dot(x, c.K.Row(g.Row, j, kv*c.K.Heads/c.KVHeads))
	}
	kernel.Axpy(w, c.V.Row(g.Row, j, kv)[from:][:width], c.Out.Row(g.Row, g.Query0+i, h)[from:])
}

// ownGradTask adds the gradients of what Own gave to the queries of one head of a segment and its group.
func ownGradTask(s *attn.Scratch, a *recurArgs, task int) {
	seg, kv := a.head(task)
	c, g, dk := a.c, a.c.Segment(seg), a.c.KeyDim
	x, group, width := s.Floats(dk), c.Heads/c.KVHeads, a.Own.width(c.Shape)
	for h := kv * group; h < (kv+1)*group; h++ {
		learned, grad := c.Learned[0][h*width:][:width], a.down[(seg*c.Heads+h)*width:][:width]
		for i := max(0, -g.Offset()); i < g.Queries; i++ {
			j := g.Key0 + i + g.Offset()
			v, do, dv := c.V.Row(g.Row, j, kv), a.g.Out.Row(g.Row, g.Query0+i, h), a.g.V.Row(g.Row, j, kv)
			dw := kernel.Dot(v, do)
			if a.Own == OwnSkip {
				grad[0] += dw
				kernel.Axpy(learned[0], do, dv)
				continue
			}
			q, k := c.Q.Row(g.Row, g.Query0+i, h*c.Q.Heads/c.Heads), c.K.Row(g.Row, j, kv*c.K.Heads/c.KVHeads)
			product(x, q, k)
			kernel.Axpy(dw, x, grad)
			product(x, q, learned)
			kernel.Axpy(kernel.Dot(x, k), do, dv)
			kernel.Axpy(dw, x, a.g.K.Row(g.Row, j, kv))
			product(x, k, learned)
			kernel.Axpy(dw, x, a.g.Q.Row(g.Row, g.Query0+i, h))
		}
	}
}

// initialQuery returns the query of segment g that sees only the state before it, when a query reads before it writes.
func initialQuery(g attn.Segment) (i int, ok bool) {
	i = -g.Offset()
	return i, i >= 0 && i < g.Queries
}

// readInitial computes the outputs of that query.
func (t *recurBlock) readInitial(g attn.Segment, kv int) {
	i, ok := initialQuery(g)
	if !ok {
		return
	}
	c, group := t.c, t.c.Heads/t.c.KVHeads
	for h := kv * group; h < (kv+1)*group; h++ {
		out := c.Out.Row(g.Row, g.Query0+i, h)[t.from:][:t.width]
		clear(out)
		kernel.Combine(out, c.Q.Row(g.Row, g.Query0+i, h*c.Q.Heads/c.Heads), kernel.Rows(t.s, t.width))
		kernel.Scale(t.Scale, out)
		if t.Own != OwnNothing {
			t.addOwn(t.own, g, kv, h, i, t.from, t.width)
		}
	}
}

// readInitialGrad adds the gradients of that query, and its part to ds, the gradient of the state before the segment.
func (a *recurArgs) readInitialGrad(seg, kv int, ds []float32) {
	g := a.c.Segment(seg)
	i, ok := initialQuery(g)
	if !a.Before || !ok {
		return
	}
	c, group, state := a.c, a.c.Heads/a.c.KVHeads, a.state(a.c.Initial, seg, kv)
	for h := kv * group; h < (kv+1)*group; h++ {
		do, dq := a.g.Out.Row(g.Row, g.Query0+i, h), a.g.Q.Row(g.Row, g.Query0+i, h)
		for b, q := range c.Q.Row(g.Row, g.Query0+i, h*c.Q.Heads/c.Heads) {
			kernel.Axpy(a.Scale*q, do, ds[b*c.ValueDim:])
			if state != nil {
				dq[b] += a.Scale * kernel.Dot(do, state[b*c.ValueDim:])
			}
		}
	}
}
