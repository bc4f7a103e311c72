package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genRows writes the decoding kernels: one vector against the rows of a matrix.
func genRows(s isa) {
	genDots(s)
	genCombine(s)
	genCombineWide(s)
	genUpdate(s, true)
	genUpdate(s, false)
}

// genDots writes out[r] = x·m[r], 4 rows at once. The last group of fewer rows repeats its last
// row, so that a row's sum is formed in the same way wherever it stands.
//
// The prefetch walks through memory in order where rows are contiguous (4 lines, pstride = 64
// apart, and on by pstep = 256): 4 streams at once cost a fifth of the bandwidth.
func genDots(s isa) {
	s.begin("dots", "func(out, x *float32, n int, m *float32, ld, rows, ahead, pstride, pstep int)", "is Dots for rows > 0; all strides in bytes.")
	out, x, ld, rows := gp("out"), gp("x"), gp("ld"), gp("rows")
	r := []GPVirtual{gp("m"), GP64(), GP64(), GP64()}
	n, i, next, pstride := GP64(), GP64(), GP64(), gp("pstride")
	pstride3 := GP64()
	LEAQ(Mem{Base: pstride, Index: pstride, Scale: 2}, pstride3)
	Label("group")
	for j := 1; j < 4; j++ { // r[j] = the next row, or the same if there is none
		t := GP64()
		LEAQ(Mem{Base: r[j-1], Index: ld, Scale: 1}, t)
		MOVQ(r[j-1], r[j])
		CMPQ(rows, Imm(uint64(j)))
		CMOVQGT(t, r[j])
	}
	const unroll = 2
	acc := make([][]VecVirtual, 4)
	for j := range acc {
		acc[j] = s.vecs(unroll)
		for _, a := range acc[j] {
			s.zero(a)
		}
	}
	MOVQ(slot("n"), n)
	XORQ(i, i)
	MOVQ(r[0], next)
	ADDQ(slot("ahead"), next)
	s.strip(n, unroll, []GPVirtual{i}, func(u int, m mask) {
		if u == unroll {
			for l := 0; l < unroll*s.w; l += 64 {
				for j := range 4 {
					PREFETCHT0(stride(next, pstride, pstride3, j, 0))
				}
				ADDQ(slot("pstep"), next)
			}
		}
		for v := range u {
			xv := s.vec()
			s.load(Mem{Base: x, Index: i, Scale: 1, Disp: v * s.w}, xv, m)
			for j := range acc {
				a := Mem{Base: r[j], Index: i, Scale: 1, Disp: v * s.w}
				if m.all() {
					VFMADD231PS(a, xv, acc[j][v])
					continue
				}
				t := s.vec()
				s.load(a, t, m)
				VFMADD231PS(t, xv, acc[j][v])
			}
		}
	})
	y := make([]VecVirtual, 4)
	for j := range acc {
		VADDPS(acc[j][1], acc[j][0], acc[j][0])
		y[j] = acc[j][0].AsY().(VecVirtual)
		if s.wide() {
			h := YMM()
			VEXTRACTF64X4(Imm(1), acc[j][0], h)
			VADDPS(h, y[j], y[j])
		}
	}
	VHADDPS(y[1], y[0], y[0])
	VHADDPS(y[3], y[2], y[2])
	VHADDPS(y[2], y[0], y[0]) // the 4 sums of both halves
	h := XMM()
	VEXTRACTF128(Imm(1), y[0], h)
	VADDPS(h, y[0].AsX(), h)
	SUBQ(Imm(4), rows)
	JL(LabelRef("last"))
	VMOVUPS(h, Mem{Base: out})
	JZ(LabelRef("end"))
	ADDQ(Imm(16), out)
	LEAQ(Mem{Base: r[3], Index: ld, Scale: 1}, r[0])
	JMP(LabelRef("group"))
	Label("last")
	m, p := XMM(), GP64()
	LEAQ(tailTable().Offset(32), p)
	ADDQ(Imm(4), rows)
	NEGQ(rows)
	VMOVUPS(Mem{Base: p, Index: rows, Scale: 4}, m)
	VMASKMOVPS(h, m, Mem{Base: out})
	Label("end")
	end()
}

// columns emits body for blocks of 8, 4, 2 and 1 vectors of n columns and for the masked rest.
// done moves the column pointers p on.
func (s isa) columns(n GPVirtual, p []GPVirtual, body func(label string, vecs int, m mask)) {
	for _, v := range []int{8, 4, 2, 1} {
		label := fmt.Sprintf("wide%d", v)
		Label(label)
		CMPQ(n, U32(v*s.floats()))
		JL(LabelRef(label + "end"))
		body(label, v, mask{})
		for _, r := range p {
			ADDQ(U32(v*s.w), r)
		}
		SUBQ(U32(v*s.floats()), n)
		if v == 8 {
			JMP(LabelRef(label))
		}
		Label(label + "end")
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	body("rest", 1, s.tail(n))
	Label("done")
}

// genCombineWide is genCombine for rows wider than the registers hold: 4 rows at a time and acc in memory, so that all
// of memory is read in one order.
func genCombineWide(s isa) {
	s.begin("combineWide", "func(acc *float32, n int, w, m *float32, ld, groups, ahead int)", "is Combine for groups > 0 of 4 rows and n > 0 columns, a multiple of 4 vectors; ld and ahead in bytes.")
	w, m, ld, groups, ahead := gp("w"), gp("m"), gp("ld"), gp("groups"), gp("ahead")
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	Label("group")
	x := s.vecs(4)
	for r := range x {
		VBROADCASTSS(at(w, 4*r), x[r])
	}
	acc, n, p := gp("acc"), gp("n"), GP64()
	// The rows that come are asked for in the order in which they lie.
	row, left, lines := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: m, Index: ahead, Scale: 1}, row)
	MOVQ(U32(4), left)
	Label("ask")
	MOVQ(row, p)
	MOVQ(n, lines)
	Label("line")
	PREFETCHT0(Mem{Base: p})
	ADDQ(Imm(64), p)
	SUBQ(Imm(16), lines)
	JG(LabelRef("line"))
	ADDQ(ld, row)
	DECQ(left)
	JNZ(LabelRef("ask"))
	MOVQ(m, p)
	Label("columns")
	a := s.vecs(4)
	for v := range a {
		VMOVUPS(at(acc, v*s.w), a[v])
	}
	for r := range x {
		for v := range a {
			VFMADD231PS(stride(p, ld, ld3, r, v*s.w), x[r], a[v])
		}
	}
	for v := range a {
		VMOVUPS(a[v], at(acc, v*s.w))
	}
	for _, q := range []GPVirtual{acc, p} {
		ADDQ(U32(4*s.w), q)
	}
	SUBQ(U32(4*s.floats()), n)
	JNZ(LabelRef("columns"))
	LEAQ(Mem{Base: m, Index: ld, Scale: 4}, m)
	ADDQ(Imm(16), w)
	DECQ(groups)
	JNZ(LabelRef("group"))
	end()
}

