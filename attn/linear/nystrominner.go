package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// nystromInner is the small matrices of a head, n of n numbers each.
type nystromInner struct {
	n       int
	most    float32 // the largest sum of a column of A
	column  int     // whose it is
	a       tile.Mat
	k, s, r tile.Mat  // of a step: AZ, 7I - AZ, 15I - AZ(7I - AZ)
	zs      []float32 // Z before each step and after the last
}

func (m nystrom) innerFloats(s attn.Shape, p attn.Pass) int {
	n := m.o.Landmarks
	floats := attn.ScratchFloats((m.o.Steps+1)*n*n, n*n, n*n, n*n, n*n)
	if p == attn.PassBackward {
		floats += attn.ScratchFloats(n*n, n*n, n*n, n*n, n*n, n*n, n*s.ValueDim)
	}
	return floats
}

// z returns what so many steps make of Z.
func (x *nystromInner) z(steps int) tile.Mat { return tile.Rows(x.zs[steps*x.n*x.n:], x.n) }

func (x *nystromInner) square(s *attn.Scratch) tile.Mat { return tile.Rows(s.Floats(x.n*x.n), x.n) }

func (x *nystromInner) mul(a, b, c tile.Mat) { tile.Mul(x.n, x.n, x.n, a, b, c) }

func (x *nystromInner) mulAdd(a, b, c tile.Mat) { tile.MulAdd(x.n, x.n, x.n, a, b, c) }

func (x *nystromInner) scale(f float32, y tile.Mat) { tile.Scale(f, y.Data[:x.n*x.n]) }

// minus sets y to cI - y.
func (x *nystromInner) minus(c float32, y tile.Mat) {
	x.scale(-1, y)
	for i := range x.n {
		y.Data[i*x.n+i] += c
	}
}

// step computes k, s and r of a step from z, and p = 13I - kr, which may lie in place of s.
func (x *nystromInner) step(z, p tile.Mat) {
	x.mul(x.a, z, x.k)
	copy(x.s.Data[:x.n*x.n], x.k.Data)
	x.minus(7, x.s)
	x.mul(x.k, x.s, x.r)
	x.minus(15, x.r)
	x.mul(x.k, x.r, p)
	x.minus(13, p)
}

// inverse computes A of a head and the steps towards its inverse.
func (p *nystromPart) inverse(s *attn.Scratch, row, h int) nystromInner {
	n, steps := p.m.o.Landmarks, p.m.o.Steps
	x := nystromInner{n: n, zs: s.Floats((steps + 1) * n * n)}
	x.a, x.k, x.s, x.r = x.square(s), x.square(s), x.square(s), x.square(s)
	sums, z := x.k.Data[:n], x.z(0)
	clear(sums)
	for r := range n {
		a := x.a.Data[r*n:][:n]
		tile.Dots(a, p.q.Row(row, r, h), tile.HeadRows(&p.k, row, 0, h), n)
		tile.Scale(float32(1/math.Sqrt(float64(p.call.KeyDim))), a)
		tile.SoftmaxRow(a)
		tile.Axpy(1, a, sums)
	}
	for c, sum := range sums {
		if sum > x.most || sum != sum {
			x.most, x.column = sum, c
		}
	}
	for r := range n {
		for c, y := range x.a.Data[r*n:][:n] {
			z.Data[c*n+r] = y / x.most
		}
	}
	for i := range steps {
		x.step(x.z(i), x.s)
		x.mul(x.z(i), x.s, x.z(i+1))
		x.scale(0.25, x.z(i+1))
	}
	return x
}

// inner computes ZBV of a head.
func (p *nystromPart) inner(s *attn.Scratch, task int) {
	row, h := task/p.call.Heads, task%p.call.Heads
	x := p.inverse(s, row, h)
	tile.Mul(x.n, p.call.ValueDim, x.n, x.z(p.m.o.Steps), tile.HeadRows(&p.w, row, 0, h), tile.HeadRows(&p.y, row, 0, h))
}

// innerGrads computes the gradient of BV of a head from that of ZBV, that of Q̃, and adds that of K̃. It holds gradients of matrices
// transposed, so that each product is of rows: with G = dZ'ᵀ of a step Z' = ¼ZP, P = 13I - KR, R = 15I - KS, S = 7I - K, K = AZ,
//
//	dPᵀ = ¼GZ,  dKᵀ = -RdPᵀ - dPᵀK·K + S·dPᵀK,  dAᵀ += ZdKᵀ,  dZᵀ = ¼PG + dKᵀA
func (p *nystromPart) innerGrads(s *attn.Scratch, task int) {
	c := &p.call
	row, h, dv := task/c.Heads, task%c.Heads, c.ValueDim
	x := p.inverse(s, row, h)
	n := x.n
	w, dy := tile.HeadRows(&p.w, row, 0, h), tile.HeadRows(&p.dy, row, 0, h)
	tile.Mul(n, dv, n, x.z(p.m.o.Steps).T(), dy, tile.HeadRows(&p.dw, row, 0, h))
	right, g, dp, dr, dk, da := x.square(s), x.square(s), x.square(s), x.square(s), x.square(s), x.square(s)
	dyt := tile.Rows(s.Floats(n*dv), n)
	for r := range n {
		for e, y := range p.dy.Row(row, r, h) {
			dyt.Data[e*n+r] = y
		}
	}
	tile.Mul(n, n, dv, w, dyt, g)
	// Large values would overflow on the way: brought to a largest element of 1.
	top := float32(1)
	for _, y := range g.Data[:n*n] {
		top = max(top, y, -y)
	}
	x.scale(1/top, g)
	clear(da.Data[:n*n])
	for i := p.m.o.Steps - 1; i >= 0; i-- {
		z := x.z(i)
		x.step(z, right)
		x.mul(g, z, dp)
		x.scale(0.25, dp)
		x.mul(dp, x.k, dr)
		x.mul(x.r, dp, dk)
		x.mulAdd(dr, x.k, dk)
		x.scale(-1, dk)
		x.mulAdd(x.s, dr, dk)
		x.mulAdd(z, dk, da)
		x.mul(right, g, dp)
		x.scale(0.25, dp)
		x.mulAdd(dk, x.a, dp)
		g, dp = dp, g
	}
	// Z₀ = Aᵀ/most, whose gradient is g too; then the softmax of A.
	most := -tile.Dot(g.Data[:n*n], x.a.Data) / (x.most * x.most)
	scale := top * float32(1/math.Sqrt(float64(c.KeyDim)))
	for r := range n {
		a, ga := x.a.Data[r*n:][:n], g.Data[r*n:][:n]
		for c := range ga {
			ga[c] = ga[c]/x.most + da.Data[c*n+r]
		}
		ga[x.column] += most
		sum := tile.Dot(a, ga)
		for c, y := range a {
			ga[c] = y * (ga[c] - sum) * scale
		}
	}
	tile.Mul(n, c.KeyDim, n, g, tile.HeadRows(&p.k, row, 0, h), tile.HeadRows(&p.dq, row, 0, h))
	tile.MulAdd(n, c.KeyDim, n, g.T(), tile.HeadRows(&p.q, row, 0, h), tile.HeadRows(&p.dk, row, 0, h))
}
