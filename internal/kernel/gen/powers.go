package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Of Softmax.LazyStep, as in the package.
const (
	mostLag    = 40
	leastFirst = 8
)

// genMulPowers writes the fast way of Softmax.MulLazyStep: 2^(A·B) tile by tile while its scores are in registers, for 8 rows a
// tile of A by rows, k > 0. It needs no maximum, as Max is 0 in all lanes and no score may be beyond ±mostLag: 11
// instructions for the multipliers' ports in place of 13, and no second pass. Sum is left alone where the result marks a lane.
func genMulPowers(s isa) {
	const rows, vecs = 8, 2
	s.begin("mulPowers", "func(a *float32, arow int, b *float32, k, tiles int, c, st *float32) uint32", "is the fast way of Softmax.MulLazyStep, unless the result marks a lane; see gen/powers.go.")
	st := gp("st")
	sum, most := s.vecs(vecs), s.vecs(vecs)
	zero := s.vec()
	s.zero(zero)
	other := []OpmaskVirtual{K(), K()}
	for v := range vecs {
		VCMPPS(U8(unequal), at(st, v*s.w), zero, other[v])
		VMOVUPS(at(st, row+v*s.w), sum[v])
		s.zero(most[v])
	}
	bad := GP32()
	MOVL(U32(1<<32-1), bad)
	KORTESTW(other[0], other[1])
	JNZ(LabelRef("done"))

	a, arow, b, c, tiles := gp("a"), gp("arow"), gp("b"), gp("c"), gp("tiles")
	acc := make([][]VecVirtual, rows)
	for r := range acc {
		acc[r] = s.vecs(vecs)
	}
	e := s.powers(0)
	ap := []GPVirtual{GP64(), GP64(), GP64()}
	Label("tile")
	for r := range acc {
		for v := range acc[r] {
			s.zero(acc[r][v])
		}
	}
	MOVQ(a, ap[0])
	for i := 1; i < len(ap); i++ {
		LEAQ(Mem{Base: ap[i-1], Index: arow, Scale: 2}, ap[i])
		ADDQ(arow, ap[i])
	}
	bp, k := GP64(), GP64()
	MOVQ(b, bp)
	MOVQ(slot("k"), k)
	step := func(u int) {
		q := s.vecs(vecs)
		for v := range q {
			VMOVUPS(at(bp, u*row+v*s.w), q[v])
		}
		for r := range acc {
			m := Mem{Base: ap[r/3], Disp: 4 * u}
			if r%3 > 0 {
				m.Index, m.Scale = arow, uint8(r%3)
			}
			x := s.vec()
			VBROADCASTSS(m, x)
			for v := range q {
				VFMADD231PS(x, q[v], acc[r][v])
			}
		}
	}
	advance := func(steps int) {
		for i := range ap {
			ADDQ(Imm(uint64(4*steps)), ap[i])
		}
		ADDQ(U32(uint32(steps*row)), bp)
	}
	const unroll = 4
	SUBQ(Imm(unroll), k)
	JL(LabelRef("rest"))
	Label("loop")
	for u := range unroll {
		step(u)
	}
	advance(unroll)
	SUBQ(Imm(unroll), k)
	JGE(LabelRef("loop"))
	Label("rest")
	ADDQ(Imm(unroll), k)
	JZ(LabelRef("powers"))
	Label("one")
	step(0)
	advance(1)
	DECQ(k)
	JNZ(LabelRef("one"))

	Label("powers")
	for r, x := range acc {
		for v := range x {
			VRANGEPS(Imm(11), x[v], most[v], most[v]) // the larger of both magnitudes
		}
		e.lookUp(x, true)
		for v := range x {
			VMOVUPS(x[v], at(c, r*row+v*s.w))
			VADDPS(x[v], sum[v], sum[v])
		}
	}
	IMUL3Q(Imm(rows), arow, ap[0])
	ADDQ(ap[0], a)
	ADDQ(U32(rows*row), c)
	DECQ(tiles)
	JNZ(LabelRef("tile"))

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
