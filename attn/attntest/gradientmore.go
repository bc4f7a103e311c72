package attntest

import (
	"fmt"
	"math"

	"attnbench/attn"
)

// mostElements is how many elements of a part are looked at one by one; directions cover the others of a large learned tensor.
const mostElements = 256

// elements compares every element of every gradient, or mostElements of them, on a small call.
func (k *kit) elements(d attn.Differentiable, p *plan) {
	if p.QueryLen > 9 || p.KeyLen > 9 || p.KeyDim > 4 {
		return
	}
	c := k.drawClear(p)
	parts, g, ok := k.backward(d, c, p, false)
	if !ok {
		return
	}
	w := wide(c)
	w.Frozen = wide(c)
	r := p.rand(6)
	for _, part := range parts {
		ps, n := part.points(w), len(part.got)
		chosen := r.Perm(n)[:min(n, mostElements)]
		want, top := map[int]float64{}, 0.0
		for _, i := range chosen {
			var at []*float64
			for t := range part.ties {
				at = append(at, ps[t*n+i])
			}
			if want[i], ok = k.difference(w, g, at, []float64{1}); !ok {
				return
			}
			top = max(top, math.Abs(want[i]))
		}
		for _, i := range chosen {
			x := want[i]
			if e := math.Abs(part.got[i] - x); !(e <= max(1e-4, k.rounding())*top+1e-6) {
				k.failf("gradient of %s, element %d of %d: got %.6g, want %.6g", part.name, i, n, part.got[i], x)
				break
			}
		}
	}
}

// finalOnly checks a gradient that comes from the final state alone.
func (k *kit) finalOnly(d attn.Differentiable, m attn.Mask) {
	if k.info.Carry == nil {
		return
	}
	for _, initial := range []bool{true, false} {
		p := &plan{Shape: shape(m, 2, 9, 9, 2, 1, 4, 3), present: k.every(), carry: true, saved: true,
			what: fmt.Sprintf("gradient of the final state, initial state %v", initial)}
		if !k.begin(p) {
			return
		}
		c := k.draw(p)
		if !initial {
			c.Initial = nil
		}
		parts, g, ok := k.backward(d, c, p, false)
		if !ok {
			return
		}
		w, r := wide(c), p.rand(5)
		for _, part := range parts {
			dir, got := direction(r, part.got)
			want, ok := k.difference(w, g, part.points(w), dir)
			if !ok {
				return
			}
			if e := math.Abs(got - want); !(e <= 2e-3*math.Abs(want)+1e-4) {
				k.failf("gradient of %s: got %.6g, want %.6g", part.name, got, want)
			}
		}
	}
}

// emptyGradient checks that sizes of 0 have gradients, of nothing.
func (k *kit) emptyGradient(d attn.Differentiable, m attn.Mask) {
	for _, s := range []attn.Shape{shape(m, 0, 3, 3, 2, 1, 4, 3), shape(m, 2, 0, 0, 2, 1, 4, 3)} {
		p := &plan{Shape: s, present: k.every(), saved: true, carry: true}
		if k.begin(p) {
			if c := k.draw(p); c.Batch == 0 || c.QueryLen == 0 {
				k.backward(d, c, p, false)
			}
		}
	}
}
