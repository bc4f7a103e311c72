package attntest

import (
	"fmt"

	"attnbench/attn"
)

// A spoiler makes a good call impossible. It reports whether it applies.
type spoiler struct {
	what  string
	spoil func(c *attn.Call) bool
}

func always(f func(c *attn.Call)) func(c *attn.Call) bool {
	return func(c *attn.Call) bool { f(c); return true }
}

// felt is a change of a size that some declared input has; without one, nobody can tell.
func (k *kit) felt(change func(s *attn.Shape)) func(c *attn.Call) bool {
	return func(c *attn.Call) bool {
		s := c.Shape
		change(&s)
		if !k.changes(c.Shape, s) {
			return false
		}
		c.Shape = s
		return true
	}
}

// changes reports whether a declared input has another size at t than at s.
func (k *kit) changes(s, t attn.Shape) bool {
	for _, in := range k.info.Inputs {
		a, b := in.Size(s)
		c, d := in.Size(t)
		if a != c || b != d || in.From != attn.QuerySide && s.KeyLen != t.KeyLen {
			return true
		}
	}
	return false
}

// spoilers returns what can be wrong with a call of this mechanism.
func (k *kit) spoilers() []spoiler {
	list := []spoiler{
		{"query length too large", always(func(c *attn.Call) { c.QueryLen++ })},
		{"query length too small", always(func(c *attn.Call) { c.QueryLen-- })},
		{"query length negative", always(func(c *attn.Call) { c.QueryLen = -1 })},
		{"key length too large", k.felt(func(s *attn.Shape) { s.KeyLen++ })},
		{"key length negative", always(func(c *attn.Call) { c.KeyLen = -1 })},
		{"batch too large", always(func(c *attn.Call) { c.Batch++ })},
		{"batch negative", always(func(c *attn.Call) { c.Batch = -1 })},
		{"twice the heads", always(func(c *attn.Call) { c.Heads *= 2 })},
		{"no heads", always(func(c *attn.Call) { c.Heads = 0 })},
		{"no key/value heads", always(func(c *attn.Call) { c.KVHeads = 0 })},
		{"6 heads over 4 key/value heads", always(func(c *attn.Call) { c.Heads, c.KVHeads = 6, 4 })},
		{"key dim too large", k.felt(func(s *attn.Shape) { s.KeyDim++ })},
		{"key dim 0", always(func(c *attn.Call) { c.KeyDim = 0 })},
		{"value dim too large", always(func(c *attn.Call) { c.ValueDim++ })},
		{"value dim negative", always(func(c *attn.Call) { c.ValueDim = -1 })},
		{"no mask", always(func(c *attn.Call) { c.Mask = 0 })},
		{"two masks", always(func(c *attn.Call) { c.Mask = attn.Causal | attn.Cross })},
		{"an unknown mask", always(func(c *attn.Call) { c.Mask = 1 << 5 })},
		{"an undeclared mask", func(c *attn.Call) bool {
			for _, m := range []attn.Mask{attn.Causal, attn.Bidirectional, attn.Cross} {
				if k.info.Masks&m == 0 {
					c.Mask = m
					return true
				}
			}
			return false
		}},
		{"layer beyond layers", always(func(c *attn.Call) { c.Layer, c.Layers = 2, 2 })},
		{"one extra input more", always(func(c *attn.Call) { c.Extra = append(c.Extra[:len(c.Extra):len(c.Extra)], c.V) })},
		{"one extra input less", func(c *attn.Call) bool {
			if len(c.Extra) == 0 {
				return false
			}
			c.Extra = c.Extra[:len(c.Extra)-1]
			return true
		}},
		{"one learned tensor more", always(func(c *attn.Call) { c.Learned = append(c.Learned[:len(c.Learned):len(c.Learned)], nil) })},
		{"one buffer more", always(func(c *attn.Call) { c.Buffers = append(c.Buffers[:len(c.Buffers):len(c.Buffers)], nil) })},
		{"a learned tensor too short", func(c *attn.Call) bool { return shorten(&c.Learned) }},
		{"a buffer too short", func(c *attn.Call) bool { return shorten(&c.Buffers) }},
		{"an initial state of one number more", always(func(c *attn.Call) { c.Initial = make([]float32, len(c.Initial)+1) })},
		{"a final state of one number more", always(func(c *attn.Call) { c.Final = make([]float32, len(c.Final)+1) })},
	}
	for _, g := range []struct {
		what string
		seg  attn.Segment
	}{
		{"row beyond the batch", attn.Segment{Row: 2}},
		{"row negative", attn.Segment{Row: -1}},
		{"queries beyond the row", attn.Segment{Query0: 9, Queries: 3, Keys: 1}},
		{"queries negative", attn.Segment{Queries: -1}},
		{"query start negative", attn.Segment{Query0: -1, Queries: 1, Keys: 1}},
		{"keys beyond the row", attn.Segment{Queries: 1, Key0: 10, Keys: 2}},
		{"keys negative", attn.Segment{Queries: 1, Keys: -1}},
		{"key start negative", attn.Segment{Key0: -1, Queries: 1, Keys: 1}},
		{"lengths that overflow", attn.Segment{Query0: 1 << 62, Queries: 1 << 62, Key0: 1 << 62, Keys: 1 << 62}},
	} {
		list = append(list, spoiler{"segment with " + g.what, func(c *attn.Call) bool { return setSegments(c, g.seg) }})
	}
	list = append(list,
		spoiler{"segments out of order", func(c *attn.Call) bool {
			return setSegments(c, attn.Segment{Row: 1, Queries: 1, Keys: 1}, attn.Segment{Row: 0, Queries: 1, Keys: 1})
		}},
		spoiler{"segments that overlap", func(c *attn.Call) bool {
			return setSegments(c, attn.Segment{Queries: 3, Keys: 3}, attn.Segment{Query0: 2, Queries: 1, Key0: 3, Keys: 1})
		}})
	view := func(name string, of func(c *attn.Call) *attn.View) {
		for _, v := range badViews {
			list = append(list, spoiler{name + " with " + v.what, func(c *attn.Call) bool { v.spoil(of(c)); return true }})
		}
	}
	view("output", func(c *attn.Call) *attn.View { return &c.Out })
	for i, in := range k.info.Inputs {
		of := func(c *attn.Call) *attn.View { return inputOf(&k.info, i, &c.Q, &c.K, &c.V, &c.Extra) }
		view("input "+in.Name, of)
		if !in.Optional {
			list = append(list, spoiler{"input " + in.Name + " missing", func(c *attn.Call) bool { *of(c) = attn.View{}; return true }})
		}
	}
	return list
}

