package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Products whose elements go on while they are in registers, for A by rows and tiles of 32 lanes, on AVX-512 only: what
// follows as a pass of its own costs a load and a store of each element, and waits for the first level.

// Of Softmax.LazyStep, as in the package.
const (
	mostLag    = 24
	leastFirst = 8
)

// genFused writes the products that have more in them.
func genFused(s isa) {
	if s.wide() {
		genMulPowers(s)
		genMulWeights(s)
		genMulWeightsGrad(s)
		genMulAddTwo(s)
	}
}

// fused multiplies `tiles` tiles of 8 rows of A with B [k, 32], k > 0, and calls finish for each row x of C, which is to go to c. The
// parameters are a, arow (bytes), b, k, tiles and c.
func fused(s isa, finish func(x []VecVirtual, c Mem)) {
	const rows, vecs = 8, 2
	a, arow, b, c, tiles := gp("a"), gp("arow"), gp("b"), gp("c"), gp("tiles")
	acc := make([][]VecVirtual, rows)
	for r := range acc {
		acc[r] = s.vecs(vecs)
	}
	ap := []GPVirtual{GP64(), GP64(), GP64()}
	Label("tile")
	for r := range acc {
		for v := range acc[r] {
			s.zero(acc[r][v])
		}
	}
	pointRows(ap, a, arow)
	bp, k := GP64(), GP64()
	MOVQ(b, bp)
	MOVQ(slot("k"), k)
	step := func(u int) {
		s.addOuter(acc, at(bp, u*row), func(r int) Mem { return rowAt(ap, arow, r, 4*u) })
	}
	advance := func(steps int) {
		for i := range ap {
			ADDQ(Imm(uint64(4*steps)), ap[i])
		}
		ADDQ(U32(uint32(steps*row)), bp)
	}
	sumOver(k, "finish", step, advance)

	Label("finish")
	for r, x := range acc {
		finish(x, at(c, r*row))
	}
	IMUL3Q(Imm(rows), arow, ap[0])
	ADDQ(ap[0], a)
	ADDQ(U32(rows*row), c)
	DECQ(tiles)
	JNZ(LabelRef("tile"))
}

// addOuter adds the product of a column of A, whose row r lies at a(r), and a row of B.
func (s isa) addOuter(acc [][]VecVirtual, b Mem, a func(r int) Mem) {
	q := s.vecs(len(acc[0]))
	for v := range q {
		VMOVUPS(b.Offset(v*s.w), q[v])
	}
	for r := range acc {
		x := s.vec()
		VBROADCASTSS(a(r), x)
		for v := range q {
			VFMADD231PS(x, q[v], acc[r][v])
		}
	}
}

// genMulPowers writes Softmax.MulPowers, 2^(A·B). It needs no maximum, as Max is max in all lanes, 0 or that of an empty state, and no score may be beyond ±mostLag: 11
// instructions for the multipliers' ports in place of 13, and no second pass. Sum is left alone where the result marks a lane.
func genMulPowers(s isa) {
	const vecs = 2
	s.begin("mulPowers", "func(a *float32, arow int, b *float32, k, tiles int, c, st *float32, max float32) uint32", "is Softmax.MulPowers for whole tiles, unless the result marks a lane; see gen/fused.go.")
	st := gp("st")
	sum, most := s.vecs(vecs), s.vecs(vecs)
	max := s.scalar("max")
	other := []OpmaskVirtual{K(), K()}
	for v := range vecs {
		VCMPPS(U8(unequal), at(st, v*s.w), max, other[v])
		VMOVUPS(at(st, row+v*s.w), sum[v])
		s.zero(most[v])
	}
	bad := GP32()
	MOVL(U32(1<<32-1), bad)
	KORTESTW(other[0], other[1])
	JNZ(LabelRef("done"))

	e := s.powers(0)
	fused(s, func(x []VecVirtual, c Mem) {
		for v := range x {
			VRANGEPS(Imm(11), x[v], most[v], most[v]) // the larger of both magnitudes
		}
		e.lookUp(x, true)
		for v := range x {
			VMOVUPS(x[v], c.Offset(v*s.w))
			VADDPS(x[v], sum[v], sum[v])
		}
	})

	lane := GP32()
	XORL(bad, bad)
	for v := range vecs {
		for _, x := range []VecVirtual{most[v], sum[v]} {
			k := K()
			if x == sum[v] {
				VCMPPS(U8(unord), x, x, k)
			} else {
				VCMPPS(U8(greater), constant(mostLag), x, k)
			}
			KMOVW(k, lane)
			ORL(lane, bad)
		}
	}
	TESTL(bad, bad)
	JNZ(LabelRef("done"))
	MOVQ(slot("st"), st)
	one := s.vec()
	VMOVUPS(constant(1), one)
	for v := range vecs {
		VMOVUPS(one, at(st, 2*row+v*s.w))
		VMOVUPS(sum[v], at(st, row+v*s.w))
	}
	Label("done")
	VZEROUPPER()
	Store(bad, ReturnIndex(0))
	RET()
}