// genCombine writes acc += Σ w[r]·m[r]: a block of acc stays in registers over all rows, and each element
// is one chain of multiply-adds in the order of r.
func genCombine(s isa) {
	s.begin("combine", "func(acc *float32, n int, w, m *float32, ld, rows, ahead int)", "is Combine for rows > 0; ld and ahead (of the prefetch) in bytes.")
	acc, n, m, ld, ahead := gp("acc"), gp("n"), gp("m"), gp("ld"), gp("ahead")
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	s.columns(n, []GPVirtual{acc, m}, func(label string, vecs int, msk mask) {
		a := s.vecs(vecs)
		for v := range a {
			s.load(at(acc, v*s.w), a[v], msk)
		}
		w, p, rows := gp("w"), GP64(), gp("rows")
		MOVQ(m, p)
		one := func(from Mem, r int) {
			x := s.vec()
			VBROADCASTSS(at(w, 4*r), x)
			for v := range a {
				from.Disp = v * s.w
				if msk.all() {
					VFMADD231PS(from, x, a[v])
					continue
				}
				t := s.vec()
				s.load(from, t, msk)
				VFMADD231PS(t, x, a[v])
			}
		}
		SUBQ(Imm(4), rows)
		JL(LabelRef(label + "few"))
		Label(label + "four")
		if msk.all() {
			next := GP64()
			LEAQ(Mem{Base: p, Index: ahead, Scale: 1}, next)
			for r := range 4 {
				for d := 0; d < vecs*s.w; d += 64 {
					PREFETCHT0(stride(next, ld, ld3, r, d))
				}
			}
		}
		for r := range 4 {
			one(stride(p, ld, ld3, r, 0), r)
		}
		LEAQ(Mem{Base: p, Index: ld, Scale: 4}, p)
		ADDQ(Imm(16), w)
		SUBQ(Imm(4), rows)
		JGE(LabelRef(label + "four"))
		Label(label + "few")
		ADDQ(Imm(4), rows)
		JZ(LabelRef(label + "store"))
		Label(label + "one")
		one(Mem{Base: p}, 0)
		ADDQ(ld, p)
		ADDQ(Imm(4), w)
		DECQ(rows)
		JNZ(LabelRef(label + "one"))
		Label(label + "store")
		for v := range a {
			s.store(a[v], at(acc, v*s.w), msk)
		}
	})
	end()
}

// stride is the address r strides after p, for r < 4.
func stride(p, ld, ld3 Register, r, disp int) Mem {
	m := Mem{Base: p, Disp: disp}
	switch r {
	case 1, 2:
		m.Index, m.Scale = ld, uint8(r)
	case 3:
		m.Index, m.Scale = ld3, 1
	}
	return m
}

// genUpdate writes S = diag(decay)·S + k vᵀ, or without decay: a block of v stays in registers
// over all rows.
func genUpdate(s isa, decay bool) {
	if decay {
		s.begin("update", "func(s *float32, ld int, decay, k *float32, rows int, v *float32, n int)", "is Update for rows > 0; ld in bytes.")
	} else {
		s.begin("outer", "func(s *float32, ld int, k *float32, rows int, v *float32, n int)", "is Update without decay for rows > 0; ld in bytes.")
	}
	st, ld, vp, n := gp("s"), gp("ld"), gp("v"), gp("n")
	s.columns(n, []GPVirtual{st, vp}, func(label string, vecs int, m mask) {
		v := s.vecs(vecs)
		for i := range v {
			s.load(at(vp, i*s.w), v[i], m)
		}
		p, k, rows := GP64(), gp("k"), gp("rows")
		d := k
		if decay {
			d = gp("decay")
		}
		MOVQ(st, p)
		Label(label + "row")
		kv, dv := s.vec(), s.vec()
		VBROADCASTSS(at(k, 0), kv)
		ADDQ(Imm(4), k)
		if decay {
			VBROADCASTSS(at(d, 0), dv)
			ADDQ(Imm(4), d)
		}
		for i := range v {
			t := s.vec()
			s.load(at(p, i*s.w), t, m)
			if decay {
				VMULPS(dv, t, t)
			}
			VFMADD231PS(kv, v[i], t)
			if decay {
				s.flush(t)
			}
			s.store(t, at(p, i*s.w), m)
		}
		ADDQ(ld, p)
		DECQ(rows)
		JNZ(LabelRef(label + "row"))
	})
	end()
}
