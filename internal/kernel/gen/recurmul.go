package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genAheadMul writes the products of MulAhead and AdvanceAhead for A by rows and panels of 32 columns. It is the product of whole
// tiles of multile.go but for three things: it takes any number of rows, what becomes of C is decided when a tile is stored, and
// for each tile it asks for a few lines that are needed later.
// The argument is a kernel.aheadTile.
func genAheadMul(s isa) {
	heights, vecs := []int{3, 2, 1}, 4
	if s.wide() {
		heights, vecs = []int{8, 4, 2, 1}, 2
	}
	s.begin("mulAhead", "func(t *uint64)", "multiplies rows of A with panels of 32 columns; see gen/recurmul.go.")
	t := gp("t")
	field := func(name string) Mem {
		for i, f := range aheadFields {
			if f == name {
				return Mem{Base: t, Disp: 8 * i}
			}
		}
		panic(name)
	}
	word := func(name string) GPVirtual {
		r := GP64()
		MOVQ(field(name), r)
		return r
	}
	bpanel, cpanel, panels, c, rows, factors := AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8)
	arow, brow, crow, tmp := word("arow"), word("brow"), word("crow"), GP64()
	brow3, atile, list := GP64(), GP64(), word("list")
	next, segments := GP64(), GP64()
	XORQ(segments, segments)
	TESTQ(list, list)
	JZ(LabelRef("begin"))
	MOVQ(at(list, 0), next)
	MOVQ(at(list, 16), segments)
	Label("begin")
	LEAQ(Mem{Base: brow, Index: brow, Scale: 2}, brow3)
	MOVQ(field("b"), tmp)
	MOVQ(tmp, bpanel)
	MOVQ(field("c"), tmp)
	MOVQ(tmp, cpanel)
	MOVQ(field("panels"), tmp)
	MOVQ(tmp, panels)

	acc := make([][]VecVirtual, heights[0])
	for r := range acc {
		acc[r] = s.vecs(vecs)
	}
	held, streamed := s.vecs(min(heights[0], vecs)), s.vecs(1+heights[0]/8)

	Label("panel")
	MOVQ(field("a"), atile)
	MOVQ(cpanel, tmp)
	MOVQ(tmp, c)
	MOVQ(field("rows"), tmp)
	MOVQ(tmp, rows)
	MOVQ(field("factors"), tmp)
	MOVQ(tmp, factors)
	for i, h := range heights {
		label := fmt.Sprintf("rows%d", h)
		Label(label)
		CMPQ(rows, Imm(uint64(h)))
		JL(LabelRef(label + "end"))
		s.aheadTile(label, h, vecs, field, arow, brow, brow3, crow, atile, list, next, segments, bpanel, c, factors, acc, held, streamed)
		SUBQ(Imm(uint64(h)), rows)
		if i == 0 {
			JMP(LabelRef(label))
		}
		Label(label + "end")
	}
	ADDQ(U32(128), cpanel)
	MOVQ(field("bnext"), tmp)
	ADDQ(tmp, bpanel)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	MOVQ(segments, field("segments"))
	end()
}