var badViews = []struct {
	what  string
	spoil func(v *attn.View)
}{
	{"another batch", func(v *attn.View) { v.Batch++ }},
	{"another time", func(v *attn.View) { v.Time-- }},
	{"another head count", func(v *attn.View) { v.Heads++ }},
	{"another dim", func(v *attn.View) { v.Dim++ }},
	{"a negative time stride", func(v *attn.View) { v.TimeStride = -v.TimeStride }},
	{"a negative batch stride", func(v *attn.View) { v.BatchStride = -1 }},
	{"a negative head stride", func(v *attn.View) { v.HeadStride = -1 }},
	{"strides beyond its data", func(v *attn.View) { v.TimeStride *= 2; v.BatchStride *= 2 }},
	{"a stride that overflows", func(v *attn.View) { v.BatchStride = 1<<63 - 1 }},
	{"data one element short", func(v *attn.View) { v.Data = v.Data[:len(v.Data)-1] }},
	{"no data", func(v *attn.View) { v.Data = nil }},
	{"strides whose sum wraps", func(v *attn.View) { v.BatchStride, v.TimeStride = 1<<62, 1<<62 }},
	{"a time stride that wraps", func(v *attn.View) { v.TimeStride = 1 << 61 }},
}

// setSegments sets segments and states of matching size.
func setSegments(c *attn.Call, s ...attn.Segment) bool {
	c.Segments, c.Initial, c.Final = s, nil, nil
	return true
}

func shorten(list *[][]float32) bool {
	if len(*list) == 0 || len((*list)[0]) == 0 {
		return false
	}
	*list = append([][]float32{(*list)[0][1:]}, (*list)[1:]...)
	return true
}

// foreign is a state of nobody.
type foreign struct{ attn.State }

