package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// An isa is one of the two instruction sets: what differs between them lives in its methods,
// so that each kernel is written once.
type isa struct {
	name string // suffix of function names
	w    int    // bytes a vector
	vec  func() VecVirtual
}

var (
	avx2   = isa{"AVX2", 32, YMM}
	avx512 = isa{"AVX512", 64, ZMM}
)

func (s isa) wide() bool { return s.w == 64 }

// floats is the number of float32 in a vector.
func (s isa) floats() int { return s.w / 4 }

func (s isa) vecs(n int) []VecVirtual {
	r := make([]VecVirtual, n)
	for i := range r {
		r[i] = s.vec()
	}
	return r
}

// begin starts a function; every pointer argument stays on the caller's stack.
func (s isa) begin(name, signature, doc string) {
	TEXT(name+s.name, 4, signature) // NOSPLIT
	Pragma("noescape")
	Doc(name + s.name + " " + doc)
}

func end() {
	VZEROUPPER()
	RET()
}

func gp(param string) GPVirtual { return Load(Param(param), GP64()).(GPVirtual) }

// slot is the place of a parameter in the argument frame, which a function may use as a variable.
func slot(param string) Mem {
	c, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	return c.Addr
}

// scalar broadcasts a float32 parameter.
func (s isa) scalar(param string) VecVirtual {
	r := s.vec()
	VBROADCASTSS(slot(param), r)
	return r
}

