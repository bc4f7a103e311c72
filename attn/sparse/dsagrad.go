package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// Backward adds the gradients of q, k and v, the choice held fixed, and of the auxiliary loss those of the indexer.
func (m dsa) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	if c.Batch == 0 || c.QueryLen == 0 || c.KeyLen == 0 {
		return nil
	}
	l := m.lists(c.Shape)
	l.Keys = c.Saved.PartInts(1)
	d := *c
	d.Saved = nil
	l.Backward(ws, &d, g, c.Saved.Part(0), rootOf(c.KeyDim))
	if g.Aux == 0 {
		return nil
	}
	a := indexArgs{o: m.o, call: d, grads: *g, lists: l, lse: c.Saved.Part(0), scale: rootOf(c.KeyDim)}
	a.aux = g.Aux / float32(max(1, c.NumQueries()))
	attn.Parallel(ws, c.Batch, int(m.backwardBytes(c.Shape)/4), a, func(s *attn.Scratch, a *indexArgs, task int) { a.run(s, task) })
	return nil
}

func (m dsa) backwardBytes(s attn.Shape) int64 {
	k := m.lists(s).Most
	return max(m.lists(s).BackwardBytes(s), 4*int64(attn.ScratchFloats(k, k, k, k)))
}

type indexArgs struct {
	o     DSA
	call  attn.Call
	grads attn.Grads
	lists tile.Lists
	lse   []float32
	scale float32
	aux   float32
}

// run takes the queries of one batch row, in order.
func (a *indexArgs) run(s *attn.Scratch, task int) {
	c, k := &a.call, a.lists.Most
	target, x, index, d := s.Floats(k), s.Floats(k), s.Floats(k), s.Floats(k)
	for n := range c.NumSegments() {
		g := c.Segment(n)
		if g.Row != task {
			continue
		}
		for i := range g.Queries {
			if list := a.lists.Of(&c.Shape, g, 0, i); len(list) > 0 {
				a.query(g, i, list, target[:len(list)], x[:len(list)], index[:len(list)], d[:len(list)])
			}
		}
	}
}

// query computes dI[j] = aux·(softmax(I)[j] - p̄[j]) over the list, and from it
//
//	dw[x] += Σ_j dI[j]·ReLU(q[x]·k[j]), dq[x] += Σ_j dI[j] w[x] k[j], dk[j] += Σ_x dI[j] w[x] q[x]
//
// the last two over those j and x with q[x]·k[j] > 0.
func (a *indexArgs) query(g attn.Segment, i int, list []int32, target, x, index, d []float32) {
	c, at := &a.call, g.Query0+i
	clear(target)
	for h := range c.Heads {
		for j, key := range list {
			x[j] = a.scale * tile.Dot(c.Q.Row(g.Row, at, h), c.K.Row(g.Row, g.Key0+int(key), c.KVHead(h)))
		}
		tile.ExpSum(x, a.lse[(g.Row*c.Heads+h)*c.QueryLen+at])
		tile.Axpy(1/float32(c.Heads), x, target)
	}
	clear(index)
	for h := range a.o.Heads {
		q, w := c.Extra[indexQ].Row(g.Row, at, h), c.Extra[indexW].Row(g.Row, at, h)[0]
		for j, key := range list {
			index[j] += w * max(0, tile.Dot(q, c.Extra[indexK].Row(g.Row, g.Key0+int(key), 0)))
		}
	}
	divergence(target, index)
	for j := range d {
		d[j] = a.aux * (index[j] - target[j])
	}
	for h := range a.o.Heads {
		q, w := c.Extra[indexQ].Row(g.Row, at, h), c.Extra[indexW].Row(g.Row, at, h)[0]
		dq, dw := a.grads.Extra[indexQ].Row(g.Row, at, h), a.grads.Extra[indexW].Row(g.Row, at, h)
		for j, key := range list {
			k := c.Extra[indexK].Row(g.Row, g.Key0+int(key), 0)
			if y := tile.Dot(q, k); y > 0 {
				dw[0] += d[j] * y
				tile.Axpy(d[j]*w, k, dq)
				tile.Axpy(d[j]*w, q, a.grads.Extra[indexK].Row(g.Row, g.Key0+int(key), 0))
			}
		}
	}
}

// reads counts the indexer's keys, and the keys and values of the chosen tokens, which all heads share.
func (m dsa) reads(s attn.Shape, n int) int64 {
	return int64(n)*int64(m.o.Dim) + int64(min(n, m.o.K))*int64(s.KVHeads)*int64(s.KeyDim+s.ValueDim)
}

func (m dsa) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := m.Softmax.Cost(s, p, s.Pairs()*int64(s.Heads))
	batch, dk, dv, l := int64(s.Batch), int64(s.KeyDim), int64(s.ValueDim), m.lists(s)
	kept := l.Pairs(s) * int64(s.Heads)
	c.FLOPs = 2 * batch * (s.Pairs()*int64(m.o.Heads*m.o.Dim) + kept*(dk+dv))
	c.State += 4 * batch * int64(s.KeyLen) * int64(m.o.Dim)
	c.Bytes += 4 * batch * (int64(s.QueryLen*m.o.Heads*(m.o.Dim+1)) + int64(s.QueryLen*m.o.Dim))
	c.Shared, c.PerWorker = 0, 0
	lists := 4 * int64(attn.ScratchFloats(s.Batch*s.QueryLen*l.Most))
	empty := s.Batch == 0 || s.QueryLen == 0
	switch {
	case p == attn.PassBackward:
		c.FLOPs = 2 * batch * kept * (3*dk + 2*dv)
		c.Bytes += lists
		if !empty && s.KeyLen > 0 {
			c.PerWorker = l.BackwardBytes(s)
		}
		return c
	case p == attn.PassForward:
		c.Saved += lists
		if empty {
			c.Saved = 0
		}
	}
	if !empty {
		c.Shared = 4 * int64(attn.ScratchFloats(s.Batch*s.QueryLen))
		c.PerWorker = 4 * int64(m.floats(s))
	}
	return c
}
