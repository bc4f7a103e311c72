package kernel

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// hostile32 are numbers at the edges of rounding to bfloat16 and of flushing.
var hostile32 = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 1e-40, -1e-45, 0x1p-126, -0x1p-126, 0x1.fffffcp-127, 0x1p-64, -0x1.02p-63, 0x1.fep-64,
	0x1p63, 0x1.fep63, 3e38, -math.MaxFloat32, 0x1.fep127, 1 + 0x1p-8, 1 + 0x1.8p-7, 1 + 0x1p-8 + 0x1p-23,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

func hostileOr(r *rand.Rand, f func() float32) func() float32 {
	return func() float32 {
		if r.IntN(4) == 0 {
			return hostile32[r.IntN(len(hostile32))]
		}
		return f()
	}
}

func anyBits(r *rand.Rand) func() float32 {
	return func() float32 { return math.Float32frombits(r.Uint32()) }
}

func sameNumber(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestRoundGeneric(t *testing.T) {
	inf, tiny := math.Inf(1), float32(0x1p-126)
	for _, c := range []struct {
		x    float32
		want float64
	}{
		{1, 1}, {-2.5, -2.5},
		{1 + 0x1p-8, 1}, {1 + 0x1p-7 + 0x1p-8, 1 + 0x1p-6}, // ties to even
		{1 + 0x1p-8 + 0x1p-23, 1 + 0x1p-7}, {-1 - 0x1p-8 - 0x1p-23, -1 - 0x1p-7}, {1 + 0x1p-8 - 0x1p-23, 1},
		{0x1.fep127, 0x1.fep127}, {0x1.fefffep127, 0x1.fep127}, {0x1.ffp127, inf}, {-math.MaxFloat32, -inf}, {float32(inf), inf},
		{tiny, 0x1p-126}, {0x1.fffffcp-127, 0}, {1e-45, 0}, {0, 0},
	} {
		if got := low(roundGeneric(c.x)); float64(got) != c.want {
			t.Errorf("%g rounds to %g, want %g", c.x, got, c.want)
		}
	}
	if u := roundGeneric(float32(math.Copysign(1e-45, -1))); u != 0x8000 {
		t.Errorf("a negative subnormal number rounds to %04x, want -0", u)
	}
	for _, u := range []uint32{0x7fffffff, 0x7f800001, 0xffc00000, 0xff80ffff} {
		if x := low(roundGeneric(math.Float32frombits(u))); x == x {
			t.Errorf("NaN %08x rounds to %g", u, x)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		x := math.Float32frombits(r.Uint32())
		if x != x || math.Abs(float64(x)) < 0x1p-126 || math.Abs(float64(x)) > 0x1.fep127 {
			continue
		}
		got := float64(low(roundGeneric(x)))
		below := float64(math.Float32frombits(math.Float32bits(x) &^ 0xffff))
		above := float64(math.Float32frombits(math.Float32bits(x)&^0xffff + 0x10000))
		if got != below && got != above || math.Abs(got-float64(x)) > math.Abs(below-float64(x)) || math.Abs(got-float64(x)) > math.Abs(above-float64(x)) {
			t.Fatalf("%g rounds to %g, of %g and %g", x, got, below, above)
		}
	}
}

// TestFusedPair holds the specification against exact arithmetic.
func TestFusedPair(t *testing.T) {
	exact := func(x, y, z float32) float32 {
		flush := func(x float32) *big.Float {
			if math.Abs(float64(x)) < 0x1p-126 {
				x = 0
			}
			return big.NewFloat(float64(x))
		}
		s := new(big.Float).SetPrec(1000).Mul(flush(x), flush(y))
		s.Add(s, flush(z))
		s.SetMode(big.ToNearestEven).SetPrec(24) // the exponent has no bound yet
		f, _ := s.Float64()
		if math.Abs(f) < 0x1p-126 {
			return 0
		}
		return float32(f)
	}
	r := rand.New(rand.NewPCG(2, 1))
	bf := func(e int) float32 {
		return low(roundGeneric(float32(math.Ldexp(1+float64(r.IntN(128))/128, r.IntN(e)-e/2)) * float32(1-2*r.IntN(2))))
	}
	for i := range 200000 {
		var x, y, z float32
		switch i % 4 {
		case 0: // near the smallest number
			x, y = bf(4)*0x1p-62, bf(4)*0x1p-62
			z = float32(math.Ldexp(1+r.Float64(), -126-r.IntN(3))) * float32(1-2*r.IntN(2))
		case 1: // ties and near ties: z of 24 bits beside a product far below
			x, y, z = bf(8), bf(60), float32(math.Ldexp(float64(1<<23+r.IntN(1<<23)), r.IntN(8)))
		case 2:
			x, y, z = bf(30), bf(30), float32(r.NormFloat64())
		case 3:
			x, y, z = bf(250), bf(250), math.Float32frombits(r.Uint32())
		}
		if z != z || math.IsInf(float64(z), 0) {
			continue
		}
		got, want := fusedPair(x, y, z), exact(x, y, z)
		if got != want {
			t.Fatalf("%g·%g + %g = %g, want %g", x, y, z, got, want)
		}
	}
}

// TestPairOrder: the high halves come first, and the sum is rounded between the two.
func TestPairOrder(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		if pairTiles() {
			t.Skip("AMX has another order")
		}
		pair := func(lo, hi float32) uint32 { return roundGeneric(lo) | roundGeneric(hi)<<16 }
		for _, c := range []struct{ c, hi, lo, want float32 }{
			{0x1p24, -0x1p24, 1, 1}, {0x1p24, 1, -0x1p24, 0}, {0x1p24, 3, 1, 0x1p24 + 4}, {0, 0x1p-126, -0x1.02p-126, 0},
			{0x1p-126, -0x1.02p-126, 0x1p-126, 0x1p-126}, {1e-40, 0, 0x1p-126, 0x1p-126}, {0, 1e-40, 1e-40, 0},
		} {
			a, b, x := make([]uint32, 1), make([]uint32, Lanes), make([]float32, Lanes)
			a[0] = pair(1, 1)
			for i := range b {
				b[i], x[i] = pair(c.lo, c.hi), c.c
			}
			MulAddPairs(1, Lanes, 1, PairRows(a, 1), PairRows(b, Lanes), Rows(x, Lanes))
			for _, got := range x {
				if got != c.want {
					t.Errorf("%g + %g + %g = %g, want %g", c.c, c.hi, c.lo, got, c.want)
					break
				}
			}
		}
	})
}

