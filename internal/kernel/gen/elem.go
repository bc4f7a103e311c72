package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/reg"
)

// genElem writes the elementwise kernels of layers and of the optimiser.
func genElem(s isa) {
	s.begin("axpy", "func(a float32, x, y *float32, n int)", "computes y += a·x.")
	a := s.scalar("a")
	s.elementwise([]string{"x", "y"}, 4, func(x [][]VecVirtual) {
		for g := range x[0] {
			VFMADD231PS(x[0][g], a, x[1][g])
		}
	})

	s.begin("scale", "func(a float32, x *float32, n int)", "computes x = a·x.")
	a = s.scalar("a")
	s.elementwise([]string{"x"}, 4, func(x [][]VecVirtual) {
		for g := range x[0] {
			VMULPS(a, x[0][g], x[0][g])
		}
	})

	s.begin("add", "func(x, y *float32, n int)", "computes y += x.")
	s.elementwise([]string{"x", "y"}, 4, func(x [][]VecVirtual) {
		for g := range x[0] {
			VADDPS(x[0][g], x[1][g], x[1][g])
		}
	})

	s.begin("times", "func(x, y *float32, n int)", "computes y = x∘y.")
	s.elementwise([]string{"x", "y"}, 4, func(x [][]VecVirtual) {
		for g := range x[0] {
			VMULPS(x[0][g], x[1][g], x[1][g])
		}
	})

	s.begin("addTimes", "func(w, x, y *float32, n int)", "computes y += w∘x, the product rounded first.")
	s.elementwise([]string{"w", "x", "y"}, 4, func(x [][]VecVirtual) {
		for g := range x[0] {
			VMULPS(x[0][g], x[1][g], x[1][g])
			VADDPS(x[1][g], x[2][g], x[2][g])
		}
	})

	s.begin("softplus", "func(x, y *float32, n int)", "computes y = ln(1+e^x).")
	e := s.exp(0)
	s.mapping([]string{"x"}, "y", func(x [][]VecVirtual) []VecVirtual { return s.softplus(e, x[0]) })

	s.begin("sigmoid", "func(x, y *float32, n int)", "computes y = σ(x).")
	sig := s.sigmoid()
	s.mapping([]string{"x"}, "y", func(x [][]VecVirtual) []VecVirtual { return sig.run(x[0]) })

	s.begin("silu", "func(x, y *float32, n int)", "computes y = x·σ(x).")
	sig = s.sigmoid()
	s.mapping([]string{"x"}, "y", func(x [][]VecVirtual) []VecVirtual {
		y := sig.run(x[0])
		for g := range y {
			VMULPS(x[0][g], y[g], y[g])
		}
		return y
	})

	s.begin("siluGrad", "func(x, dy, dx *float32, n int)", "computes dx = dy·σ(x)·(1+x·(1-σ(x))).")
	sig = s.sigmoid()
	s.mapping([]string{"x", "dy"}, "dx", func(x [][]VecVirtual) []VecVirtual {
		y := sig.run(x[0])
		for g := range y {
			t := s.vec()
			s.set(constant(1), t)
			VSUBPS(y[g], t, t)
			VFMADD213PS(constant(1), x[0][g], t)
			VMULPS(t, y[g], y[g])
			VMULPS(x[1][g], y[g], y[g])
		}
		return y
	})

	s.begin("gelu", "func(x, y *float32, n int)", "computes y = x·σ(2u), u = √(2/π)·(x+0.044715·x³).")
	sig = s.sigmoid()
	s.mapping([]string{"x"}, "y", func(x [][]VecVirtual) []VecVirtual {
		u := s.geluInner(x[0])
		y := sig.run(u)
		for g := range y {
			VMULPS(x[0][g], y[g], y[g])
		}
		return y
	})

	s.begin("geluGrad", "func(x, dy, dx *float32, n int)", "computes dx = dy·(σ+x·σ·(1-σ)·2u'), σ = σ(2u).")
	sig = s.sigmoid()
	s.mapping([]string{"x", "dy"}, "dx", func(x [][]VecVirtual) []VecVirtual {
		u := s.geluInner(x[0])
		y := sig.run(u)
		for g := range y {
			t, d := s.vec(), s.vec()
			VMULPS(x[0][g], x[0][g], d)
			VMULPS(constant(geluB3), d, d)
			VADDPS(constant(geluA), d, d) // 2u'
			VMULPS(x[0][g], d, d)
			s.set(constant(1), t)
			VSUBPS(y[g], t, t)
			VFMADD213PS(constant(1), d, t) // 1 + x·2u'·(1-σ)
			VMULPS(t, y[g], y[g])
			VMULPS(x[1][g], y[g], y[g])
		}
		return y
	})

	genAdamW(s)
}

// The argument 2u of GELU's sigmoid is x·(geluA + geluB·x²).
const (
	geluA  = 1.5957691216057308 // 2·√(2/π)
	geluB  = 0.07135481282553584
	geluB3 = 3 * geluB
)

func (s isa) geluInner(x []VecVirtual) []VecVirtual {
	u := s.vecs(len(x))
	for g := range x {
		VMULPS(x[g], x[g], u[g])
		VMULPS(constant(geluB), u[g], u[g])
		VADDPS(constant(geluA), u[g], u[g])
		VMULPS(x[g], u[g], u[g])
	}
	return u
}

