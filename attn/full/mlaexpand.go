package full

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// Over many queries latent attention is computed with the keys and values of each head written out, as plain attention of as many
// key/value heads as query heads; over few, in decoding, with the latents themselves (mladecode.go).

// mlaSizes are the widths of a call.
type mlaSizes struct{ r, dn, dr, dk, dv int }

func (m mla) sizes(s attn.Shape) mlaSizes {
	return mlaSizes{m.rank(s), m.plain(s), m.rotary(s), s.KeyDim, s.ValueDim}
}

// mlaPass is a call written out. Its views are scratch, head-major.
type mlaPass struct {
	mlaSizes
	call   attn.Call
	c, kr  attn.View // latents; rotated keys
	wk, wv []float32 // transposes of W_uk and W_uv, [heads, r, dn] and [heads, r, dv]
	q      attn.View // with the rotated part turned
	k, v   attn.View
	isTurn bool // kr is turned already
	// Of Backward.
	grads      attn.Grads
	gq, gk, gv attn.View
}

const mlaBlock = 64 // tokens of a task

func perHead(ws *attn.Workspace, batch, time, heads, dim int) attn.View {
	return attn.View{
		Data: ws.Floats(batch * heads * time * dim), Batch: batch, Time: time, Heads: heads, Dim: dim,
		BatchStride: heads * time * dim, TimeStride: dim, HeadStride: time * dim,
	}
}

// expandFloats is the scratch of expand.
func (m mla) expandFloats(s attn.Shape) int {
	n, d := s.Batch*s.Heads, m.sizes(s)
	return attn.ScratchFloats(s.Heads*d.r*d.dn, s.Heads*d.r*d.dv, n*s.QueryLen*d.dk, n*s.KeyLen*d.dk, n*s.KeyLen*d.dv, s.Batch*s.KeyLen*d.dr)
}

// turnFloats is the scratch of a worker that turns.
func (d mlaSizes) turnFloats() int { return attn.ScratchFloats(d.dr, d.dr) }

// expand writes out the queries, keys and values of c, whose segments share no keys, from the latents and the rotated keys of its tokens.
func (m mla) expand(ws *attn.Workspace, c *attn.Call, latents, kr attn.View, isTurned bool) mlaPass {
	d, h := m.sizes(c.Shape), c.Heads
	p := mlaPass{
		mlaSizes: d, call: *c, c: latents, isTurn: isTurned,
		wk: ws.Floats(h * d.r * d.dn), wv: ws.Floats(h * d.r * d.dv),
		q: perHead(ws, c.Batch, c.QueryLen, h, d.dk),
		k: perHead(ws, c.Batch, c.KeyLen, h, d.dk), v: perHead(ws, c.Batch, c.KeyLen, h, d.dv),
		kr: attn.ViewAs(ws.Floats(c.Batch*c.KeyLen*d.dr), c.Batch, c.KeyLen, 1, d.dr),
	}
	p.call.Saved = nil
	p.call.Extra = nil
	blocks := (max(c.QueryLen, c.KeyLen) + mlaBlock - 1) / mlaBlock
	attn.Parallel(ws, h, 0, p, func(_ *attn.Scratch, p *mlaPass, h int) { p.transpose(h) })
	attn.Parallel(ws, c.NumSegments()*blocks, d.turnFloats(), mlaTurn{p, kr, blocks}, func(s *attn.Scratch, t *mlaTurn, task int) { t.run(s, task) })
	attn.Parallel(ws, c.NumSegments()*blocks*h, 0, mlaTurn{p, kr, blocks}, func(_ *attn.Scratch, t *mlaTurn, task int) { t.products(task) })
	return p
}

// transpose turns a head's weights so that a row of latents times them is a product of rows.
func (p *mlaPass) transpose(h int) {
	for i, w := range [][]float32{p.call.Learned[0], p.call.Learned[1]} {
		dst, cols := p.wk, p.dn
		if i == 1 {
			dst, cols = p.wv, p.dv
		}
		dst, w = dst[h*p.r*cols:][:p.r*cols], w[h*p.r*cols:][:p.r*cols]
		for e := range p.r {
			for j := range cols {
				dst[e*cols+j] = w[j*p.r+e]
			}
		}
	}
}

type mlaTurn struct {
	mlaPass
	source attn.View // of the rotated keys
	blocks int
}

