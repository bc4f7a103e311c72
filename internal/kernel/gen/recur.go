package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genRecur writes what the recurrences of linear attention need besides products: small matrices, row by row.
func genRecur(s isa) {
	genAheadMul(s)
	genMaps(s)
	genSquares(s)
	genCopyFinite(s)
	genScaleRows(s)
	genTimesRows(s)
	genLower(s)
	genDecay(s)
	genCumulate(s)
	if s.wide() {
		genDecayWeights512(s)
	} else {
		genDecayWeights(s)
		genPackELU1(s)
	}
}

// matrix emits a function's loop over rows and its end.
func (s isa) matrix(rows string, p, ld []GPVirtual, cols string, body func(p []GPVirtual, n GPVirtual)) {
	s.rows(rows, p, ld, cols, body)
	end()
}

// rows emits a loop over the rows of matrices at the pointers p with strides ld; body starts from the pointers
// and columns in registers of its own.
func (s isa) rows(rows string, p, ld []GPVirtual, cols string, body func(p []GPVirtual, n GPVirtual)) {
	left := gp(rows)
	Label("row")
	n := gp(cols)
	q := make([]GPVirtual, len(p))
	for i := range p {
		q[i] = GP64()
		MOVQ(p[i], q[i])
	}
	body(q, n)
	for i := range p {
		ADDQ(ld[i], p[i])
	}
	DECQ(left)
	JNZ(LabelRef("row"))
}

func gps(params ...string) (r []GPVirtual) {
	for _, p := range params {
		r = append(r, gp(p))
	}
	return r
}

// genMaps writes the maps of rows.
func genMaps(s isa) {
	f := func(name, doc string, prepare func() func(x []VecVirtual)) {
		s.begin(name, "func(dst *float32, dld int, src *float32, sld, rows, cols int)", doc+" for rows > 0; strides in bytes.")
		run := prepare()
		s.matrix("rows", gps("dst", "src"), gps("dld", "sld"), "cols", func(p []GPVirtual, n GPVirtual) {
			s.strip(n, 2, p, func(u int, m mask) {
				x := s.vecs(u)
				for g := range x {
					s.load(at(p[1], g*s.w), x[g], m)
				}
				run(x)
				for g := range x {
					s.store(x[g], at(p[0], g*s.w), m)
				}
			})
		})
	}
	f("elu1", "is ELU1", func() func(x []VecVirtual) { return s.elu1().run })
	f("expRows", "is ExpRows", func() func(x []VecVirtual) { return s.exp(2).bounded })
	f("relu", "is ReLU", func() func(x []VecVirtual) {
		zero := s.vec()
		s.zero(zero)
		return func(x []VecVirtual) {
			for g := range x {
				VMAXPS(x[g], zero, x[g]) // of two numbers one of which is NaN, the first operand here comes out
			}
		}
	})
	f("lost", "is Lost", func() func(x []VecVirtual) { return s.lost })

	s.begin("elu1Grad", "func(f, d *float32, n int)", "computes d *= min(f, 1).")
	one := s.broadcast(1)
	s.elementwise([]string{"f", "d"}, 4, func(x [][]VecVirtual) {
		for g := range x[0] {
			VMINPS(x[0][g], one, x[0][g])
			VMULPS(x[0][g], x[1][g], x[1][g])
		}
	})
}

// An elu1 is max(x, 0) + e^min(x, 0). Since no argument of the exponential is above 0 and one below -87 counts as -87, it
// takes a third fewer instructions than exponential: rounding to an integer n by adding 1.5·2^23, whose low bits are then n,
// and 2^f by the polynomial of exp2Generic on f = x·log₂e - n, in one rounding.
type elu1 struct {
	s         isa
	zero, low VecVirtual
}

func (s isa) elu1() elu1 {
	f := elu1{s, s.vec(), s.broadcast(-87)}
	s.zero(f.zero)
	return f
}

func (f elu1) run(x []VecVirtual) {
	s := f.s
	plus, t, p := s.vecs(len(x)), s.vecs(len(x)), s.vecs(len(x))
	log2e, round := constant(1.4426950408889634), constant(3<<22)
	for g := range x {
		VMAXPS(x[g], f.zero, plus[g]) // of two numbers one of which is NaN, the first operand here comes out
		VMINPS(x[g], f.zero, x[g])
		VMAXPS(x[g], f.low, x[g])
		VMULPS(log2e, x[g], t[g])
		VADDPS(round, t[g], t[g])
		VSUBPS(round, t[g], p[g])
		VFMSUB132PS(log2e, p[g], x[g])
	}
	c := s.exp2(0).c
	for g := range x {
		s.set(c[0], p[g])
	}
	for _, c := range c[1:] {
		for g := range x {
			VFMADD213PS(c, x[g], p[g])
		}
	}
	for g := range x {
		VPSLLD(Imm(23), t[g], t[g])
		VPADDD(t[g], p[g], p[g])
		VADDPS(plus[g], p[g], x[g])
	}
}

