package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// round256 rounds 8 floats to the nearest bfloat16, ties to even, as VCVTNE2PS2BF16 does; the results are the high halves of
// the words, and what the low ones hold does not matter. Under DAZ the product with 1 turns subnormal numbers to 0 and
// makes NaN quiet.
func round256(x VecVirtual) VecVirtual {
	t, nan := YMM(), YMM()
	VMULPS(constant(1), x, x)
	VPSRLD(Imm(16), x, t)
	VPAND(bits(1), t, t)
	VPADDD(bits(0x7fff), t, t)
	VPADDD(x, t, t)
	VCMPPS(U8(unord), x, x, nan)
	VBLENDVPS(nan, x, t, t)
	return t
}

// eachRow emits a loop over rows of n floats from src to dst, `step` of them at a time: body works on those at p and writes to d.
func eachRow(step, srcRows int, body func(d, p GPVirtual)) {
	dst, dld, src, sld, rows := gp("dst"), gp("dld"), gp("src"), gp("sld"), gp("rows")
	d, p, n, ahead := GP64(), GP64(), GP64(), GP64()
	MOVQ(sld, ahead)
	SHLQ(Imm(3), ahead) // 8 rows: those of other heads may lie between them
	Label("row")
	MOVQ(dst, d)
	MOVQ(src, p)
	MOVQ(slot("n"), n)
	Label("step")
	PREFETCHT0(Mem{Base: p, Index: ahead, Scale: 1})
	body(d, p)
	ADDQ(U32(4*step), p)
	ADDQ(U32(4*step*srcRows/2), d)
	SUBQ(U32(step), n)
	JNZ(LabelRef("step"))
	ADDQ(dld, dst)
	for range srcRows {
		ADDQ(sld, src)
	}
	DECQ(rows)
	JNZ(LabelRef("row"))
}

// genRoundRows writes dst[r][c] = the pair src[r][2c], src[r][2c+1] for rows of n > 0 floats, a multiple of 16 or 32.
func genRoundRows(s isa) {
	s.begin("roundRows", "func(dst *uint32, dld int, src *float32, sld, rows, n int)", "rounds rows to pairs along them; strides in bytes.")
	if s.wide() {
		eachRow(32, 1, func(d, p GPVirtual) {
			VMOVUPS(at(p, 0), Z0)
			VMOVUPS(at(p, 64), Z1)
			vcvtne2ps2bf16(Z0, Z1, Z2)
			VMOVUPS(Z2, at(d, 0))
		})
		end()
		return
	}
	quiet(func() {
		eachRow(16, 1, func(d, p GPVirtual) {
			x := s.vecs(2)
			for i := range x {
				VMOVUPS(at(p, 32*i), x[i])
				x[i] = round256(x[i])
				VPSRLD(Imm(16), x[i], x[i])
			}
			VPACKUSDW(x[1], x[0], x[0])
			VPERMQ(Imm(0xd8), x[0], x[0]) // the halves of 128 bits were packed apart
			VMOVUPS(x[0], at(d, 0))
		})
	})
}

// genRoundPairs writes dst[r][c] = the pair src[2r][c], src[2r+1][c] for rows of n > 0 floats, a multiple of a vector.
func genRoundPairs(s isa) {
	s.begin("roundPairs", "func(dst *uint32, dld int, src *float32, sld, rows, n int)", "rounds two rows at a time to pairs across them; strides in bytes.")
	sld := gp("sld")
	hi := func(p GPVirtual) Mem { return Mem{Base: p, Index: sld, Scale: 1} }
	if s.wide() {
		VMOVUPS(zip(), Z3)
		eachRow(16, 2, func(d, p GPVirtual) {
			VMOVUPS(at(p, 0), Z0)
			VMOVUPS(hi(p), Z1)
			vcvtne2ps2bf16(Z0, Z1, Z2)
			VPERMW(Z2, Z3, Z2)
			VMOVUPS(Z2, at(d, 0))
		})
		end()
		return
	}
	quiet(func() {
		eachRow(8, 2, func(d, p GPVirtual) {
			x, y := s.vec(), s.vec()
			VMOVUPS(at(p, 0), x)
			VMOVUPS(hi(p), y)
			x, y = round256(x), round256(y)
			VPSRLD(Imm(16), x, x)
			VPBLENDW(Imm(0xaa), y, x, x) // the high halves of y
			VMOVUPS(x, at(d, 0))
		})
	})
}

// zip is 0, 16, 1, 17, … 15, 31: which of 32 words goes where.
func zip() Mem {
	m, ok := declared["zip"]
	if !ok {
		m = GLOBL("zip", 8|16)
		for i := range 16 {
			DATA(4*i, U32(i|(16+i)<<16))
		}
		declared["zip"] = m
	}
	return m
}

// genWiden writes two floats for each of n > 0 pairs, a multiple of 16.
func genWiden(s isa) {
	s.begin("widen", "func(dst *float32, src *uint32, n int)", "turns n pairs of bfloat16 into floats.")
	dst, src, n := gp("dst"), gp("src"), gp("n")
	Label("loop")
	PREFETCHT0(at(src, 4096))
	for i := range 4 {
		x := s.vec()
		VPMOVZXWD(at(src, 16*i), x)
		VPSLLD(Imm(16), x, x)
		VMOVUPS(x, at(dst, 32*i))
	}
	ADDQ(Imm(64), src)
	ADDQ(U32(128), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	end()
}
