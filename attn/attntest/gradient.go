package attntest

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
)

// step is the half width of the central differences: in float64 their error is about 1e-8.
const step = 1e-6

// gradTolerance is relative to the root mean square of the directional derivatives.
const gradTolerance = 5e-4

// rounding is what a mechanism declares to lose by rounding its inputs, of the norm of a gradient and of its largest element.
func (k *kit) rounding() float64 {
	if k.info.BFloat16 {
		return k.info.Tolerance
	}
	return 0
}

func checkGradient(k *kit) {
	d, ok := k.m.(attn.Differentiable)
	if !ok {
		return
	}
	for _, m := range k.masks() {
		shapes := []attn.Shape{
			shape(m, 2, 21, 21, 4, 2, 8, 5),
			shape(m, 1, 5, 31, 6, 2, 5, 12),
			shape(m, 1, 19, 7, 2, 1, 12, 3),
			shape(m, 2, 1, 1, 1, 1, 5, 8),
			shape(m, 1, 66, 66, 2, 1, 5, 4),
		}
		for i, s := range shapes {
			if k.Short && i == 4 || k.full() {
				break
			}
			p := &plan{Shape: s, layout: layout(i % 3), segments: []kind{padded, whole, whole, whole, packed}[i],
				present: k.every(), carry: i != 2, saved: true}
			if k.begin(p) {
				k.directions(d, p, i%2 == 1)
			}
		}
		for set := range min(k.every(), 7) {
			p := &plan{Shape: shape(m, 1, 11, 11, 2, 1, 4, 3), present: set, carry: set%2 == 1, saved: true}
			if k.begin(p) {
				k.directions(d, p, false)
			}
		}
		p := &plan{Shape: shape(m, 1, 9, 9, 2, 1, 4, 3), present: k.every(), carry: true, saved: true, what: "every element"}
		if k.begin(p) {
			k.elements(d, p)
		}
		if k.gated() {
			p := &plan{Shape: shape(m, 1, 37, 37, 2, 1, 5, 4), present: k.every(), carry: true, saved: true, strong: true}
			if k.begin(p) {
				k.directions(d, p, false)
			}
		}
		for _, s := range []attn.Shape{shape(m, 1, 140, 290, 2, 1, 4, 3), shape(m, 1, 3, 4611, 2, 1, 4, 3)} {
			if p := (&plan{Shape: s, present: k.every(), saved: true}); !k.Short && k.begin(p) {
				k.directions(d, p, false)
			}
		}
		k.finalOnly(d, m)
		k.emptyGradient(d, m)
	}
}

// part is one tensor with a gradient: tied inputs are one part.
type part struct {
	name   string
	points func(c *attn.Call64) []*float64 // its elements, once for each tied input
	got    []float64                       // what Backward added, summed over tied inputs
	ties   int
}

// backward runs both passes and returns the parts with their gradients, and the gradients given.
func (k *kit) backward(d attn.Differentiable, c *attn.Call, p *plan, share bool) ([]part, *attn.Grads, bool) {
	g, before := k.newGrads(c, p, share)
	if c.Aux != nil {
		g.Aux = 0.7
	}
	if !k.forward(c) {
		return nil, nil, false
	}
	k.poison()
	if err := d.Backward(k.ws, c, g); err != nil {
		k.failf("backward of a good call: %v", err)
		return nil, nil, false
	}
	return k.parts(c, g, before), g, true
}

// newGrads returns gradients that hold something already, and a copy of them. share makes tied
// inputs share their memory.
func (k *kit) newGrads(c *attn.Call, p *plan, share bool) (g, before *attn.Grads) {
	r := p.rand(4)
	fill := func(v attn.View) attn.View {
		v = newView(p.layout, v.Batch, v.Time, v.Heads, v.Dim)
		eachRow(v, func(_, _, _ int, row []float32) {
			for i := range row {
				row[i] = float32(r.NormFloat64()) / 4
			}
		})
		return v
	}
	slice := func(n int) []float32 {
		x := fenced(n)
		for i := range x {
			x[i] = float32(r.NormFloat64()) / 4
		}
		return x
	}
	g, before = new(attn.Grads), new(attn.Grads)
	g.Out = fill(c.Out)
	for i, in := range k.info.Inputs {
		var v attn.View
		if x := k.input(c, i); !x.Empty() {
			v = fill(x)
			if j := k.tied(in); share && j >= 0 && j < i {
				v = *inputOf(&k.info, j, &g.Q, &g.K, &g.V, &g.Extra)
			}
		}
		*inputOf(&k.info, i, &g.Q, &g.K, &g.V, &g.Extra) = v
	}
	for _, x := range c.Learned {
		g.Learned = append(g.Learned, slice(len(x)))
	}
	if c.Initial != nil {
		g.Initial = slice(len(c.Initial))
	}
	if c.Final != nil {
		g.Final = slice(len(c.Final))
	}
	before.Q, before.K, before.V = cloneView(g.Q), cloneView(g.K), cloneView(g.V)
	for _, x := range g.Extra {
		before.Extra = append(before.Extra, cloneView(x))
	}
	for _, x := range g.Learned {
		before.Learned = append(before.Learned, append([]float32(nil), x...))
	}
	before.Initial = append([]float32(nil), g.Initial...)
	return g, before
}

func gradOf(info *attn.Info, g *attn.Grads, i int) attn.View {
	return *inputOf(info, i, &g.Q, &g.K, &g.V, &g.Extra)
}