// lost replaces x by 1-e^x: near 0, where that difference would lose digits, by a polynomial.
func (s isa) lost(x []VecVirtual) {
	e, p := s.vecs(len(x)), s.vecs(len(x))
	for g := range x {
		VMOVAPS(x[g], e[g])
	}
	s.exp(0).bounded(e)
	for g := range x {
		s.set(constant(1./5040), p[g])
	}
	for _, c := range []float64{1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1} {
		for g := range x {
			VFMADD213PS(constant(c), x[g], p[g])
		}
	}
	for g := range x {
		t := s.vec()
		VMULPS(x[g], p[g], p[g])
		s.and(bits(0x7fffffff), x[g], t)
		s.set(constant(1), x[g])
		VSUBPS(e[g], x[g], x[g])
		VXORPS(bits(0x80000000), p[g], p[g])
		s.pick(less, t, constant(0.25), p[g], x[g])
	}
}

// genSquares writes Squares: each number of a row times those from it on, and its own square over what that gave.
func genSquares(s isa) {
	s.begin("squares", "func(dst *float32, dld int, src *float32, sld, rows, n int, unit, root float32)", "is Squares for rows and n > 0, root = √2·unit; strides in bytes.")
	unit, root := XMM(), s.scalar("root")
	VMOVSS(slot("unit"), unit)
	s.matrix("rows", gps("dst", "src"), gps("dld", "sld"), "n", func(p []GPVirtual, left GPVirtual) {
		Label("number")
		to, from, n := GP64(), GP64(), GP64()
		MOVQ(p[0], to)
		MOVQ(p[1], from)
		MOVQ(left, n)
		a, own := s.vec(), XMM()
		VBROADCASTSS(at(p[1], 0), a)
		VMULSS(a.AsX(), unit, own)
		VMULSS(a.AsX(), own, own)
		VMULPS(root, a, a)
		s.strip(n, 1, []GPVirtual{to, from}, func(_ int, m mask) {
			x := s.vec()
			s.load(at(from, 0), x, m)
			VMULPS(a, x, x)
			s.store(x, at(to, 0), m)
		})
		VMOVSS(own, at(p[0], 0))
		LEAQ(Mem{Base: p[0], Index: left, Scale: 4}, p[0])
		ADDQ(Imm(4), p[1])
		DECQ(left)
		JNZ(LabelRef("number"))
	})
}

// genPackELU1 writes 8 lanes of PackELU1: dst[c·32+r] = φ(src[r·ld+c]), 0 from rows on, and sums[c] += Σ_r φ(src[r·ld+c]).
func genPackELU1(s isa) {
	s.begin("packELU1x8", "func(dst, sums, src *float32, ld, rows, cols int)", "writes 8 lanes of PackELU1; ld in bytes.")
	dst, sums, src, ld, rows, cols := gp("dst"), gp("sums"), gp("src"), gp("ld"), gp("rows"), gp("cols")
	addr := rowPointers(src, ld)
	f := s.elu1()
	block := func(label string, m mask) {
		r, sum := s.vecs(8), s.vec()
		CMPQ(rows, Imm(8))
		JL(LabelRef(label + "few"))
		for i := 0; i < 8; i += 2 {
			s.load(addr[i], r[i], m)
			s.load(addr[i+1], r[i+1], m)
			f.run(r[i : i+2])
		}
		JMP(LabelRef(label + "loaded"))
		Label(label + "few")
		for i := range r {
			s.zero(r[i])
		}
		for i := range r {
			exists(i, rows, label+"loaded")
			s.load(addr[i], r[i], m)
			f.run(r[i : i+1])
		}
		Label(label + "loaded")
		s.load(at(sums, 0), sum, m)
		for i := range r {
			VADDPS(r[i], sum, sum)
		}
		s.store(sum, at(sums, 0), m)
		for i, c := range transpose8(r) {
			if !m.all() {
				exists(i, cols, label+"stored")
			}
			VMOVUPS(c, at(dst, i*row))
		}
		Label(label + "stored")
	}
	SUBQ(Imm(8), cols)
	JL(LabelRef("rest"))
	Label("loop")
	block("whole", mask{})
	ADDQ(Imm(32), src)
	ADDQ(Imm(32), addr[4].Base)
	ADDQ(Imm(32), sums)
	ADDQ(U32(8*row), dst)
	SUBQ(Imm(8), cols)
	JGE(LabelRef("loop"))
	Label("rest")
	ADDQ(Imm(8), cols)
	JZ(LabelRef("end"))
	block("edge", s.tail(cols))
	Label("end")
	end()
}

