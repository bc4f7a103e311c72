package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// genCumulate writes q_i *= Π_{t≤i} e_t, and the product of all to total.
func genCumulate(s isa) {
	s.begin("cumulate", "func(q *float32, qld int, e *float32, eld, rows, cols int, total *float32)", "is Cumulate for rows > 0; strides in bytes.")
	q, e, n, total := gp("q"), gp("e"), gp("cols"), gp("total")
	qld, eld := gp("qld"), gp("eld")
	s.columns(n, []GPVirtual{q, e, total}, func(label string, vecs int, m mask) {
		p := s.vecs(vecs)
		for v := range p {
			s.set(constant(1), p[v])
		}
		qp, ep, rows := GP64(), GP64(), gp("rows")
		MOVQ(q, qp)
		MOVQ(e, ep)
		Label(label + "row")
		for v := range p {
			s.multiply(at(ep, v*s.w), p[v], p[v], m)
			x := s.vec()
			s.multiply(at(qp, v*s.w), p[v], x, m)
			s.store(x, at(qp, v*s.w), m)
		}
		ADDQ(qld, qp)
		ADDQ(eld, ep)
		DECQ(rows)
		JNZ(LabelRef(label + "row"))
		for v := range p {
			s.store(p[v], at(total, v*s.w), m)
		}
	})
	end()
}

const decayArgs = "func(a *float32, ald int, q *float32, qld int, e *float32, eld int, kt *float32, d int)"

// genDecayWeights writes DecayWeights for lanes that are 16 keys, in 4 groups of 4 rows. Between groups the decayed keys rest in kt.
func genDecayWeights(s isa) {
	s.begin("decayWeights", decayArgs, "is DecayWeights for d > 0; strides in bytes.")
	a, ald, q, qld, e, eld := gp("a"), gp("ald"), gp("q"), gp("qld"), gp("e"), gp("eld")
	qr, er := []GPVirtual{q, GP64(), GP64(), GP64()}, []GPVirtual{e, GP64(), GP64(), GP64()}
	for group := range 4 {
		label := string(rune('a' + group))
		for r := 1; r < 4; r++ {
			LEAQ(Mem{Base: qr[r-1], Index: qld, Scale: 1}, qr[r])
			LEAQ(Mem{Base: er[r-1], Index: eld, Scale: 1}, er[r])
		}
		vecs := 1 + group/2
		acc, masks := make([][]VecVirtual, 4), make([]VecVirtual, 4)
		for r := range acc {
			acc[r] = s.vecs(vecs)
			for _, x := range acc[r] {
				s.zero(x)
			}
			// The last vector of keys has the row's own key: only those before it decay.
			if n := (4*group + r) % 8; n > 0 {
				masks[r] = s.vec()
				VMOVUPS(tailTable().Offset(32-4*n), masks[r])
			}
		}
		kt, c, d := gp("kt"), GP64(), gp("d")
		XORQ(c, c)
		Label(label)
		k := s.vecs(vecs)
		for v := range k {
			VMOVUPS(at(kt, v*s.w), k[v])
		}
		for r := range acc {
			x := s.vec()
			if 4*group+r > 0 {
				VBROADCASTSS(Mem{Base: er[r], Index: c, Scale: 4}, x)
				if vecs == 2 {
					VMULPS(x, k[0], k[0])
				}
				if masks[r] != nil {
					VMULPS(x, k[vecs-1], x)
					VBLENDVPS(masks[r], x, k[vecs-1], k[vecs-1])
				}
			}
			VBROADCASTSS(Mem{Base: qr[r], Index: c, Scale: 4}, x)
			for v := range k {
				VFMADD231PS(x, k[v], acc[r][v])
			}
		}
		for v := range k {
			VMOVUPS(k[v], at(kt, v*s.w))
		}
		ADDQ(U32(row), kt)
		INCQ(c)
		CMPQ(c, d)
		JNE(LabelRef(label))
		for r := range acc {
			for v := range 2 {
				x := s.vec()
				switch n := min(8, 4*group+r+1-8*v); {
				case n <= 0:
					s.zero(x)
				case n < 8:
					VANDPS(tailTable().Offset(32-4*n), acc[r][v], x)
				default:
					x = acc[r][v]
				}
				VMOVUPS(x, at(a, v*s.w))
			}
			ADDQ(ald, a)
		}
		if group < 3 {
			LEAQ(Mem{Base: qr[3], Index: qld, Scale: 1}, q)
			LEAQ(Mem{Base: er[3], Index: eld, Scale: 1}, e)
		}
	}
	end()
}

// genDecayWeights512 is genDecayWeights with all 16 keys in one register and all 16 sums in others.
func genDecayWeights512(s isa) {
	s.begin("decayWeights", decayArgs, "is DecayWeights for d > 0; strides in bytes.")
	a, ald, q, qld, e, eld := gp("a"), gp("ald"), gp("q"), gp("qld"), gp("e"), gp("eld")
	qr, er := []GPVirtual{q, GP64(), GP64(), GP64()}, []GPVirtual{e, GP64(), GP64(), GP64()}
	bit, ones := GP32(), GP32()
	for group := range 4 {
		label := string(rune('a' + group))
		for r := 1; r < 4; r++ {
			LEAQ(Mem{Base: qr[r-1], Index: qld, Scale: 1}, qr[r])
			LEAQ(Mem{Base: er[r-1], Index: eld, Scale: 1}, er[r])
		}
		acc, masks := s.vecs(4), make([]OpmaskVirtual, 4)
		for r := range acc {
			s.zero(acc[r])
			masks[r] = K()
			MOVL(U32(1<<(4*group+r)-1), ones)
			KMOVW(ones, masks[r])
		}
		kt, c, d := gp("kt"), GP64(), gp("d")
		XORQ(c, c)
		Label(label)
		k := s.vec()
		VMOVUPS(at(kt, 0), k)
		for r := range acc {
			x, y := s.vec(), s.vec()
			VBROADCASTSS(Mem{Base: er[r], Index: c, Scale: 4}, x)
			VMULPS(x, k, masks[r], k)
			VBROADCASTSS(Mem{Base: qr[r], Index: c, Scale: 4}, y)
			VFMADD231PS(y, k, acc[r])
		}
		VMOVUPS(k, at(kt, 0))
		ADDQ(U32(row), kt)
		INCQ(c)
		CMPQ(c, d)
		JNE(LabelRef(label))
		for r := range acc {
			m := K()
			MOVL(U32(1<<(4*group+r+1)-1), bit)
			KMOVW(bit, m)
			VMOVAPS_Z(acc[r], m, acc[r])
			VMOVUPS(acc[r], at(a, 0))
			ADDQ(ald, a)
		}
		if group < 3 {
			LEAQ(Mem{Base: qr[3], Index: qld, Scale: 1}, q)
			LEAQ(Mem{Base: er[3], Index: eld, Scale: 1}, e)
		}
	}
	end()
}
