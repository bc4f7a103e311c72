package attntest

import "attnbench/attn"

// checkLimits computes each declared limit twice: by this mechanism at the limit's options, and
// by the one that it equals there.
func checkLimits(k *kit) {
	for _, l := range k.info.Limits {
		for _, m := range k.masks() {
			for i, s := range []attn.Shape{
				shape(m, 2, 33, 33, 4, 2, 8, 5),
				shape(m, 1, 7, 70, 2, 1, 12, 3),
				shape(m, 1, 1, 1, 1, 1, 5, 5),
			} {
				if !k.full() {
					k.limit(l, &plan{Shape: s, layout: layout(i), present: k.every(), segments: []kind{padded, whole, whole}[i]})
				}
			}
		}
	}
}

func (k *kit) limit(l attn.Limit, p *plan) {
	if !k.begin(p) {
		return
	}
	p.MaxLen = p.KeyLen
	spec := l.Spec(p.Shape)
	p.what = spec + " equals " + l.Equals
	at, err := attn.New(spec)
	if err != nil {
		k.failf("limit: %v (is the package that registers it imported?)", err)
		return
	}
	other, err := attn.New(l.Equals)
	if err != nil {
		k.failf("limit: %v (is the package that registers it imported?)", err)
		return
	}
	info := other.Info()
	if info.Masks&p.Mask == 0 || info.CheckShape != nil && info.CheckShape(p.Shape) != nil {
		return
	}
	here := newKit(at, k.define, k.CheckOptions)
	here.info = at.Info()
	w := wide(here.draw(p))
	if l.Prepare != nil {
		l.Prepare(w)
	}
	v := w
	if l.Convert != nil {
		v = l.Convert(w)
	}
	c, d := narrow(w), narrow(v)
	c.Shape.MaxLen, d.Shape.MaxLen = p.MaxLen, p.MaxLen
	if err := at.Forward(k.ws, c); err != nil {
		k.failf("forward of %s: %v", spec, err)
		return
	}
	if err := other.Forward(k.ws, d); err != nil {
		k.failf("forward of %s: %v", l.Equals, err)
		return
	}
	if s := off(c.Out, wideView(d.Out), k.tolerance()); s != "" {
		k.failf("the outputs differ: %s", s)
	}
}
