package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var special = []float32{0, 1, -1, 1e4, -1e4, 1e-40, -63, -62.5, -63.5, -126, -127, -150, 3e38, -3e38, NegInf}

// scores fills a tile with what a softmax may meet: lanes that are all -Inf, masked scores, ties, large logits.
func scores(r *rand.Rand) func(lane int) float32 {
	kind := [Lanes]int{}
	for i := range kind {
		kind[i] = r.IntN(6)
	}
	return func(lane int) float32 {
		switch kind[lane] {
		case 0:
			return NegInf
		case 1:
			return special[r.IntN(len(special))]
		case 2:
			if r.IntN(2) == 0 {
				return NegInf
			}
			return float32(r.NormFloat64() * 50)
		case 3:
			return 7
		}
		return float32(r.NormFloat64())
	}
}

func tileOf(r *rand.Rand, rows int, f func(lane int) float32) *guarded {
	i := -1
	return guardedSlice(r, rows*Lanes, func() float32 { i++; return f(i % Lanes) })
}

// sameSoftmax compares two states, and two tiles of weights, to a relative error of tol.
func sameSoftmax(t *testing.T, got, want *Softmax, tile, wantTile []float32) {
	t.Helper()
	close := func(what string, i int, g, w float32) {
		t.Helper()
		if !same(g, w) && math.Abs(float64(g-w)) > 4e-7*math.Abs(float64(w)) || g == 0 != (w == 0) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, g, w)
		}
	}
	for i := range Lanes {
		close("max", i, got.Max[i], want.Max[i])
		close("scale", i, got.Scale[i], want.Scale[i])
		close("sum", i, got.Sum[i], want.Sum[i])
	}
	for i := range tile {
		close("weight", i, tile[i], wantTile[i])
	}
}

func (s *Softmax) take(tile []float32, rows int, lazy bool) {
	if lazy {
		s.LazyStep(tile, rows)
	} else {
		s.Step(tile, rows)
	}
}

// eachStep runs f for Step and for LazyStep on each level.
func eachStep(t *testing.T, f func(t *testing.T, lazy bool)) {
	for _, lazy := range []bool{false, true} {
		t.Run(map[bool]string{false: "step", true: "lazy"}[lazy], func(t *testing.T) {
			eachLevel(t, func(t *testing.T) { f(t, lazy) })
		})
	}
}

func TestStep(t *testing.T) {
	eachStep(t, func(t *testing.T, lazy bool) {
		r := rand.New(rand.NewPCG(1, 1))
		for rows := range 131 {
			var got, want Softmax
			got.Reset()
			want.Reset()
			for range 3 {
				g := tileOf(r, rows, scores(r))
				twin := append([]float32(nil), g.x...)
				got.take(g.x, rows, lazy)
				want.stepGeneric(twin, lazy)
				sameSoftmax(t, &got, &want, g.x, twin)
				g.unhurt(t, nil)
			}
		}
	})
}

// TestStepLanes: a lane that meets NaN or +Inf becomes NaN and no other changes; a lane without
// scores stays empty.
func TestStepLanes(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachStep(t, func(t *testing.T, lazy bool) {
		for _, rows := range []int{1, 2, 3, 8, 33} {
			for at := range rows {
				tile := make([]float32, rows*Lanes)
				for i := range tile {
					if i%Lanes%2 == 1 {
						tile[i] = NegInf
					}
				}
				for lane, v := range map[int]float32{2: nan, 3: nan, 5: inf, 6: inf} {
					tile[at*Lanes+lane] = v
				}
				clean := append([]float32(nil), tile...)
				var s, twin Softmax
				s.Reset()
				twin.Reset()
				s.take(tile, rows, lazy)
				twin.stepGeneric(clean, lazy)
				sameSoftmax(t, &s, &twin, tile, clean)
				for lane := range Lanes {
					switch lane {
					case 2, 3, 5, 6:
						if s.Sum[lane] == s.Sum[lane] {
							t.Fatalf("lane %d: sum %v, want NaN", lane, s.Sum[lane])
						}
					default:
						want := float32(rows)
						if lane%2 == 1 {
							want = 0
						}
						if s.Sum[lane] != want || lane%2 == 1 && (s.Max[lane] != NegInf || s.Scale[lane] != 1) {
							t.Fatalf("lane %d: max %v sum %v scale %v", lane, s.Max[lane], s.Sum[lane], s.Scale[lane])
						}
					}
				}
				// The next step keeps them apart as well.
				next := make([]float32, rows*Lanes)
				twinNext := make([]float32, rows*Lanes)
				s.take(next, rows, lazy)
				twin.stepGeneric(twinNext, lazy)
				sameSoftmax(t, &s, &twin, next, twinNext)
			}
		}
	})
}