func checkErrors(k *kit) {
	p := &plan{Shape: shape(k.masks()[0], 2, 11, 11, 4, 2, 4, 3), present: k.every(), carry: true, saved: true, layout: gaps}
	if !k.begin(p) {
		return
	}
	c := k.draw(p)
	if !k.forward(clone(c)) {
		return
	}
	for _, s := range k.spoilers() {
		k.spoiled(s, p, c)
	}
	if d, ok := k.m.(attn.Differentiable); ok {
		k.badGradients(d, p, c)
	}
	if inc, ok := k.m.(attn.Incremental); ok && k.causal() {
		k.badStates(inc, c)
	}
}

// refused runs f, which must fail, and checks that the outputs of c keep what they hold.
func (k *kit) refused(what string, c *attn.Call, f func() error) {
	if k.full() {
		return
	}
	err := func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				k.failf("%s: panic: %v\n%s", what, r, stack())
				err = fmt.Errorf("panic")
			}
		}()
		return f()
	}()
	if err == nil {
		k.failf("%s: want an error", what)
	}
	for _, x := range c.Out.Data {
		if x == x {
			k.failf("%s: the output was written before the error", what)
			return
		}
	}
	for _, x := range c.Final {
		if x == x && x != 0 {
			k.failf("%s: the final state was written before the error", what)
			return
		}
	}
}

func (k *kit) spoiled(s spoiler, p *plan, good *attn.Call) {
	c := clone(good)
	if !s.spoil(c) {
		return
	}
	k.refused("forward, "+s.what, c, func() error { return k.m.Forward(k.ws, c) })
	if k.ws.Used() != 0 {
		k.failf("forward, %s: the error leaves %d bytes of the workspace taken", s.what, k.ws.Used())
		k.ws.Reset()
	}
	if d, ok := k.m.(attn.Differentiable); ok {
		c := clone(good)
		g, _ := k.newGrads(c, p, false)
		s.spoil(c)
		k.untouched("backward, "+s.what, p, good, g, func() error { return d.Backward(k.ws, c, g) })
	}
	if inc, ok := k.m.(attn.Incremental); ok && good.Mask == attn.Causal {
		c := k.slice(clone(good), -1, 0, good.QueryLen, 0, good.KeyLen)
		if !s.spoil(c) {
			return
		}
		state, err := inc.NewState(good.Shape)
		if err != nil {
			k.failf("new state for a good shape: %v", err)
			return
		}
		k.refused("extend, "+s.what, c, func() error { return inc.Extend(k.ws, state, c) })
		for b := range good.Batch {
			if n := state.Len(b); n != 0 && !k.full() {
				k.failf("extend, %s: the error left %d tokens in the state", s.what, n)
			}
		}
	}
}

// untouched runs f, which must fail, and checks that the gradients keep what they hold.
func (k *kit) untouched(what string, p *plan, good *attn.Call, g *attn.Grads, f func() error) {
	k.refused(what, &attn.Call{}, f)
	if g == nil || k.full() {
		return
	}
	_, before := k.newGrads(good, p, false)
	for i, in := range k.info.Inputs {
		a, b := gradOf(&k.info, before, i), gradOf(&k.info, g, i)
		if a.Batch == b.Batch && a.Time == b.Time && a.Heads == b.Heads && a.Dim == b.Dim && len(a.Data) == len(b.Data) && a.TimeStride == b.TimeStride {
			if s := sameSlice(a.Data, b.Data); s != "" {
				k.failf("%s: the gradient of input %s was written before the error", what, in.Name)
			}
		}
	}
}

