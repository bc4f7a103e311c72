package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Instructions of AMX_TILE and AMX_BF16, of which neither avo nor Go's assembler knows a byte. A tile register holds 16 rows of 64 bytes: 16 words, each
// of them a float32 or a pair of bfloat16. avo does not see which registers these instructions use, so all of a function's are physical.

func tileLoadConfig(at GPPhysical) { emit(vexTile(0, 0x49, 0, 0, memory(at, nil))) }
func tileRelease()                 { emit(vexTile(0, 0x49, 0, 0, tile(0))) }
func tileZero(t byte)              { emit(vexTile(prefixF2, 0x49, 0, t, tile(0))) }

// tileLoad loads rows from base on, stride bytes apart; tileStore stores them.
func tileLoad(base, stride GPPhysical, t byte) {
	emit(vexTile(prefixF2, 0x4b, 0, t, memory(base, stride)))
}
func tileStore(t byte, base, stride GPPhysical) {
	emit(vexTile(prefixF3, 0x4b, 0, t, memory(base, stride)))
}

// tdpbf16ps emits c += a·b over pairs: a has a row for each row of c, b a column for each column.
func tdpbf16ps(b, a, c byte) { emit(vexTile(prefixF3, 0x5c, b, c, tile(a))) }

// An operand is what ModRM says of it, and SIB, with the high bits of the registers in them.
type operand struct {
	code []byte
	x, b byte
}

func tile(t byte) operand { return operand{code: []byte{3<<6 | t}} }

// memory is [base + index], or [base] for no index. The index may not be SP, and the base neither SP nor BP nor R12 nor R13: their codes mean other things.
func memory(base, index GPPhysical) operand {
	b := byte(base.ID().Index())
	if index == nil {
		return operand{[]byte{b & 7}, 0, b >> 3}
	}
	i := byte(index.ID().Index())
	return operand{[]byte{4, i&7<<3 | b&7}, i >> 3, b >> 3}
}

// vexTile encodes VEX.128.pp.0F38.W0 op with v in vvvv and t in ModRM.reg (Intel SDM volume 2, 2.3.5). The high bits of registers, and vvvv, are stored
// inverted.
func vexTile(pp, op, v, t byte, o operand) []byte {
	const map0F38 = 2
	code := []byte{0xc4, 1<<7 | (1-o.x)<<6 | (1-o.b)<<5 | map0F38, ^v&15<<3 | pp, op, o.code[0] | t<<3}
	return append(code, o.code[1:]...)
}

// The registers of genTiles.
var (
	tA, tARow, tB, tBRow, tC, tCRow    = RAX, RBX, RCX, RDX, RSI, RDI
	tTmp, tCount, tA0, tA1, tB0, tMode = R8, R9, R10, R11, R14, R12
	tLeft                              = R13 // rows
)

// genTiles writes products of pairs in tile registers. Both forms take two panels of 16 columns:
//
//	tiles32  blocks of 32 rows, over chunks of 16 pairs: four accumulators, which hide each other's latency
//	tiles16  one block of up to 16 rows, over chunks and a rest of up to 15 pairs, as its configuration says
//
// mode is that of kernel.tile; under 0 C is multiplied by factor at the end. A and B hold pairs, all strides are in bytes.
func genTiles(s isa) {
	genTileBlocks(s, true)
	genTileBlocks(s, false)
}

