package kernel

func mapRowsGeneric(which int, dst, src Mat, rows, cols int) {
	f := [...]func(float32) float32{elu1Generic, expGeneric, reluGeneric, lostGeneric}[which]
	for r := range rows {
		d, s := dst.Data[r*dst.Row:][:cols], src.Data[r*src.Row:][:cols]
		for i, x := range s {
			d[i] = f(x)
		}
	}
}

func reluGeneric(x float32) float32 { return max(x, 0) }

func lostGeneric(x float32) float32 {
	if !(-0.25 < x && x < 0.25) {
		return 1 - expGeneric(x)
	}
	q := x * x
	return -x * (1 + x*(1./2) + q*(1./6+x*(1./24)+q*(1./120+x*(1./720)+q*(1./5040))))
}

func elu1Generic(x float32) float32 {
	if x > 0 {
		return x + 1
	}
	return expGeneric(max(x, -87))
}

func packELU1Generic(dst, sums []float32, src Mat, rows int) {
	for c := range sums {
		d := dst[c*Lanes:][:Lanes]
		for r := range rows {
			d[r] = elu1Generic(src.Data[r*src.Row+c])
			sums[c] += d[r]
		}
		clear(d[rows:])
	}
}

func squaresGeneric(dst, src Mat, unit, root float32, rows, n int) {
	for r := range rows {
		x, f := src.Data[r*src.Row:][:n], dst.Data[r*dst.Row:]
		for ; len(x) > 0; x, f = x[1:], f[len(x):] {
			for b, y := range x {
				f[b] = root * x[0] * y
			}
			f[0] = unit * x[0] * x[0]
		}
	}
}

func copyFiniteGeneric(dst, src Mat, rows, cols int) bool {
	copyRowsGeneric(dst, src, rows, cols)
	var zero float32
	for r := range rows {
		for _, x := range src.Data[r*src.Row:][:cols] {
			zero += x * 0
		}
	}
	return zero == 0
}

func elu1GradGeneric(d, f []float32) {
	for i, x := range f {
		d[i] *= min(x, 1)
	}
}

func scaleRowsGeneric(f []float32, m Mat, cols int) {
	for r, a := range f {
		scaleGeneric(a, m.Data[r*m.Row:][:cols])
	}
}

func timesRowsGeneric(f []float32, m Mat, rows int) {
	for r := range rows {
		timesGeneric(m.Data[r*m.Row:][:len(f)], f)
	}
}

func lowerGeneric(sums []float32, m Mat, keep, cols int) {
	for r := range sums {
		row := m.Data[r*m.Row:][:cols]
		n := min(keep+r, cols)
		clear(row[n:])
		sums[r] = sumGeneric(row[:n])
	}
}

func decayGeneric(s Mat, a, b []float32, cols int) {
	for r := range a {
		row := s.Data[r*s.Row:][:cols]
		for i, x := range row {
			row[i] = float32(a[r]*x) + float32(b[r]*x)
		}
	}
}

func flushBelowGeneric(least float32, x []float32) {
	for i, v := range x {
		if -least < v && v < least {
			x[i] = 0
		}
	}
}

func cumulateGeneric(total []float32, q, e Mat, rows int) {
	for i := range total {
		total[i] = 1
	}
	for r := range rows {
		row := q.Data[r*q.Row:][:len(total)]
		timesGeneric(total, e.Data[r*e.Row:][:len(total)])
		timesGeneric(row, total)
	}
}

func decayWeightsGeneric(a, q, e Mat, kt []float32, d int) {
	for i := range DecayBlock {
		row := a.Data[i*a.Row:][:DecayBlock]
		clear(row)
		for c := range d {
			k := kt[c*Lanes:][:DecayBlock]
			for j := range i {
				k[j] *= e.Data[i*e.Row+c]
			}
			axpyGeneric(q.Data[i*q.Row+c], k[:i+1], row)
		}
	}
}
