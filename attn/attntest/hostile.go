package attntest

import (
	"math"
	"slices"

	"attnbench/attn"
)

// checkSelection holds a mechanism that selects against its definition where scores tie.
func checkSelection(k *kit) {
	if !k.info.Selects {
		return
	}
	all := func(name string, x float64) map[string]float64 { return map[string]float64{name: x} }
	for _, m := range k.masks() {
		for i, s := range []attn.Shape{
			shape(m, 1, 9, 9, 2, 1, 3, 3),
			shape(m, 2, 67, 67, 2, 1, 2, 5),
			shape(m, 1, 5, 40, 4, 2, 3, 2),
			shape(m, 1, 130, 130, 1, 1, 1, 2),
		} {
			for _, p := range []*plan{
				{grid: true, what: "small multiples of 1/8"},
				{grid: true, gain: all("q", 0), what: "all scores 0"},
				{grid: true, gain: all("k", 0), shift: all("k", 0.5), what: "all keys equal"},
			} {
				p.Shape, p.layout, p.present = s, layout(i%3), k.every()
				if k.full() || !k.begin(p) {
					continue
				}
				c := k.draw(p)
				k.compare(c, k.tolerance())
				if c.Mask == attn.Causal {
					k.later(c)
				}
			}
		}
	}
}

// checkHostile draws inputs that training meets on a bad day.
func checkHostile(k *kit) {
	for _, m := range k.masks() {
		for i, h := range []struct {
			what        string
			gain, shift map[string]float64
			tol         float64
		}{
			// A logit of 1e4 has 1e-3 of rounding in float32, and so have the weights.
			{"logits of 1e4", map[string]float64{"q": 100, "k": 100}, nil, 3e-2},
			{"equal rows", map[string]float64{"q": 0, "k": 0}, map[string]float64{"q": 3, "k": 2}, tolerance},
			{"zero keys", map[string]float64{"k": 0}, nil, tolerance},
			{"zero queries and keys", map[string]float64{"q": 0, "k": 0}, nil, tolerance},
			{"negative queries and keys", map[string]float64{"q": 0, "k": 0}, map[string]float64{"q": -1, "k": -1}, tolerance},
			{"zero values", map[string]float64{"v": 0}, nil, tolerance},
			{"denormal queries and keys", map[string]float64{"q": 1e-41, "k": 1e-41}, nil, tolerance},
			{"denormal values", map[string]float64{"v": 1e-40}, nil, tolerance},
			{"large values", map[string]float64{"v": 1e30}, nil, tolerance},
			{"strong gates", map[string]float64{"q": 1, "k": 1, "v": 1, "*": 30}, nil, 1e-3},
			{"gates far below 0", map[string]float64{"q": 1, "k": 1, "v": 1, "*": 0}, k.extras(-100), 1e-3},
			{"gates far above 0", map[string]float64{"q": 1, "k": 1, "v": 1, "*": 0}, k.extras(100), 1e-3},
		} {
			if h.gain["*"] != 0 && len(k.extras(1)) == 0 || k.full() {
				continue
			}
			p := &plan{Shape: shape(m, 1, 67, 67, 2, 1, 8, 5), present: k.every(), gain: h.gain, shift: h.shift,
				what: h.what, saved: true}
			if k.Short {
				p.QueryLen, p.KeyLen = 37, 37
			}
			if !k.begin(p) {
				continue
			}
			c := k.draw(p)
			if k.info.BFloat16 && i == 0 {
				k.roundInputs(c) // else a logit of 1e4 is off by 10 and more
			}
			k.hostile(c, max(h.tol, k.tolerance()))
		}
		if k.gated() && !k.full() {
			p := &plan{Shape: shape(m, 1, 67, 67, 2, 1, 8, 5), present: k.every(), strong: true, saved: true,
				what: "a few very strong gates among weak ones"}
			if k.begin(p) {
				k.hostile(k.draw(p), max(1e-4, k.tolerance()))
			}
		}
		k.reach(m)
	}
	if d, ok := k.m.(attn.Differentiable); ok && k.causal() && !k.full() {
		k.reachGradient(d)
	}
}

// roundInputs makes all inputs bfloat16 numbers.
func (k *kit) roundInputs(c *attn.Call) {
	for i := range k.info.Inputs {
		eachRow(k.input(c, i), func(_, _, _ int, row []float32) {
			for j, x := range row {
				u := math.Float32bits(x)
				row[j] = math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff) // to the nearest, ties to even
			}
		})
	}
}

