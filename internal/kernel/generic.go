package kernel

import (
	"math"
	"math/bits"
)

// The loops below are the specification of every faster level. float32(x*y)+z forbids a fused
// multiply-add, so that a level gives the same bits wherever it runs.

func mulGeneric(add bool, scale []float32, m, n, k int, a, b, c Mat) {
	for i := range m {
		ci := c.Data[i*c.Row : i*c.Row+n]
		switch {
		case !add:
			clear(ci)
		case scale != nil:
			for j := range ci {
				ci[j] *= scale[j]
			}
		}
		p := 0
		for ; p+4 <= k; p += 4 {
			o := i*a.Row + p*a.Col
			a0, a1, a2, a3 := a.Data[o], a.Data[o+a.Col], a.Data[o+2*a.Col], a.Data[o+3*a.Col]
			b0 := b.Data[p*b.Row:][:len(ci)]
			b1 := b.Data[(p+1)*b.Row:][:len(ci)]
			b2 := b.Data[(p+2)*b.Row:][:len(ci)]
			b3 := b.Data[(p+3)*b.Row:][:len(ci)]
			for j := range ci {
				s := ci[j] + float32(a0*b0[j])
				s += float32(a1 * b1[j])
				s += float32(a2 * b2[j])
				ci[j] = s + float32(a3*b3[j])
			}
		}
		for ; p < k; p++ {
			ap := a.Data[i*a.Row+p*a.Col]
			bp := b.Data[p*b.Row:][:len(ci)]
			for j := range ci {
				ci[j] += float32(ap * bp[j])
			}
		}
	}
}

// exp2Generic returns 2^x by a polynomial of degree 6 on [-½, ½] (relative error 8e-8), 0 for x
// below leastPower, NaN for NaN.
func exp2Generic(x float32) float32 {
	if x < leastPower { // also -Inf
		return 0
	}
	if x > 128 {
		return float32(math.Inf(1))
	}
	if x != x {
		return x
	}
	n := float32(math.RoundToEven(float64(x)))
	f := x - n
	p := float32(0.00015345812)
	p = float32(p*f) + 0.00133999312
	p = float32(p*f) + 0.00961848896
	p = float32(p*f) + 0.05550328777
	p = float32(p*f) + 0.24022646893
	p = float32(p*f) + 0.69314720574
	p = float32(p*f) + 1
	return float32(math.Ldexp(float64(p), int(n)))
}

// expGeneric returns e^x: ln 2 is taken off in two parts, since a rounded x·log₂e would cost
// |x|·6e-8 of relative error.
func expGeneric(x float32) float32 {
	if x < -87.33654 {
		return 0
	}
	if x > 88.72284 {
		return float32(math.Inf(1))
	}
	if x != x {
		return x
	}
	n := float32(math.RoundToEven(float64(float32(x * Log2E))))
	const hi, lo = 0.693359375, -2.12194440e-4 // Cephes expf
	f := x - float32(n*hi)
	f -= float32(n * lo)
	p := float32(1.9875691500e-4)
	p = float32(p*f) + 1.3981999507e-3
	p = float32(p*f) + 8.3334519073e-3
	p = float32(p*f) + 4.1665795894e-2
	p = float32(p*f) + 1.6666665459e-1
	p = float32(p*f) + 5.0000001201e-1
	p = float32(float32(p*f)*f) + f + 1
	return float32(math.Ldexp(float64(p), int(n)))
}

func (s *Softmax) stepGeneric(tile []float32, lazy bool) {
	for lane := range Lanes {
		m := s.Max[lane]
		for i := lane; i < len(tile); i += Lanes {
			if x := tile[i]; x > m || x != x {
				m = x
			}
		}
		s.Scale[lane] = 1
		if lazy {
			m = lag(s.Max[lane], m)
		}
		if m == NegInf { // nothing visible yet: every weight is 0
			for i := lane; i < len(tile); i += Lanes {
				tile[i] = 0
			}
			continue
		}
		if m != s.Max[lane] {
			s.Scale[lane] = exp2Generic(s.Max[lane] - m)
		}
		sum := float32(s.Sum[lane] * s.Scale[lane])
		for i := lane; i < len(tile); i += Lanes {
			tile[i] = exp2Generic(tile[i] - m)
			sum += tile[i]
		}
		s.Max[lane], s.Sum[lane] = m, sum
	}
}