// TestTileOrder: in a chunk of 16 pairs the low halves have one chain and the high ones another; their sum is added to C.
func TestTileOrder(t *testing.T) {
	setLevel(t, highest())
	products := map[string]func(m, n, k int, a, b Pairs, c Mat){"generic": func(m, n, k int, a, b Pairs, c Mat) {
		mulTilesGeneric(add, 1, nil, m, n, k, &a, &b, &c)
	}}
	if pairTiles() {
		products["tiles"] = MulAddPairs
	}
	const big = 0x1p24
	for name, mul := range products {
		for _, x := range []struct {
			c      float32
			at     [4]int // words of B that are not 0
			lo, hi [4]float32
			want   float32
		}{
			{c: big, at: [4]int{0}, lo: [4]float32{1}, hi: [4]float32{1}, want: big + 2},               // the halves meet first
			{c: big, at: [4]int{0, 1}, lo: [4]float32{1, 1}, want: big + 2},                            // so do the terms of a chunk
			{c: big, at: [4]int{0, 16}, lo: [4]float32{1, 1}, want: big},                               // but not those of two
			{at: [4]int{0, 1, 2}, lo: [4]float32{big, 1, -big}, want: 0},                               // in order
			{at: [4]int{0, 1}, lo: [4]float32{big, 0}, hi: [4]float32{-big, 1}, want: 1},               // a half has its chain
			{at: [4]int{0, 1, 2}, lo: [4]float32{big, -big}, hi: [4]float32{0, 0, 1}, want: 1},         // of its own
			{c: 1e-40, at: [4]int{0}, lo: [4]float32{0x1p-126}, want: 0x1p-126},                        // subnormal numbers are 0
			{at: [4]int{0}, lo: [4]float32{0x1p-126}, hi: [4]float32{-0x1.02p-126}, want: 0},           // and so are those that come out
			{c: -0x1p-126, at: [4]int{0, 1}, lo: [4]float32{0x1p-126, 0x1.02p-133}, want: 0},           // everywhere
			{at: [4]int{0, 16}, lo: [4]float32{-0x1.02p-126, 0x1p-126}, hi: [4]float32{0, 0}, want: 0}, // at each sum
			{at: [4]int{15, 16}, lo: [4]float32{big, 1}, hi: [4]float32{0, 1}, want: big + 2}, {want: 0},
		} {
			a, b, c := make([]uint32, 17), make([]uint32, 17*Lanes), make([]float32, Lanes)
			for i := range a {
				a[i] = roundGeneric(1) | roundGeneric(1)<<16
			}
			for i := range Lanes {
				for j, p := range x.at {
					b[p*Lanes+i] |= roundGeneric(x.lo[j]) | roundGeneric(x.hi[j])<<16
				}
				c[i] = x.c
			}
			mul(1, Lanes, 17, PairRows(a, 17), PairRows(b, Lanes), Rows(c, Lanes))
			for i := range c {
				if c[i] != x.want {
					t.Errorf("%s: %g + %v, %v at %v = %g, want %g", name, x.c, x.lo, x.hi, x.at, c[i], x.want)
					break
				}
			}
		}
	}
}

