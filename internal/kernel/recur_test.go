package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// recurSizes are matrices up to 130 wide, of few rows, and some beyond one call.
func recurSizes(r *rand.Rand) [][2]int {
	var s [][2]int
	for n := range 131 {
		s = append(s, [2]int{r.IntN(35), n})
	}
	return append(s, [2]int{32, 64}, [2]int{17, 96}, [2]int{1, 1}, [2]int{600, 130}, [2]int{2, strip1 + 3})
}

// guardedMat returns a matrix of the given size and stride in a guarded slice, NaN between its rows.
func guardedMat(r *rand.Rand, rows, cols, ld int, fill func() float32) (*guarded, Mat) {
	g := guardedSlice(r, span(rows, cols, ld), fill)
	for i := range g.x {
		if ld > 0 && i%ld >= cols {
			g.x[i] = float32(math.NaN())
		}
	}
	copy(g.want[len(g.want)-guard-len(g.x):], g.x)
	return g, Rows(g.x, ld)
}

// inside tells whether element i of a matrix lies in its columns.
func inside(cols, ld int) func(i int) bool {
	return func(i int) bool { return i%ld < cols }
}

func near(got, want float32, tol float64) bool {
	return same(got, want) || math.Abs(float64(got)-float64(want)) <= tol*(1+math.Abs(float64(want)))
}

// TestRowMaps holds ELU1, ExpRows, ReLU, Lost, PackELU1 and CopyFinite against float64.
func TestRowMaps(t *testing.T) {
	elu := func(x float64) float64 {
		if x > 0 {
			return x + 1
		}
		return math.Exp(max(x, -87))
	}
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 8))
		fill := func() float32 { return float32(r.NormFloat64() * 6) }
		for _, size := range recurSizes(r) {
			rows, n := size[0], size[1]
			ld := n + r.IntN(9)
			sg, src := guardedMat(r, rows, n, ld, fill)
			for _, c := range []struct {
				name string
				run  func(dst, src Mat, rows, cols int)
				f    func(float64) float64
			}{
				{"ELU1", ELU1, elu}, {"ExpRows", ExpRows, math.Exp}, {"ReLU", ReLU, func(x float64) float64 { return max(x, 0) }},
				{"Lost", Lost, func(x float64) float64 { return -math.Expm1(x) }},
				{"CopyFinite", func(dst, src Mat, rows, cols int) {
					if !CopyFinite(dst, src, rows, cols) {
						t.Fatalf("%dx%d: not finite", rows, cols)
					}
				}, func(x float64) float64 { return x }},
			} {
				dld := n + r.IntN(9)
				dg, dst := guardedMat(r, rows, n, dld, normal(r))
				c.run(dst, src, rows, n)
				for i := range rows {
					for j := range n {
						x := src.Data[i*ld+j]
						want := c.f(float64(x))
						tol := 3e-7
						switch {
						case c.name == "Lost" && x > 0: // no log decay
							continue
						case c.name == "Lost":
							tol = 8e-7
						case x < -10:
							tol = 1.3e-6
						}
						if got := dst.Data[i*dld+j]; math.Abs(float64(got)-want) > tol*want && want != float64(x) {
							t.Fatalf("%s of %dx%d: f(%v) = %v, want %v", c.name, rows, n, x, got, want)
						}
					}
				}
				dg.unhurt(t, inside(n, max(1, dld)))
			}
			if rows > Lanes {
				continue
			}
			p, sums := guardedSlice(r, n*Lanes, normal(r)), guardedSlice(r, n, normal(r))
			before := append([]float32(nil), sums.x...)
			PackELU1(p.x, sums.x, src, rows)
			for j := range n {
				want := float64(before[j])
				for i := range Lanes {
					w := 0.0
					if i < rows {
						w = elu(float64(src.Data[i*ld+j]))
					}
					want += w
					if got := p.x[j*Lanes+i]; math.Abs(float64(got)-w) > 1.3e-6*w {
						t.Fatalf("PackELU1 of %dx%d: lane %d of %d is %v, want %v", rows, n, i, j, got, w)
					}
				}
				if !near(sums.x[j], float32(want), 1e-5) {
					t.Fatalf("PackELU1 of %dx%d: sum %d is %v, want %v", rows, n, j, sums.x[j], want)
				}
			}
			p.unhurt(t, nil)
			sums.unhurt(t, nil)
			sg.unhurt(t, func(int) bool { return false })
		}
	})
}