// gated reports whether the mechanism has a gate among its inputs.
func (k *kit) gated() bool {
	for i := range k.info.Inputs {
		if gate(&k.info.Inputs[i]) {
			return true
		}
	}
	return false
}

// extras is a shift of every input but q, k and v.
func (k *kit) extras(x float64) map[string]float64 {
	s := map[string]float64{}
	for _, in := range k.info.Inputs {
		if in.Name != "q" && in.Name != "k" && in.Name != "v" {
			s[in.Name] = x
		}
	}
	return s
}

func (k *kit) hostile(c *attn.Call, tol float64) {
	w, ok := k.want(c)
	if !ok || !k.forward(c) {
		return
	}
	if finite := size(w.Out.Data); finite-finite != 0 {
		k.failf("the definition itself is not finite")
		return
	}
	_, queries := k.plan.gain["q"]
	if !k.info.Selects || !queries || k.plan.gain["q"] == 0 { // a choice among rounded scores may differ
		k.compareTo(c, w, tol)
	}
	eachRow(c.Out, func(b, t, h int, row []float32) {
		for _, x := range row {
			if x-x != 0 && !k.full() {
				k.failf("output of row %d, time %d, head %d is %g: want a finite number", b, t, h, x)
			}
		}
	})
	d, ok := k.m.(attn.Differentiable)
	if !ok {
		return
	}
	parts, _, ok := k.backward(d, clone(c), k.plan, false)
	if !ok {
		return
	}
	for _, part := range parts {
		for i, x := range part.got {
			if x-x != 0 {
				k.failf("gradient of %s, element %d, is %g: want a finite number", part.name, i, x)
				break
			}
		}
	}
}

// reach puts NaN and Inf into single elements and checks that only outputs change which the
// definition changes when that element does.
func (k *kit) reach(m attn.Mask) {
	p := &plan{Shape: shape(m, 2, 37, 37, 2, 1, 4, 3), present: k.every(), what: "NaN and Inf in one token"}
	if !k.Short {
		p.QueryLen, p.KeyLen = 70, 70
	}
	if !k.begin(p) {
		return
	}
	c := k.draw(p)
	if !k.forward(c) {
		return
	}
	again := *p
	again.seed++
	calls := []*attn.Call{c, k.positive(p), k.positive(&again)}
	var wants []*attn.Call64
	for _, c := range calls {
		w, ok := k.want(c)
		if !ok {
			return
		}
		wants = append(wants, w)
	}
	for i, in := range k.info.Inputs {
		v := k.input(c, i)
		if v.Empty() || in.Tied != "" {
			continue
		}
		for n, t := range []int{v.Time - 1, v.Time / 2, 33 % v.Time, 1 % v.Time} {
			if k.full() {
				return
			}
			if k.Short && n == 3 {
				break
			}
			b, h := 0, n%v.Heads
			seen, ok := k.seen(calls, wants, i, b, t, h)
			if !ok {
				return
			}
			for _, bad := range []float32{nan, float32(math.Inf(1)), float32(math.Inf(-1))} {
				d := clone(c)
				k.input(d, i).Row(b, t, h)[n%v.Dim] = bad
				k.retie(d)
				if !k.forward(d) {
					return
				}
				s := sameBits(c.Out, d.Out, seen)
				if s != "" {
					// The weight of a row's only key is 1 whatever its score, but for these. And a sum of gates (they follow q, k and v) that begins behind an infinite one
					// rounds otherwise: what sees that is still the definition's, to a few units in the last place.
					w, ok := k.want(d)
					if !ok {
						return
					}
					s = sameBits(c.Out, d.Out, func(n, q, o int) bool {
						return seen(n, q, o) || !slices.Equal(w.Out.Row(n, q, o), wants[0].Out.Row(n, q, o)) || i >= 3 && near(d.Out.Row(n, q, o), w.Out.Row(n, q, o))
					})
				}
				if s != "" {
					k.failf("%g in input %s at row %d, time %d, head %d reaches an output that does not depend on it, %s", bad, in.Name, b, t, h, s)
					break
				}
			}
		}
	}
}

// near tells whether x is y but for a few units in the last place of numbers about 1.
func near(x []float32, y []float64) bool {
	for i := range x {
		if !(math.Abs(float64(x[i])-y[i]) <= 3e-7*(1+math.Abs(y[i]))) {
			return false
		}
	}
	return true
}