// genCopyFinite writes a copy of rows that also adds up 0 times each number: NaN unless all are finite.
func genCopyFinite(s isa) {
	s.begin("copyFinite", "func(dst *float32, dld int, src *float32, sld, rows, cols int) float32", "is CopyFinite for rows > 0: the result is 0 or NaN; strides in bytes.")
	zero, acc := s.vec(), s.vecs(4)
	s.zero(zero)
	for _, r := range acc {
		s.zero(r)
	}
	s.rows("rows", gps("dst", "src"), gps("dld", "sld"), "cols", func(p []GPVirtual, n GPVirtual) {
		s.strip(n, 4, p, func(u int, m mask) {
			x := s.vecs(u)
			for g := range x {
				s.load(at(p[1], g*s.w), x[g], m)
				s.store(x[g], at(p[0], g*s.w), m)
				VFMADD231PS(zero, x[g], acc[g])
			}
		})
	})
	s.ret(s.fold(acc))
}

func genScaleRows(s isa) {
	s.begin("scaleRows", "func(f, x *float32, ld, rows, cols int)", "is ScaleRows for rows > 0; ld in bytes.")
	f := gp("f")
	s.matrix("rows", gps("x"), gps("ld"), "cols", func(p []GPVirtual, n GPVirtual) {
		a := s.vec()
		VBROADCASTSS(at(f, 0), a)
		ADDQ(Imm(4), f)
		s.strip(n, 4, p, func(u int, m mask) {
			x := s.vecs(u)
			for g := range x {
				s.multiply(at(p[0], g*s.w), a, x[g], m)
				s.store(x[g], at(p[0], g*s.w), m)
			}
		})
	})
}

// multiply sets x to a times what lies at from.
func (s isa) multiply(from Mem, a, x VecVirtual, m mask) {
	if m.all() {
		VMULPS(from, a, x)
		return
	}
	t := s.vec()
	s.load(from, t, m)
	VMULPS(t, a, x)
}

func genTimesRows(s isa) {
	s.begin("timesRows", "func(f, x *float32, ld, rows, cols int)", "is TimesRows for rows > 0; ld in bytes.")
	f := gp("f")
	s.matrix("rows", gps("x"), gps("ld"), "cols", func(p []GPVirtual, n GPVirtual) {
		y := GP64()
		MOVQ(f, y)
		s.strip(n, 4, append(p, y), func(u int, m mask) {
			a, x := s.vecs(u), s.vecs(u)
			for g := range x {
				s.load(at(y, g*s.w), a[g], m)
				s.multiply(at(p[0], g*s.w), a[g], x[g], m)
				s.store(x[g], at(p[0], g*s.w), m)
			}
		})
	})
}

// genLower writes Lower: of the vectors of a row some are kept whole, one may be cut, the others become 0.
func genLower(s isa) {
	s.begin("lower", "func(sums, a *float32, ld, keep, rows, cols int)", "is Lower for rows > 0; ld in bytes.")
	sums, keep := gp("sums"), gp("keep")
	s.matrix("rows", gps("a"), gps("ld"), "cols", func(p []GPVirtual, n GPVirtual) {
		acc, left := s.vec(), GP64()
		s.zero(acc)
		MOVQ(keep, left) // elements of the row still to keep
		s.strip(n, 1, p, func(_ int, m mask) {
			label := "whole"
			if !m.all() {
				label = "rest"
			}
			x := s.vec()
			s.load(at(p[0], 0), x, m)
			CMPQ(left, U32(s.floats()))
			JGE(LabelRef(label + "kept"))
			s.clip(s.tail(left), x)
			s.store(x, at(p[0], 0), m)
			Label(label + "kept")
			VADDPS(x, acc, acc)
			SUBQ(U32(s.floats()), left)
			JGE(LabelRef(label + "more"))
			XORQ(left, left)
			Label(label + "more")
		})
		VMOVSS(s.total(acc).(VecVirtual).AsX(), at(sums, 0))
		ADDQ(Imm(4), sums)
		INCQ(keep)
	})
}

// genDecay writes S = diag(a)·S + diag(b)·S.
func genDecay(s isa) {
	s.begin("decay", "func(st *float32, ld int, a, b *float32, rows, cols int)", "is Decay for rows > 0; ld in bytes.")
	ap, bp := gp("a"), gp("b")
	s.matrix("rows", gps("st"), gps("ld"), "cols", func(p []GPVirtual, n GPVirtual) {
		a, b := s.vec(), s.vec()
		VBROADCASTSS(at(ap, 0), a)
		VBROADCASTSS(at(bp, 0), b)
		ADDQ(Imm(4), ap)
		ADDQ(Imm(4), bp)
		s.strip(n, 4, p, func(k int, m mask) {
			x, y := s.vecs(k), s.vecs(k)
			for g := range x {
				s.load(at(p[0], g*s.w), x[g], m)
				VMULPS(a, x[g], y[g])
				VFMADD231PS(b, x[g], y[g])
				s.store(y[g], at(p[0], g*s.w), m)
			}
		})
	})

	s.begin("flushBelow", "func(least float32, x *float32, n int)", "sets numbers nearer to 0 than least to 0.")
	least := s.scalar("least")
	s.elementwise([]string{"x"}, 4, func(x [][]VecVirtual) {
		for _, y := range x[0] {
			t := s.vec()
			s.and(bits(0x7fffffff), y, t)
			s.keep(notLess, t, least, y)
		}
	})
}
