package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genPairs writes what works on pairs of bfloat16: the tile products for every number of rows up to the full tile,
// and the two ways of rounding to pairs. With 512 bits they use the instructions of AVX512_BF16, with 256 what
// gives the same bits.
func genPairs(s isa) {
	rows := 6
	if s.wide() {
		rows = 8
	}
	for r := 1; r <= rows; r++ {
		genPairTile(s, r)
	}
	genRoundRows(s)
	genRoundPairs(s)
	if s.wide() {
		genTiles(s)
	} else {
		genWiden(s)
	}
}

// VDPBF16PS takes subnormal numbers for 0 and makes none, whatever MXCSR says. FMA does so if MXCSR says it: quiet sets it for
// the function, with the function's end in its hands. A signal handler starts with the default (Linux, fpu__clear_user_states).
func quiet(body func()) {
	old, on := AllocLocal(8), AllocLocal(8)
	STMXCSR(old)
	MOVL(U32(0x9fc0), on) // all exceptions masked, round to nearest, DAZ, FTZ
	LDMXCSR(on)
	body()
	LDMXCSR(old)
	end()
}

// genPairTile writes a product of `tiles` row tiles by two vectors of columns:
//
//	for each tile: C = init; for p in 0..k: C += hi(A[:, p])·hi(B[p, :]); C += lo(A[:, p])·lo(B[p, :])
//
// A and B hold pairs of bfloat16, all strides are in bytes. mode is that of kernel.tile; under 0 C is multiplied by
// factor at the end.
func genPairTile(s isa, rows int) {
	s.begin(fmt.Sprintf("pairs%dx%d", rows, 2*s.floats()),
		"func(a *uint32, arow int, b *uint32, brow int, c *float32, crow, k, tiles, mode int, scale *float32, factor float32)",
		"multiplies register tiles of bfloat16 pairs; see gen/bf16.go.")
	quiet(func() {
		acc := make([][]Register, rows)
		var z []VecPhysical // what VDPBF16PS works on cannot be left to avo
		if s.wide() {
			z = []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19, Z20, Z21}
		} else {
			z = []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}
		}
		next := func() VecPhysical {
			r := z[0]
			z = z[1:]
			return r
		}
		for r := range acc {
			acc[r] = []Register{next(), next()}
		}
		B := []VecPhysical{next(), next()}

		a, arow, crow := gp("a"), gp("arow"), gp("crow")
		c, tmp := gp("c"), GP64()
		ap := make([]GPVirtual, (rows+2)/3)
		for i := range ap {
			ap[i] = GP64()
		}
		aaddr := func(r int) Mem {
			m := Mem{Base: ap[r/3]}
			if r%3 > 0 {
				m.Index, m.Scale = arow, uint8(r%3)
			}
			return m
		}
		each := func(f func(r, v int, at Mem)) {
			MOVQ(c, tmp)
			for r := range acc {
				for v := range acc[r] {
					f(r, v, at(tmp, v*s.w))
				}
				if r < rows-1 {
					ADDQ(crow, tmp)
				}
			}
		}

		Label("tile")
		CMPQ(slot("mode"), Imm(1))
		JEQ(LabelRef("add"))
		JGT(LabelRef("scale"))
		for r := range acc {
			for _, x := range acc[r] {
				if s.wide() {
					VPXORD(x, x, x)
				} else {
					VXORPS(x, x, x)
				}
			}
		}
		JMP(LabelRef("start"))
		Label("add")
		each(func(r, v int, m Mem) { VMOVUPS(m, acc[r][v]) })
		JMP(LabelRef("start"))
		Label("scale")
		MOVQ(slot("scale"), tmp)
		for v := range B {
			VMOVUPS(at(tmp, v*s.w), B[v])
		}
		each(func(r, v int, m Mem) { VMULPS(m, B[v], acc[r][v]) })

		Label("start")
		MOVQ(a, ap[0])
		for i := 1; i < len(ap); i++ {
			LEAQ(Mem{Base: ap[i-1], Index: arow, Scale: 2}, ap[i])
			ADDQ(arow, ap[i])
		}
		b, brow, k := GP64(), GP64(), GP64()
		MOVQ(slot("b"), b)
		MOVQ(slot("brow"), brow)
		MOVQ(slot("k"), k)
		var step func()
		if s.wide() {
			A := []VecPhysical{next(), next(), next(), next()}
			step = func() {
				for v := range B {
					VMOVUPS(at(b, v*s.w), B[v])
				}
				for r := range acc {
					x := A[r%len(A)]
					VPBROADCASTD(aaddr(r), x)
					for v := range B {
						vdpbf16ps(B[v], x, acc[r][v].(VecPhysical))
					}
				}
			}
		} else {
			x, high := next(), next()
			VBROADCASTSS(bits(0xffff0000), high)
			half := func(split func(r VecPhysical)) {
				for v := range B {
					VMOVUPS(at(b, v*s.w), B[v])
					split(B[v])
				}
				for r := range acc {
					VBROADCASTSS(aaddr(r), x)
					split(x)
					for v := range B {
						VFMADD231PS(x, B[v], acc[r][v])
					}
				}
			}
			step = func() {
				half(func(r VecPhysical) { VANDPS(high, r, r) })
				half(func(r VecPhysical) { VPSLLD(Imm(16), r, r) })
			}
		}
		advance := func() {
			ADDQ(brow, b)
			for i := range ap {
				ADDQ(Imm(4), ap[i])
			}
		}
		unroll := 1
		if s.wide() {
			unroll = 2 // 16 steps of 2 cycles a pair; with 256 bits a step is 48 instructions and more
		}
		SUBQ(U32(unroll), k)
		JL(LabelRef("rest"))
		Label("loop")
		for range unroll {
			step()
			advance()
		}
		SUBQ(U32(unroll), k)
		JGE(LabelRef("loop"))
		Label("rest")
		ADDQ(U32(unroll), k)
		JZ(LabelRef("done"))
		if unroll > 1 {
			step()
		}
		Label("done")
		CMPQ(slot("mode"), Imm(0))
		JNE(LabelRef("store"))
		VBROADCASTSS(slot("factor"), B[0])
		for r := range acc {
			for _, x := range acc[r] {
				VMULPS(B[0], x, x)
			}
		}
		Label("store")
		each(func(r, v int, m Mem) { VMOVUPS(acc[r][v], m) })
		IMUL3Q(Imm(uint64(rows)), arow, tmp)
		ADDQ(tmp, a)
		IMUL3Q(Imm(uint64(rows)), crow, tmp)
		ADDQ(tmp, c)
		DECQ(slot("tiles"))
		JNZ(LabelRef("tile"))
	})
}
