package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genMul writes the tile products: every number of rows up to the full tile, for 2 vectors of
// columns and for the edges of 1 or 2 vectors of which the last is masked.
func genMul(s isa) {
	rows := 6 // 6x2 accumulators, 2 of B, 1 mask, 1 of A: all 16 ymm
	if s.wide() {
		rows = 8 // 16 of 32 zmm; more gain nothing
	}
	for r := 1; r <= rows; r++ {
		genTile(s, r, 2, false)
		genTile(s, r, 2, true)
		genTile(s, r, 1, true)
	}
	genWhole(s)
	genPackColumns(s)
}

// genTile writes a product of `tiles` row tiles by `panels` column panels:
//
//	for each tile, for each panel: C = init; for p in 0..k: C += A[:, p]·B[p, :]
//
// Every element of C is one chain of fused multiply-adds in the order of p, whatever tile it
// falls in: callers may cut rows and columns anywhere and get the same bits.
// Strides are in bytes. The argument points to a tile of
// mul_dispatch_amd64.go, all of whose fields are words.
func genTile(s isa, rows, vecs int, masked bool) {
	name := fmt.Sprintf("mul%dx%d", rows, vecs*s.floats())
	if masked {
		name += "edge"
	}
	s.begin(name, "func(t *uint64)", "multiplies register tiles; see gen/mul.go.")
	t := gp("t")
	field := func(name string) Mem { return tileField(t, name) }
	word := func(name string) GPVirtual {
		r := GP64()
		MOVQ(field(name), r)
		return r
	}
	// Counters live in the frame: 14 general registers are in use. A pointer that has run past
	// its slice must not stay in t, where the collector would find it.
	ctile, tiles, panels := AllocLocal(8), AllocLocal(8), AllocLocal(8)

	var last mask
	if masked {
		last = s.tail(word("cols"))
	}
	m := func(v int) mask {
		if v == vecs-1 {
			return last
		}
		return mask{}
	}

	acc := make([][]VecVirtual, rows)
	for r := range acc {
		acc[r] = s.vecs(vecs)
	}
	B := s.vecs(vecs)
	free := 16
	if s.wide() {
		free = 32
	} else if masked {
		free--
	}
	A := s.vecs(min(4, free-vecs*(rows+1)))

	atile, arow, acol, brow, crow := word("a"), word("arow"), word("acol"), word("brow"), word("crow")
	// One pointer for every 3 rows: offsets 0, 1 and 2 strides are what addressing gives.
	ap := make([]GPVirtual, (rows+2)/3)
	for i := range ap {
		ap[i] = GP64()
	}
	bpanel, c, sp, tmp := GP64(), GP64(), GP64(), GP64()
	MOVQ(field("c"), c)
	MOVQ(c, ctile)
	MOVQ(field("tiles"), tmp)
	MOVQ(tmp, tiles)

	Label("tile")
	MOVQ(field("b"), bpanel)
	MOVQ(ctile, c)
	MOVQ(field("scale"), sp)
	if !masked {
		MOVQ(field("panels"), tmp)
		MOVQ(tmp, panels)
		Label("panel")
	}
	each := func(f func(r, v int, at Mem)) {
		cr := GP64()
		MOVQ(c, cr)
		for r := range acc {
			for v := range acc[r] {
				f(r, v, Mem{Base: cr, Disp: v * s.w})
			}
			if r < rows-1 {
				ADDQ(crow, cr)
			}
		}
	}
	CMPQ(field("mode"), Imm(1))
	JEQ(LabelRef("add"))
	JGT(LabelRef("scale"))
	for r := range acc {
		for v := range acc[r] {
			s.zero(acc[r][v])
		}
	}
	JMP(LabelRef("start"))
	Label("add")
	each(func(r, v int, at Mem) { s.load(at, acc[r][v], m(v)) })
	JMP(LabelRef("start"))
	Label("scale")
	for v := range B {
		s.load(Mem{Base: sp, Disp: v * s.w}, B[v], m(v))
	}
	each(func(r, v int, at Mem) {
		s.load(at, acc[r][v], m(v))
		VMULPS(B[v], acc[r][v], acc[r][v])
	})

	Label("start")
	pointRows(ap, atile, arow)
	b, k := GP64(), GP64()
	MOVQ(bpanel, b)
	MOVQ(field("k"), k)
	turn := 0
	step := func(int) {
		for v := range B {
			s.load(Mem{Base: b, Disp: v * s.w}, B[v], m(v))
		}
		ADDQ(brow, b)
		for r := range acc {
			x := A[turn%len(A)]
			turn++
			VBROADCASTSS(rowAt(ap, arow, r, 0), x)
			for v := range B {
				VFMADD231PS(x, B[v], acc[r][v])
			}
		}
		for i := range ap {
			ADDQ(acol, ap[i])
		}
	}
	sumOver(k, "store", step, func(int) {})

	Label("store")
	each(func(r, v int, at Mem) { s.store(acc[r][v], at, m(v)) })
	if !masked {
		ADDQ(field("bnext"), bpanel)
		ADDQ(U32(vecs*s.w), c)
		ADDQ(U32(vecs*s.w), sp)
		DECQ(panels)
		JNZ(LabelRef("panel"))
	}
	IMUL3Q(Imm(uint64(rows)), arow, tmp)
	ADDQ(tmp, atile)
	IMUL3Q(Imm(uint64(rows)), crow, tmp)
	ADDQ(tmp, ctile)
	DECQ(tiles)
	JNZ(LabelRef("tile"))
	end()
}

// pointRows sets ap to every third row of A from a on: offsets of 0, 1 and 2 strides are what addressing gives.
func pointRows(ap []GPVirtual, a, arow GPVirtual) {
	MOVQ(a, ap[0])
	for i := 1; i < len(ap); i++ {
		LEAQ(Mem{Base: ap[i-1], Index: arow, Scale: 2}, ap[i])
		ADDQ(arow, ap[i])
	}
}

// rowAt is the place of row r, disp bytes behind ap.
func rowAt(ap []GPVirtual, arow GPVirtual, r, disp int) Mem {
	m := Mem{Base: ap[r/3], Disp: disp}
	if r%3 > 0 {
		m.Index, m.Scale = arow, uint8(r%3)
	}
	return m
}

// unroll is the number of steps of a sum in one turn of its loop.
const unroll = 4

// sumOver runs k steps, in turns of unroll and then one by one, and goes to done, which is to follow: step writes the u-th of a turn, advance
// moves the pointers by so many.
func sumOver(k GPVirtual, done string, step func(u int), advance func(steps int)) {
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
	JZ(LabelRef(done))
	Label("one")
	step(0)
	advance(1)
	DECQ(k)
	JNZ(LabelRef("one"))
}

// tileFields are the fields of kernel.tile in their order.
var tileFields = []string{"a", "arow", "acol", "b", "brow", "bnext", "c", "crow", "k", "tiles", "panels", "mode", "scale", "cols"}
