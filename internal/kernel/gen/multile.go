package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genWhole writes the products of whole register tiles for the two ways in which A lies best: `rows`, where the
// sum runs along rows of A as they lie, and `packed` (PackColumns). They do what genTile does, with
// fewer instructions beside the multiply-adds: the sum is unrolled by 4 with all offsets in the addressing, so
// that the pointers move once in 4 steps. Where a core is shared by two threads it issues half as many
// instructions, and these decide its speed.
func genWhole(s isa) {
	if s.wide() {
		genFast(s, 8, 2, true)
		return
	}
	genFast(s, 3, 4, false)
	genFast(s, 6, 2, false)
	genFast(s, 6, 2, true)
}

func genFast(s isa, rows, vecs int, packed bool) {
	form := "rows"
	if packed {
		form = "packed"
	}
	s.begin(fmt.Sprintf("mul%dx%d%s", rows, vecs*s.floats(), form), "func(t *uint64)", "multiplies whole register tiles; see gen/multile.go.")
	t := gp("t")
	field := func(name string) Mem { return tileField(t, name) }
	word := func(name string) GPVirtual {
		r := GP64()
		MOVQ(field(name), r)
		return r
	}
	ctile, tiles, panels, sp := AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8)

	acc := make([][]VecVirtual, rows)
	for r := range acc {
		acc[r] = s.vecs(vecs)
	}
	// In tiles that are wider than high a few elements of A are held and B streams, in others the reverse.
	// AVX2 has 4 registers for both.
	held, streamed := s.vecs(min(rows, vecs)), s.vecs(1)
	if rows > vecs {
		streamed = s.vecs(2)
	}

	atile, arow, brow, crow := word("a"), word("arow"), word("brow"), word("crow")
	brow3 := GP64()
	LEAQ(Mem{Base: brow, Index: brow, Scale: 2}, brow3)
	ap := make([]GPVirtual, 1)
	if !packed {
		ap = make([]GPVirtual, (rows+2)/3)
	}
	for i := range ap {
		ap[i] = GP64()
	}
	aaddr := func(u, r int) Mem {
		if packed {
			return Mem{Base: ap[0], Disp: 4 * (u*rows + r)}
		}
		return rowAt(ap, arow, r, 4*u)
	}
	bpanel, c, tmp := GP64(), GP64(), GP64()
	MOVQ(field("c"), tmp)
	MOVQ(tmp, ctile)
	MOVQ(field("tiles"), tmp)
	MOVQ(tmp, tiles)

	Label("tile")
	MOVQ(field("b"), bpanel)
	MOVQ(ctile, c)
	MOVQ(field("scale"), tmp)
	MOVQ(tmp, sp)
	MOVQ(field("panels"), tmp)
	MOVQ(tmp, panels)
	Label("panel")
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
	each(func(r, v int, at Mem) { VMOVUPS(at, acc[r][v]) })
	JMP(LabelRef("start"))
	Label("scale")
	factors := GP64()
	MOVQ(sp, factors)
	ADDQ(U32(vecs*s.w), sp)
	if rows > vecs {
		for v := range vecs {
			VMOVUPS(Mem{Base: factors, Disp: v * s.w}, held[v])
		}
	}
	each(func(r, v int, at Mem) {
		if rows > vecs {
			VMULPS(at, held[v], acc[r][v])
			return
		}
		VMOVUPS(Mem{Base: factors, Disp: v * s.w}, streamed[0])
		VMULPS(at, streamed[0], acc[r][v])
	})

	Label("start")
	pointRows(ap, atile, arow)
	b, k := GP64(), GP64()
	MOVQ(bpanel, b)
	MOVQ(field("k"), k)
	step := func(u int) {
		baddr := func(v int) Mem {
			m := stride(b, brow, brow3, u, 0)
			m.Disp = v * s.w
			return m
		}
		if rows < vecs {
			for r := range acc {
				VBROADCASTSS(aaddr(u, r), held[r])
			}
			for v := range vecs {
				VMOVUPS(baddr(v), streamed[0])
				for r := range acc {
					VFMADD231PS(held[r], streamed[0], acc[r][v])
				}
			}
			return
		}
		for v := range vecs {
			VMOVUPS(baddr(v), held[v])
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
		if steps == unroll {
			LEAQ(Mem{Base: b, Index: brow, Scale: unroll}, b)
		} else {
			ADDQ(brow, b)
		}
		for i := range ap {
			n := 4 * steps
			if packed {
				n *= rows
			}
			if n < 128 {
				ADDQ(Imm(uint64(n)), ap[i])
			} else {
				ADDQ(U32(n), ap[i])
			}
		}
	}
	sumOver(k, "store", step, advance)

	Label("store")
	each(func(r, v int, at Mem) { VMOVUPS(acc[r][v], at) })
	ADDQ(field("bnext"), bpanel)
	ADDQ(U32(vecs*s.w), c)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	if packed {
		ADDQ(arow, atile) // here the bytes of a tile
	} else {
		IMUL3Q(Imm(uint64(rows)), arow, tmp)
		ADDQ(tmp, atile)
	}
	IMUL3Q(Imm(uint64(rows)), crow, tmp)
	ADDQ(tmp, ctile)
	DECQ(tiles)
	JNZ(LabelRef("tile"))
	end()
}

func tileField(t GPVirtual, name string) Mem {
	for i, f := range tileFields {
		if f == name {
			return Mem{Base: t, Disp: 8 * i}
		}
	}
	panic(name)
}

// genPackColumns writes k rows of `rows` floats each to every tile of a packed A, `next` bytes apart, from A whose
// column p lies at src + p·ld. It goes by columns, each of which is a row of values in memory.
func genPackColumns(s isa) {
	rows := 6
	if s.wide() {
		rows = 8
	}
	s.begin(fmt.Sprintf("packColumns%d", rows), "func(dst *float32, next int, src *float32, ld, k, tiles int)", "packs whole tiles of A read by columns; ld and next in bytes.")
	dst, next, src, ld, k, tiles := gp("dst"), gp("next"), gp("src"), gp("ld"), gp("k"), gp("tiles")
	ahead := GP64()
	MOVQ(ld, ahead)
	SHLQ(Imm(3), ahead)
	Label("column")
	from, to, n := GP64(), GP64(), GP64()
	MOVQ(src, from)
	MOVQ(dst, to)
	MOVQ(tiles, n)
	Label("tile")
	PREFETCHT0(Mem{Base: from, Index: ahead, Scale: 1})
	if rows == 8 {
		y := YMM()
		VMOVUPS(Mem{Base: from}, y)
		VMOVUPS(y, Mem{Base: to})
	} else {
		x, w := XMM(), XMM()
		VMOVUPS(Mem{Base: from}, x)
		VMOVSD(Mem{Base: from, Disp: 16}, w)
		VMOVUPS(x, Mem{Base: to})
		VMOVSD(w, Mem{Base: to, Disp: 16})
	}
	ADDQ(Imm(uint64(4*rows)), from)
	ADDQ(next, to)
	DECQ(n)
	JNZ(LabelRef("tile"))
	ADDQ(ld, src)
	ADDQ(Imm(uint64(4*rows)), dst)
	DECQ(k)
	JNZ(LabelRef("column"))
	end()
}