func (k *kit) badGradients(d attn.Differentiable, p *plan, good *attn.Call) {
	run := func(what string, spoil func(c *attn.Call, g *attn.Grads) bool) {
		c := clone(good)
		if !k.forward(c) {
			return
		}
		g, _ := k.newGrads(c, p, false)
		if spoil(c, g) {
			k.untouched("backward, "+what, p, good, g, func() error { return d.Backward(k.ws, c, g) })
		}
	}
	k.untouched("backward without gradients", p, good, nil, func() error { return d.Backward(k.ws, clone(good), nil) })
	run("nothing saved", func(c *attn.Call, _ *attn.Grads) bool { c.Saved = nil; return true })
	run("a final gradient of another size", func(_ *attn.Call, g *attn.Grads) bool { g.Final = make([]float32, len(g.Final)+1); return true })
	run("an initial gradient too short", func(c *attn.Call, g *attn.Grads) bool {
		if len(g.Initial) == 0 {
			return false
		}
		g.Initial = g.Initial[1:]
		return true
	})
	run("a learned tensor's gradient too short", func(_ *attn.Call, g *attn.Grads) bool { return shorten(&g.Learned) })
	run("an extra gradient more", func(_ *attn.Call, g *attn.Grads) bool { g.Extra = append(g.Extra, g.V); return true })
	for _, v := range badViews {
		run("gradient of the output with "+v.what, func(_ *attn.Call, g *attn.Grads) bool { v.spoil(&g.Out); return true })
		for i, in := range k.info.Inputs {
			run("gradient of input "+in.Name+" with "+v.what, func(_ *attn.Call, g *attn.Grads) bool {
				v.spoil(inputOf(&k.info, i, &g.Q, &g.K, &g.V, &g.Extra))
				return true
			})
		}
	}
}

type badShape struct {
	what   string
	change func(s *attn.Shape)
}

func (k *kit) badStates(inc attn.Incremental, good *attn.Call) {
	c := k.slice(clone(good), -1, 0, good.QueryLen, 0, good.KeyLen)
	k.refused("extend of no state", c, func() error { return inc.Extend(k.ws, nil, c) })
	k.refused("extend of a state of another type", c, func() error { return inc.Extend(k.ws, foreign{}, c) })
	for _, x := range []badShape{
		{"batch", func(s *attn.Shape) { s.Batch++ }},
		{"key/value heads", func(s *attn.Shape) { s.KVHeads = s.Heads }},
		{"key dim", func(s *attn.Shape) { s.KeyDim *= 2 }},
		{"value dim", func(s *attn.Shape) { s.ValueDim *= 2 }},
	} {
		s := good.Shape
		x.change(&s)
		if s.Batch == good.Batch && !k.changes(good.Shape, s) {
			continue
		}
		if state, err := inc.NewState(s); err == nil {
			k.refused("extend of a state with another "+x.what, c, func() error { return inc.Extend(k.ws, state, c) })
		}
	}
	for _, x := range []badShape{
		{"a negative batch", func(s *attn.Shape) { s.Batch = -1 }},
		{"no heads", func(s *attn.Shape) { s.Heads = 0 }},
		{"6 heads over 4", func(s *attn.Shape) { s.Heads, s.KVHeads = 6, 4 }},
		{"key dim 0", func(s *attn.Shape) { s.KeyDim = 0 }},
		{"a negative value dim", func(s *attn.Shape) { s.ValueDim = -3 }},
		{"no mask", func(s *attn.Shape) { s.Mask = 0 }},
		{"a layer beyond layers", func(s *attn.Shape) { s.Layer, s.Layers = 3, 2 }},
		{"no key/value heads", func(s *attn.Shape) { s.KVHeads = 0 }},
		{"a negative maximum", func(s *attn.Shape) { s.MaxLen = -1 }},
		{"two masks at once", func(s *attn.Shape) { s.Mask = attn.Causal | attn.Bidirectional }},
		{"an unknown mask as well", func(s *attn.Shape) { s.Mask |= 1 << 6 }},
	} {
		s := good.Shape
		x.change(&s)
		k.refused("new state with "+x.what, &attn.Call{}, func() error { _, err := inc.NewState(s); return err })
	}
	state, err := inc.NewState(good.Shape)
	if err != nil {
		return
	}
	if err := inc.Extend(k.ws, state, c); err != nil {
		k.failf("extend of a good call: %v", err)
		return
	}
	before, _ := state.MarshalBinary()
	for _, from := range [][]int{nil, {0}, make([]int, good.Batch+1), {0, good.Batch}, {-1, 0}} {
		k.refused(fmt.Sprintf("reorder %v of %d rows", from, good.Batch), &attn.Call{}, func() error { return state.Reorder(from) })
	}
	if after, _ := state.MarshalBinary(); string(before) != string(after) {
		k.failf("a refused reorder changed the state")
	}
}