// block returns a task's segment and the first of its tokens.
func (t *mlaTurn) block(task int) (g attn.Segment, first int) {
	return t.call.Segment(task / t.blocks), task % t.blocks * mlaBlock
}

// run turns the queries and the rotated keys of a block.
func (t *mlaTurn) run(s *attn.Scratch, task int) {
	g, first := t.block(task)
	a := newAngles(s, t.call.Rope, t.dr)
	for i := first; i < min(first+mlaBlock, g.Queries); i++ {
		a.at(g.Pos0 + i + g.Offset())
		for h := range t.call.Heads {
			src, dst := t.call.Q.Row(g.Row, g.Query0+i, h), t.q.Row(g.Row, g.Query0+i, h)
			copy(dst[:t.dn], src)
			a.turn(dst[t.dn:], src[t.dn:])
		}
	}
	for j := first; j < min(first+mlaBlock, g.Keys); j++ {
		src, dst := t.source.Row(g.Row, g.Key0+j, 0), t.kr.Row(g.Row, g.Key0+j, 0)
		if t.isTurn {
			copy(dst, src)
			continue
		}
		a.at(g.Pos0 + j)
		a.turn(dst, src)
	}
}

// products writes out the keys and values of a block and head.
func (t *mlaTurn) products(task int) {
	h := task % t.call.Heads
	g, first := t.block(task / t.call.Heads)
	n, at := min(mlaBlock, g.Keys-first), g.Key0+first
	if n <= 0 {
		return
	}
	c := tile.HeadRows(&t.c, g.Row, at, 0)
	dv := t.dv
	tile.Mul(n, t.dn, t.r, c, tile.Rows(t.wk[h*t.r*t.dn:], t.dn), tile.HeadRows(&t.k, g.Row, at, h))
	tile.Mul(n, dv, t.r, c, tile.Rows(t.wv[h*t.r*dv:], dv), tile.HeadRows(&t.v, g.Row, at, h))
	for j := range n {
		copy(t.k.Row(g.Row, at+j, h)[t.dn:], t.kr.Row(g.Row, at+j, 0))
	}
}

// angles turn vectors; without a rope they leave them.
type angles struct {
	rope     *attn.Rope
	cos, sin []float32
	width    int
}

func newAngles(s *attn.Scratch, rope *attn.Rope, width int) angles {
	a := angles{rope: rope, cos: s.Floats(width), sin: s.Floats(width), width: width}
	if rope != nil {
		n := rope.Pairs(width)
		a.cos, a.sin = a.cos[:n], a.sin[:n]
	}
	return a
}

func (a *angles) at(pos int) {
	if a.rope != nil {
		a.rope.Angles(a.cos, a.sin, pos, a.width)
	}
}

func (a *angles) turn(dst, src []float32) {
	if a.rope == nil {
		copy(dst, src)
		return
	}
	a.rope.Turn(dst, src, a.cos, a.sin)
}

// back turns the other way.
func (a *angles) back(x []float32) {
	if a.rope == nil {
		return
	}
	for i := range a.sin {
		a.sin[i] = -a.sin[i]
	}
	a.rope.Turn(x, x, a.cos, a.sin)
	for i := range a.sin {
		a.sin[i] = -a.sin[i]
	}
}

// inner is plain attention over what expand wrote.
func (p *mlaPass) inner() attn.Call {
	c := p.call
	c.KVHeads, c.Q, c.K, c.V, c.Learned = c.Heads, p.q, p.k, p.v, nil
	return c
}

var plainSoftmax = tile.Softmax{Pattern: tile.Dense{}}

// Forward computes the output.
func (m mla) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	var lse []float32
	if c.Saved != nil {
		lse = c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
	}
	m.eachCall(c, func(c *attn.Call) {
		mark := ws.Mark()
		p := m.expand(ws, c, c.K, c.Extra[0], false)
		inner := p.inner()
		plainSoftmax.ForwardSums(ws, &inner, lse)
		ws.Release(mark)
	})
	return nil
}

// eachCall calls f with c, or where segments share keys, which may then stand at several positions, with one segment at a time.
func (m mla) eachCall(c *attn.Call, f func(c *attn.Call)) {
	if !tile.KeysOverlap(c) {
		f(c)
		return
	}
	for i := range c.Segments {
		one := *c
		one.Segments = c.Segments[i : i+1]
		f(&one)
	}
}
