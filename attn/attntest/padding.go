package attntest

import (
	"math"

	"attnbench/attn"
)

func checkPadding(k *kit) {
	for _, m := range k.masks() {
		for i, s := range []attn.Shape{
			shape(m, 3, 19, 19, 4, 2, 8, 5),
			shape(m, 2, 70, 70, 2, 1, 5, 12),
			shape(m, 3, 9, 37, 2, 2, 12, 3),
		} {
			for _, seg := range []kind{padded, packed} {
				p := &plan{Shape: s, layout: layout(i), segments: seg, present: k.every(), carry: i != 1, saved: true}
				if k.full() || !k.begin(p) {
					continue
				}
				k.garbage(p)
			}
		}
		k.twoLengths(m)
	}
}

// covered says which rows of the query or the key side lie in a segment.
func covered(c *attn.Call, query bool) [][]bool {
	n := c.KeyLen
	if query {
		n = c.QueryLen
	}
	in := make([][]bool, c.Batch)
	for b := range in {
		in[b] = make([]bool, n)
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		at, m := g.Key0, g.Keys
		if query {
			at, m = g.Query0, g.Queries
		}
		for t := range m {
			in[g.Row][at+t] = true
		}
	}
	return in
}

// garbage compares a call whose padding holds normal values with ones whose padding does not.
func (k *kit) garbage(p *plan) {
	c := k.drawClear(p)
	queries, keys := covered(c, true), covered(c, false)
	side := func(in attn.Input) [][]bool {
		if in.From == attn.QuerySide {
			return queries
		}
		return keys
	}
	w, ok := k.want(c)
	if !ok || !k.forward(c) {
		return
	}
	k.compareTo(c, w, k.tolerance())
	eachRow(c.Out, func(b, t, h int, row []float32) {
		for _, x := range row {
			if !queries[b][t] && x != 0 && !k.full() {
				k.failf("output of row %d, time %d, head %d lies in no segment: got %g, want 0", b, t, h, x)
			}
		}
	})
	for _, x := range []float32{1e9, nan, float32(math.Inf(1))} {
		d := clone(c)
		for i, in := range k.info.Inputs {
			eachRow(k.input(d, i), func(b, t, _ int, row []float32) {
				for j := range row {
					if !side(in)[b][t] {
						row[j] = x
					}
				}
			})
		}
		if !k.forward(d) {
			return
		}
		if s := sameBits(c.Out, d.Out, nil); s != "" {
			k.failf("%g in the padding changes the output %s", x, s)
			return
		}
		if s := sameSlice(c.Final, d.Final); s != "" {
			k.failf("%g in the padding changes the final state %s", x, s)
			return
		}
		if m, ok := k.m.(attn.Differentiable); ok && (!k.Short || x != x) {
			k.garbageGradient(m, p, clone(c), clone(d), side)
		}
	}
	k.alone(c)
}

// garbageGradient checks that padding has no gradient and gives none.
func (k *kit) garbageGradient(m attn.Differentiable, p *plan, clean, dirty *attn.Call, side func(attn.Input) [][]bool) {
	_, want, ok := k.backward(m, clean, p, false)
	if !ok {
		return
	}
	g, before := k.newGrads(dirty, p, false)
	in := covered(dirty, true)
	eachRow(g.Out, func(b, t, _ int, row []float32) {
		for i := range row {
			if !in[b][t] {
				row[i] = nan
			}
		}
	})
	if !k.forward(dirty) {
		return
	}
	k.poison()
	if err := m.Backward(k.ws, dirty, g); err != nil {
		k.failf("backward of a good call: %v", err)
		return
	}
	for i, input := range k.info.Inputs {
		got := gradOf(&k.info, g, i)
		if got.Empty() {
			continue
		}
		if s := sameBits(gradOf(&k.info, before, i), got, func(b, t, _ int) bool { return side(input)[b][t] }); s != "" {
			k.failf("gradient of input %s in the padding: want it untouched, differs at %s", input.Name, s)
		}
		if s := sameBits(gradOf(&k.info, want, i), got, nil); s != "" {
			k.failf("garbage in the padding changes the gradient of input %s%s", input.Name, s)
		}
		if s := gapsOf(got, nan); s != "" {
			k.failf("backward writes between the rows of the gradient of input %s: %s", input.Name, s)
		}
	}
	for i := range g.Learned {
		if s := sameSlice(want.Learned[i], g.Learned[i]); s != "" {
			k.failf("garbage in the padding changes the gradient of learned tensor %s%s", k.info.Learned[i].Name, s)
		}
	}
	if s := sameSlice(want.Initial, g.Initial); s != "" {
		k.failf("garbage in the padding changes the gradient of the initial state%s", s)
	}
}

// alone computes each segment in a call of its own, to the bit: both for training, or both not.
func (k *kit) alone(c *attn.Call) {
	carry := 0
	if k.info.Carry != nil {
		carry = k.info.Carry(c.Shape)
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Queries == 0 && g.Keys == 0 {
			continue
		}
		d := k.slice(clone(c), g.Row, g.Query0, g.Query0+g.Queries, g.Key0, g.Key0+g.Keys)
		d.Pos0 = g.Pos0
		if c.Saved != nil {
			d.Saved = attn.NewSaved(new(attn.Arena))
		}
		if k.info.CheckShape != nil && k.info.CheckShape(d.Shape) != nil {
			continue
		}
		if c.Initial != nil {
			d.Initial, d.Final = c.Initial[i*carry:(i+1)*carry], fenced(carry)
		}
		if !k.forward(d) {
			return
		}
		s := sameBits(times(row(c.Out, g.Row), g.Query0, g.Query0+g.Queries), d.Out, nil)
		if s == "" && c.Final != nil {
			if s = sameSlice(c.Final[i*carry:(i+1)*carry], d.Final); s != "" {
				s = "final state " + s
			}
		}
		if s != "" {
			k.failf("segment %d, %+v, and the same tokens alone differ at %s", i, g, s)
			return
		}
	}
}

// twoLengths is a batch of lengths 3 and 5, with garbage behind the first.
func (k *kit) twoLengths(m attn.Mask) {
	p := &plan{Shape: shape(m, 2, 5, 5, 2, 1, 4, 3), present: k.every(), carry: true, what: "lengths 3 and 5"}
	if !k.begin(p) || p.KeyLen != 5 || p.QueryLen != 5 {
		return
	}
	c := k.draw(p)
	c.Segments = attn.Lengths([]int{3, 5}, []int{3, 5})
	for i := range k.info.Inputs {
		eachRow(k.input(c, i), func(b, t, _ int, row []float32) {
			for j := range row {
				if b == 0 && t >= 3 {
					row[j] = 1e9
				}
			}
		})
	}
	if k.forward(c) {
		k.alone(c)
	}
}
