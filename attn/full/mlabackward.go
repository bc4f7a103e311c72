package full

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// Backward adds the gradients of the queries, the latents, the rotated keys and both weights. It writes keys and values out again.
func (m mla) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	if c.Batch == 0 || c.QueryLen == 0 || c.KeyLen == 0 {
		return nil
	}
	m.eachCall(c, func(one *attn.Call) {
		mark := ws.Mark()
		m.backward(ws, one, g, c.Saved.Part(0))
		ws.Release(mark)
	})
	return nil
}

// gradFloats is the scratch of the gradients of what expand writes.
func (m mla) gradFloats(s attn.Shape) int {
	n := s.Batch * s.Heads
	return attn.ScratchFloats(n*s.QueryLen*s.KeyDim, n*s.KeyLen*s.KeyDim, n*s.KeyLen*s.ValueDim)
}

func (m mla) backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads, lse []float32) {
	p := m.expand(ws, c, c.K, c.Extra[0], false)
	p.grads = *g
	p.gq, p.gk = perHead(ws, c.Batch, c.QueryLen, c.Heads, p.dk), perHead(ws, c.Batch, c.KeyLen, c.Heads, p.dk)
	p.gv = perHead(ws, c.Batch, c.KeyLen, c.Heads, p.dv)
	for _, x := range [][]float32{p.gq.Data, p.gk.Data, p.gv.Data} {
		clear(x)
	}
	inner := p.inner()
	grads := attn.Grads{Out: g.Out, Q: p.gq, K: p.gk, V: p.gv}
	plainSoftmax.BackwardSums(ws, &inner, &grads, lse)
	blocks := (max(c.QueryLen, c.KeyLen) + mlaBlock - 1) / mlaBlock
	t := mlaTurn{p, attn.View{}, blocks}
	attn.Parallel(ws, c.NumSegments()*blocks, p.turnFloats(), t, func(s *attn.Scratch, t *mlaTurn, task int) { t.inputGrads(s, task) })
	attn.Parallel(ws, c.Heads, 0, t, func(_ *attn.Scratch, t *mlaTurn, h int) { t.weightGrads(h) })
}

// inputGrads adds the gradients of the queries, the rotated keys and the latents of a block.
func (t *mlaTurn) inputGrads(s *attn.Scratch, task int) {
	g, first := t.block(task)
	a := newAngles(s, t.call.Rope, t.dr)
	dn, dv := t.dn, t.dv
	for i := first; i < min(first+mlaBlock, g.Queries); i++ {
		a.at(g.Pos0 + i + g.Offset())
		for h := range t.call.Heads {
			dq := t.gq.Row(g.Row, g.Query0+i, h)
			a.back(dq[dn:])
			tile.Axpy(1, dq, t.grads.Q.Row(g.Row, g.Query0+i, h))
		}
	}
	n, at := min(mlaBlock, g.Keys-first), g.Key0+first
	if n <= 0 {
		return
	}
	for j := range n {
		sum := t.kr.Row(g.Row, at+j, 0) // its key is not needed any more
		clear(sum)
		for h := range t.call.Heads {
			tile.Axpy(1, t.gk.Row(g.Row, at+j, h)[dn:], sum)
		}
		a.at(g.Pos0 + first + j)
		a.back(sum)
		tile.Axpy(1, sum, t.grads.Extra[0].Row(g.Row, at+j, 0))
	}
	dc := tile.HeadRows(&t.grads.K, g.Row, at, 0)
	for h := range t.call.Heads {
		wk, wv := t.call.Learned[0][h*dn*t.r:], t.call.Learned[1][h*dv*t.r:]
		tile.MulAdd(n, t.r, dn, tile.HeadRows(&t.gk, g.Row, at, h), tile.Rows(wk, t.r), dc)
		tile.MulAdd(n, t.r, dv, tile.HeadRows(&t.gv, g.Row, at, h), tile.Rows(wv, t.r), dc)
	}
}

// weightGrads adds the gradients of a head's weights.
func (t *mlaTurn) weightGrads(h int) {
	dn, dv := t.dn, t.dv
	dwk, dwv := tile.Rows(t.grads.Learned[0][h*dn*t.r:], t.r), tile.Rows(t.grads.Learned[1][h*dv*t.r:], t.r)
	for i := range t.call.NumSegments() {
		g := t.call.Segment(i)
		if g.Keys == 0 {
			continue
		}
		c := tile.HeadRows(&t.c, g.Row, g.Key0, 0)
		dk, dvs := tile.HeadRows(&t.gk, g.Row, g.Key0, h), tile.HeadRows(&t.gv, g.Row, g.Key0, h)
		tile.MulAdd(dn, t.r, g.Keys, dk.T(), c, dwk)
		tile.MulAdd(dv, t.r, g.Keys, dvs.T(), c, dwv)
	}
}