func TestWeights(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 2))
		for rows := range 70 {
			f := scores(r)
			g := tileOf(r, rows, f)
			lse := tileOf(r, 1, func(lane int) float32 {
				switch r.IntN(5) {
				case 0:
					return NegInf
				case 1:
					return 1e4
				}
				return f(lane)
			})
			for i := range lse.x {
				if i == 9 && rows > 0 {
					g.x[i], lse.x[i] = float32(math.NaN()), NegInf
				}
			}
			want := append([]float32(nil), g.x...)
			weightsGeneric(want, lse.x)
			p := append([]float32(nil), want...)
			Weights(g.x, rows, lse.x)
			for i, w := range want {
				if v := g.x[i]; !same(v, w) && math.Abs(float64(v-w)) > 4e-7*math.Abs(float64(w)) || v == 0 != (w == 0) {
					t.Fatalf("weight %d = %v, want %v", i, v, w)
				}
			}
			g.unhurt(t, nil)

			dp, delta := tileOf(r, rows, f), tileOf(r, 1, func(int) float32 { return float32(r.NormFloat64()) })
			for i := range dp.x {
				if r.IntN(20) == 0 {
					dp.x[i] = float32(math.NaN())
				}
			}
			grad := append([]float32(nil), dp.x...)
			weightsGradGeneric(p, grad, delta.x)
			WeightsGrad(p, dp.x, rows, delta.x)
			for i, w := range grad {
				if math.Float32bits(dp.x[i]) != math.Float32bits(w) && !(w != w && dp.x[i] != dp.x[i]) {
					t.Fatalf("gradient %d = %v, want %v", i, dp.x[i], w)
				}
			}
			dp.unhurt(t, nil)
		}
	})
}

// TestExp2Accuracy and TestExpAccuracy hold the exponentials against float64.
func TestExp2Accuracy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		var zero [Lanes]float32
		worst := 0.0
		n := 1 << 15
		if testing.Short() {
			n = 1 << 12
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = -130 + 258.4*float32(i)/float32(n)
		}
		y := append([]float32(nil), x...)
		Weights(y, n/Lanes, zero[:])
		for i, v := range x {
			want := math.Exp2(float64(v))
			switch {
			case v < leastPower:
				if y[i] != 0 {
					t.Fatalf("2^%v = %v, want 0", v, y[i])
				}
			case v >= 128:
				if !math.IsInf(float64(y[i]), 1) {
					t.Fatalf("2^%v = %v, want +Inf", v, y[i])
				}
			default:
				worst = math.Max(worst, math.Abs(float64(y[i])/want-1))
			}
		}
		if !(worst <= 2e-7) { // NaN, too
			t.Errorf("relative error %.2g", worst)
		}
	})
}

// TestStepAccuracy holds the weights of a step, all of which are at most 1, against float64.
func TestStepAccuracy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		n := 1 << 17
		if testing.Short() {
			n = 1 << 13
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = -130 * float32(i) / float32(n)
		}
		copy(x, make([]float32, Lanes)) // the maximum of each lane
		y := slices.Clone(x)
		var s Softmax
		s.Reset()
		for i := 0; i < n; i += 128 * Lanes {
			s.Step(y[i:i+128*Lanes], 128)
		}
		worst := 0.0
		for i, v := range x {
			want := math.Exp2(float64(v))
			switch {
			case v < leastPower && y[i] != 0, v == 0 && y[i] != 1:
				t.Fatalf("2^%v = %v", v, y[i])
			case v >= leastPower:
				worst = math.Max(worst, math.Abs(float64(y[i])/want-1))
			}
		}
		if !(worst <= 2e-7) { // NaN, too
			t.Errorf("relative error %.2g", worst)
		}
		t.Logf("relative error %.2g", worst)
	})
}