func (s isa) zero(r VecVirtual) {
	if s.wide() {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// A mask selects the first lanes of a vector; the zero mask selects all.
type mask struct {
	v VecVirtual
	k OpmaskVirtual
}

func (m mask) all() bool { return m.v == nil && m.k == nil }

// tail makes the mask of the first n lanes; n is the low half of a 64-bit register, at most
// the number of lanes.
func (s isa) tail(n GPVirtual) mask {
	if s.wide() {
		lane, bound, k := s.vec(), s.vec(), K()
		VMOVDQU32(lanes(), lane)
		VPBROADCASTD(n.As32(), bound)
		VPCMPUD(Imm(1), bound, lane, k) // lane < n
		return mask{k: k}
	}
	p, o, v := GP64(), GP64(), s.vec()
	LEAQ(tailTable().Offset(32), p)
	MOVQ(n, o)
	NEGQ(o)
	VMOVUPS(Mem{Base: p, Index: o, Scale: 4}, v)
	return mask{v: v}
}

// load reads the masked lanes and sets the others to 0; store leaves the others alone. Neither
// touches memory outside the mask.
func (s isa) load(from Mem, to VecVirtual, m mask) {
	switch {
	case m.all():
		VMOVUPS(from, to)
	case s.wide():
		VMOVUPS_Z(from, m.k, to)
	default:
		VMASKMOVPS(from, m.v, to)
	}
}

func (s isa) store(from VecVirtual, to Mem, m mask) {
	switch {
	case m.all():
		VMOVUPS(from, to)
	case s.wide():
		VMOVUPS(from, m.k, to)
	default:
		VMASKMOVPS(from, m.v, to)
	}
}

// clip sets the lanes outside the mask to 0.
func (s isa) clip(m mask, x VecVirtual) {
	switch {
	case m.all():
	case s.wide():
		VMOVAPS_Z(x, m.k, x)
	default:
		VANDPS(m.v, x, x)
	}
}

// Predicates of VCMPPS.
const (
	less       = 0x11 // false for NaN
	notLess    = 0x15 // true for NaN
	equal      = 0x00
	unequal    = 0x04 // true for NaN
	greater    = 0x1e
	notGreater = 0x12 // false for NaN
	unord      = 0x03
)

// keep sets x to 0 where not (a pred b).
func (s isa) keep(pred uint8, a VecVirtual, b Op, x VecVirtual) {
	if s.wide() {
		k := K()
		VCMPPS(U8(pred), b, a, k)
		VMOVAPS_Z(x, k, x)
		return
	}
	t := s.vec()
	VCMPPS(U8(pred), b, a, t)
	VANDPS(t, x, x)
}

// pick sets x to y where (a pred b).
func (s isa) pick(pred uint8, a VecVirtual, b Op, y, x VecVirtual) {
	if s.wide() {
		k := K()
		VCMPPS(U8(pred), b, a, k)
		VMOVAPS(y, k, x)
		return
	}
	t := s.vec()
	VCMPPS(U8(pred), b, a, t)
	VBLENDVPS(t, y, x, x)
}

// flush sets subnormal lanes of x to 0.
func (s isa) flush(x VecVirtual) {
	if s.wide() {
		k := K()
		VPTESTMD(bits(0x7f800000), x, k) // exponent not zero
		VMOVAPS_Z(x, k, x)
		return
	}
	t := s.vec()
	VANDPS(bits(0x7fffffff), x, t)
	s.keep(notLess, t, bits(0x00800000), x)
}

// and, or: bitwise operations with a constant.
func (s isa) and(c Mem, x, to VecVirtual) { VANDPS(c, x, to) }
func (s isa) or(c Mem, x, to VecVirtual)  { VORPS(c, x, to) }

// total adds the lanes of x in a fixed order; the sum lies in lane 0 of the result.
func (s isa) total(x VecVirtual) Register {
	y := x.AsY()
	if s.wide() {
		h := YMM()
		VEXTRACTF64X4(Imm(1), x, h)
		VADDPS(h, y, y)
	}
	h := XMM()
	VEXTRACTF128(Imm(1), y, h)
	VADDPS(h, x.AsX(), h)
	t := XMM()
	VMOVHLPS(h, h, t)
	VADDPS(t, h, h)
	VMOVSHDUP(h, t)
	VADDSS(t, h, h)
	return h
}

// Constants: 64 bytes of one value, for use as a memory operand of either width.
var declared = map[string]Mem{}

func constant(v float64) Mem { return bits(math.Float32bits(float32(v))) }

func bits(v uint32) Mem {
	name := fmt.Sprintf("c%08x", v)
	m, ok := declared[name]
	if !ok {
		m = GLOBL(name, 8|16) // RODATA|NOPTR
		for i := range 16 {
			DATA(4*i, U32(v))
		}
		declared[name] = m
	}
	return m
}

// lanes is 0, 1, … 15.
func lanes() Mem {
	m, ok := declared["lanes"]
	if !ok {
		m = GLOBL("lanes", 8|16)
		for i := range 16 {
			DATA(4*i, U32(i))
		}
		declared["lanes"] = m
	}
	return m
}

// tailTable is 8 words of ones, then 8 of zeros: read at 32-4n it is the mask of n lanes.
func tailTable() Mem {
	m, ok := declared["tail"]
	if !ok {
		m = GLOBL("tail", 8|16)
		for i := range 16 {
			v := ^uint32(0)
			if i >= 8 {
				v = 0
			}
			DATA(4*i, U32(v))
		}
		declared["tail"] = m
	}
	return m
}

// broadcast puts a constant in a register.
func (s isa) broadcast(v float64) VecVirtual {
	r := s.vec()
	VBROADCASTSS(constant(v), r)
	return r
}

// strip emits a loop over n floats at the pointers p: body(u, m) works on u vectors that start
// at displacement 0, of which only the lanes of m count. n and p are used up.
func (s isa) strip(n GPVirtual, unroll int, p []GPVirtual, body func(u int, m mask)) {
	loop := func(label string, u int) {
		SUBQ(U32(u*s.floats()), n)
		JL(LabelRef(label + "end"))
		Label(label)
		body(u, mask{})
		for _, r := range p {
			ADDQ(U32(u*s.w), r)
		}
		SUBQ(U32(u*s.floats()), n)
		JGE(LabelRef(label))
		Label(label + "end")
		ADDQ(U32(u*s.floats()), n)
	}
	if unroll > 1 {
		loop("many", unroll)
	}
	loop("one", 1)
	JZ(LabelRef("done"))
	body(1, s.tail(n))
	Label("done")
}

func at(p Register, disp int) Mem { return Mem{Base: p, Disp: disp} }
