package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genSoftmax writes the passes over a tile of 32 lanes, and the exponentials over a slice.
func genSoftmax(s isa) {
	genStep(s, false)
	genStep(s, true)
	genFused(s)
	genWeights(s)
	genWeightsGrad(s)
	genExpSum(s)
	genPut(s)
}

const row = 128 // bytes a row of a tile

// genStep writes Softmax.step and, if lazy, Softmax.lazyStep. st points to Max, Sum and Scale, one after the other. The result has a bit for
// each lane whose sum is NaN: the maximum ignores NaN, so the caller mends those lanes.
func genStep(s isa, lazy bool) {
	name, method := "step", "Step"
	if lazy {
		name, method = "lazyStep", "LazyStep"
	}
	s.begin(name, "func(tile *float32, rows int, st *float32) uint32", "is Softmax."+method+" but for lanes that the result marks: their sum is NaN.")
	tile, st := gp("tile"), gp("st")
	vecs := row / s.w
	p, n := GP64(), GP64()

	// Pass 1: the maximum, in two sets of registers that alternate.
	m := s.vecs(vecs)
	m2 := s.vecs(vecs)
	for v := range m {
		VMOVUPS(at(st, v*s.w), m[v])
		VMOVAPS(m[v], m2[v])
	}
	MOVQ(tile, p)
	MOVQ(slot("rows"), n)
	SUBQ(Imm(2), n)
	JL(LabelRef("maxrest"))
	Label("max")
	for v := range m {
		x, y := s.vec(), s.vec()
		VMOVUPS(at(p, v*s.w), x)
		VMOVUPS(at(p, row+v*s.w), y)
		VMAXPS(m[v], x, m[v]) // a NaN in x loses, one in m stays
		VMAXPS(m2[v], y, m2[v])
	}
	ADDQ(U32(2*row), p)
	SUBQ(Imm(2), n)
	JGE(LabelRef("max"))
	Label("maxrest")
	ADDQ(Imm(2), n)
	JZ(LabelRef("maxdone"))
	for v := range m {
		x := s.vec()
		VMOVUPS(at(p, v*s.w), x)
		VMAXPS(m[v], x, m[v])
	}
	Label("maxdone")
	for v := range m {
		VMAXPS(m[v], m2[v], m[v])
	}

	// Scale = 2^(old-new), 1 where the maximum stays (so also for -Inf: no visible score yet).
	// The subtrahend of an empty lane is 0: -Inf - 0 gives the weight 0, -Inf - -Inf would not.
	e := s.powers(0)
	for v := range m {
		old, x := s.vec(), s.vec()
		VMOVUPS(at(st, v*s.w), old)
		if lazy {
			s.lag(old, m[v])
		}
		VMOVUPS(m[v], at(st, v*s.w))
		s.keep(unequal, m[v], bits(0xff800000), m[v])
		VSUBPS(m[v], old, x)
		e.run([]VecVirtual{x})
		one, now := s.vec(), s.vec()
		VMOVUPS(constant(1), one)
		VMOVUPS(at(st, v*s.w), now)
		s.pick(equal, now, old, one, x)
		VMOVUPS(x, at(st, 2*row+v*s.w))
		VMULPS(at(st, row+v*s.w), x, x)
		VMOVUPS(x, at(st, row+v*s.w))
	}

	// Pass 2: weights and their sum, 2 vectors at a time down the rows.
	const G = 2
	if !s.wide() {
		e = s.powers(4)
	}
	for half := 0; half < vecs; half += G {
		label := string(rune('a' + half))
		sum, max := s.vecs(G), s.vecs(G)
		for g := range G {
			VMOVUPS(at(st, (half+g)*s.w), max[g])
			s.keep(unequal, max[g], bits(0xff800000), max[g])
			VMOVUPS(at(st, row+(half+g)*s.w), sum[g])
		}
		LEAQ(at(tile, half*s.w), p)
		MOVQ(slot("rows"), n)
		TESTQ(n, n)
		JZ(LabelRef(label + "done"))
		Label(label + "exp")
		x := s.vecs(G)
		for g := range x {
			VMOVUPS(at(p, g*s.w), x[g])
			VSUBPS(max[g], x[g], x[g])
		}
		e.run(x)
		for g := range x {
			VMOVUPS(x[g], at(p, g*s.w))
			VADDPS(x[g], sum[g], sum[g])
		}
		ADDQ(U32(row), p)
		DECQ(n)
		JNZ(LabelRef(label + "exp"))
		Label(label + "done")
		for g := range G {
			VMOVUPS(sum[g], at(st, row+(half+g)*s.w))
		}
	}
	nan, lane := GP32(), GP32()
	XORL(nan, nan)
	for v := range vecs {
		x := s.vec()
		VMOVUPS(at(st, row+v*s.w), x)
		if s.wide() {
			k := K()
			VCMPPS(U8(unord), x, x, k)
			KMOVW(k, lane)
		} else {
			t := s.vec()
			VCMPPS(U8(unord), x, x, t)
			VMOVMSKPS(t, lane)
		}
		if v > 0 {
			SHLL(Imm(uint64(v*s.floats())), lane)
		}
		ORL(lane, nan)
	}
	VZEROUPPER()
	Store(nan, ReturnIndex(0))
	RET()
}

