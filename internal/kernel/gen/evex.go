package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Instructions of AVX512_BF16, which neither avo nor Go's assembler knows: their bytes are written one by one.
// avo does not see which registers they use, so these are physical ones.

// vdpbf16ps emits acc += a·b over pairs of bfloat16: for each of the 16 words first the products of the high halves,
// then those of the low ones (Intel SDM, VDPBF16PS). The order of operands is avo's: the destination is last.
func vdpbf16ps(b, a, acc VecPhysical) { emit(evex512(prefixF3, 0x52, acc, a, b)) }

// vcvtne2ps2bf16 emits to = 32 bfloat16, the low 16 from lo and the high 16 from hi, rounded to the nearest even.
func vcvtne2ps2bf16(lo, hi, to VecPhysical) { emit(evex512(prefixF2, 0x72, to, hi, lo)) }

// The field pp of an EVEX prefix.
const (
	prefixF3 = 2
	prefixF2 = 3
)

// evex512 encodes EVEX.512.pp.0F38.W0 op /r with three vector registers, unmasked (Intel SDM volume 2, 2.7.1): r is ModRM.reg,
// v is EVEX.vvvv, m is ModRM.r/m. The high bits of register numbers are stored inverted.
func evex512(pp, op byte, r, v, m VecPhysical) []byte {
	reg, vvvv, rm := byte(r.ID().Index()), byte(v.ID().Index()), byte(m.ID().Index())
	not := func(x, bit byte) byte { return ^(x >> bit) & 1 }
	const map0F38, vector512 = 2, 2
	return []byte{
		0x62,
		not(reg, 3)<<7 | not(rm, 4)<<6 | not(rm, 3)<<5 | not(reg, 4)<<4 | map0F38,
		^vvvv&15<<3 | 1<<2 | pp,
		vector512<<5 | not(vvvv, 4)<<3,
		op,
		3<<6 | reg&7<<3 | rm&7,
	}
}

func emit(code []byte) {
	for _, b := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}