// guardedWords is a guardedSlice seen as words.
func guardedWords(r *rand.Rand, n int, fill func() float32) (*guarded, []uint32) {
	g := guardedSlice(r, n, fill)
	return g, Words(g.x)
}

func checkRounding(t *testing.T, r *rand.Rand, rows, cols int, fill func() float32) {
	t.Helper()
	src := Rows(nil, cols+r.IntN(9))
	src.Data = guardedSlice(r, src.span(rows, cols), fill).x
	for _, across := range []bool{false, true} {
		dr, dc := rows, PairsOf(cols)
		if across {
			dr, dc = PairsOf(rows), cols
		}
		ld := dc + r.IntN(5)
		g, got := guardedWords(r, Rows(nil, ld).span(dr, dc), normal(r))
		want := append([]uint32(nil), got...)
		if across {
			RoundPairs(got, ld, src, rows, cols)
		} else {
			RoundRows(got, ld, src, rows, cols)
		}
		if rows > 0 && cols > 0 && across {
			roundPairsGeneric(want, ld, src, rows, 0, cols)
		} else if rows > 0 && cols > 0 {
			roundRowsGeneric(want, ld, src, rows, 0, cols)
		}
		for i := range got {
			same := got[i] == want[i] || sameNumber(low(got[i]), low(want[i])) && sameNumber(high(got[i]), high(want[i]))
			if !same && i%ld < dc {
				t.Fatalf("%dx%d, across %v: word %d is %08x, want %08x", rows, cols, across, i, got[i], want[i])
			}
		}
		g.unhurt(t, func(i int) bool { return i%ld < dc })
	}
}

func TestRounding(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 1))
		for n := range 131 {
			checkRounding(t, r, 1+r.IntN(9), n, hostileOr(r, normal(r)))
			checkRounding(t, r, n, 1+r.IntN(70), anyBits(r))
		}
		checkRounding(t, r, 128, 64, anyBits(r))
		checkRounding(t, r, 300, 130, anyBits(r))
		checkRounding(t, r, 3, 40000, anyBits(r))
	})
}