// parts lists what Backward must have differentiated by.
func (k *kit) parts(c *attn.Call, g, before *attn.Grads) []part {
	var parts []part
	of := make([]int, len(k.info.Inputs)) // the part of an input
	for i, in := range k.info.Inputs {
		of[i] = -1
		v := k.input(c, i)
		if v.Empty() {
			continue
		}
		var got []float64
		dx, old := gradOf(&k.info, g, i), gradOf(&k.info, before, i)
		eachRow(dx, func(b, t, h int, row []float32) {
			for j, x := range old.Row(b, t, h) {
				got = append(got, float64(row[j])-float64(x))
			}
		})
		points := func(c *attn.Call64) (ps []*float64) {
			eachRow(c.Input(&k.info, i), func(_, _, _ int, row []float64) {
				for j := range row {
					ps = append(ps, &row[j])
				}
			})
			return ps
		}
		if j := k.tied(in); j >= 0 && j < i && of[j] >= 0 {
			of[i] = of[j]
			q := &parts[of[j]]
			first := q.points
			q.points = func(c *attn.Call64) []*float64 { return append(first(c), points(c)...) }
			q.ties++
			q.name += "+" + in.Name
			shared := len(dx.Data) > 0 && &dx.Data[0] == &gradOf(&k.info, g, j).Data[0]
			for n := range got {
				if !shared { // shared memory holds the sum already
					q.got[n] += got[n]
				}
			}
			continue
		}
		of[i] = len(parts)
		parts = append(parts, part{"input " + in.Name, points, got, 1})
	}
	slice := func(name string, x, old []float32, of func(c *attn.Call64) []float64) {
		var got []float64
		for i := range x {
			got = append(got, float64(x[i])-float64(old[i]))
		}
		parts = append(parts, part{name, func(c *attn.Call64) (ps []*float64) {
			y := of(c)
			for i := range y {
				ps = append(ps, &y[i])
			}
			return ps
		}, got, 1})
	}
	for i, t := range k.info.Learned {
		slice("learned tensor "+t.Name, g.Learned[i], before.Learned[i], func(c *attn.Call64) []float64 { return c.Learned[i] })
	}
	if c.Initial != nil {
		slice("initial state", g.Initial, before.Initial, func(c *attn.Call64) []float64 { return c.Initial })
	}
	return parts
}

// loss is the scalar that Backward differentiates.
func (k *kit) loss(w *attn.Call64, g *attn.Grads) (float64, bool) {
	if w.Aux != nil {
		*w.Aux = 0
	}
	if err := k.define(w); err != nil {
		k.failf("definition of a good call: %v", err)
		return 0, false
	}
	sum := 0.0
	eachRow(w.Out, func(b, t, h int, row []float64) {
		for i, x := range g.Out.Row(b, t, h) {
			sum += float64(x) * row[i]
		}
	})
	for i, x := range g.Final {
		sum += float64(x) * w.Final[i]
	}
	if w.Aux != nil {
		sum += float64(g.Aux) * *w.Aux
	}
	return sum, true
}

// difference returns the derivative of the loss along dir over the elements ps of w.
func (k *kit) difference(w *attn.Call64, g *attn.Grads, ps []*float64, dir []float64) (float64, bool) {
	var sides [2]float64
	for s, sign := range []float64{step, -step} {
		old := make([]float64, len(ps))
		for i, p := range ps {
			old[i] = *p
			*p += sign * dir[i%len(dir)]
		}
		var ok bool
		sides[s], ok = k.loss(w, g)
		for i, p := range ps {
			*p = old[i]
		}
		if !ok {
			return 0, false
		}
	}
	return (sides[0] - sides[1]) / (2 * step), true
}

// directions compares each part's gradient with differences along random directions.
func (k *kit) directions(d attn.Differentiable, p *plan, share bool) {
	c := k.drawClear(p)
	if share {
		c.Aux = new(float32)
	}
	parts, g, ok := k.backward(d, c, p, share)
	if !ok {
		return
	}
	n := 4
	if k.Short {
		n = 2
	}
	if p.Pairs() > 1<<13 {
		n = 1
	}
	w, r := wide(c), p.rand(5)
	w.Frozen = wide(c)
	type result struct{ got, want []float64 }
	results, scales, top := make([]result, len(parts)), make([]float64, len(parts)), 0.0
	for i, part := range parts {
		if len(part.got) == 0 {
			continue
		}
		ps := part.points(w)
		for range n {
			dir, dot := direction(r, part.got)
			want, ok := k.difference(w, g, ps, dir)
			if !ok {
				return
			}
			results[i].got, results[i].want = append(results[i].got, dot), append(results[i].want, want)
			scales[i] += want * want / float64(n)
		}
		scales[i] = math.Sqrt(scales[i])
		top = max(top, scales[i])
	}
	for i, r := range results {
		// What the gradients held before costs each element up to half a unit of 1/4.
		rounding := 1e-7 * math.Sqrt(float64(len(parts[i].got)*parts[i].ties))
		norm := 0.0 // about what a derivative along a random direction is
		for _, x := range parts[i].got {
			norm = math.Hypot(norm, x)
		}
		rounding += k.rounding() * norm
		for j := range r.want {
			if e := math.Abs(r.got[j] - r.want[j]); !(e <= gradTolerance*scales[i]+1e-6*top+rounding) {
				k.failf("gradient of %s along direction %d: got %.6g, differences of the definition give %.6g (typical %.3g)",
					parts[i].name, j, r.got[j], r.want[j], scales[i])
				break
			}
		}
	}
}

func direction(r *rand.Rand, g []float64) (dir []float64, dot float64) {
	dir = make([]float64, len(g))
	for i := range dir {
		dir[i] = r.NormFloat64()
		dot += dir[i] * g[i]
	}
	return dir, dot
}
