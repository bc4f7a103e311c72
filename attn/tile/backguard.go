package tile

import "attnbench/internal/kernel"

// The guarded paths of Backward: what is not finite in a token reaches only those that see it.

// partsFinite reports whether the keys that some query of the tile does not see are finite.
func (b *backwardHead) partsFinite(blk block) bool {
	for _, r := range blk.part[:blk.parts] {
		for j := r.Lo; j < r.Hi; j++ {
			if !finite(b.k.row(j, b.dk)) {
				return false
			}
		}
	}
	return true
}

// guardedDQ is dQᵀ += Kᵀ·dSᵀ with the keys that are not finite added to the lanes that see them alone.
func (b *backwardHead) guardedDQ(blk block) {
	dq := kernel.Rows(b.dqt, Lanes)
	for j := blk.lo; j < blk.hi; j++ {
		row := b.clean[(j-blk.lo)*b.dk:][:b.dk]
		if copy(row, b.k.row(j, b.dk)); !finite(row) {
			clear(row)
		}
	}
	kernel.MulAdd(b.dk, Lanes, blk.hi-blk.lo, kernel.Rows(b.clean, b.dk).T(), kernel.Rows(b.ds, Lanes), dq)
	for j := blk.lo; j < blk.hi; j++ {
		k := b.k.row(j, b.dk)
		if finite(k) {
			continue
		}
		seen := blk.seen(b.p, b.t, j)
		for l, w := range b.ds[(j-blk.lo)*Lanes:][:Lanes] {
			if seen>>l&1 == 0 {
				continue
			}
			for d, x := range k {
				dq.Data[d*Lanes+l] += w * x
			}
		}
	}
}

// guardedDKV is addKV with the queries whose q or do is not finite added to the keys that they see alone.
func (b *backwardHead) guardedDKV(blk block) {
	t := b.t
	// A lane that is left out has q = do = 0 in the products, but its P and dS may be NaN: they go as well.
	for l := range t.Rows {
		q, do := b.q.row(l, b.dk), b.do.row(l, b.dv)
		if finite(q) && finite(do) {
			continue
		}
		clear(b.qRow.Data[l*b.dk:][:b.dk])
		clear(b.dRow.Data[l*b.dv:][:b.dv])
		for j := blk.lo; j < blk.hi; j++ {
			r := (j-blk.lo)*Lanes + l
			if blk.seen(b.p, t, j)>>l&1 != 0 {
				axpySlow(b.s[r], do, b.gv[(j-b.lo)*b.dv:][:b.dv])
				axpySlow(b.ds[r], q, b.gk[(j-b.lo)*b.dk:][:b.dk])
			}
			b.s[r], b.ds[r] = 0, 0
		}
	}
	b.addKV(blk)
	kernel.Copy(b.qRow, b.q.rows(0), t.Rows, b.dk)
	kernel.Copy(b.dRow, b.do.rows(0), t.Rows, b.dv)
}

func axpySlow(w float32, x, y []float32) {
	for d, v := range x {
		y[d] += w * v
	}
}