func TestRoundColumns(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 1))
		for range 200 {
			rows, cols := r.IntN(131), r.IntN(131)
			src := Rows(nil, cols+r.IntN(9))
			src.Data = guardedSlice(r, src.span(rows, cols), anyBits(r)).x
			n := PairsOf(rows)
			ld := n + r.IntN(5)
			room, _ := guardedWords(r, PairsOf(rows)*Lanes, normal(r))
			g, got := guardedWords(r, Rows(nil, ld).span(cols, n), normal(r))
			RoundColumns(got, ld, src, rows, cols, Words(room.x))
			want := make([]uint32, n*cols+1)
			RoundPairs(want, cols, src, rows, cols)
			for c := range cols {
				for p := range n {
					if got[c*ld+p] != want[p*cols+c] {
						t.Fatalf("%dx%d: pair %d of column %d is %08x, want %08x", rows, cols, p, c, got[c*ld+p], want[p*cols+c])
					}
				}
			}
			g.unhurt(t, func(i int) bool { return i%max(ld, 1) < n })
			room.unhurt(t, nil)
		}
	})
}

func TestWiden(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 1))
		for _, n := range append(edges, 0, strip1, strip1+31) {
			_, src := guardedWords(r, n, anyBits(r))
			g := guardedSlice(r, 2*n, normal(r))
			Widen(g.x, src)
			for i, w := range src {
				if math.Float32bits(g.x[2*i]) != w<<16 || math.Float32bits(g.x[2*i+1]) != w&0xffff0000 {
					t.Fatalf("n=%d: pair %d, %08x, becomes %g, %g", n, i, w, g.x[2*i], g.x[2*i+1])
				}
			}
			g.unhurt(t, nil)
		}
	})
}

// checkPairs holds one product to the bit against the specification.
func checkPairs(t *testing.T, r *rand.Rand, mode, m, n, k int, fill func() float32) {
	t.Helper()
	a := PairRows(nil, k+r.IntN(5))
	if r.IntN(4) == 0 {
		a.Row = r.IntN(7) // rows overlap
	}
	wide := (n + Lanes - 1) / Lanes * Lanes
	b, c := PairRows(nil, wide+r.IntN(20)), Rows(nil, n+r.IntN(20))
	ga, aw := guardedWords(r, Rows(nil, 1).span(1, Rows(nil, a.Row).span(m, k)), fill)
	gb, bw := guardedWords(r, Rows(nil, b.Row).span(k, wide), fill)
	gc, gs := guardedSlice(r, c.span(m, n), fill), guardedSlice(r, n, fill)
	a.Data, b.Data, c.Data = aw, bw, gc.x
	factor := fill()
	want := c
	want.Data = append([]float32(nil), c.Data...)
	spec := mulPairsGeneric
	if pairTiles() {
		spec = mulTilesGeneric
	}
	if m > 0 && n > 0 {
		spec(mode, factor, gs.x, m, n, k, &a, &b, &want)
	}
	switch mode {
	case overwrite:
		MulPairs(m, n, k, factor, a, b, c)
	case add:
		MulAddPairs(m, n, k, a, b, c)
	case rescale:
		MulScalePairs(gs.x, m, n, k, a, b, c)
	}
	for i := range m {
		for j := range n {
			if got, w := c.Data[i*c.Row+j], want.Data[i*c.Row+j]; !sameNumber(got, w) {
				t.Fatalf("mode %d, m=%d n=%d k=%d a %d b %d c %d: c[%d][%d] = %g, want %g", mode, m, n, k, a.Row, b.Row, c.Row, i, j, got, w)
			}
		}
	}
	gc.unhurt(t, func(i int) bool { return i%c.Row < n })
	ga.unhurt(t, func(int) bool { return false })
	gb.unhurt(t, func(int) bool { return false })
}

func TestMulPairs(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 1))
		sizes := edges
		if testing.Short() || level == levelGeneric {
			sizes = edges[:11]
		}
		for _, m := range sizes {
			for _, n := range []int{1, 5, 31, 32, 33, 64, 70} {
				for _, k := range []int{0, 1, 2, 3, 8, 16, 32, 33} {
					checkPairs(t, r, r.IntN(3), m, n, k, normal(r))
				}
			}
		}
		for mode := range 3 {
			checkPairs(t, r, mode, 128, Lanes, 32, normal(r))
			checkPairs(t, r, mode, 130, Lanes, 65, normal(r))
			checkPairs(t, r, mode, 64, 64, 64, normal(r))
			checkPairs(t, r, mode, 0, 0, 0, normal(r))
			checkPairs(t, r, mode, 700, 32, 64, normal(r)) // more than one call
		}
	})
}

