package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// bound is the error that a float32 sum of terms with magnitude total may have.
func bound(total float64) float64 { return 1e-6*total + 1e-37 }

func TestReductions(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 3))
		for _, n := range append(upTo(130), 1000, strip1-1, strip1, strip1+9) {
			x, y := guardedSlice(r, n, normal(r)), guardedSlice(r, n, normal(r))
			var dot, sum, squares, total, sumTotal float64
			most := NegInf
			for i, v := range x.x {
				dot += float64(v) * float64(y.x[i])
				total += math.Abs(float64(v) * float64(y.x[i]))
				sum += float64(v)
				sumTotal += math.Abs(float64(v))
				squares += float64(v) * float64(v)
				most = max(most, v)
			}
			if got := Dot(x.x, y.x); math.Abs(float64(got)-dot) > bound(total) {
				t.Fatalf("n=%d: dot %v, want %v", n, got, dot)
			}
			if got := Sum(x.x); math.Abs(float64(got)-sum) > bound(sumTotal) {
				t.Fatalf("n=%d: sum %v, want %v", n, got, sum)
			}
			if got := SumSquares(x.x); math.Abs(float64(got)-squares) > bound(squares) {
				t.Fatalf("n=%d: sum of squares %v, want %v", n, got, squares)
			}
			if got := Max(x.x); got != most {
				t.Fatalf("n=%d: max %v, want %v", n, got, most)
			}
			if n > 0 {
				i := r.IntN(n)
				x.x[i] = float32(math.NaN())
				if got := Max(x.x); got == got {
					t.Fatalf("n=%d: max %v with NaN at %d", n, got, i)
				}
				for j := range x.x {
					x.x[j] = NegInf
				}
				if got := Max(x.x); got != NegInf {
					t.Fatalf("n=%d: max %v of -Inf", n, got)
				}
				x.x[i] = float32(math.Inf(1))
				if got := Max(x.x); !math.IsInf(float64(got), 1) {
					t.Fatalf("n=%d: max %v of Inf and -Inf", n, got)
				}
			}
		}
	})
}

const strip1 = 1 << 13

func upTo(n int) []int {
	s := make([]int, n+1)
	for i := range s {
		s[i] = i
	}
	return s
}

// rowSizes are the shapes of the row kernels' tests.
func rowSizes(r *rand.Rand) [][2]int {
	var s [][2]int
	for n := range 131 {
		s = append(s, [2]int{r.IntN(20), n})
	}
	for rows := range 20 {
		s = append(s, [2]int{rows, 64}, [2]int{rows, 33})
	}
	return append(s, [2]int{600, 130}, [2]int{3, strip1 + 5}, [2]int{130, 300})
}

func TestDots(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 3))
		for _, size := range rowSizes(r) {
			rows, n := size[0], size[1]
			ld := n + r.IntN(9)
			if r.IntN(9) == 0 {
				ld = r.IntN(n + 1)
			}
			m, x, out := guardedSlice(r, span(rows, n, ld), normal(r)), guardedSlice(r, n, normal(r)), guardedSlice(r, rows, normal(r))
			Dots(out.x, x.x, Rows(m.x, ld), rows)
			for i, got := range out.x {
				var want, total float64
				for j, v := range x.x {
					want += float64(v) * float64(m.x[i*ld+j])
					total += math.Abs(float64(v) * float64(m.x[i*ld+j]))
				}
				if math.Abs(float64(got)-want) > bound(total) {
					t.Fatalf("rows=%d n=%d ld=%d: out[%d] = %v, want %v", rows, n, ld, i, got, want)
				}
				one := make([]float32, 1)
				Dots(one, x.x, Rows(m.x[i*ld:], ld), 1)
				if one[0] != got {
					t.Fatalf("rows=%d n=%d: row %d alone gives %v, not %v", rows, n, i, one[0], got)
				}
			}
			out.unhurt(t, nil)
		}
	})
}

func TestCombine(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for _, size := range rowSizes(r) {
			rows, n := size[0], size[1]
			ld := n + r.IntN(9)
			m, w, acc := guardedSlice(r, span(rows, n, ld), normal(r)), guardedSlice(r, rows, normal(r)), guardedSlice(r, n, normal(r))
			want := append([]float32(nil), acc.x...)
			for i, a := range w.x {
				for j := range want {
					if level == levelGeneric {
						want[j] += float32(a * m.x[i*ld+j])
					} else {
						want[j] = fma32(a, m.x[i*ld+j], want[j])
					}
				}
			}
			Combine(acc.x, w.x, Rows(m.x, ld))
			for j, v := range want {
				if acc.x[j] != v {
					t.Fatalf("rows=%d n=%d: acc[%d] = %v, want %v", rows, n, j, acc.x[j], v)
				}
			}
			acc.unhurt(t, nil)
		}
	})
}