// TestRowMapsExtremes: no overflow inside, NaN stays where it is, 1 at 0 exactly and x+1 above.
func TestRowMapsExtremes(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	x := []float32{nan, -inf, -3e38, -88, -87, -1e-9, 0, 1e-9, 0.5, 3e38, inf, nan, 7}
	elu := []float32{nan, 1.6458115e-38, 1.6458115e-38, 1.6458115e-38, 1.6458115e-38, 1, 1, 1, 1.5, 3e38, inf, nan, 8}
	exp := []float32{nan, 0, 0, 0, 1.6458115e-38, 1, 1, 1, 1.6487213, inf, inf, nan, 1096.6332}
	exp[3] = 0 // below the normal numbers
	relu := []float32{nan, 0, 0, 0, 0, 0, 0, 1e-9, 0.5, 3e38, inf, nan, 7}
	lost := []float32{nan, 1, 1, 1, 1, 1e-9, 0, -1e-9, -0.64872127, -inf, -inf, nan, -1095.6332}
	eachLevel(t, func(t *testing.T) {
		y := make([]float32, len(x))
		for name, f := range map[string]func(dst, src Mat, rows, cols int){"ELU1": ELU1, "ExpRows": ExpRows, "ReLU": ReLU, "Lost": Lost} {
			f(Rows(y, len(x)), Rows(x, len(x)), 1, len(x))
			want := map[string][]float32{"ELU1": elu, "ExpRows": exp, "ReLU": relu, "Lost": lost}[name]
			for i := range y {
				if !same(y[i], want[i]) && math.Abs(float64(y[i]/want[i])-1) > 2e-6 {
					t.Errorf("%s(%v) = %v, want %v", name, x[i], y[i], want[i])
				}
			}
		}
		for i, v := range x {
			finite := v == v && !math.IsInf(float64(v), 0)
			one, to := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, make([]float32, 11)
			one[i%len(one)] = v
			if CopyFinite(Rows(to, 11), Rows(one, 11), 1, 11) != finite || !same(to[i%11], v) {
				t.Errorf("CopyFinite of %v: %v", v, !finite)
			}
		}
	})
}