// small returns numbers whose products lie round the smallest one.
func small(r *rand.Rand) func() float32 {
	return func() float32 { return float32(r.NormFloat64()) * float32(math.Ldexp(1, -63+r.IntN(3))) }
}

func TestMulPairsHostile(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(6, 1))
		for i := range 300 {
			fill := []func() float32{hostileOr(r, normal(r)), anyBits(r), small(r)}[i%3]
			checkPairs(t, r, r.IntN(3), 1+r.IntN(17), 1+r.IntN(40), r.IntN(40), fill)
		}
	})
}

func FuzzMulPairs(f *testing.F) {
	f.Add(uint64(1), uint8(7), uint8(17), uint8(5), uint8(0))
	f.Add(uint64(2), uint8(130), uint8(31), uint8(64), uint8(2))
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k, mode uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			fill := []func() float32{normal(r), hostileOr(r, small(r)), anyBits(r)}[r.IntN(3)]
			checkPairs(t, r, int(mode)%3, int(m)%131, int(n)%131, int(k)%131, fill)
			checkRounding(t, r, int(m)%131, int(n)%131, fill)
		})
	})
}

// TestPairRowsInDecoding: Dots and Combine over rows of pairs are those over the same rows as floats.
func TestPairRowsInDecoding(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 1))
		for _, c := range [][3]int{{1, 1, 2}, {5, 3, 9}, {64, 70, 640}, {33, 300, 34}, {128, 129, 4096}, {0, 4, 8}, {7, 0, 8}} {
			t.Run(fmt.Sprint(c), func(t *testing.T) {
				dim, rows, ld := c[0], c[1], 2*PairsOf(c[0])
				x, w := guardedSlice(r, dim, normal(r)).x, guardedSlice(r, rows, normal(r)).x
				src := guardedSlice(r, rows*dim, normal(r)).x
				_, m := guardedWords(r, rows*ld/2, normal(r))
				RoundRows(m, ld/2, Rows(src, dim), rows, dim)
				f := make([]float32, rows*ld)
				Widen(f, m)
				room := guardedSlice(r, c[2], normal(r))
				got, want := make([]float32, rows), make([]float32, rows)
				DotsPairs(got, x, m, room.x)
				Dots(want, x, Rows(f, ld), rows)
				for i := range got {
					if math.Abs(float64(got[i]-want[i])) > 1e-5 {
						t.Errorf("dot %d is %g, want %g", i, got[i], want[i])
					}
				}
				sum, whole := make([]float32, dim), make([]float32, dim)
				CombinePairs(sum, w, m, room.x)
				Combine(whole, w, Rows(f, ld))
				for i := range sum {
					if math.Abs(float64(sum[i]-whole[i])) > 1e-4 {
						t.Errorf("sum %d is %g, want %g", i, sum[i], whole[i])
					}
				}
				room.unhurt(t, nil)
			})
		}
	})
}

func TestPairsNoAlloc(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		if n := testing.AllocsPerRun(2, func() {
			var x, c [40 * 40]float32
			var a, b [40 * 64]uint32
			RoundRows(a[:], 20, Rows(x[:], 40), 40, 40)
			RoundPairs(b[:], 64, Rows(x[:], 40), 40, 40)
			MulPairs(40, 40, 20, 0.5, PairRows(a[:], 20), PairRows(b[:], 64), Rows(c[:], 40))
			MulScalePairs(x[:], 40, 32, 20, PairRows(a[:], 20), PairRows(b[:], 64), Rows(c[:], 40))
			Widen(x[:80], a[:40])
			DotsPairs(c[:10], x[:8], a[:], make([]float32, 64))
			CombinePairs(c[:8], x[:10], a[:], make([]float32, 64))
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
