package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLag: the Max of LazyStep by hand, lane by lane, whatever stands in the other lanes.
func TestLag(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct{ old, score, want, scale float32 }{
		{NegInf, NegInf, NegInf, 1},
		{NegInf, 3.5, 0, 0},
		{NegInf, -8, 0, 0},
		{NegInf, -8.25, -8, 0},
		{NegInf, 24, 0, 0},
		{NegInf, 24.25, 25, 0},
		{NegInf, -300.5, -300, 0},
		{0, 24, 0, 1},
		{0, 25, 25, 0x1p-25},
		{0, -500, 0, 1},
		{2, 26, 2, 1},
		{-100, -75.5, -75, 0x1p-25},
		{-100, -76, -100, 1},
		{7, NegInf, 7, 1},
		{0, inf, inf, 0},
	} {
		eachLevel(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 9))
			for lane := range Lanes {
				var s Softmax
				s.Reset()
				s.Max[lane] = c.old
				tile := tileOf(r, 5, scores(r))
				for i := range 5 {
					tile.x[i*Lanes+lane] = NegInf
				}
				tile.x[r.IntN(5)*Lanes+lane] = c.score
				s.LazyStep(tile.x, 5)
				if s.Max[lane] != c.want || !(math.Abs(float64(s.Scale[lane]-c.scale)) <= 2e-7*float64(c.scale)) {
					t.Fatalf("lane %d, Max %v, score %v: Max %v, scale %v, want %v, %v", lane, c.old, c.score, s.Max[lane], s.Scale[lane], c.want, c.scale)
				}
			}
		})
	}
}

// TestLazyAccuracy holds weights, all of which lie between 2^-63 and 2^24, against float64.
func TestLazyAccuracy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		x := make([]float32, 1<<13)
		for i := range x {
			x[i] = 24 - 88*float32(i)/float32(len(x))
		}
		y := slices.Clone(x)
		var s Softmax
		s.Reset()
		s.LazyStep(y, len(y)/Lanes)
		worst := 0.0
		for i, v := range x {
			switch want := math.Exp2(float64(v)); {
			case v >= leastPower:
				worst = math.Max(worst, math.Abs(float64(y[i])/want-1))
			case y[i] != 0:
				t.Fatalf("2^%v = %v, want 0", v, y[i])
			}
		}
		if s.Max != [Lanes]float32{} || !(worst <= 2e-7) {
			t.Errorf("Max %v, relative error %.2g", s.Max, worst)
		}
	})
}

// TestMulWeights: the products of the backward pass that go on in registers have the bits of the products and the passes behind
// them.
func TestMulWeights(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 3))
		for rows := 1; rows <= 130; rows++ {
			c := newPowersCase(r, rows, 1+r.IntN(140), []float64{0.3, 3, 1000}[rows%3])
			if rows%5 == 0 {
				c.a.x[r.IntN(len(c.a.x))] = float32(math.NaN())
			}
			lse := tileOf(r, 1, scores(r))
			lse.x[r.IntN(Lanes)] = float32(math.NaN())
			p := make([]float32, rows*Lanes)
			Mul(rows, Lanes, c.k, c.ma, c.mb, Rows(p, Lanes))
			dp := slices.Clone(p)
			Weights(p, rows, lse.x)
			WeightsGrad(p, dp, rows, lse.x)

			empty := func() *guarded { return guardedSlice(r, rows*Lanes, func() float32 { return 7 }) }
			gotP, gotDP := empty(), empty()
			MulWeights(rows, c.k, c.ma, c.mb, gotP.x, lse.x)
			MulWeightsGrad(rows, c.k, c.ma, c.mb, p, gotDP.x, lse.x)
			for i := range p {
				if !sameWord(gotP.x[i], p[i]) || !sameWord(gotDP.x[i], dp[i]) {
					t.Fatalf("rows %d, element %d: weight %v and gradient %v, want %v and %v", rows, i, gotP.x[i], gotDP.x[i], p[i], dp[i])
				}
			}
			for _, g := range []*guarded{gotP, gotDP} {
				g.unhurt(t, func(int) bool { return true })
			}
			for _, g := range []*guarded{c.a, c.b, lse} {
				g.unhurt(t, nil)
			}
		}
	})
}

// TestMulAddTwo: one sum over the lanes of two tiles has the bits of two.
func TestMulAddTwo(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 4))
		normal := func() float32 { return float32(r.NormFloat64()) }
		for rows := range 131 {
			n := r.IntN(140)
			ld, lc := n+r.IntN(3), n+r.IntN(3)
			p, q := guardedSlice(r, rows*Lanes, normal), guardedSlice(r, rows*Lanes, normal)
			b, d := guardedSlice(r, Lanes*ld, normal), guardedSlice(r, Lanes*ld, normal)
			c := guardedSlice(r, rows*lc, normal)
			want := slices.Clone(c.x)
			MulAdd(rows, n, Lanes, Rows(p.x, Lanes), Rows(b.x, ld), Rows(want, lc))
			MulAdd(rows, n, Lanes, Rows(q.x, Lanes), Rows(d.x, ld), Rows(want, lc))
			MulAddTwo(rows, n, p.x, q.x, Rows(b.x, ld), Rows(d.x, ld), Rows(c.x, lc))
			for i, w := range want {
				if !sameWord(c.x[i], w) {
					t.Fatalf("%d rows, %d columns: element %d = %v, want %v", rows, n, i, c.x[i], w)
				}
			}
			c.unhurt(t, func(i int) bool { return lc > 0 && i%lc < n })
			for _, g := range []*guarded{p, q, b, d} {
				g.unhurt(t, nil)
			}
		}
	})
}

