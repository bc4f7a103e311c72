package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// fuzzLevels runs f at every level of this machine with the same random source.
func fuzzLevels(t *testing.T, seed uint64, f func(r *rand.Rand)) {
	for l := range highest() + 1 {
		setLevel(t, l)
		f(rand.New(rand.NewPCG(seed, 1)))
	}
}

func FuzzMul(f *testing.F) {
	f.Add(uint64(1), uint8(7), uint8(17), uint8(5), uint8(0))
	f.Add(uint64(2), uint8(130), uint8(31), uint8(64), uint8(2))
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k, mode uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			checkMul(t, r, modes[int(mode)%len(modes)], int(m)%131, int(n)%131, int(k)%131, normal(r))
		})
	})
}

// FuzzStep feeds raw bits: every NaN, subnormal and infinity may come. A lane that holds both NaN and +Inf is
// only asked to be NaN.
func FuzzStep(f *testing.F) {
	f.Add(uint64(1), uint8(3))
	f.Add(uint64(9), uint8(64))
	f.Fuzz(func(t *testing.T, seed uint64, rows uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			n := int(rows) % 131
			lazy := r.IntN(2) == 0
			var got, want Softmax
			got.Reset()
			want.Reset()
			g := tileOf(r, n, func(lane int) float32 {
				if lane%4 == 0 {
					return math.Float32frombits(r.Uint32())
				}
				return special[r.IntN(len(special))]
			})
			twin := append([]float32(nil), g.x...)
			for lane := 0; lane < Lanes; lane += 4 {
				for i := lane; i < len(twin); i += Lanes {
					if math.IsInf(float64(twin[i]), 1) {
						g.x[i], twin[i] = 0, 0
					}
				}
			}
			got.take(g.x, n, lazy)
			want.stepGeneric(twin, lazy)
			sameSoftmax(t, &got, &want, g.x, twin)
			g.unhurt(t, nil)
		})
	})
}

func FuzzExpSum(f *testing.F) {
	f.Add(uint64(1), uint8(20), float32(0))
	f.Add(uint64(2), uint8(9), float32(88))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8, max float32) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			g := guardedSlice(r, int(n), func() float32 { return math.Float32frombits(r.Uint32()) })
			want := append([]float32(nil), g.x...)
			expSumGeneric(want, max)
			got := ExpSum(g.x, max)
			sum := float32(0)
			for i, w := range want {
				if v := g.x[i]; !same(v, w) && math.Abs(float64(v-w)) > 4e-7*math.Abs(float64(w)) || v == 0 != (w == 0) {
					t.Fatalf("x[%d] = %v, want %v", i, v, w)
				}
				sum += g.x[i]
			}
			if (got != got) != (sum != sum) {
				t.Fatalf("sum %v, want %v", got, sum)
			}
			g.unhurt(t, nil)
		})
	})
}

// FuzzELU1 feeds raw bits: NaN stays NaN, and nothing else becomes NaN or negative.
func FuzzELU1(f *testing.F) {
	f.Add(uint64(1), uint8(20))
	f.Add(uint64(2), uint8(64))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			rows, cols := int(n)%9, int(n)
			sg, src := guardedMat(r, rows, cols, cols+3, func() float32 { return math.Float32frombits(r.Uint32()) })
			dg, dst := guardedMat(r, rows, cols, cols+1, normal(r))
			p, sums := guardedSlice(r, cols*Lanes, normal(r)), guardedSlice(r, cols, func() float32 { return 0 })
			ELU1(dst, src, rows, cols)
			PackELU1(p.x, sums.x, src, rows)
			for i := range rows {
				for j := range cols {
					x := src.Data[i*src.Row+j]
					want := elu1Generic(x)
					for _, got := range []float32{dst.Data[i*dst.Row+j], p.x[j*Lanes+i]} {
						if !same(got, want) && !(math.Abs(float64(got-want)) <= 1.5e-6*float64(want)) {
							t.Fatalf("ELU1(%v) = %v, want %v", x, got, want)
						}
					}
				}
			}
			sg.unhurt(t, func(int) bool { return false })
			dg.unhurt(t, inside(cols, cols+1))
			p.unhurt(t, nil)
			sums.unhurt(t, nil)
		})
	})
}