func genTileBlocks(s isa, wide bool) {
	name, doc := "tiles16", "multiplies one block of rows and 32 columns of pairs in tile registers; see gen/amx.go."
	if wide {
		name, doc = "tiles32", "multiplies blocks of 32 rows and 32 columns of pairs in tile registers; see gen/amx.go."
	}
	signature := "func(config *byte, a *uint32, arow int, b *uint32, brow int, c *float32, crow, chunks, rest, rows, mode int, scale *float32, factor float32)"
	s.begin(name, signature, doc)
	quiet(func() {
		for _, p := range []struct {
			to   Register
			from string
		}{{tA, "a"}, {tARow, "arow"}, {tB, "b"}, {tBRow, "brow"}, {tC, "c"}, {tCRow, "crow"}, {tMode, "mode"}, {tLeft, "rows"}} {
			MOVQ(slot(p.from), p.to)
		}
		MOVQ(slot("config"), tTmp)
		tileLoadConfig(tTmp)

		// C·diag(scale)
		CMPQ(tMode, Imm(2))
		JNE(LabelRef("scaled"))
		MOVQ(slot("scale"), tTmp)
		VMOVUPS(at(tTmp, 0), Z0)
		VMOVUPS(at(tTmp, 64), Z1)
		tileRows("scale")
		Label("scaled")

		Label("block")
		accumulators := []byte{0, 1}
		if wide {
			accumulators = []byte{0, 1, 2, 3}
		}
		TESTQ(tMode, tMode)
		JNZ(LabelRef("add"))
		for _, t := range accumulators {
			tileZero(t)
		}
		JMP(LabelRef("start"))
		Label("add")
		tileCorners(wide, func(t byte, base GPPhysical) { tileLoad(base, tCRow, t) })

		Label("start")
		MOVQ(tA, tA0)
		MOVQ(tB, tB0)
		if wide {
			MOVQ(tARow, tA1)
			SHLQ(Imm(4), tA1)
			ADDQ(tA, tA1)
		}
		MOVQ(slot("chunks"), tCount)
		TESTQ(tCount, tCount)
		JZ(LabelRef("rest"))
		Label("chunk")
		tileStep(wide, 2, 3)
		MOVQ(tBRow, tTmp)
		SHLQ(Imm(4), tTmp)
		ADDQ(tTmp, tB0)
		ADDQ(Imm(64), tA0)
		if wide {
			ADDQ(Imm(64), tA1)
		}
		DECQ(tCount)
		JNZ(LabelRef("chunk"))
		Label("rest")
		if !wide {
			CMPQ(slot("rest"), Imm(0))
			JE(LabelRef("store"))
			tileStep(wide, 5, 6)
			Label("store")
		}
		tileCorners(wide, func(t byte, base GPPhysical) { tileStore(t, base, tCRow) })
		if wide {
			MOVQ(tARow, tTmp)
			SHLQ(Imm(5), tTmp)
			ADDQ(tTmp, tA)
			MOVQ(tCRow, tTmp)
			SHLQ(Imm(5), tTmp)
			ADDQ(tTmp, tC)
			SUBQ(Imm(32), tLeft)
			JG(LabelRef("block"))
		}
		tileRelease()

		TESTQ(tMode, tMode)
		JNZ(LabelRef("done"))
		VBROADCASTSS(slot("factor"), Z0)
		VMOVAPS(Z0, Z1)
		if wide { // from the first row again
			MOVQ(slot("c"), tC)
		}
		tileRows("factor")
		Label("done")
	})
}

// tileStep adds the products of a chunk: in the wide form with A in registers 4 and 5, B in 6 and 7, otherwise from a and b on.
func tileStep(wide bool, a, b byte) {
	LEAQ(Mem{Base: tB0, Disp: 64}, tTmp)
	if !wide {
		tileLoad(tA0, tARow, a)
		tileLoad(tB0, tBRow, b)
		tileLoad(tTmp, tBRow, b+1)
		tdpbf16ps(b, a, 0)
		tdpbf16ps(b+1, a, 1)
		return
	}
	tileLoad(tA0, tARow, 4)
	tileLoad(tB0, tBRow, 6)
	tdpbf16ps(6, 4, 0)
	tileLoad(tTmp, tBRow, 7)
	tdpbf16ps(7, 4, 1)
	tileLoad(tA1, tARow, 5)
	tdpbf16ps(6, 5, 2)
	tdpbf16ps(7, 5, 3)
}

// tileCorners calls f for the accumulators and where they lie in C.
func tileCorners(wide bool, f func(t byte, base GPPhysical)) {
	f(0, tC)
	LEAQ(Mem{Base: tC, Disp: 64}, tTmp)
	f(1, tTmp)
	if wide {
		MOVQ(tCRow, tTmp)
		SHLQ(Imm(4), tTmp)
		ADDQ(tC, tTmp)
		f(2, tTmp)
		ADDQ(Imm(64), tTmp)
		f(3, tTmp)
	}
}

// tileRows multiplies all rows of C by Z0 and Z1.
func tileRows(label string) {
	MOVQ(tC, tTmp)
	MOVQ(slot("rows"), tCount)
	Label(label + "row")
	VMULPS(at(tTmp, 0), Z0, Z2)
	VMULPS(at(tTmp, 64), Z1, Z3)
	VMOVUPS(Z2, at(tTmp, 0))
	VMOVUPS(Z3, at(tTmp, 64))
	ADDQ(tCRow, tTmp)
	DECQ(tCount)
	JNZ(LabelRef(label + "row"))
}
