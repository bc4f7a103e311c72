package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genPack writes the transposes between rows of queries and tiles whose lanes are queries, in
// blocks of 8x8. Blocks at an edge load and store what exists, after branches that go the same
// way for a whole call.
func genPack(s isa) {
	genCopyRows(s)
	genPrefetch(s)
	genPackRows(s)
	genUnpack(s, "unpack8", "writes 8 lanes of a packed tile back, times scale")
	genUnpack(s, "unpackAdd8", "adds 8 lanes of a packed tile, times scale")
	genUnpack(s, "turn8", "writes 8 lanes of a packed tile of words back")
}

// transpose8 returns the columns of 8 rows.
func transpose8(r []VecVirtual) []VecVirtual {
	t, u, w := avx2.vecs(8), avx2.vecs(8), avx2.vecs(8)
	for i := 0; i < 8; i += 2 {
		VUNPCKLPS(r[i+1], r[i], t[i])
		VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	for i := 0; i < 8; i += 4 {
		VUNPCKLPD(t[i+2], t[i], u[i])
		VUNPCKHPD(t[i+2], t[i], u[i+1])
		VUNPCKLPD(t[i+3], t[i+1], u[i+2])
		VUNPCKHPD(t[i+3], t[i+1], u[i+3])
	}
	for i := range 4 {
		VPERM2F128(Imm(0x20), u[i+4], u[i], w[i])
		VPERM2F128(Imm(0x31), u[i+4], u[i], w[i+4])
	}
	return w
}

// rowPointers gives the addresses of 8 rows from base on.
func rowPointers(base, ld GPVirtual) []Mem {
	ld3, mid := GP64(), GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	LEAQ(Mem{Base: base, Index: ld, Scale: 4}, mid)
	m := make([]Mem, 8)
	for i := range m {
		b := base
		if i >= 4 {
			b = mid
		}
		m[i] = stride(b, ld, ld3, i%4, 0)
	}
	return m
}

// exists jumps to label unless i < n.
func exists(i int, n Register, label string) {
	CMPQ(n, Imm(uint64(i)))
	JLE(LabelRef(label))
}

// genPackRows writes 8 lanes of Pack: dst[c·32+r] = scale·src[r·ld+c] for 8 lanes r, 0 from rows on.
func genPackRows(s isa) {
	s.begin("pack8", "func(dst, src *float32, ld, rows, cols int, scale float32)", "writes 8 lanes of a packed tile; ld in bytes.")
	dst, src, ld, rows, cols, scale := gp("dst"), gp("src"), gp("ld"), gp("rows"), gp("cols"), s.scalar("scale")
	addr := rowPointers(src, ld)
	block := func(label string, m mask) {
		r := s.vecs(8)
		for i := range r {
			s.zero(r[i])
		}
		for i := range r {
			exists(i, rows, label+"loaded")
			if m.all() {
				VMULPS(addr[i], scale, r[i])
			} else {
				s.load(addr[i], r[i], m)
				VMULPS(r[i], scale, r[i])
			}
		}
		Label(label + "loaded")
		for i, c := range transpose8(r) {
			if !m.all() {
				exists(i, cols, label+"stored")
			}
			VMOVUPS(c, at(dst, i*row))
		}
		Label(label + "stored")
	}
	SUBQ(Imm(8), cols)
	JL(LabelRef("rest"))
	Label("loop")
	block("whole", mask{})
	ADDQ(Imm(32), src)
	ADDQ(Imm(32), addr[4].Base)
	ADDQ(U32(8*row), dst)
	SUBQ(Imm(8), cols)
	JGE(LabelRef("loop"))
	Label("rest")
	ADDQ(Imm(8), cols)
	JZ(LabelRef("end"))
	block("edge", s.tail(cols))
	Label("end")
	end()
}

// genUnpack writes 8 lanes of Unpack or UnpackAdd: dst[r·ld+c] (+)= scale[r]·src[c·32+r] for r < rows. turn8 has no scale: a product by 1
// would make another word of a NaN.
func genUnpack(s isa, name, doc string) {
	add, turn := name == "unpackAdd8", name == "turn8"
	factor := ", scale *float32"
	if turn {
		factor = ""
	}
	s.begin(name, "func(dst *float32, ld int, src *float32, rows, cols int"+factor+")", doc+"; ld in bytes.")
	dst, ld, src, rows, cols := gp("dst"), gp("ld"), gp("src"), gp("rows"), gp("cols")
	addr := rowPointers(dst, ld)
	scale, zero := s.vec(), s.vec()
	if !turn {
		VMOVUPS(at(gp("scale"), 0), scale)
		s.zero(zero)
	}
	block := func(label string, m mask) {
		c := s.vecs(8)
		if !m.all() {
			for i := range c {
				s.zero(c[i])
			}
		}
		for i := range c {
			if !m.all() {
				exists(i, cols, label+"loaded")
			}
			if turn {
				VMOVUPS(at(src, i*row), c[i])
				continue
			}
			VMULPS(at(src, i*row), scale, c[i])
			s.keep(unequal, scale, zero, c[i])
		}
		Label(label + "loaded")
		for i, r := range transpose8(c) {
			exists(i, rows, label+"stored")
			if add {
				old := s.vec()
				s.load(addr[i], old, m)
				VADDPS(old, r, r)
			}
			s.store(r, addr[i], m)
		}
		Label(label + "stored")
	}
	SUBQ(Imm(8), cols)
	JL(LabelRef("rest"))
	Label("loop")
	block("whole", mask{})
	ADDQ(Imm(32), dst)
	ADDQ(Imm(32), addr[4].Base)
	ADDQ(U32(8*row), src)
	SUBQ(Imm(8), cols)
	JGE(LabelRef("loop"))
	Label("rest")
	ADDQ(Imm(8), cols)
	JZ(LabelRef("end"))
	block("edge", s.tail(cols))
	Label("end")
	end()
}

// genCopyRows writes rows of n floats from one stride to another: the blocks of large products.
func genCopyRows(s isa) {
	s.begin("copyRows", "func(dst *float32, dld int, src *float32, sld, rows, n int)", "copies rows > 0 rows of n floats; strides in bytes.")
	dst, dld, src, sld, rows := gp("dst"), gp("dld"), gp("src"), gp("sld"), gp("rows")
	d, p, n, ahead := GP64(), GP64(), GP64(), GP64()
	MOVQ(sld, ahead)
	SHLQ(Imm(3), ahead)
	Label("row")
	MOVQ(dst, d)
	MOVQ(src, p)
	MOVQ(slot("n"), n)
	s.strip(n, 2, []GPVirtual{d, p}, func(u int, m mask) {
		if u == 2 {
			PREFETCHT0(Mem{Base: p, Index: ahead, Scale: 1})
		}
		for v := range u {
			x := s.vec()
			s.load(at(p, v*s.w), x, m)
			s.store(x, at(d, v*s.w), m)
		}
	})
	ADDQ(dld, dst)
	ADDQ(sld, src)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()
}

// genPrefetch asks for the cache lines of rows of n bytes.
func genPrefetch(s isa) {
	s.begin("prefetch", "func(src *float32, ld, rows, n int)", "asks for rows > 0 rows of n > 0 bytes; ld in bytes.")
	src, ld, rows, n := gp("src"), gp("ld"), gp("rows"), gp("n")
	Label("row")
	p, left := GP64(), GP64()
	MOVQ(src, p)
	MOVQ(n, left)
	Label("line")
	PREFETCHT0(Mem{Base: p})
	ADDQ(Imm(64), p)
	SUBQ(Imm(64), left)
	JG(LabelRef("line"))
	ADDQ(ld, src)
	DECQ(rows)
	JNZ(LabelRef("row"))
	RET()
}
