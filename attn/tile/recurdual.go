package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// A dual recurrence reads its state by the other side: o_t = r S_t q_t, one number a key channel,
//
//	o_t[c] = r Σ_{j≤t} (q_t·v_j) k_j[c] e^{g_{j+1}[c]+…+g_t[c]}
//
// A weight of a pair is the same for all channels, and its decay is not: so keys decay as rows, from query to query within each half of
// a block, and then have what the state takes.

// dualBlock is what a block of a dual recurrence needs besides.
type dualBlock struct {
	vt   []float32 // values of the block transposed, [value dim, lanes]
	st   []float32 // the state transposed, in panels
	a    []float32 // weights q·v of pairs, [lanes, lanes]
	keys []float32 // keys with their decays, [lanes, key dim]
	run  []float32 // Π e from the start of a half, [key dim]
}

func newDual(s *attn.Scratch, sh attn.Shape) dualBlock {
	return dualBlock{s.Floats(sh.ValueDim * lanes), s.Floats(panels(sh.KeyDim) * sh.ValueDim), s.Floats(lanes * lanes),
		s.Floats(lanes * sh.KeyDim), s.Floats(sh.KeyDim)}
}

func dualFloats(s attn.Shape) int {
	return attn.ScratchFloats(s.ValueDim*lanes, panels(s.KeyDim)*s.ValueDim, lanes*lanes, lanes*s.KeyDim, s.KeyDim)
}

// emitDual computes the outputs of the block's queries, and decays its keys to the end of the block.
func (t *recurBlock) emitDual() {
	d, dk, dv := &t.dual, t.c.KeyDim, t.c.ValueDim
	kernel.Pack(d.vt, t.values(), t.n, dv, 1)
	packMat(d.st, kernel.Rows(t.s, t.width), dk, dv)
	for i := range t.group() {
		h, own := t.queryHead(i), t.row1-t.row0
		var q, out kernel.Mat
		if own > 0 {
			q, out = t.queryRows(&t.c.Q, t.row0, h), t.queryRows(&t.c.Out, t.row0, h)
		}
		kernel.Mul(own, t.n, dv, q, kernel.Rows(d.vt, lanes), kernel.Rows(d.a, lanes).From(t.row0, 0))
		for j := 0; j < dk && own > 0; j += lanes {
			kernel.Mul(own, min(lanes, dk-j), dv, q, kernel.Rows(d.st[j*dv:], lanes), out.From(0, j))
		}
		kernel.Copy(kernel.Rows(d.keys, dk), t.keyRows(&t.c.K), t.n, dk)
		t.dualHalf(out, 0)
		if half := kernel.DecayBlock; t.n > half {
			first, total := kernel.Rows(d.keys, dk), d.run
			if r := max(t.row0, half); r < t.row1 {
				rows := out.From(r-t.row0, 0)
				kernel.TimesRows(total, rows, t.row1-r)
				kernel.MulAdd(t.row1-r, dk, half, kernel.Rows(d.a, lanes).From(r, 0), first, rows)
			}
			t.dualHalf(out, half)
			kernel.TimesRows(total, first, half)
		}
		for r := range own {
			kernel.Scale(t.Scale, out.Data[r*out.Row:][:dk])
		}
	}
	kernel.Pack(t.k, kernel.Rows(d.keys, dk), t.n, dk, 1)
}

// dualHalf does the pairs within the half of the block from token from on: it decays the half's keys to its end and leaves the decay over
// the half in run.
func (t *recurBlock) dualHalf(out kernel.Mat, from int) {
	d, dk := &t.dual, t.c.KeyDim
	for i := range d.run {
		d.run[i] = 1
	}
	keys := kernel.Rows(d.keys, dk).From(from, 0)
	for i := from; i < min(t.n, from+kernel.DecayBlock); i++ {
		e := t.decay.e[i*dk:][:dk]
		kernel.Times(d.run, e)
		kernel.TimesRows(e, keys, i-from)
		if i >= t.row0 {
			row := out.Data[(i-t.row0)*out.Row:][:dk]
			kernel.Times(row, d.run)
			kernel.Combine(row, d.a[i*lanes+from:][:i-from+1], keys)
		}
	}
}
