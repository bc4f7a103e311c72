package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genVector writes the reductions over one or two slices and the two loops that measure what the
// machine can do.
func genVector(s isa) {
	genFMALoop(s)
	genReadLoop(s)
	genReduce(s, "dot", "returns Σ x[i]·y[i].", true, func(x, y, acc VecVirtual) { VFMADD231PS(x, y, acc) })
	genReduce(s, "sum", "returns Σ x[i].", false, func(x, _, acc VecVirtual) { VADDPS(x, acc, acc) })
	genReduce(s, "sumSquares", "returns Σ x[i]².", false, func(x, _, acc VecVirtual) { VFMADD231PS(x, x, acc) })
	genMax(s)
	genAbove(s)
}

// genFMALoop writes n rounds of 4 times as many independent multiply-adds as hide the latency
// of the two multipliers.
func genFMALoop(s isa) {
	s.begin("fmaLoop", "func(n int)", "runs n rounds of fused multiply-adds on registers.")
	n := gp("n")
	count := 12
	if s.wide() {
		count = 24
	}
	acc := s.vecs(count)
	for _, r := range acc {
		s.zero(r)
	}
	x := s.vec()
	s.zero(x)
	Label("loop")
	for range 4 {
		for _, r := range acc {
			VFMADD231PS(x, x, r)
		}
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

// genReadLoop writes a plain read of n times 8 vectors.
func genReadLoop(s isa) {
	s.begin("readLoop", "func(x *float32, n int) float32", "reads n blocks of 8 vectors and returns the sum of a lane.")
	p, n := gp("x"), gp("n")
	acc := s.vecs(8)
	for _, r := range acc {
		s.zero(r)
	}
	Label("loop")
	for i, r := range acc {
		PREFETCHT0(at(p, 4096+i*s.w))
		VADDPS(at(p, i*s.w), r, r)
	}
	ADDQ(U32(8*s.w), p)
	DECQ(n)
	JNZ(LabelRef("loop"))
	s.ret(s.fold(acc))
}

// fold adds the vectors pairwise and returns the sum of all lanes.
func (s isa) fold(acc []VecVirtual) Register {
	for len(acc) > 1 {
		half := len(acc) / 2
		for i := range half {
			VADDPS(acc[i+half], acc[i], acc[i])
		}
		acc = acc[:half]
	}
	return s.total(acc[0])
}

// ret ends a function with a float32 result in lane 0 of x.
func (s isa) ret(x Register) {
	VZEROUPPER() // leaves the low 128 bits alone
	Store(x, ReturnIndex(0))
	RET()
}

// genReduce writes a sum over n elements with 4 accumulators: enough for two loads a cycle.
func genReduce(s isa, name, doc string, two bool, f func(x, y, acc VecVirtual)) {
	sig := "func(x *float32, n int) float32"
	if two {
		sig = "func(x, y *float32, n int) float32"
	}
	s.begin(name, sig, doc)
	p := []GPVirtual{gp("x")}
	if two {
		p = append(p, gp("y"))
	}
	n := gp("n")
	acc := s.vecs(4)
	for _, r := range acc {
		s.zero(r)
	}
	s.strip(n, len(acc), p, func(u int, m mask) {
		for i := range u {
			x, y := s.vec(), s.vec()
			s.load(at(p[0], i*s.w), x, m)
			if two {
				s.load(at(p[1], i*s.w), y, m)
			}
			f(x, y, acc[i])
		}
	})
	s.ret(s.fold(acc))
}

// genMax writes the maximum of n > 0 elements. VMAXPS drops a NaN in its last operand, so NaN
// is looked for on the way: once for two vectors.
func genMax(s isa) {
	s.begin("max", "func(x *float32, n int) float32", "returns the largest of n > 0 elements, NaN if any is NaN.")
	p, n := gp("x"), gp("n")
	lowest, nan := s.vec(), s.vec()
	VBROADCASTSS(bits(0xff800000), lowest)
	acc := s.vecs(4)
	for _, r := range acc {
		VMOVAPS(lowest, r)
	}
	s.zero(nan)
	s.strip(n, len(acc), []GPVirtual{p}, func(u int, m mask) {
		x := s.vecs(u)
		for i := range x {
			s.load(at(p, i*s.w), x[i], m)
			switch {
			case m.all():
			case s.wide():
				y := s.vec()
				VMOVAPS(lowest, y)
				VMOVAPS(x[i], m.k, y)
				x[i] = y
			default:
				y := s.vec()
				VBLENDVPS(m.v, x[i], lowest, y)
				x[i] = y
			}
			VMAXPS(acc[i], x[i], acc[i])
		}
		// A sum of two is NaN if one is, or for Inf-Inf: so it is compared, not added.
		for i := 0; i < len(x); i += 2 {
			s.markNaN(x[i], x[min(i+1, len(x)-1)], nan)
		}
	})
	for i := len(acc) - 1; i > 0; i-- {
		VMAXPS(acc[i], acc[0], acc[0])
	}
	y, h := acc[0].AsY(), YMM()
	ny := nan.AsY()
	if s.wide() {
		VEXTRACTF64X4(Imm(1), acc[0], h)
		VMAXPS(h, y, y)
		VEXTRACTF64X4(Imm(1), nan, h)
		VORPS(h, ny, ny)
	}
	x := XMM()
	VEXTRACTF128(Imm(1), y, x)
	VMAXPS(x, acc[0].AsX(), x)
	t := XMM()
	VMOVHLPS(x, x, t)
	VMAXPS(t, x, x)
	VMOVSHDUP(x, t)
	VMAXSS(t, x, x)
	found := GP32()
	VMOVMSKPS(ny, found)
	TESTL(found, found)
	JZ(LabelRef("number"))
	VMOVSS(bits(0x7fc00000), x)
	Label("number")
	s.ret(x)
}

// markNaN sets the lanes of nan to ones where x or y is NaN.
func (s isa) markNaN(x, y, nan VecVirtual) {
	if s.wide() {
		k, ones := K(), s.vec()
		VCMPPS(Imm(unord), y, x, k)
		VMOVUPS_Z(bits(0xffffffff), k, ones)
		VORPS(ones, nan, nan)
		return
	}
	t := s.vec()
	VCMPPS(Imm(unord), y, x, t)
	VORPS(t, nan, nan)
}

// genAbove writes one bit an element, little end first: of a vector's lanes a byte, or two.
func genAbove(s isa) {
	s.begin("above", "func(dst *uint64, x *float32, n int, least float32)", "is Above for n > 0 over words that are 0.")
	dst, p, n, least := gp("dst"), gp("x"), gp("n"), s.scalar("least")
	s.strip(n, 1, []GPVirtual{p}, func(_ int, m mask) {
		x, b := s.vec(), GP32()
		s.load(at(p, 0), x, m)
		if s.wide() {
			k := K()
			if m.all() {
				VCMPPS(U8(greater), least, x, k)
			} else {
				VCMPPS(U8(greater), least, x, m.k, k)
			}
			KMOVW(k, b)
			MOVW(b.As16(), at(dst, 0))
			ADDQ(Imm(2), dst)
			return
		}
		VCMPPS(U8(greater), least, x, x)
		s.clip(m, x)
		VMOVMSKPS(x, b)
		MOVB(b.As8(), at(dst, 0))
		ADDQ(Imm(1), dst)
	})
	end()
}