// TestRecurTwins holds the matrix kernels against their generic twins.
func TestRecurTwins(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 8))
		for _, size := range recurSizes(r) {
			rows, n := size[0], size[1]
			ld, keep := n+r.IntN(9), r.IntN(n+3)
			perRow, perCol, other := guardedSlice(r, rows, normal(r)), guardedSlice(r, n, normal(r)), guardedSlice(r, rows, normal(r))
			_, em := guardedMat(r, rows, n, n+3, normal(r))
			twin := func(x []float32) []float32 { return append([]float32(nil), x...) }
			for _, c := range []struct {
				name string
				tol  float64
				run  func(m Mat, row, col []float32)
				spec func(m Mat, row, col []float32)
			}{
				{"ScaleRows", 0, func(m Mat, row, _ []float32) { ScaleRows(row, m, n) }, func(m Mat, row, _ []float32) { scaleRowsGeneric(row, m, n) }},
				{"TimesRows", 0, func(m Mat, _, col []float32) { TimesRows(col, m, rows) }, func(m Mat, _, col []float32) { timesRowsGeneric(col, m, rows) }},
				{"Lower", 1e-5, func(m Mat, row, _ []float32) { Lower(row, m, keep, n) }, func(m Mat, row, _ []float32) { lowerGeneric(row, m, keep, n) }},
				{"Decay", 3e-7, func(m Mat, row, _ []float32) { Decay(m, row, other.x, n) }, func(m Mat, row, _ []float32) { decayGeneric(m, row, other.x, n) }},
				{"Cumulate", 0, func(m Mat, _, col []float32) { Cumulate(col, m, em, rows) }, func(m Mat, _, col []float32) { cumulateGeneric(col, m, em, rows) }},
			} {
				mg, m := guardedMat(r, rows, n, ld, normal(r))
				if c.name == "Lower" {
					for i := range rows {
						for j := keep + i; j < n; j++ {
							m.Data[i*ld+j] = float32(math.NaN()) // to be cleared, not multiplied
						}
					}
				}
				row, col := guardedSlice(r, rows, normal(r)), guardedSlice(r, n, normal(r))
				want, wantRow, wantCol := twin(m.Data), twin(row.x), twin(col.x)
				c.run(m, row.x, col.x)
				if rows == 0 || n == 0 {
					continue
				}
				c.spec(Rows(want, ld), wantRow, wantCol)
				for i := range want {
					if !near(m.Data[i], want[i], c.tol) {
						t.Fatalf("%s of %dx%d, keep %d: element %d is %v, want %v", c.name, rows, n, keep, i, m.Data[i], want[i])
					}
				}
				for i := range wantRow {
					if !near(row.x[i], wantRow[i], c.tol) {
						t.Fatalf("%s of %dx%d: row %d gives %v, want %v", c.name, rows, n, i, row.x[i], wantRow[i])
					}
				}
				for i := range wantCol {
					if !near(col.x[i], wantCol[i], c.tol) {
						t.Fatalf("%s of %dx%d: column %d gives %v, want %v", c.name, rows, n, i, col.x[i], wantCol[i])
					}
				}
				mg.unhurt(t, inside(n, max(1, ld)))
				row.unhurt(t, nil)
				col.unhurt(t, nil)
			}
			perRow.unhurt(t, func(int) bool { return false })
			perCol.unhurt(t, func(int) bool { return false })

			x, f := guardedSlice(r, n, normal(r)), guardedSlice(r, n, normal(r))
			want := twin(x.x)
			ELU1Grad(x.x, f.x)
			elu1GradGeneric(want, f.x)
			FlushBelow(0.5, x.x)
			flushBelowGeneric(0.5, want)
			for i := range want {
				if x.x[i] != want[i] {
					t.Fatalf("ELU1Grad and FlushBelow of %d: element %d is %v, want %v", n, i, x.x[i], want[i])
				}
			}
			x.unhurt(t, nil)
		}
	})
}

// TestDecayWeights holds it against the sum of products in float64.
func TestDecayWeights(t *testing.T) {
	const n = DecayBlock
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 8))
		for d := range 70 {
			qg, q := guardedMat(r, n, d, d+r.IntN(9), normal(r))
			eg, e := guardedMat(r, n, d, d+r.IntN(9), func() float32 { return r.Float32() })
			ag, a := guardedMat(r, n, n, n+r.IntN(9), normal(r))
			kt := guardedSlice(r, max(0, (d-1)*Lanes+n), normal(r))
			keys := append([]float32(nil), kt.x...)
			DecayWeights(a, q, e, kt.x, d)
			if d == 0 {
				continue
			}
			between := func(j, i, c int) float64 {
				p := 1.0
				for t := j + 1; t <= i; t++ {
					p *= float64(e.Data[t*e.Row+c])
				}
				return p
			}
			for i := range n {
				for j := range n {
					want, total := 0.0, 0.0
					for c := 0; c < d && j <= i; c++ {
						x := float64(q.Data[i*q.Row+c]) * float64(keys[c*Lanes+j]) * between(j, i, c)
						want += x
						total += math.Abs(x)
					}
					if got := a.Data[i*a.Row+j]; math.Abs(float64(got)-want) > bound(total) {
						t.Fatalf("d=%d: a[%d][%d] = %v, want %v", d, i, j, got, want)
					}
				}
			}
			for c := range d {
				for j := range n {
					want := float64(keys[c*Lanes+j]) * between(j, n-1, c)
					if got := kt.x[c*Lanes+j]; math.Abs(float64(got)-want) > 2e-6*math.Abs(want) {
						t.Fatalf("d=%d: key %d, channel %d is %v at the end, want %v", d, j, c, got, want)
					}
				}
			}
			qg.unhurt(t, func(int) bool { return false })
			eg.unhurt(t, func(int) bool { return false })
			ag.unhurt(t, inside(n, a.Row))
			kt.unhurt(t, func(i int) bool { return i%Lanes < n })
		}
	})
}