// lag turns the larger of the old maximum and a block's into the new Max of LazyStep.
func (s isa) lag(old, m VecVirtual) {
	ref, up := s.vec(), s.vec()
	VMOVAPS(old, ref)
	first := s.vec() // 0 where a first maximum is near enough to 0, else -Inf
	VMOVUPS(bits(0xff800000), first)
	s.zero(up)
	s.pick(notLess, m, constant(-leastFirst), up, first)
	s.pick(equal, old, bits(0xff800000), first, ref)
	VADDPS(constant(mostLag), ref, up)
	above := s.vec()
	VMOVAPS(up, above)
	if s.wide() {
		VRNDSCALEPS(Imm(10), m, up)
	} else {
		VROUNDPS(Imm(10), m, up)
	}
	s.pick(notGreater, m, above, ref, up)
	VMOVAPS(up, m)
}

// genWeights writes Weights: lanes with lse = -Inf are cleared whatever they hold.
func genWeights(s isa) {
	s.begin("weights", "func(tile *float32, rows int, lse *float32)", "is Weights for rows > 0.")
	tile, lse, p, n := gp("tile"), gp("lse"), GP64(), GP64()
	const G = 2
	spare := 2
	if s.wide() {
		spare = 8
	}
	e := s.exp2(spare)
	for half := 0; half < row/s.w; half += G {
		label := string(rune('a' + half))
		sub := s.vecs(G)
		empty := s.vecs(G) // 0 where lse is -Inf, ones elsewhere
		k := []OpmaskVirtual{K(), K()}
		for g := range G {
			VMOVUPS(at(lse, (half+g)*s.w), sub[g])
			if s.wide() {
				VCMPPS(U8(unequal), bits(0xff800000), sub[g], k[g])
			} else {
				VCMPPS(U8(unequal), bits(0xff800000), sub[g], empty[g])
			}
			s.keep(unequal, sub[g], bits(0xff800000), sub[g])
		}
		LEAQ(at(tile, half*s.w), p)
		MOVQ(slot("rows"), n)
		Label(label)
		x := s.vecs(G)
		for g := range x {
			VMOVUPS(at(p, g*s.w), x[g])
			VSUBPS(sub[g], x[g], x[g])
		}
		e.bounded(x)
		for g := range x {
			if s.wide() {
				VMOVAPS_Z(x[g], k[g], x[g])
			} else {
				VANDPS(empty[g], x[g], x[g])
			}
			VMOVUPS(x[g], at(p, g*s.w))
		}
		ADDQ(U32(row), p)
		DECQ(n)
		JNZ(LabelRef(label))
	}
	end()
}

