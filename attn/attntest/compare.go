package attntest

import (
	"fmt"
	"math"

	"attnbench/attn"
)

// tolerance is what float32 may lose against the definition, relative to the largest output.
const tolerance = 5e-5

// tolerance is that, or what the mechanism declares.
func (k *kit) tolerance() float64 { return max(tolerance, k.info.Tolerance) }

// poison fills what was used of the workspace since the last time with NaN: scratch is of undefined content.
func (k *kit) poison() {
	mark := k.ws.Mark()
	x := k.ws.Floats(int(k.ws.Peak() / 4))
	for i := range x {
		x[i] = nan
	}
	k.ws.Release(mark)
	k.ws.ResetPeak()
}

// forward runs Forward and reports whether it succeeded.
func (k *kit) forward(c *attn.Call) bool {
	k.poison()
	if err := k.m.Forward(k.ws, c); err != nil {
		k.failf("forward of a good call: %v", err)
		return false
	}
	return true
}

// want returns what the definition computes for c.
func (k *kit) want(c *attn.Call) (*attn.Call64, bool) {
	w := wide(c)
	if err := k.define(w); err != nil {
		k.failf("definition of a good call: %v", err)
		return nil, false
	}
	return w, true
}

// size returns the largest magnitude.
func size(x []float64) float64 {
	top := 0.0
	for _, v := range x {
		top = max(top, math.Abs(v))
	}
	return top
}

// off compares an output with the definition's and describes the worst element, "" when all
// are within tol of the largest.
func off(got attn.View, want attn.View64, tol float64) (what string) {
	scale, worst := 0.0, 0.0
	eachRow(want, func(_, _, _ int, row []float64) { scale = max(scale, size(row)) })
	if scale-scale != 0 {
		return fmt.Sprintf("the definition's largest element is %g: want it finite", scale)
	}
	eachRow(got, func(b, t, h int, row []float32) {
		for i, x := range want.Row(b, t, h) {
			d := math.Abs(float64(row[i]) - x)
			if d == 0 || math.IsNaN(worst) {
				continue
			}
			if !(d <= worst) {
				worst = d
				what = fmt.Sprintf("off by %.3g of the largest, %.4g, at [batch %d, time %d, head %d, element %d]: got %.7g, want %.7g",
					d/scale, scale, b, t, h, i, row[i], x)
			}
		}
	})
	if worst <= tol*scale+1e-37 {
		return ""
	}
	return what
}

// offSlice is off for states.
func offSlice(got []float32, want []float64, tol float64) string {
	return off(attn.ViewAs(got, 1, 1, 1, len(got)), attn.ViewAs(want, 1, 1, 1, len(want)), tol)
}

// compare runs Forward and the definition and reports a difference.
func (k *kit) compare(c *attn.Call, tol float64) {
	w, ok := k.want(c)
	if !ok || !k.forward(c) {
		return
	}
	k.compareTo(c, w, tol)
}

func (k *kit) compareTo(c *attn.Call, w *attn.Call64, tol float64) {
	if s := off(c.Out, w.Out, tol); s != "" {
		k.failf("forward against the definition: %s", s)
	}
	if c.Final != nil {
		if s := offSlice(c.Final, w.Final, tol); s != "" {
			k.failf("final state against the definition: %s", s)
		}
	}
	if c.Aux != nil {
		if s := offSlice([]float32{*c.Aux}, []float64{*w.Aux}, tol); s != "" {
			k.failf("auxiliary loss against the definition: %s", s)
		}
	}
}

// shapes returns the shapes that most checks walk through, for one mask.
func (k *kit) shapes(m attn.Mask) []attn.Shape {
	s := []attn.Shape{
		shape(m, 2, 33, 33, 6, 2, 8, 5),
		shape(m, 1, 1, 1, 2, 1, 5, 8),
		shape(m, 3, 13, 37, 4, 4, 12, 16),
		shape(m, 1, 65, 65, 2, 2, 16, 8),
		shape(m, 1, 5, 31, 12, 4, 5, 12),
		shape(m, 2, 31, 7, 2, 2, 33, 5),
		shape(m, 2, 17, 17, 3, 1, 8, 33),
		shape(m, 1, 64, 64, 2, 2, 3, 1),
		shape(m, 1, 1, 63, 4, 2, 8, 8),
	}
	if k.Short {
		return s[:6]
	}
	return append(s,
		shape(m, 1, 127, 127, 2, 1, 5, 8),
		shape(m, 1, 129, 129, 1, 1, 8, 5),
		shape(m, 1, 70, 191, 2, 1, 8, 8),
		shape(m, 1, 191, 70, 1, 1, 5, 5),
		shape(m, 1, 259, 517, 1, 1, 4, 3),
		shape(m, 1, 3, 4611, 2, 1, 4, 3),
	)
}
