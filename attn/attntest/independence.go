package attntest

import (
	"math/rand/v2"

	"attnbench/attn"
)

// redraw replaces the rows of the i-th input for which f holds, by larger values than usual.
func (k *kit) redraw(c *attn.Call, i int, r *rand.Rand, f func(b, t, h int) bool) {
	in := &k.info.Inputs[i]
	eachRow(k.input(c, i), func(b, t, h int, row []float32) {
		if !f(b, t, h) {
			return
		}
		for j := range row {
			row[j] = float32(3 * r.NormFloat64())
		}
		pipeline(in, row)
	})
}

// retie makes tied inputs equal again after a change of some.
func (k *kit) retie(c *attn.Call) {
	for i, in := range k.info.Inputs {
		if j := k.tied(in); j >= 0 && !k.input(c, i).Empty() && !k.input(c, j).Empty() {
			copyView(k.input(c, i), k.input(c, j))
		}
	}
}

func checkCausality(k *kit) {
	if !k.causal() {
		return
	}
	for i, s := range []attn.Shape{
		shape(attn.Causal, 1, 70, 70, 4, 2, 8, 5),
		shape(attn.Causal, 2, 9, 41, 2, 2, 5, 12),
		shape(attn.Causal, 1, 41, 19, 2, 1, 16, 8),
		shape(attn.Causal, 1, 131, 131, 1, 1, 5, 8),
	} {
		if k.Short && i == 3 {
			break
		}
		p := &plan{Shape: s, layout: layout(i % 3), present: k.every(), grid: k.info.Selects && i%2 == 0}
		if k.begin(p) {
			k.later(k.draw(p))
		}
	}
	// Earlier keys that score far below 0: what is chosen must not come from the future instead.
	p := &plan{Shape: shape(attn.Causal, 1, 67, 67, 2, 1, 8, 5), present: k.every(), what: "all scores near -1e6"}
	if k.begin(p) {
		c := k.draw(p)
		for i, in := range k.info.Inputs {
			f := map[string]float32{"q": 1e3, "k": -1e3}[in.Name]
			if f == 0 || in.Norm != "" || in.Act != "" {
				continue
			}
			eachRow(k.input(c, i), func(_, _, _ int, row []float32) {
				for j := range row {
					row[j] = f * max(row[j], -row[j])
				}
			})
		}
		k.retie(c)
		k.later(c)
	}
}

// later changes all tokens from some key on and looks at the outputs before it.
func (k *kit) later(c *attn.Call) {
	if !k.forward(c) {
		return
	}
	offset := c.KeyLen - c.QueryLen
	r := k.plan.rand(7)
	for _, cut := range []int{1, 2, c.KeyLen / 2, 32, 63, 64, 65, c.KeyLen - 1} {
		if cut >= c.KeyLen || k.full() {
			continue
		}
		d := clone(c)
		for i, in := range k.info.Inputs {
			k.redraw(d, i, r, func(_, t, _ int) bool {
				if in.From == attn.QuerySide {
					t += offset
				}
				return t >= cut
			})
		}
		k.retie(d)
		if !k.forward(d) {
			return
		}
		if s := sameBits(c.Out, d.Out, func(_, t, _ int) bool { return t+offset >= cut }); s != "" {
			k.failf("other tokens from key %d on change an earlier output %s", cut, s)
		}
	}
}

func checkRows(k *kit) {
	for _, m := range k.masks() {
		for i, s := range []attn.Shape{
			shape(m, 3, 37, 37, 4, 2, 8, 5),
			shape(m, 3, 5, 41, 6, 2, 5, 8),
			shape(m, 9, 35, 35, 2, 1, 5, 3),
		} {
			p := &plan{Shape: s, layout: layout(i), segments: []kind{whole, whole, packed}[i], present: k.every(), carry: true}
			if k.full() || !k.begin(p) {
				continue
			}
			c := k.draw(p)
			if !k.forward(c) {
				return
			}
			k.rowAlone(c)
			k.otherRows(c)
			k.otherHeads(c)
		}
	}
}

// rowAlone computes each row in a call of its own.
func (k *kit) rowAlone(c *attn.Call) {
	carry := 0
	if k.info.Carry != nil {
		carry = k.info.Carry(c.Shape)
	}
	first := 0
	for b := range c.Batch {
		d := k.slice(clone(c), b, 0, c.QueryLen, 0, c.KeyLen)
		last := first
		if c.Segments == nil {
			last = b + 1
		} else {
			for last < len(c.Segments) && c.Segments[last].Row == b {
				g := c.Segments[last]
				g.Row = 0
				d.Segments = append(d.Segments, g)
				last++
			}
		}
		if c.Initial != nil {
			d.Initial, d.Final = c.Initial[first*carry:last*carry], fenced((last-first)*carry)
		}
		if !k.forward(d) {
			return
		}
		s := sameBits(row(c.Out, b), d.Out, nil)
		if s == "" && c.Final != nil {
			if s = sameSlice(c.Final[first*carry:last*carry], d.Final); s != "" {
				s = "final state " + s
			}
		}
		if s != "" {
			k.failf("row %d in the batch and alone differ at %s", b, s)
			return
		}
		first = last
	}
}