// TestMulAhead: the bits of Mul and one multiplication, whatever is asked for on the way.
func TestMulAhead(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 8))
		later := make([]float32, 1000)
		for try := range 400 {
			m, n, k := 1+r.IntN(40), 32+32*r.IntN(4), r.IntN(100)
			if try%3 == 0 {
				n = 1 + r.IntN(131)
			}
			if try > 396 { // more than one call
				m, n, k = 300, 96, 100
			}
			lda, ldb, ldc := k+r.IntN(9), n+r.IntN(9), n+r.IntN(9)
			_, a := guardedMat(r, m, k, lda, normal(r))
			_, b := guardedMat(r, k, n, ldb, normal(r))
			cg, c := guardedMat(r, m, n, ldc, normal(r))
			want := append([]float32(nil), c.Data...)
			f := guardedSlice(r, m, normal(r))
			var next *Ahead
			if try%4 > 0 {
				next = new(Ahead)
				next.Reset(r.IntN(20))
				for range r.IntN(4) {
					next.Add(Rows(later[r.IntN(100):], r.IntN(20)), r.IntN(30), 1+r.IntN(130))
				}
			}
			sum := make([]float32, m*n)
			Mul(m, n, k, a, b, Rows(sum, n))
			w := Rows(want, ldc)
			switch {
			case try%2 == 0:
				var g []float32
				if try%8 == 0 {
					f.x = nil
				} else {
					g = make([]float32, m)
					for i := range g {
						g[i] = r.Float32()
					}
				}
				AdvanceAhead(next, f.x, g, m, n, k, a, b, c)
				for i := range m {
					row, s := w.Data[i*ldc:][:n], sum[i*n:][:n]
					if g != nil {
						Axpy(g[i], row, s)
						Axpy(f.x[i], row, s)
						copy(row, s)
					} else {
						Add(row, s)
					}
				}
			case try%5 == 0:
				MulAhead(next, nil, m, n, k, a, b, c)
				Mul(m, n, k, a, b, w)
			default:
				MulAhead(next, f.x, m, n, k, a, b, c)
				Mul(m, n, k, a, b, w)
				scaleRowsGeneric(f.x, w, n)
			}
			for i := range want {
				if !same(c.Data[i], want[i]) {
					t.Fatalf("%dx%dx%d: element %d is %v, want %v", m, n, k, i, c.Data[i], want[i])
				}
			}
			cg.unhurt(t, inside(n, max(1, ldc)))
		}
	})
}

// TestAhead: every segment is asked for once, and no more.
func TestAhead(t *testing.T) {
	if highest() == levelGeneric {
		t.Skip("the generic level asks for nothing")
	}
	eachLevel(t, func(t *testing.T) {
		if level == levelGeneric {
			return
		}
		x := make([]float32, 40*130)
		a, b, c := make([]float32, 32*64), make([]float32, 64*64), make([]float32, 32*64)
		var next Ahead
		next.Reset(3 * MulAheadTiles(32, 64))
		next.Add(Rows(x, 130), 40, 130)
		next.Add(Rows(x, 64), 7, 64)
		for i := range 3 {
			left := 0
			for _, s := range next.list[next.first:next.n] {
				left += s.rows
			}
			if want := next.total - i*next.each*MulAheadTiles(32, 64); left != max(0, want) {
				t.Errorf("%d segments left before product %d, want %d", left, i, want)
			}
			MulAhead(&next, nil, 32, 64, 64, Rows(a, 64), Rows(b, 64), Rows(c, 64))
		}
		if next.first != next.n {
			t.Errorf("%d of %d parts done", next.first, next.n)
		}
	})
}