// lag returns the new Max of LazyStep for the larger m of the old one and a block's maximum.
func lag(old, m float32) float32 {
	if old == NegInf && m >= -leastFirst {
		old = 0
	}
	if m <= old+mostLag {
		return old
	}
	return float32(math.Ceil(float64(m)))
}

func weightsGeneric(tile, lse []float32) {
	for i, x := range tile {
		l := lse[i%Lanes]
		if x == NegInf || l == NegInf {
			tile[i] = 0
			continue
		}
		tile[i] = exp2Generic(x - l)
	}
}

func weightsGradGeneric(p, dp, delta []float32) {
	for i, w := range p {
		if w == 0 {
			dp[i] = 0
			continue
		}
		dp[i] = w * (dp[i] - delta[i%Lanes])
	}
}

func putGeneric(tile []float32, masks []uint32, x float32) {
	for r, m := range masks {
		for row := tile[r*Lanes:][:Lanes]; m != 0; m &= m - 1 {
			row[bits.TrailingZeros32(m)%Lanes] = x
		}
	}
}

func expSumGeneric(x []float32, max float32) float32 {
	var sum float32
	for i, v := range x {
		if v == NegInf {
			x[i] = 0
			continue
		}
		x[i] = expGeneric(v - max)
		sum += x[i]
	}
	return sum
}

func aboveGeneric(bits []uint64, x []float32, least float32) {
	for i, y := range x {
		if y > least {
			bits[i/64] |= 1 << (i % 64)
		}
	}
}

func maxGeneric(x []float32) float32 {
	m := NegInf
	for _, v := range x {
		if v > m || v != v {
			m = v
		}
		if m != m {
			return m
		}
	}
	return m
}

func dotGeneric(x, y []float32) float32 {
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s0 += float32(x[i] * y[i])
		s1 += float32(x[i+1] * y[i+1])
		s2 += float32(x[i+2] * y[i+2])
		s3 += float32(x[i+3] * y[i+3])
	}
	for ; i < len(x); i++ {
		s0 += float32(x[i] * y[i])
	}
	return (s0 + s1) + (s2 + s3)
}

func axpyGeneric(a float32, x, y []float32) {
	for i, v := range x {
		y[i] += float32(a * v)
	}
}

func dotsGeneric(out, x []float32, m Mat) {
	for r := range out {
		out[r] = dotGeneric(x, m.Data[r*m.Row:][:len(x)])
	}
}

func combineGeneric(acc, w []float32, m Mat) {
	for r, a := range w {
		axpyGeneric(a, m.Data[r*m.Row:][:len(acc)], acc)
	}
}

func updateGeneric(s Mat, decay, k, v []float32) {
	for i, ki := range k {
		row := s.Data[i*s.Row:][:len(v)]
		if decay == nil {
			axpyGeneric(ki, v, row)
			continue
		}
		d := decay[i]
		for j := range row {
			row[j] = flush(float32(row[j]*d) + float32(ki*v[j]))
		}
	}
}

func copyRowsGeneric(dst, src Mat, rows, cols int) {
	for r := range rows {
		copy(dst.Data[r*dst.Row:][:cols], src.Data[r*src.Row:][:cols])
	}
}

func packGeneric(dst []float32, src Mat, rows, cols int, scale float32) {
	for c := range cols {
		d := dst[c*Lanes:][:Lanes]
		for r := range rows {
			d[r] = src.Data[r*src.Row+c] * scale
		}
		clear(d[rows:])
	}
}

func unpackGeneric(dst Mat, src []float32, rows, cols int, scale []float32, add bool) {
	for r := range rows {
		d := dst.Data[r*dst.Row:][:cols]
		s := float32(1)
		if scale != nil {
			s = scale[r]
		}
		for c := range d {
			var x float32
			if s != 0 {
				x = src[c*Lanes+r] * s
			}
			if add {
				x += d[c]
			}
			d[c] = x
		}
	}
}