// genWeightsGrad writes dp = p∘(dp-delta), 0 where p is.
func genWeightsGrad(s isa) {
	s.begin("weightsGrad", "func(p, dp *float32, rows int, delta *float32)", "is WeightsGrad for rows > 0.")
	p, dp, n, delta := gp("p"), gp("dp"), gp("rows"), gp("delta")
	d := s.vecs(row / s.w)
	for v := range d {
		VMOVUPS(at(delta, v*s.w), d[v])
	}
	zero := s.vec()
	s.zero(zero)
	Label("loop")
	for v := range d {
		w, x := s.vec(), s.vec()
		VMOVUPS(at(p, v*s.w), w)
		VMOVUPS(at(dp, v*s.w), x)
		VSUBPS(d[v], x, x)
		VMULPS(w, x, x)
		s.keep(unequal, w, zero, x)
		VMOVUPS(x, at(dp, v*s.w))
	}
	ADDQ(U32(row), p)
	ADDQ(U32(row), dp)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// genExpSum writes x = e^(x-max) and returns the sum.
func genExpSum(s isa) {
	s.begin("expSum", "func(x *float32, n int, max float32) float32", "is ExpSum.")
	p, n, max := gp("x"), gp("n"), s.scalar("max")
	acc := s.vecs(2)
	for _, r := range acc {
		s.zero(r)
	}
	e := s.exp(0)
	s.strip(n, len(acc), []GPVirtual{p}, func(u int, m mask) {
		x := s.vecs(u)
		seen := s.vecs(u)
		k := make([]OpmaskVirtual, u)
		for g := range x {
			s.load(at(p, g*s.w), x[g], m)
			if s.wide() {
				k[g] = K()
				VCMPPS(U8(unequal), bits(0xff800000), x[g], k[g])
			} else {
				VCMPPS(U8(unequal), bits(0xff800000), x[g], seen[g])
			}
			VSUBPS(max, x[g], x[g])
		}
		e.bounded(x)
		for g := range x {
			if s.wide() {
				VMOVAPS_Z(x[g], k[g], x[g])
			} else {
				VANDPS(seen[g], x[g], x[g])
			}
			s.clip(m, x[g])
			s.store(x[g], at(p, g*s.w), m)
			VADDPS(x[g], acc[g], acc[g])
		}
	})
	s.ret(s.fold(acc))
}

// genPut writes x where a bit of the row's mask is set.
func genPut(s isa) {
	s.begin("put", "func(tile *float32, masks *uint32, rows int, x float32)", "is Put for rows > 0.")
	tile, masks, n, x := gp("tile"), gp("masks"), gp("rows"), s.scalar("x")
	var shift []VecVirtual // AVX2 stores lanes by the top bit of an integer
	if !s.wide() {
		shift = s.vecs(row / s.w)
		for v := range shift {
			VMOVDQU(laneShifts().Offset(v*s.w), shift[v])
		}
	}
	Label("loop")
	if s.wide() {
		bits := GP32()
		MOVL(at(masks, 0), bits)
		for v := range row / s.w {
			k := K()
			KMOVW(bits, k)
			VMOVUPS(x, k, at(tile, v*s.w))
			SHRL(Imm(16), bits)
		}
	} else {
		bits := s.vec()
		VPBROADCASTD(at(masks, 0), bits)
		for v := range shift {
			m := s.vec()
			VPSLLVD(shift[v], bits, m)
			VMASKMOVPS(x, m, at(tile, v*s.w))
		}
	}
	ADDQ(Imm(4), masks)
	ADDQ(U32(row), tile)
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// laneShifts is 31, 30, … 0: shifted so far to the left, the bit of a lane is the top one.
func laneShifts() Mem {
	m, ok := declared["laneshifts"]
	if !ok {
		m = GLOBL("laneshifts", 8|16)
		for i := range 32 {
			DATA(4*i, U32(31-i))
		}
		declared["laneshifts"] = m
	}
	return m
}