func (s isa) aheadTile(label string, rows, vecs int, field func(string) Mem, arow, brow, brow3, crow, atile, list, next, segments GPVirtual, bpanel, c, factors Mem, acc [][]VecVirtual, held, streamed []VecVirtual) {
	TESTQ(segments, segments)
	JZ(LabelRef(label + "init"))
	many := GP64()
	MOVQ(field("each"), many)
	Label(label + "ahead")
	for i := range 4 {
		PREFETCHT0(at(next, 64*i))
	}
	ADDQ(at(list, 8), next)
	DECQ(segments)
	JNZ(LabelRef(label + "more"))
	DECQ(field("parts"))
	JZ(LabelRef(label + "init"))
	ADDQ(Imm(24), list)
	MOVQ(at(list, 0), next)
	MOVQ(at(list, 16), segments)
	Label(label + "more")
	DECQ(many)
	JNZ(LabelRef(label + "ahead"))

	Label(label + "init")
	acc = acc[:rows]
	each := func(f func(r, v int, at Mem)) {
		cr := GP64()
		MOVQ(c, cr)
		for r := range acc {
			m := Mem{Base: cr}
			if r%3 > 0 {
				m.Index, m.Scale = crow, uint8(r%3)
			} else if r > 0 {
				LEAQ(Mem{Base: cr, Index: crow, Scale: 2}, cr)
				ADDQ(crow, cr)
			}
			for v := range acc[r] {
				m.Disp = v * s.w
				f(r, v, m)
			}
		}
	}
	for r := range acc {
		for v := range acc[r] {
			s.zero(acc[r][v])
		}
	}
	ap := make([]GPVirtual, (rows+2)/3)
	for i := range ap {
		ap[i] = GP64()
		if i == 0 {
			MOVQ(atile, ap[0])
			continue
		}
		LEAQ(Mem{Base: ap[i-1], Index: arow, Scale: 2}, ap[i])
		ADDQ(arow, ap[i])
	}
	aaddr := func(u, r int) Mem {
		m := Mem{Base: ap[r/3], Disp: 4 * u}
		if r%3 > 0 {
			m.Index, m.Scale = arow, uint8(r%3)
		}
		return m
	}
	b, k := GP64(), GP64()
	MOVQ(bpanel, b)
	MOVQ(field("k"), k)
	step := func(u int) {
		if len(held) >= rows {
			for r := range acc {
				VBROADCASTSS(aaddr(u, r), held[r])
			}
			for v := range vecs {
				VMOVUPS(stride(b, brow, brow3, u, v*s.w), streamed[0])
				for r := range acc {
					VFMADD231PS(held[r], streamed[0], acc[r][v])
				}
			}
			return
		}
		for v := range vecs {
			VMOVUPS(stride(b, brow, brow3, u, v*s.w), held[v])
		}
		for r := range acc {
			x := streamed[r%len(streamed)]
			VBROADCASTSS(aaddr(u, r), x)
			for v := range vecs {
				VFMADD231PS(x, held[v], acc[r][v])
			}
		}
	}
	advance := func(steps int) {
		for i := range ap {
			ADDQ(Imm(uint64(4*steps)), ap[i])
		}
	}
	const unroll = 4
	SUBQ(Imm(unroll), k)
	JL(LabelRef(label + "rest"))
	Label(label + "loop")
	for u := range unroll {
		step(u)
	}
	LEAQ(Mem{Base: b, Index: brow, Scale: unroll}, b)
	advance(unroll)
	SUBQ(Imm(unroll), k)
	JGE(LabelRef(label + "loop"))
	Label(label + "rest")
	ADDQ(Imm(unroll), k)
	JZ(LabelRef(label + "scale"))
	Label(label + "one")
	step(0)
	ADDQ(brow, b)
	advance(1)
	DECQ(k)
	JNZ(LabelRef(label + "one"))

	Label(label + "scale")
	f, g := GP64(), GP64()
	MOVQ(factors, f)
	CMPQ(field("mode"), Imm(1))
	JL(LabelRef(label + "store"))
	JEQ(LabelRef(label + "add"))
	CMPQ(field("mode"), Imm(2))
	JEQ(LabelRef(label + "advance"))
	for r := range acc {
		VBROADCASTSS(at(f, 4*r), streamed[0])
		for v := range acc[r] {
			VMULPS(streamed[0], acc[r][v], acc[r][v])
		}
	}
	JMP(LabelRef(label + "store"))
	Label(label + "add")
	each(func(r, v int, at Mem) { VADDPS(at, acc[r][v], acc[r][v]) })
	JMP(LabelRef(label + "store"))
	Label(label + "advance")
	MOVQ(field("more"), g)
	each(func(r, v int, m Mem) {
		if v == 0 {
			VBROADCASTSS(Mem{Base: g, Index: f, Scale: 1, Disp: 4 * r}, held[0])
			VBROADCASTSS(at(f, 4*r), streamed[0])
		}
		VFMADD231PS(m, held[0], acc[r][v])
		VFMADD231PS(m, streamed[0], acc[r][v])
	})
	Label(label + "store")
	ADDQ(U32(4*rows), factors)
	each(func(r, v int, at Mem) { VMOVUPS(acc[r][v], at) })
	tmp := GP64()
	IMUL3Q(Imm(uint64(rows)), arow, tmp)
	ADDQ(tmp, atile)
	IMUL3Q(Imm(uint64(rows)), crow, tmp)
	ADDQ(tmp, c)
}

// aheadFields are the fields of kernel.aheadTile in their order.
var aheadFields = []string{"a", "arow", "b", "brow", "bnext", "c", "crow", "k", "rows", "panels", "mode", "factors", "more", "list", "parts", "segments", "each"}
