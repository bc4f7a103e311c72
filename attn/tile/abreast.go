package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// A queryTile is a tile of queries in the backward pass.
type queryTile struct {
	t          Tile
	walk       cursor
	q, do      side
	qt, dot    []float32  // Qᵀ·scale·log₂e and dOᵀ·scale
	qRow, dRow kernel.Mat // rows of Q and dO
	dqt        []float32
	dq         kernel.Mat // where it goes
	lse, delta []float32
	s, ds      []float32 // Sᵀ, then P; dPᵀ, then dSᵀ
}

func queryFloats(dk, dv int) int {
	return attn.ScratchFloats(dk*Lanes, dv*Lanes, dk*Lanes, dk*Lanes, dv*Lanes, Lanes, Lanes, keyBlock*Lanes, keyBlock*Lanes)
}

func newQueryTile(s *attn.Scratch, dk, dv int) queryTile {
	return queryTile{
		qt: s.Floats(dk * Lanes), dot: s.Floats(dv * Lanes), dqt: s.Floats(dk * Lanes),
		qRow: kernel.Rows(s.Floats(dk*Lanes), dk), dRow: kernel.Rows(s.Floats(dv*Lanes), dv),
		lse: s.Floats(Lanes), delta: s.Floats(Lanes), s: s.Floats(keyBlock * Lanes), ds: s.Floats(keyBlock * Lanes),
	}
}

// abreast is the number of query tiles that go side by side, two where there is room for both: products over their queries then
// have a sum of 64 terms.
func (a *backwardArgs) abreast() int {
	if a.Pairs {
		return 1
	}
	return 2
}

// queries takes the keys of the block that tiles n and n+1 of a query head of a segment see, or tile n alone.
func (a *backwardArgs) queries(b *backwardHead, g attn.Segment, segment, head, n, part int) {
	var sees [2]bool
	for i := range sees {
		if i < a.abreast() && (n+i)*Lanes < g.Queries {
			sees[i] = a.begin(b, g, segment, head, n+i, part)
		}
		b.swap()
	}
	for end := b.lo; end < b.hi; {
		end = min(end+keyBlock, b.hi)
		for i := range sees {
			b.waits = i == 0 && sees[1]
			for sees[i] {
				blk, ok := b.walk.block(b.p, end)
				if !ok {
					break
				}
				b.step(blk)
			}
			b.swap()
		}
		b.release()
	}
	for i := range sees {
		if sees[i] {
			kernel.UnpackAdd(b.dq, b.dqt, b.t.Rows, b.dk, nil)
		}
		b.swap()
	}
}

func (b *backwardHead) swap() { b.queryTile, b.other = b.other, b.queryTile }

// begin makes tile n of a query head of a segment the one at hand, and reports whether it sees keys of the block.
func (a *backwardArgs) begin(b *backwardHead, g attn.Segment, segment, head, n, part int) bool {
	c := &a.call
	t := tileAt(c, g, segment, head, n)
	b.t, b.walk = t, cursor{t, b.p.Next(t, b.lo)}
	if b.walk.done() || b.walk.run.Lo >= b.hi {
		return false
	}
	at := g.Query0 + n*Lanes
	b.q = side{c.Q.From(g.Row, at, head), c.Q.TimeStride}
	b.do = side{a.grads.Out.From(g.Row, at, head), a.grads.Out.TimeStride}
	kernel.Copy(b.qRow, b.q.rows(0), t.Rows, b.dk)
	kernel.Copy(b.dRow, b.do.rows(0), t.Rows, b.dv)
	kernel.Pack(b.qt, b.qRow, t.Rows, b.dk, a.packScale(a.scale*kernel.Log2E))
	b.roundQuery()
	kernel.Pack(b.dot, b.dRow, t.Rows, b.dv, a.scale)
	clear(b.dqt)
	from := (g.Row*c.Heads+head)*c.QueryLen + at
	copy(b.lse, a.lse[from:][:t.Rows])
	copy(b.delta, a.delta[from:][:t.Rows])
	for l := t.Rows; l < Lanes; l++ {
		b.lse[l], b.delta[l] = kernel.NegInf, 0
	}
	b.dq = kernel.Rows(a.grads.Q.From(g.Row, at, head), a.grads.Q.TimeStride)
	if part > 0 {
		b.dq = kernel.Rows(a.sumQ(g.Row, head, part)[at*b.dk:], b.dk)
	}
	kernel.Prefetch(b.dq, t.Rows, b.dk)
	if next := at + Lanes; next+Lanes <= g.Query0+g.Queries {
		kernel.Prefetch(kernel.Rows(c.Q.From(g.Row, next, head), c.Q.TimeStride), Lanes, b.dk)
		kernel.Prefetch(kernel.Rows(a.grads.Out.From(g.Row, next, head), a.grads.Out.TimeStride), Lanes, b.dv)
	}
	return true
}

// release adds what waits, of the tile at hand.
func (b *backwardHead) release() {
	if b.holding {
		b.holding = false
		b.addKV(b.held)
	}
}

// releaseOther adds what waits beside the tile at hand.
func (b *backwardHead) releaseOther() {
	if b.holding {
		b.swap()
		b.release()
		b.swap()
	}
}