// reachGradient puts NaN into one token and into one row of the output's gradient: under the
// causal mask, gradients of queries before that token, and of keys behind that row, do not depend on it.
func (k *kit) reachGradient(d attn.Differentiable) {
	p := &plan{Shape: shape(attn.Causal, 2, 70, 70, 2, 1, 4, 3), present: k.every(), saved: true, what: "NaN in one token, backward"}
	if !k.begin(p) {
		return
	}
	c := k.draw(p)
	offset := c.KeyLen - c.QueryLen
	run := func(c *attn.Call, at int) (*attn.Grads, bool) {
		c = clone(c)
		g, _ := k.newGrads(c, p, false)
		if at >= 0 {
			g.Out.Row(0, at, 0)[0] = nan
		}
		if !k.forward(c) {
			return nil, false
		}
		k.poison()
		if err := d.Backward(k.ws, c, g); err != nil {
			k.failf("backward of a good call: %v", err)
			return nil, false
		}
		return g, true
	}
	clean, ok := run(c, -1)
	if !ok {
		return
	}
	for _, t := range []int{c.KeyLen - 1, 33 % c.KeyLen, c.KeyLen / 2} {
		for i, in := range k.info.Inputs {
			if in.From == attn.QuerySide || k.input(c, i).Empty() || k.selfOnly() || k.full() {
				continue
			}
			bad := clone(c)
			k.input(bad, i).Row(0, t, 0)[0] = nan
			k.retie(bad)
			g, ok := run(bad, -1)
			if !ok {
				return
			}
			for j, out := range k.info.Inputs {
				if out.From != attn.QuerySide {
					continue
				}
				if s := sameBits(gradOf(&k.info, clean, j), gradOf(&k.info, g, j), func(b, q, _ int) bool { return b == 0 && q+offset >= t }); s != "" {
					k.failf("NaN in input %s at row 0, time %d reaches the gradient of input %s before it, %s", in.Name, t, out.Name, s)
				}
			}
		}
		if t-offset < 0 || k.full() {
			continue
		}
		g, ok := run(c, t-offset)
		if !ok {
			return
		}
		for j, in := range k.info.Inputs {
			behind := func(b, n, _ int) bool { return b == 0 && n <= t }
			if in.From == attn.QuerySide {
				behind = func(b, n, _ int) bool { return b == 0 && n == t-offset }
			}
			if s := sameBits(gradOf(&k.info, clean, j), gradOf(&k.info, g, j), behind); s != "" {
				k.failf("NaN in the output's gradient at row 0, query %d reaches the gradient of input %s, %s", t-offset, in.Name, s)
			}
		}
	}
}

// seen finds out which outputs may depend on one row of one input: those that the definition
// changes with it, on this call or on others of its shape (a weight that happens to be 0 hides
// what is seen); for a mechanism that selects, all that the mask allows.
func (k *kit) seen(calls []*attn.Call, wants []*attn.Call64, i, b, t, h int) (func(b, t, h int) bool, bool) {
	c := calls[0]
	if k.info.Selects {
		return func(n, q, _ int) bool {
			key := k.info.Inputs[i].From != attn.QuerySide
			return n == b && (!key || c.Mask != attn.Causal || q+c.KeyLen-c.QueryLen >= t)
		}, true
	}
	reached := map[[3]int]bool{}
	for n, c := range calls {
		w := wants[n]
		for _, x := range []float64{30, -30} {
			d := wide(c)
			row := d.Input(&k.info, i).Row(b, t, h)
			for j := range row {
				row[j] = x * (row[j] + float64(j+1)/16)
			}
			for j, in := range k.info.Inputs {
				if o := k.tied(in); o == i && !k.input(c, j).Empty() {
					copy(d.Input(&k.info, j).Row(b, t, h), row)
				}
			}
			if err := k.define(d); err != nil {
				k.failf("definition of a good call: %v", err)
				return nil, false
			}
			eachRow(d.Out, func(n, q, o int, row []float64) {
				for j, y := range w.Out.Row(n, q, o) {
					if row[j] != y {
						reached[[3]int{n, q, o}] = true
					}
				}
			})
		}
	}
	return func(n, q, o int) bool { return reached[[3]int{n, q, o}] }, true
}

// positive returns a call of the plan whose queries and keys have no negative element.
func (k *kit) positive(p *plan) *attn.Call {
	c := k.draw(p)
	for i, in := range k.info.Inputs {
		if in.Name == "q" || in.Name == "k" {
			eachRow(k.input(c, i), func(_, _, _ int, row []float32) {
				for j, x := range row {
					row[j] = max(x, -x)
				}
			})
		}
	}
	k.retie(c)
	return c
}
