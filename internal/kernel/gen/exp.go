package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// An exponential holds the operands of 2^x or e^x. Coefficients beyond the registers that AVX2
// can spare are read from memory.
type exponential struct {
	s    isa
	c    []Op // from the highest power down; c[0] is a memory operand or register to start from
	low  Op   // below: 0
	base bool // e^x

	table []VecVirtual // AVX-512: see powers
}

// leastPower is that of the package: weights below 2^leastPower are 0.
const leastPower = -63

// exp2 prepares 2^x by the polynomial of exp2Generic, with `spare` registers for constants.
func (s isa) exp2(spare int) exponential {
	c := []float64{0.00015345812, 0.00133999312, 0.00961848896, 0.05550328777, 0.24022646893, 0.69314720574, 1}
	e := exponential{s: s, low: constant(leastPower)}
	for i, v := range c {
		if i < spare {
			e.c = append(e.c, s.broadcast(v))
		} else {
			e.c = append(e.c, constant(v))
		}
	}
	if spare > len(c) {
		e.low = s.broadcast(leastPower)
	}
	return e
}

// powers prepares 2^x for x of at most 0 (from 128 - 1/64 on it gives NaN), on AVX-512 by a table of 2^(i/32) in two registers and a polynomial of degree 2 on
// [-1/64, 1/64] (relative error 5e-8 and two roundings): 11 instructions in place of 13, two of which count
// double on Intel's cores.
func (s isa) powers(spare int) exponential {
	if !s.wide() {
		return s.exp2(spare)
	}
	e := exponential{s: s, low: s.broadcast(leastPower), table: s.vecs(2)}
	for i, t := range e.table {
		VMOVUPS(powerTable().Offset(i*s.w), t)
	}
	// The cubic term's 3/4·h² of it is taken into the linear one, which leaves a quarter of its error.
	const ln2, h = 0.6931471805599453, 1.0 / 64
	for _, c := range []float64{ln2 * ln2 / 2, ln2 + 0.75*h*h*ln2*ln2*ln2/6, 3 << 17} {
		e.c = append(e.c, s.broadcast(c))
	}
	return e
}

// powerTable is the bits of 2^(i/32) less i<<18, which is what i adds when the number that it ends is shifted into the exponent.
func powerTable() Mem {
	m, ok := declared["powers"]
	if !ok {
		m = GLOBL("powers", 8|16)
		for i := range 32 {
			DATA(4*i, U32(math.Float32bits(float32(math.Exp2(float64(i)/32)))-uint32(i)<<18))
		}
		declared["powers"] = m
	}
	return m
}

// lookUp is run with the table; within says that no x is so low that it would be cleared. With x = k/32 + f, 2^x = 2^⌊k/32⌋ · table[k mod 32] · 2^f. Adding 3·2^17, whose last place is
// 1/32, rounds x to k/32 and leaves k in the low bits.
func (e exponential) lookUp(x []VecVirtual, within bool) {
	s := e.s
	t, n, k := s.vecs(len(x)), s.vecs(len(x)), make([]OpmaskVirtual, len(x))
	for g := range x {
		if !within {
			k[g] = K()
			VCMPPS(U8(notLess), e.low, x[g], k[g])
		}
		VADDPS(e.c[2], x[g], t[g])
		VSUBPS(e.c[2], t[g], n[g])
		VSUBPS(n[g], x[g], x[g])
		VPSLLD(Imm(18), t[g], n[g])
		VPERMI2PS(e.table[1], e.table[0], t[g])
		VPADDD(n[g], t[g], t[g])
		VMOVAPS(e.c[0], n[g])
		VFMADD213PS(e.c[1], x[g], n[g])
		VMULPS(n[g], x[g], x[g])
		if within {
			VFMADD213PS(t[g], t[g], x[g])
		} else {
			VFMADD213PS_Z(t[g], t[g], k[g], x[g])
		}
	}
}

// exp prepares e^x by the polynomial of expGeneric.
func (s isa) exp(spare int) exponential {
	c := []float64{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}
	e := exponential{s: s, low: constant(-87.33654), base: true}
	for i, v := range c {
		if i < spare {
			e.c = append(e.c, s.broadcast(v))
		} else {
			e.c = append(e.c, constant(v))
		}
	}
	return e
}

// run replaces each x by its exponential: exactly 0 below the normal range and for -Inf, NaN for
// NaN, right only up to the largest float32 (bounded extends it to Inf).
//
// n = round(x) goes in the exponent of p = 2^(x-n). AVX2 adds it there as an integer, which is
// right wherever the result is a normal number: below, the lane is cleared.
func (e exponential) run(x []VecVirtual) {
	if e.table != nil {
		e.lookUp(x, false)
		return
	}
	s := e.s
	n, p := s.vecs(len(x)), s.vecs(len(x))
	ok, i := s.vecs(len(x)), s.vecs(len(x))
	k := make([]OpmaskVirtual, len(x))
	for g := range x {
		// The comparison comes first: x is overwritten.
		if s.wide() {
			k[g] = K()
			VCMPPS(U8(notLess), e.low, x[g], k[g])
		} else {
			VCMPPS(U8(notLess), e.low, x[g], ok[g])
		}
		from := x[g]
		if e.base {
			VMULPS(constant(1.4426950408889634), x[g], n[g])
			from = n[g]
		}
		if s.wide() {
			VRNDSCALEPS(Imm(8), from, n[g])
		} else {
			VCVTPS2DQ(from, i[g])
			VROUNDPS(Imm(8), from, n[g])
		}
	}
	for g := range x {
		if e.base { // f = x - n·ln 2, in two parts
			VFNMADD231PS(constant(0.693359375), n[g], x[g])
			VFNMADD231PS(constant(-2.12194440e-4), n[g], x[g])
		} else {
			VSUBPS(n[g], x[g], x[g])
		}
	}
	for g := range x {
		s.set(e.c[0], p[g])
	}
	for _, c := range e.c[1:] {
		for g := range x {
			VFMADD213PS(c, x[g], p[g])
		}
	}
	if e.base { // p·f² + f + 1
		q := s.vecs(len(x))
		for g := range x {
			VMULPS(x[g], x[g], q[g])
			VFMADD213PS(x[g], q[g], p[g])
			VADDPS(constant(1), p[g], p[g])
		}
	}
	for g := range x {
		if s.wide() {
			VSCALEFPS_Z(n[g], p[g], k[g], x[g])
			continue
		}
		VPSLLD(Imm(23), i[g], i[g])
		VPADDD(i[g], p[g], p[g])
		VANDPS(ok[g], p[g], x[g])
	}
}

// bounded is run for any x: Inf where the result is beyond float32.
func (e exponential) bounded(x []VecVirtual) {
	s := e.s
	if !e.base {
		for _, r := range x { // 2^128 comes out as Inf
			s.least(constant(128), r)
		}
		e.run(x)
		return
	}
	// e^88.7228394 is beyond float32, the next smaller argument is not.
	y := s.vecs(len(x))
	for g := range x {
		VMOVAPS(x[g], y[g])
	}
	e.run(x)
	for g := range x {
		inf := s.vec()
		VMOVUPS(bits(0x7f800000), inf)
		s.pick(greater, y[g], constant(88.72283172607422), inf, x[g])
	}
}

// least sets x to min(x, c), NaN staying NaN.
func (s isa) least(c Mem, x VecVirtual) {
	t := s.vec()
	VMOVUPS(c, t)
	VMINPS(x, t, x)
}

// set copies a constant to a register.
func (s isa) set(c Op, to VecVirtual) { VMOVUPS(c, to) }