// elementwise emits the loop over n elements of the named slices: f changes the last one.
func (s isa) elementwise(names []string, unroll int, f func(x [][]VecVirtual)) {
	last := len(names) - 1
	s.mapping(names, names[last], func(x [][]VecVirtual) []VecVirtual {
		f(x)
		return x[last]
	}, unroll)
}

// mapping emits the loop that reads the named slices and writes f of them to `to`.
func (s isa) mapping(names []string, to string, f func(x [][]VecVirtual) []VecVirtual, unroll ...int) {
	var p []GPVirtual
	dst := -1
	for i, name := range names {
		p = append(p, gp(name))
		if name == to {
			dst = i
		}
	}
	if dst < 0 {
		dst = len(p)
		p = append(p, gp(to))
	}
	n := gp("n")
	many := 2
	if len(unroll) > 0 {
		many = unroll[0]
	}
	s.strip(n, many, p, func(u int, m mask) {
		x := make([][]VecVirtual, len(names))
		for i := range x {
			x[i] = s.vecs(u)
			for g := range x[i] {
				s.load(at(p[i], g*s.w), x[i][g], m)
			}
		}
		for g, y := range f(x) {
			s.store(y, at(p[dst], g*s.w), m)
		}
	})
	end()
}

// A sigmoid is 1/(1+e^-x) by e = e^-|x|, which cannot overflow: 1/(1+e) for x ≥ 0, else e/(1+e).
type sigmoid struct {
	s isa
	e exponential
}

func (s isa) sigmoid() sigmoid { return sigmoid{s, s.exp(0)} }

func (f sigmoid) run(x []VecVirtual) []VecVirtual {
	s := f.s
	e := s.expBelow(f.e, x)
	for g := range x {
		d, one, zero := s.vec(), s.vec(), s.vec()
		s.set(constant(1), one)
		s.zero(zero)
		VADDPS(one, e[g], d)
		s.pick(notLess, x[g], zero, one, e[g])
		VDIVPS(d, e[g], e[g])
	}
	return e
}

// softplus is max(x, 0) + ln(1+e) with e = e^-|x|: 2 atanh(z) of z = e/(2+e), which is at most 1/3, by its series.
func (s isa) softplus(f exponential, x []VecVirtual) []VecVirtual {
	e := s.expBelow(f, x)
	for g := range x {
		z, w, p := s.vec(), s.vec(), s.vec()
		s.set(constant(2), z)
		VADDPS(z, e[g], w)
		VDIVPS(w, e[g], z)
		VMULPS(z, z, w)
		s.set(constant(1./15), p)
		for n := 13; n > 0; n -= 2 {
			VFMADD213PS(constant(1/float64(n)), w, p)
		}
		VADDPS(z, z, z)
		s.zero(w)
		VMAXPS(x[g], w, w)
		VFMADD213PS(w, z, p)
		e[g] = p
	}
	return e
}

// expBelow is e^-|x|, which cannot overflow.
func (s isa) expBelow(f exponential, x []VecVirtual) []VecVirtual {
	e := s.vecs(len(x))
	for g := range x {
		s.or(bits(0x80000000), x[g], e[g])
	}
	f.run(e)
	return e
}

// genAdamW writes one step of AdamW. c holds its 8 constants: β1, 1-β1, β2, 1-β2, 1/(1-β1^t),
// 1/(1-β2^t), ε and lr; then lr times the decay.
func genAdamW(s isa) {
	s.begin("adamW", "func(p, grad, m, v *float32, n int, c *float32)", "is AdamW; c is adamConstants.")
	ptr := []GPVirtual{gp("p"), gp("grad"), gp("m"), gp("v")}
	n, cp := gp("n"), gp("c")
	var c []VecVirtual
	for i := range 9 {
		r := s.vec()
		VBROADCASTSS(at(cp, 4*i), r)
		c = append(c, r)
	}
	b1, n1, b2, n2, c1, c2, eps, lr, decay := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]
	s.strip(n, 1, ptr, func(_ int, msk mask) {
		p, g, m, v := s.vec(), s.vec(), s.vec(), s.vec()
		for i, r := range []VecVirtual{p, g, m, v} {
			s.load(at(ptr[i], 0), r, msk)
		}
		t := s.vec()
		VMULPS(n1, g, t)
		VFMADD231PS(b1, m, t)
		s.flush(t)
		s.store(t, at(ptr[2], 0), msk)
		VMULPS(c1, t, t) // the corrected mean
		VMULPS(g, g, g)
		VMULPS(n2, g, g)
		VFMADD231PS(b2, v, g)
		s.flush(g)
		s.store(g, at(ptr[3], 0), msk)
		VMULPS(c2, g, g)
		VSQRTPS(g, g)
		VADDPS(eps, g, g)
		VDIVPS(g, t, t)
		VMULPS(lr, t, t)
		VFMADD231PS(decay, p, t)
		VSUBPS(t, p, p)
		s.store(p, at(ptr[0], 0), msk)
	})
	end()
}
