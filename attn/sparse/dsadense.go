package sparse

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

// mark clears bit i of hidden[j] where query i of n chose key j, and sets the others.
func (a *dsaArgs) mark(w *dsaWork, g attn.Segment, first, n int, hidden []uint32) {
	for j := range hidden {
		hidden[j] = math.MaxUint32
	}
	for i := range n {
		held := 0
		if a.lse == nil {
			held = w.tops[i].Held(w.chosen)
		} else {
			held = w.tops[i].Sorted(w.chosen, nil)
			copy(a.lists.Of(&a.call.Shape, g, 0, first+i), w.chosen[:held])
		}
		for _, j := range w.chosen[:held] {
			hidden[j] &^= 1 << i
		}
	}
}

// attend computes one head of n queries, which see end keys, by the products of tile.Softmax: all keys up to a tile's last query, those that were not
// chosen hidden by a score of -Inf.
func (a *dsaArgs) attend(w *dsaWork, g attn.Segment, first, n, end, h int) {
	c := &a.call
	dk, dv := c.KeyDim, c.ValueDim
	tiles := ceil(n, dsaRows)
	for t := range tiles {
		at := first + t*dsaRows
		tile.Pack(w.tileQ(t, dk).Data, tile.HeadRows(&c.Q, g.Row, g.Query0+at, h), min(dsaRows, n-t*dsaRows), dk, a.scale*kernel.Log2E)
	}
	a.blocks(w, g, first, n, end, h, 0, tiles, false)
	var x [tile.Lanes]float32
	for t := range tiles {
		o := w.tileO(t, dv)
		if !tile.RowsFinite(o, dv, tile.Lanes) { // a key that was not chosen may hold a NaN: 0·NaN is one
			a.blocks(w, g, first, n, end, h, t, t+1, true)
		}
		at, rows := first+t*dsaRows, min(dsaRows, n-t*dsaRows)
		w.state[t].Inverse(x[:])
		tile.Unpack(tile.HeadRows(&c.Out, g.Row, g.Query0+at, h), o.Data, rows, dv, x[:])
		if a.lse != nil {
			w.state[t].LogSum2(x[:])
			for i := range rows {
				a.lse[(g.Row*c.Heads+h)*c.QueryLen+g.Query0+at+i] = x[i] * math.Ln2
			}
		}
	}
}

func (w *dsaWork) tileQ(t, dk int) tile.Mat {
	return tile.Rows(w.q[t*dk*tile.Lanes:][:dk*tile.Lanes], tile.Lanes)
}

func (w *dsaWork) tileO(t, dv int) tile.Mat {
	return tile.Rows(w.o[t*dv*tile.Lanes:][:dv*tile.Lanes], tile.Lanes)
}

// blocks takes the tiles from to to-1 over all keys, a block of which they share. Guarded, values that are not finite reach only the queries that see them, and
// the others get the bits that they would get if those were finite.
func (a *dsaArgs) blocks(w *dsaWork, g attn.Segment, first, n, end, h, from, to int, guarded bool) {
	c := &a.call
	dk, dv, kv := c.KeyDim, c.ValueDim, c.KVHead(h)
	for t := from; t < to; t++ {
		clear(w.tileO(t, dv).Data)
		w.state[t].Reset()
	}
	keys, scores := tile.Rows(w.keys, dk), tile.Rows(w.scores, tile.Lanes)
	for lo := 0; lo < end; lo += dsaBlock {
		m := min(dsaBlock, end-lo)
		kernel.Copy(keys, tile.HeadRows(&c.K, g.Row, g.Key0+lo, kv), m, dk)
		v := tile.HeadRows(&c.V, g.Row, g.Key0+lo, kv)
		if guarded {
			v = w.finiteRows(v, m, dv)
		}
		values := kernel.PackColumns(w.packed, dv, m, v.T())
		for t := from; t < to; t++ {
			m := min(m, tile.Seen(c.Mask, g, first+min(n, (t+1)*dsaRows)-1)-lo)
			if m <= 0 {
				continue
			}
			hidden := w.hidden[t*a.masked+lo:][:m]
			tile.Mul(m, tile.Lanes, dk, keys, w.tileQ(t, dk), scores)
			kernel.Put(w.scores, hidden, kernel.NegInf)
			w.state[t].Step(w.scores, m)
			kernel.MulScalePacked(w.state[t].Scale[:], tile.Lanes, m, values, scores, w.tileO(t, dv))
			if guarded {
				addSeen(w.tileO(t, dv), tile.HeadRows(&c.V, g.Row, g.Key0+lo, kv), w.scores, hidden, dv)
			}
		}
	}
}

// finiteRows copies rows of v, zeros for those that are not finite.
func (w *dsaWork) finiteRows(v tile.Mat, m, dv int) tile.Mat {
	room := tile.Rows(w.values, dv)
	kernel.Copy(room, v, m, dv)
	for j := range m {
		if !tile.RowsFinite(room.From(j, 0), 1, dv) {
			clear(w.values[j*dv:][:dv])
		}
	}
	return room
}

// addSeen adds the rows of v that finiteRows left out to the lanes of o that see them.
func addSeen(o, v tile.Mat, weights []float32, hidden []uint32, dv int) {
	for j, unseen := range hidden {
		if tile.RowsFinite(v.From(j, 0), 1, dv) {
			continue
		}
		for l, p := range weights[j*tile.Lanes:][:tile.Lanes] {
			if unseen>>l&1 != 0 {
				continue
			}
			for d, x := range v.Data[j*v.Row:][:dv] {
				o.Data[d*tile.Lanes+l] += p * x
			}
		}
	}
}
