package autograd

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

func (t *Tape) backRecur(o *op, g []float32) {
	r := &t.recurs[o.i]
	n, h := r.Batch*r.Steps, r.hidden
	r.g, r.dh = g, t.floats(r.Batch*h)
	r.dx = r.gates // each is read before its gradient takes its place
	switch r.Cell {
	case Elman:
		r.dx = t.floats(n * h)
	case LSTM:
		r.dc = t.floats(r.Batch * h)
	}
	if r.du = r.dx; r.Cell == GRU {
		r.du = t.floats(n * r.width)
	}
	mark := t.scratchMark()
	r.hu = t.scratch(r.Batch * h)
	t.recur(r, product{m: n, n: h, k: r.width, b: t.mat(r.U).T()}, recurBackward)
	t.scratchRelease(mark)
	if t.need(r.U) {
		before := t.scratch(n * h) // h_{t-1} of every step
		for b := 0; b < r.Batch && t.dry == nil; b++ {
			for s := range r.Steps {
				if row := r.row(before, b, s, h); s > 0 {
					copy(row, r.row(r.out, b, s-1, h))
				} else {
					clear(row)
					copy(row, r.before(t, r.out, r.H0, b, s))
				}
			}
		}
		dU, add := t.gradSpace(r.U)
		t.multiply(product{add: add, m: h, n: r.width, k: n, a: kernel.Rows(before, h).T(), b: kernel.Rows(r.du, r.width), c: kernel.Rows(dU, r.width)})
		t.scratchRelease(mark)
	}
	if r.H0 != None {
		t.giveNew(r.H0, r.dh)
	}
	if r.C0 != None {
		t.giveNew(r.C0, r.dc)
	}
	t.giveNew(r.X, r.dx)
}

func recurBackward(_ *attn.Scratch, a *recurArgs, task int) {
	r, lo := a.r, task*a.r.group()
	hi := min(lo+r.group(), r.Batch)
	dh := r.dh[lo*r.hidden : hi*r.hidden]
	clear(dh)
	if r.dc != nil {
		clear(r.dc[lo*r.hidden : hi*r.hidden])
	}
	hu := r.hu[lo*r.hidden : hi*r.hidden] // the part of dh through U
	for s := r.Steps - 1; s >= 0; s-- {
		for b := lo; b < hi; b++ {
			r.cellGrad(a.t, b, s)
		}
		if r.Cut > 0 && s > 0 && s%r.Cut == 0 {
			clear(dh)
			if r.dc != nil {
				clear(r.dc[lo*r.hidden : hi*r.hidden])
			}
			continue
		}
		if s > 0 || r.H0 != None {
			r.product(hi-lo, r.hidden, r.width, r.at(r.du, lo, s, r.width), kernel.Rows(hu, r.hidden))
			kernel.Add(dh, hu)
		}
	}
}

// cellGrad turns dh and dc, the gradients of the state and the cell after step s of sequence b that come from later steps, into those of x and of
// h·U and into what reaches the state and the cell before the step beside h·U.
func (r *Recurrence) cellGrad(t *Tape, b, s int) {
	n := r.hidden
	gate, dx, du := r.row(r.gates, b, s, r.width), r.row(r.dx, b, s, r.width), r.row(r.du, b, s, r.width)
	dh := r.dh[b*n : (b+1)*n]
	kernel.Add(dh, r.row(r.g, b, s, n))
	switch r.Cell {
	case Elman:
		for e, h := range gate {
			dx[e] = dh[e] * (1 - float32(h*h))
		}
		clear(dh)
	case GRU:
		inner, last := r.row(r.inner, b, s, n), r.before(t, r.out, r.H0, b, s)
		for e, d := range dh {
			rg, z, c, h := gate[e], gate[n+e], gate[2*n+e], float32(0)
			if last != nil {
				h = last[e]
			}
			dc := d * (1 - z) * (1 - float32(c*c))
			dr := dc * inner[e] * rg * (1 - rg)
			dz := d * (h - c) * z * (1 - z)
			dx[e], dx[n+e], dx[2*n+e] = dr, dz, dc
			du[e], du[n+e], du[2*n+e] = dr, dz, float32(dc*rg)
			dh[e] = d * z
		}
	case LSTM:
		tan, last, dc := r.row(r.tan, b, s, n), r.before(t, r.cells, r.C0, b, s), r.dc[b*n:(b+1)*n]
		for e, d := range dh {
			i, f, o, z, tc, before := gate[e], gate[n+e], gate[2*n+e], gate[3*n+e], tan[e], float32(0)
			if last != nil {
				before = last[e]
			}
			c := dc[e] + float32(d*o*(1-float32(tc*tc)))
			dx[e] = c * z * i * (1 - i)
			dx[n+e] = c * before * f * (1 - f)
			dx[2*n+e] = d * tc * o * (1 - o)
			dx[3*n+e] = c * i * (1 - float32(z*z))
			dc[e] = c * f
		}
		clear(dh)
	}
}