// sameWord: the same bits, or NaN both.
func sameWord(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// A powersCase is a block of keys and a tile of queries whose scores are about as large as given.
type powersCase struct {
	rows, k int
	a, b    *guarded
	ma, mb  Mat
}

func newPowersCase(r *rand.Rand, rows, k int, size float64) powersCase {
	normal := func() float32 { return float32(r.NormFloat64() * math.Sqrt(size)) }
	ld := k + r.IntN(3)
	c := powersCase{rows: rows, k: k, a: guardedSlice(r, (rows-1)*ld+k, normal), b: guardedSlice(r, k*Lanes, normal)}
	c.ma, c.mb = Rows(c.a.x, ld), Rows(c.b.x, Lanes)
	return c
}

// slow is what MulPowers is a fast way of.
func (c *powersCase) slow(s *Softmax, hide func(tile []float32, x float32)) []float32 {
	tile := make([]float32, c.rows*Lanes)
	Mul(c.rows, Lanes, c.k, c.ma, c.mb, Rows(tile, Lanes))
	hide(tile, NegInf)
	s.LazyStep(tile, c.rows)
	return tile
}

// TestMulPowers: where MulPowers says yes, all bits are those of Mul and LazyStep; else the state is as it was. It
// says yes on avx512 for scores of usual size, from the first block on.
func TestMulPowers(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 1))
		yes := 0
		for rows := 1; rows <= 130; rows++ {
			size := []float64{0.01, 0.3, 1, 3, 30}[rows%5]
			hidden := rows%2 == 0
			hide := func(tile []float32, x float32) {
				for i := range tile {
					if hidden && i%7 == 0 {
						tile[i] = x
					}
				}
			}
			var s, want Softmax
			s.Reset()
			for range 4 {
				c := newPowersCase(r, rows, 1+r.IntN(70), size)
				tile := guardedSlice(r, rows*Lanes, func() float32 { return float32(math.NaN()) })
				want = s
				weights := c.slow(&want, hide)
				old := s
				if s.MulPowers(rows, c.k, c.ma, c.mb, tile.x, hidden) {
					yes++
					if hidden {
						if s.Sum != old.Sum {
							t.Fatalf("rows %d: Sum changed before Take", rows)
						}
						hide(tile.x, 0)
						s.Take(tile.x, rows)
					}
					for i, w := range weights {
						if math.Float32bits(tile.x[i]) != math.Float32bits(w) {
							t.Fatalf("rows %d: weight %d = %v, want %v", rows, i, tile.x[i], w)
						}
					}
					if s != want {
						t.Fatalf("rows %d: state %v, want %v", rows, s, want)
					}
				} else if s != old {
					t.Fatalf("rows %d: state %v, want it untouched: %v", rows, s, old)
				}
				s = want
				tile.unhurt(t, func(int) bool { return true })
				c.a.unhurt(t, nil)
				c.b.unhurt(t, nil)
			}
		}
		if level == levelAVX512 && yes < 130 || level != levelAVX512 && yes > 0 {
			t.Errorf("level %s did %d of 520 blocks", Level(), yes)
		}
	})
}

// TestMulPowersDeclines: a score beyond the range, a NaN, a Max that is not 0, in any one lane and any row.
func TestMulPowersDeclines(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		if level != levelAVX512 {
			t.Skip("never accepts")
		}
		r := rand.New(rand.NewPCG(8, 2))
		const k = 5
		tile := make([]float32, 45*Lanes)
		for _, rows := range []int{8, 13, 45} {
			for lane := range Lanes {
				at := r.IntN(rows)
				fresh := func() (c powersCase, s Softmax) {
					c = newPowersCase(r, rows, k, 0.1)
					c.ma.Data[at*c.ma.Row] = 1
					s.Reset()
					s.LazyStep(make([]float32, Lanes), 1)
					return c, s
				}
				for _, x := range []float32{25, -25, 1000, -1000, float32(math.Inf(1)), NegInf, float32(math.NaN())} {
					if x < 0 && at >= rows/8*8 {
						continue // rows behind the last tile take any low score
					}
					c, s := fresh()
					c.mb.Data[lane] = x
					for p := 1; p < k; p++ {
						c.ma.Data[at*c.ma.Row+p] = 0
					}
					if s.MulPowers(rows, k, c.ma, c.mb, tile, false) {
						t.Fatalf("rows %d, lane %d: a score of %v was taken", rows, lane, x)
					}
				}
				c, s := fresh()
				s.Reset()
				if s.MulPowers(rows, k, c.ma, c.mb, tile, true) {
					t.Fatalf("rows %d: pairs were to be hidden from an empty state", rows)
				}
				c.mb.Data[lane] = -20
				for i := range rows {
					for p := range k {
						c.ma.Data[i*c.ma.Row+p] = []float32{1, 0}[min(p, 1)]
					}
				}
				if s.MulPowers(rows, k, c.ma, c.mb, tile, false) {
					t.Fatalf("rows %d, lane %d: first scores of -20 were taken", rows, lane)
				}
				c, s = fresh()
				if !s.MulPowers(rows, k, c.ma, c.mb, tile, false) {
					t.Fatalf("rows %d: small scores were not taken", rows)
				}
				s.Max[lane] = 1
				if s.MulPowers(rows, k, c.ma, c.mb, tile, false) {
					t.Fatalf("rows %d: taken with Max 1 in lane %d", rows, lane)
				}
			}
		}
	})
}