// otherRows changes one row and looks at the others.
func (k *kit) otherRows(c *attn.Call) {
	if c.Batch < 2 {
		return
	}
	d := clone(c)
	r := k.plan.rand(8)
	for i := range k.info.Inputs {
		k.redraw(d, i, r, func(b, _, _ int) bool { return b == 1 })
	}
	k.retie(d)
	if !k.forward(d) {
		return
	}
	if s := sameBits(c.Out, d.Out, func(b, _, _ int) bool { return b == 1 }); s != "" {
		k.failf("other inputs of row 1 change row %s", s)
	}
}

// otherHeads changes one head of one input and looks at the heads that it must not reach.
func (k *kit) otherHeads(c *attn.Call) {
	if k.info.Couples == attn.CouplesHeads {
		return
	}
	for i, in := range k.info.Inputs {
		v := k.input(c, i)
		ofQueries, ofKeys := headsOf(&in)
		if v.Empty() || in.Tied != "" || ofQueries+ofKeys == 0 || v.Heads < 2 || k.full() {
			continue
		}
		const changed = 1
		reaches := func(h int) bool {
			if ofKeys > 0 {
				return c.KVHead(h) == changed/ofKeys
			}
			if k.info.Couples == attn.CouplesGroup {
				return c.KVHead(h) == c.KVHead(changed/ofQueries)
			}
			return h == changed/ofQueries
		}
		d := clone(c)
		k.redraw(d, i, k.plan.rand(9), func(_, _, h int) bool { return h == changed })
		k.retie(d)
		if !k.forward(d) {
			return
		}
		if s := sameBits(c.Out, d.Out, func(_, _, h int) bool { return reaches(h) }); s != "" {
			k.failf("another head %d of input %s changes %s: mechanism couples %v", changed, in.Name, s, k.info.Couples)
		}
	}
}

// headsOf returns how many heads an input has for each query head, or else for each key/value head; 0 and 0 when all share its heads.
func headsOf(in *attn.Input) (ofQueries, ofKeys int) {
	const heads, kv = 30, 5
	n, _ := in.Size(shape(attn.Causal, 1, 1, 1, heads, kv, 16, 16))
	switch {
	case n%heads == 0:
		return n / heads, 0
	case n%kv == 0:
		return 0, n / kv
	}
	return 0, 0
}

func checkEmpty(k *kit) {
	for _, m := range k.masks() {
		for i, s := range []attn.Shape{
			shape(m, 1, 3, 1, 2, 1, 4, 3), // the first two queries see nothing when causal
			shape(m, 2, 37, 5, 2, 2, 8, 5),
			shape(m, 2, 5, 0, 2, 1, 4, 3),
			shape(m, 1, 0, 5, 2, 1, 4, 3),
			shape(m, 2, 0, 0, 2, 1, 4, 3),
			shape(m, 0, 5, 5, 2, 1, 4, 3),
			shape(m, 3, 11, 11, 2, 1, 4, 3), // one segment without keys
		} {
			p := &plan{Shape: s, layout: layout(i % 3), present: k.every(), saved: true}
			if k.full() || !k.begin(p) || p.Shape != s {
				continue
			}
			c := k.draw(p)
			if i == 6 {
				c.Segments = []attn.Segment{{Row: 0, Queries: 11, Keys: 11}, {Row: 1, Queries: 9}, {Row: 2, Queries: 5, Keys: 5}}
			}
			k.emptyRows(c, p)
		}
	}
}

// emptyRows checks that queries without keys give zeros and no gradient.
func (k *kit) emptyRows(c *attn.Call, p *plan) {
	blind := make([][]bool, c.Batch) // sees no key
	for b := range blind {
		blind[b] = make([]bool, c.QueryLen)
		for i := range blind[b] {
			blind[b][i] = true
		}
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for n := range g.Queries {
			blind[g.Row][g.Query0+n] = g.Keys == 0 || c.Mask == attn.Causal && n+g.Offset() < 0
		}
	}
	k.compare(c, k.tolerance())
	eachRow(c.Out, func(b, t, h int, row []float32) {
		for _, x := range row {
			if blind[b][t] && x != 0 && !k.full() {
				k.failf("query %d of row %d sees no key: got %g in head %d, want 0", t, b, x, h)
			}
		}
	})
	d, ok := k.m.(attn.Differentiable)
	if !ok {
		return
	}
	c = clone(c)
	parts, g, ok := k.backward(d, c, p, false)
	if !ok {
		return
	}
	_, before := k.newGrads(c, p, false) // the same draw
	for i, in := range k.info.Inputs {
		if in.From != attn.QuerySide || k.input(c, i).Empty() {
			continue
		}
		if s := sameBits(gradOf(&k.info, before, i), gradOf(&k.info, g, i), func(b, t, _ int) bool { return !blind[b][t] }); s != "" {
			k.failf("gradient of input %s at a query that sees no key: want it untouched, differs at %s", in.Name, s)
		}
	}
	for _, part := range parts {
		for i, x := range part.got {
			if x-x != 0 {
				k.failf("gradient of %s, element %d: got %g, want a finite number", part.name, i, x)
				break
			}
		}
	}
}
