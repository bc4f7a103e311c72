package attntest

import (
	"math"

	"attnbench/attn"
)

func checkDefinition(k *kit) {
	if len(k.masks()) == 0 {
		k.failf("mechanism %s declares no mask", k.info.Name)
		return
	}
	for _, m := range k.masks() {
		k.definitionOf(m)
		k.constants(m)
		k.groups(m)
		k.shared(m)
	}
}

func (k *kit) definitionOf(m attn.Mask) {
	drawn := 0
	for i, s := range k.shapes(m) {
		for _, seg := range []kind{whole, padded, packed} {
			if k.full() {
				return
			}
			if seg != whole && (i%3 != int(seg) || s.KeyLen > 70) {
				continue
			}
			s.Layer, s.Layers, s.MaxLen = i%2, 2, s.KeyLen+i
			p := &plan{Shape: s, segments: seg, layout: layout(i % 3), present: k.every() &^ uint(i), carry: i%2 == 0,
				grid: k.info.Selects && i%2 == 0, pos0: i % 4, saved: i%3 == 0}
			if !k.begin(p) {
				continue
			}
			drawn++
			c := k.drawClear(p)
			if i%3 == 1 || k.info.Aux { // an auxiliary loss is held against the definition's in every layout
				c.Aux = new(float32)
			}
			before := clone(c)
			k.compare(c, k.tolerance())
			k.unchanged(c, before)
			if c.Aux != nil && *c.Aux != 0 && !k.info.Aux {
				k.failf("an auxiliary loss of %v: want Info.Aux, or none", *c.Aux)
			}
		}
	}
	for set := range min(k.every()+1, 8) { // every combination of optional inputs
		p := &plan{Shape: shape(m, 2, 19, 19, 4, 2, 8, 5), present: set, layout: gaps, carry: set%2 == 1}
		if k.begin(p) {
			k.compare(k.drawClear(p), k.tolerance())
		}
	}
	if drawn == 0 {
		k.failf("CheckShape refuses every shape that was tried with mask %v", m)
	}
}

// unchanged checks that inputs and the gaps of the output are as before.
func (k *kit) unchanged(c, before *attn.Call) {
	for i, in := range k.info.Inputs {
		if s := sameSlice(k.input(c, i).Data, k.input(before, i).Data); s != "" {
			k.failf("forward writes to its input %s%s", in.Name, s)
		}
	}
	if s := sameSlice(c.Initial, before.Initial); s != "" {
		k.failf("forward writes to the initial state%s", s)
	}
	for i, x := range c.Learned {
		if s := sameSlice(x, before.Learned[i]); s != "" {
			k.failf("forward writes to learned tensor %s%s", k.info.Learned[i].Name, s)
		}
	}
	for i, x := range c.Buffers {
		if s := sameSlice(x, before.Buffers[i]); s != "" {
			k.failf("forward writes to buffer %s%s: want that in Update", k.info.Buffers[i].Name, s)
		}
	}
	if s := gapsOf(c.Out, nan); s != "" {
		k.failf("forward writes between the rows of the output: %s", s)
	}
}

// gapsOf reports a gap or fence of a view that does not hold x any more.
func gapsOf(v attn.View, x float32) string {
	w := cloneView(v)
	all := w.Data[:len(w.Data):len(w.Data)]
	copy(all, v.Data)
	fillView(w, x)
	y := fenced(len(all))
	for i := range y {
		y[i] = x
	}
	return sameSlice(all, y)
}

// drawClear draws a call whose selections, if the mechanism selects, do not hang on rounding:
// a slight change of the inputs changes the definition's output slightly.
func (k *kit) drawClear(p *plan) *attn.Call {
	c := k.draw(p)
	if !k.info.Selects || p.grid {
		return c
	}
	for range 20 {
		if k.smooth(c, p) {
			return c
		}
		k.begin(p)
		c = k.draw(p)
	}
	return c
}

func (k *kit) smooth(c *attn.Call, p *plan) bool {
	w, ok := k.want(c)
	if !ok {
		return true
	}
	top := 0.0
	eachRow(w.Out, func(_, _, _ int, row []float64) { top = max(top, size(row)) })
	r := p.rand(3)
	for range 4 {
		d := clone(c)
		for i := range k.info.Inputs {
			eachRow(k.input(d, i), func(_, _, _ int, row []float32) {
				for j := range row {
					row[j] += float32(1e-5 * r.NormFloat64()) // some 100 times the rounding of a score
				}
			})
		}
		v, ok := k.want(d)
		if !ok {
			return true
		}
		jump := 0.0
		eachRow(v.Out, func(b, t, h int, row []float64) {
			for i, x := range w.Out.Row(b, t, h) {
				jump = max(jump, math.Abs(x-row[i]))
			}
		})
		if jump > 5e-3*top {
			return false
		}
	}
	return true
}