// FuzzRowMaps feeds raw bits to the other maps of rows.
func FuzzRowMaps(f *testing.F) {
	f.Add(uint64(1), uint8(20))
	f.Add(uint64(2), uint8(64))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			rows, cols := int(n)%9, int(n)
			sg, src := guardedMat(r, rows, cols, cols+3, func() float32 { return math.Float32frombits(r.Uint32()) })
			for _, c := range []struct {
				run  func(dst, src Mat, rows, cols int)
				want func(float32) float32
			}{{ReLU, reluGeneric}, {Lost, lostGeneric}} {
				dg, dst := guardedMat(r, rows, cols, cols+1, normal(r))
				c.run(dst, src, rows, cols)
				for i := range rows {
					for j := range cols {
						x := src.Data[i*src.Row+j]
						got, want := dst.Data[i*dst.Row+j], c.want(x)
						if !same(got, want) && !(math.Abs(float64(got-want)) <= 1.5e-6*math.Abs(float64(want))) {
							t.Fatalf("f(%v) = %v, want %v", x, got, want)
						}
					}
				}
				dg.unhurt(t, inside(cols, cols+1))
			}
			sg.unhurt(t, func(int) bool { return false })
		})
	})
}

// FuzzDecayWeights compares every level with the generic loop for decays of any strength.
func FuzzDecayWeights(f *testing.F) {
	f.Add(uint64(1), uint8(64), float32(1))
	f.Add(uint64(2), uint8(7), float32(90))
	f.Fuzz(func(t *testing.T, seed uint64, d uint8, strength float32) {
		if !(strength >= 0 && strength < 1e4) || d == 0 {
			return
		}
		const n = DecayBlock
		fuzzLevels(t, seed, func(r *rand.Rand) {
			_, q := guardedMat(r, n, int(d), int(d)+1, normal(r))
			_, e := guardedMat(r, n, int(d), int(d)+2, func() float32 { return expGeneric(-strength * r.Float32()) })
			ag, a := guardedMat(r, n, n, n+5, normal(r))
			kt := guardedSlice(r, (int(d)-1)*Lanes+n, normal(r))
			want, keys := make([]float32, n*n), append([]float32(nil), kt.x...)
			DecayWeights(a, q, e, kt.x, int(d))
			decayWeightsGeneric(Rows(want, n), q, e, keys, int(d))
			for i := range want {
				if got := a.Data[i/n*a.Row+i%n]; !near(got, want[i], 1e-5*float64(d)) {
					t.Fatalf("d=%d: weight %d is %v, want %v", d, i, got, want[i])
				}
			}
			for i, w := range keys {
				if kt.x[i] != w {
					t.Fatalf("d=%d: key %d is %v, want %v", d, i, kt.x[i], w)
				}
			}
			ag.unhurt(t, inside(n, n+5))
		})
	})
}

// FuzzSquares compares every level with the generic loop.
func FuzzSquares(f *testing.F) {
	for n := range uint8(35) {
		f.Add(uint64(n), n/3, n)
	}
	f.Add(uint64(3), uint8(2), uint8(130))
	f.Fuzz(func(t *testing.T, seed uint64, m, n uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			rows, n := int(m)%20, int(n)%140
			cols := n * (n + 1) / 2
			sg, src := guardedMat(r, rows, n, n+r.IntN(9), normal(r))
			dg, dst := guardedMat(r, rows, cols, cols+r.IntN(9), normal(r))
			want := append([]float32(nil), dst.Data...)
			Squares(dst, src, 0.25, rows, n)
			if rows > 0 && n > 0 {
				squaresGeneric(Rows(want, dst.Row), src, 0.25, 0.25*math.Sqrt2, rows, n)
			}
			for i, x := range want {
				if !near(dst.Data[i], x, 3e-7) {
					t.Fatalf("%d rows of %d: number %d is %v, want %v", rows, n, i, dst.Data[i], x)
				}
			}
			sg.unhurt(t, func(int) bool { return false })
			dg.unhurt(t, inside(cols, max(1, dst.Row)))
		})
	})
}

// FuzzAbove feeds raw bits and compares every level with the generic loop.
func FuzzAbove(f *testing.F) {
	for n := range uint8(131) {
		f.Add(uint64(n), n, float32(n%3)-1)
	}
	f.Add(uint64(1), uint8(255), float32(math.NaN()))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8, least float32) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			g := guardedSlice(r, int(n), func() float32 {
				if r.IntN(3) == 0 {
					return least
				}
				return math.Float32frombits(r.Uint32())
			})
			got, want := []uint64{1, 2, 3, 4, 5, 6}, make([]uint64, 6)
			Above(got[1:5], g.x, least)
			aboveGeneric(want[1:], g.x, least)
			want[0], want[5] = 1, 6
			if !slices.Equal(got, want) {
				t.Fatalf("%v above %v: %x, want %x", g.x, least, got, want)
			}
			g.unhurt(t, nil)
		})
	})
}