func TestUpdate(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 3))
		for i, size := range rowSizes(r) {
			rows, n := size[0], size[1]
			ld := n + r.IntN(9)
			s, k, v, d := guardedSlice(r, span(rows, n, ld), normal(r)), guardedSlice(r, rows, normal(r)), guardedSlice(r, n, normal(r)), guardedSlice(r, rows, r.Float32)
			decay := d.x
			if i%3 == 0 {
				decay = nil
			}
			want := append([]float32(nil), s.x...)
			for i, a := range k.x {
				for j := range n {
					x := &want[i*ld+j]
					if decay != nil {
						*x *= decay[i]
					}
					if level == levelGeneric {
						*x += float32(a * v.x[j])
					} else {
						*x = fma32(a, v.x[j], *x)
					}
				}
			}
			Update(Rows(s.x, ld), decay, k.x, v.x)
			for i, w := range want {
				if s.x[i] != w {
					t.Fatalf("rows=%d n=%d ld=%d: s[%d] = %v, want %v", rows, n, ld, i, s.x[i], w)
				}
			}
			s.unhurt(t, func(i int) bool { return i%ld < n })
		}
	})
}

func TestCopy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 3))
		for _, size := range rowSizes(r) {
			rows, n := size[0], size[1]
			from, to := n+r.IntN(9), n+r.IntN(9)
			src, dst := guardedSlice(r, span(rows, n, from), normal(r)), guardedSlice(r, span(rows, n, to), normal(r))
			Copy(Rows(dst.x, to), Rows(src.x, from), rows, n)
			for i := range rows {
				for j := range n {
					if dst.x[i*to+j] != src.x[i*from+j] {
						t.Fatalf("rows=%d n=%d: dst[%d][%d] = %v, want %v", rows, n, i, j, dst.x[i*to+j], src.x[i*from+j])
					}
				}
			}
			dst.unhurt(t, func(i int) bool { return i%to < n })
		}
	})
}

func span(rows, cols, ld int) int { return Rows(nil, ld).span(rows, cols) }

// TestUpdateFlush: a decayed state reaches 0, and does not rest at a subnormal number.
func TestUpdateFlush(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		s, decay, k, v := make([]float32, 11), []float32{0.9}, []float32{0}, make([]float32, 11)
		for i := range s {
			s[i] = 1 - 2*float32(i%2)
		}
		for range 900 {
			Update(Rows(s, 11), decay, k, v)
		}
		for _, x := range s {
			if x != 0 {
				t.Fatalf("state rests at %v", x)
			}
		}
	})
}

func TestPack(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 3))
		for cols := range 131 {
			for _, rows := range []int{0, 1, 7, 8, 9, 31, 32, r.IntN(33)} {
				ld := cols + r.IntN(9)
				src := guardedSlice(r, span(rows, cols, ld), normal(r))
				dst := guardedSlice(r, cols*Lanes, normal(r))
				want := make([]float32, cols*Lanes)
				packGeneric(want, Rows(src.x, ld), rows, cols, 0.3)
				Pack(dst.x, Rows(src.x, ld), rows, cols, 0.3)
				for i, w := range want {
					if dst.x[i] != w {
						t.Fatalf("rows=%d cols=%d: dst[%d] = %v, want %v", rows, cols, i, dst.x[i], w)
					}
				}
				dst.unhurt(t, nil)

				packed := guardedSlice(r, cols*Lanes, normal(r))
				var scale []float32
				if r.IntN(3) > 0 {
					scale = make([]float32, rows)
					for i := range scale {
						scale[i] = float32(r.IntN(3))
						if scale[i] == 0 {
							for c := range cols {
								packed.x[c*Lanes+i] = float32(math.NaN())
							}
						}
					}
				}
				for _, add := range []bool{false, true} {
					out := guardedSlice(r, span(rows, cols, ld), normal(r))
					want := append([]float32(nil), out.x...)
					if len(want) > 0 {
						unpackGeneric(Rows(want, ld), packed.x, rows, cols, scale, add)
					}
					if add {
						UnpackAdd(Rows(out.x, ld), packed.x, rows, cols, scale)
					} else {
						Unpack(Rows(out.x, ld), packed.x, rows, cols, scale)
					}
					for i, w := range want {
						if i%max(1, ld) < cols && out.x[i] != w {
							t.Fatalf("unpack rows=%d cols=%d add=%v: dst[%d] = %v, want %v", rows, cols, add, i, out.x[i], w)
						}
					}
					out.unhurt(t, func(i int) bool { return i%ld < cols })
				}
			}
		}
	})
}