// constants holds sizes round the blocks against the definition with equal scores and values of
// 1: what pads a partial block must not take part (a mean of ones is 1).
func (k *kit) constants(m attn.Mask) {
	lengths := []int{1, 63, 64, 65, 127, 129}
	if k.Short {
		lengths = []int{1, 65, 127}
	}
	for _, n := range lengths {
		p := &plan{Shape: shape(m, 1, min(n, 3), n, 1, 1, 4, 3), layout: headMajor, what: "q = 0, v = 1",
			gain: map[string]float64{"q": 0, "v": 0}, shift: map[string]float64{"v": 1}, present: k.every()}
		if k.begin(p) {
			k.compare(k.draw(p), max(1e-5, k.info.Tolerance))
		}
	}
}

// groups holds query heads against the key/value heads that they share: v of head g is g+1.
func (k *kit) groups(m attn.Mask) {
	for _, s := range []attn.Shape{shape(m, 1, 1, 1, 6, 2, 4, 3), shape(m, 1, 1, 1, 12, 4, 4, 3)} {
		p := &plan{Shape: s, what: "v of key/value head g is g+1", present: k.every()}
		if !k.begin(p) {
			continue
		}
		c := k.draw(p)
		eachRow(c.V, func(_, _, h int, row []float32) {
			for i := range row {
				row[i] = float32(h + 1)
			}
		})
		k.compare(c, k.tolerance())
	}
}

// shared computes calls whose inputs share memory: k and v are one tensor, all heads or all rows read the same.
func (k *kit) shared(m attn.Mask) {
	for i, what := range []string{"k and v are one tensor", "all heads share one", "all rows share one"} {
		p := &plan{Shape: shape(m, 2, 35, 35, 4, 2, 5, 5), layout: gaps, what: what, present: k.every()}
		if k.full() || !k.begin(p) {
			return
		}
		c := k.draw(p)
		switch i {
		case 0:
			if c.K.Dim == c.V.Dim && c.K.Heads == c.V.Heads {
				c.V = c.K
			}
		case 1:
			for n := range k.info.Inputs {
				inputOf(&k.info, n, &c.Q, &c.K, &c.V, &c.Extra).HeadStride = 0
			}
		case 2:
			for n := range k.info.Inputs {
				inputOf(&k.info, n, &c.Q, &c.K, &c.V, &c.Extra).BatchStride = 0
			}
		}
		if k.info.Selects && !k.smooth(c, p) {
			continue
		}
		k.compare(c, k.tolerance())
	}
}

// checkAlignment checks that fewer queries than keys are the last ones, in the definition and in Forward.
func checkAlignment(k *kit) {
	if !k.causal() || k.info.Inference {
		return
	}
	for i, n := range []int{1, 5, 33} {
		p := &plan{Shape: shape(attn.Causal, 2, 41, 41, 4, 2, 8, 5), present: k.every() &^ uint(i), layout: layout(i)}
		if !k.begin(p) || p.QueryLen != p.KeyLen || n >= p.QueryLen {
			continue
		}
		all := k.drawClear(p)
		some := k.slice(all, -1, p.QueryLen-n, p.QueryLen, 0, p.KeyLen)
		if k.info.CheckShape != nil && k.info.CheckShape(some.Shape) != nil {
			continue
		}
		some = clone(some)
		w, ok := k.want(all)
		v, ok2 := k.want(some)
		if !ok || !ok2 || !k.forward(some) {
			return
		}
		tail := w.Out
		tail.Time, tail.Data = n, tail.Data[(p.QueryLen-n)*tail.TimeStride:]
		if s := off(some.Out, tail, k.tolerance()); s != "" {
			k.failf("forward of the last %d queries against their rows of the whole: %s", n, s)
		}
		if s := off(narrowView(v.Out), tail, k.tolerance()); s != "" {
			k.failf("definition of the last %d queries against their rows of the whole: %s", n, s)
		}
	}
}