func TestExpAccuracy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		n := 1 << 15
		if testing.Short() {
			n = 1 << 12
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = -89 + 178*float32(i)/float32(n)
		}
		copy(x, []float32{88.72283, 88.72284, 88.72285, 88.7, 89, 1e30, -87.33654, -87.33655, -87.34, -1e30, NegInf, float32(math.Inf(1)), float32(math.NaN()), 0, 1e-40})
		y := append([]float32(nil), x...)
		Exp(y)
		worst := 0.0
		for i, v := range x {
			want := math.Exp(float64(v))
			switch {
			case v != v:
				if y[i] == y[i] {
					t.Fatalf("e^NaN = %v", y[i])
				}
			case v < -87.33654:
				if y[i] != 0 {
					t.Fatalf("e^%v = %v, want 0", v, y[i])
				}
			case float64(v) > 88.722836:
				if !math.IsInf(float64(y[i]), 1) {
					t.Fatalf("e^%v = %v, want +Inf", v, y[i])
				}
			default:
				worst = math.Max(worst, math.Abs(float64(y[i])/want-1))
			}
		}
		if !(worst <= 2e-7) { // NaN, too
			t.Errorf("relative error %.2g", worst)
		}
	})
}

func TestExpSum(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 4))
		for n := range 131 {
			for _, max := range []float32{0, 3, 1e4, NegInf} {
				g := guardedSlice(r, n, func() float32 {
					if max == NegInf {
						return NegInf
					}
					if r.IntN(3) == 0 {
						return NegInf
					}
					return max - float32(r.ExpFloat64()*20)
				})
				x := append([]float32(nil), g.x...)
				want, sum := 0.0, 0.0
				got := ExpSum(g.x, max)
				for i, v := range g.x {
					w := expGeneric(x[i] - max)
					if x[i] == NegInf {
						w = 0
					}
					if math.Abs(float64(v-w)) > 4e-7*float64(w) || v == 0 != (w == 0) {
						t.Fatalf("n=%d: x[%d] = %v, want %v", n, i, v, w)
					}
					sum += float64(v)
					want += float64(w)
				}
				if math.Abs(float64(got)-sum) > 1e-6*sum || got != got {
					t.Fatalf("n=%d: sum %v, want %v", n, got, want)
				}
				g.unhurt(t, nil)
			}
		}
		x := []float32{1, 2, float32(math.NaN()), NegInf, 5, 6, 7, 8, 9}
		if s := ExpSum(x, 9); s == s || x[2] == x[2] || x[3] != 0 || x[8] != 1 {
			t.Errorf("with NaN: %v, %v", s, x)
		}
	})
}

// TestMergeOfEmpty: two empty partial results stay empty (exp(-Inf - -Inf) is the trap).
func TestMergeOfEmpty(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		var s Softmax
		s.Reset()
		tile := make([]float32, 2*Lanes)
		for range 2 {
			for i := range tile {
				tile[i] = NegInf
			}
			s.Step(tile, 2)
		}
		var inverse, lse [Lanes]float32
		s.Inverse(inverse[:])
		s.LogSum2(lse[:])
		for i := range Lanes {
			if s.Sum[i] != 0 || s.Max[i] != NegInf || s.Scale[i] != 1 || inverse[i] != 0 || lse[i] != NegInf || tile[i] != 0 {
				t.Fatalf("lane %d: %v %v %v %v %v", i, s.Max[i], s.Sum[i], s.Scale[i], inverse[i], lse[i])
			}
		}
		// Scores 1, 2, 3 in parts of 2 and 1 as in one pass.
		tile = tile[:0]
		for _, v := range []float32{1, 2, 3} {
			for range Lanes {
				tile = append(tile, v*Log2E)
			}
		}
		s.Step(tile[:2*Lanes], 2)
		s.Step(tile[2*Lanes:], 1)
		s.LogSum2(lse[:])
		if got := float64(lse[31]) / Log2E; math.Abs(got-3.4076060) > 1e-6 {
			t.Errorf("log-sum-exp of 1, 2, 3 is %v", got)
		}
	})
}

func TestPut(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 9))
		for rows := range 130 {
			g := tileOf(r, rows, scores(r))
			want := slices.Clone(g.x)
			masks := make([]uint32, rows)
			for i := range masks {
				masks[i] = []uint32{0, ^uint32(0), r.Uint32(), 1 << (r.Uint32() % 32)}[r.IntN(4)]
			}
			x := special[r.IntN(len(special))]
			putGeneric(want, masks, x)
			Put(g.x, masks, x)
			if !slices.EqualFunc(g.x, want, same) {
				t.Fatalf("%d rows, masks %x: got %v, want %v", rows, masks, g.x, want)
			}
			g.unhurt(t, nil)
		}
	})
}