// genMulWeights writes 2^(A·B - lse) as genWeights does.
func genMulWeights(s isa) {
	s.begin("mulWeights", "func(a *float32, arow int, b *float32, k, tiles int, c, lse *float32)", "is MulWeights for whole tiles; see gen/fused.go.")
	lse := gp("lse")
	seen := []OpmaskVirtual{K(), K()}
	sub := s.vecs(len(seen))
	for v := range sub {
		VMOVUPS(at(lse, v*s.w), sub[v])
		VCMPPS(U8(unequal), bits(0xff800000), sub[v], seen[v])
		VMOVAPS_Z(sub[v], seen[v], sub[v])
	}
	e := s.exp2(4)
	fused(s, func(x []VecVirtual, c Mem) {
		for v := range x {
			VSUBPS(sub[v], x[v], x[v])
		}
		e.bounded(x)
		for v := range x {
			VMOVAPS_Z(x[v], seen[v], x[v])
			VMOVUPS(x[v], c.Offset(v*s.w))
		}
	})
	end()
}

// genMulWeightsGrad writes p∘(A·B - delta) as genWeightsGrad does.
func genMulWeightsGrad(s isa) {
	s.begin("mulWeightsGrad", "func(a *float32, arow int, b *float32, k, tiles int, c, p, delta *float32)", "is MulWeightsGrad for whole tiles; see gen/fused.go.")
	delta := gp("delta")
	d, zero := s.vecs(2), s.vec()
	s.zero(zero)
	for v := range d {
		VMOVUPS(at(delta, v*s.w), d[v])
	}
	beyond := gp("p") // from C to P
	SUBQ(slot("c"), beyond)
	fused(s, func(x []VecVirtual, c Mem) {
		p := c.Idx(beyond, 1)
		for v := range x {
			w := s.vec()
			VMOVUPS(p.Offset(v*s.w), w)
			VSUBPS(d[v], x[v], x[v])
			VMULPS(w, x[v], x[v])
			s.keep(unequal, w, zero, x[v])
			VMOVUPS(x[v], c.Offset(v*s.w))
		}
	})
	end()
}

// genMulAddTwo writes C += P·B + R·D for tiles P and R of 32 lanes and B, D [32, 32·panels]: the sum goes on from one to the other in
// registers. Alone, a product over 32 lanes loads and stores its 16 accumulators for 32 steps.
func genMulAddTwo(s isa) {
	const rows, vecs = 8, 2
	s.begin("mulAddTwo", "func(p, r, b, d *float32, brow int, c *float32, crow, tiles, panels int)", "is MulAddTwo for whole tiles; see gen/fused.go.")
	p, r, brow, c, crow, tiles := gp("p"), gp("r"), gp("brow"), gp("c"), gp("crow"), gp("tiles")
	acc := make([][]VecVirtual, rows)
	for i := range acc {
		acc[i] = s.vecs(vecs)
	}
	brow3 := GP64()
	LEAQ(Mem{Base: brow, Index: brow, Scale: 2}, brow3)
	Label("tile")
	panels, at0 := GP64(), GP64()
	MOVQ(slot("panels"), panels)
	XORQ(at0, at0)
	Label("panel")
	each := func(f func(x VecVirtual, m Mem)) {
		from := GP64()
		LEAQ(Mem{Base: c, Index: at0, Scale: 1}, from)
		for i := range acc {
			for v, x := range acc[i] {
				f(x, at(from, v*s.w))
			}
			if i < rows-1 {
				ADDQ(crow, from)
			}
		}
	}
	each(func(x VecVirtual, m Mem) { VMOVUPS(m, x) })
	for i, from := range []GPVirtual{p, r} {
		ap, bp, n := GP64(), GP64(), GP64()
		MOVQ(from, ap)
		MOVQ(slot([]string{"b", "d"}[i]), bp)
		ADDQ(at0, bp)
		MOVQ(U32(8), n)
		loop := []string{"first", "second"}[i]
		Label(loop)
		for u := range 4 {
			s.addOuter(acc, stride(bp, brow, brow3, u, 0), func(r int) Mem { return at(ap, r*row+4*u) })
		}
		ADDQ(Imm(16), ap)
		LEAQ(Mem{Base: bp, Index: brow, Scale: 4}, bp)
		DECQ(n)
		JNZ(LabelRef(loop))
	}
	each(func(x VecVirtual, m Mem) { VMOVUPS(x, m) })
	ADDQ(U32(vecs*s.w), at0)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	ADDQ(U32(rows*row), p)
	ADDQ(U32(rows*row), r)
	LEAQ(Mem{Base: c, Index: crow, Scale: 8}, c)
	DECQ(tiles)
	JNZ(LabelRef("tile"))
	end()
}
