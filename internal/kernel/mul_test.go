package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// fma32 is the correctly rounded x·y+z in float32: the float64 sum is rounded to odd first, so
// that the second rounding cannot err.
func fma32(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z) // p is exact
	s := p + c
	b := s - p
	e := (p - (s - b)) + (c - b)
	if u := math.Float64bits(s); e != 0 && u&1 == 0 && !math.IsInf(s, 0) && e == e {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return float32(s)
}

// mulReference is Mul as every level must do it: generic multiplies and adds, the others fuse.
func mulReference(mode int, scale []float32, m, n, k int, a, b, c Mat) {
	for i := range m {
		for j := range n {
			x := &c.Data[i*c.Row+j]
			switch mode {
			case 0, 3, 5:
				*x = 0
			case 2, 7:
				*x *= scale[j]
			}
			for p := range k {
				av, bv := a.Data[i*a.Row+p*a.Col], b.Data[p*b.Row+j]
				if level == levelGeneric {
					*x += float32(av * bv)
				} else {
					*x = fma32(av, bv, *x)
				}
			}
		}
	}
}

func runMul(mode int, scale []float32, m, n, k int, a, b, c Mat) {
	switch mode {
	case 0:
		Mul(m, n, k, a, b, c)
	case 1:
		MulAdd(m, n, k, a, b, c)
	case 2:
		MulScale(scale, m, n, k, a, b, c)
	case 3:
		MulWith(make([]float32, MulScratch), m, n, k, a, b, c)
	case 4:
		MulAddWith(make([]float32, MulScratch), m, n, k, a, b, c)
	default: // A packed, with columns beside those of the sum
		before, after := k%3, n%2
		a, width := copyColumns(m, k, before, after, a), before+k+after
		room := make([]float32, PackedFloats(m, width)+16)
		packed := PackColumns(room[:PackedFloats(m, width)], m, width, a).From(before)
		for _, x := range room[PackedFloats(m, width):] {
			if x != 0 {
				panic("PackColumns wrote behind its room")
			}
		}
		switch mode {
		case 5:
			MulPacked(n, k, packed, b, c)
		case 6:
			MulAddPacked(n, k, packed, b, c)
		case 7:
			MulScalePacked(scale, n, k, packed, b, c)
		}
	}
}

// copyColumns returns a with contiguous columns, and others in front of and behind them.
func copyColumns(m, k, before, after int, a Mat) Mat {
	t := Mat{make([]float32, m*(before+k+after)), 1, m}
	for i := range t.Data {
		t.Data[i] = float32(math.NaN())
	}
	for p := range k {
		for i := range m {
			t.Data[(before+p)*m+i] = a.Data[i*a.Row+p*a.Col]
		}
	}
	return t
}

// checkMul holds one product to the bit against the reference, on slices that end where the matrix does.
func checkMul(t *testing.T, r *rand.Rand, mode, m, n, k int, fill func() float32) {
	t.Helper()
	a := Mat{Row: k + r.IntN(5), Col: 1}
	switch r.IntN(4) {
	case 0:
		a = Mat{Row: 1, Col: m + r.IntN(5)}
	case 1:
		a = Mat{Row: r.IntN(7), Col: r.IntN(7)} // overlapping elements are legal, they are only read
	}
	b, c := Mat{Row: n + r.IntN(20), Col: 1}, Mat{Row: n + r.IntN(20), Col: 1}
	if r.IntN(8) == 0 {
		b.Row = r.IntN(n + 1)
	}
	ga, gb := guardedSlice(r, a.span(m, k), fill), guardedSlice(r, b.span(k, n), fill)
	gc, gs := guardedSlice(r, c.span(m, n), fill), guardedSlice(r, n, fill)
	a.Data, b.Data, c.Data = ga.x, gb.x, gc.x
	want := c
	want.Data = append([]float32(nil), c.Data...)
	mulReference(mode, gs.x, m, n, k, a, b, want)
	runMul(mode, gs.x, m, n, k, a, b, c)
	for i := range m {
		for j := range n {
			got, w := c.Data[i*c.Row+j], want.Data[i*c.Row+j]
			if math.Float32bits(got) != math.Float32bits(w) && !(got != got && w != w) {
				t.Fatalf("mode %d, m=%d n=%d k=%d a %d,%d b %d c %d: c[%d][%d] = %v, want %v", mode, m, n, k, a.Row, a.Col, b.Row, c.Row, i, j, got, w)
			}
		}
	}
	gc.unhurt(t, func(i int) bool { return i%c.Row < n })
	ga.unhurt(t, func(int) bool { return false })
	gb.unhurt(t, func(int) bool { return false })
}

// modes are Mul, MulAdd, MulScale and the same with a packed A.
var modes = []int{0, 1, 2, 5, 6, 7}

var edges = []int{1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130}

func TestMul(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		small := edges[:13]
		if testing.Short() {
			small = edges[:9]
		}
		for _, m := range small {
			for _, n := range small {
				for _, k := range append([]int{0}, small...) {
					checkMul(t, r, modes[r.IntN(len(modes))], m, n, k, normal(r))
				}
			}
		}
		for range 150 {
			checkMul(t, r, modes[r.IntN(len(modes))], edges[r.IntN(len(edges))], edges[r.IntN(len(edges))], r.IntN(131), normal(r))
		}
		for _, m := range []int{0, 1} {
			for _, n := range []int{0, 1} {
				checkMul(t, r, 1, m, n, 0, normal(r))
			}
		}
	})
}

func TestMulSpecial(t *testing.T) {
	values := []float32{0, 1, -1, 1e4, -1e4, 1e-40, -1e-45, 3e38, 1e-30, float32(math.Inf(1)), NegInf, float32(math.NaN())}
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, size := range [][3]int{{1, 1, 1}, {7, 17, 9}, {13, 40, 5}, {6, 16, 64}} {
			for _, mode := range modes {
				checkMul(t, r, mode, size[0], size[1], size[2], func() float32 { return values[r.IntN(len(values)-3*r.IntN(2))] })
			}
		}
	})
}

// TestMulSplit: the same bits however rows, columns and the sum are cut, since callers give tiles to cores.
func TestMulSplit(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, s := range [][3]int{{23, 37, 19}, {130, 130, 65}, {64, 100, 300}, {300, 48, 600}} {
			m, n, k := s[0], s[1], s[2]
			fill := normal(r)
			a, b := Rows(guardedSlice(r, m*k, fill).x, k), Rows(guardedSlice(r, k*n, fill).x, n)
			whole, parts := Rows(make([]float32, m*n), n), Rows(make([]float32, m*n), n)
			Mul(m, n, k, a, b, whole)
			for i := 0; i < m; {
				mi := min(m-i, 1+r.IntN(40))
				for j := 0; j < n; {
					nj := min(n-j, 1+r.IntN(40))
					p := r.IntN(k + 1)
					Mul(mi, nj, p, a.From(i, 0), b.From(0, j), parts.From(i, j))
					MulAdd(mi, nj, k-p, a.From(i, p), b.From(p, j), parts.From(i, j))
					j += nj
				}
				i += mi
			}
			for i, w := range whole.Data {
				if math.Float32bits(parts.Data[i]) != math.Float32bits(w) {
					t.Fatalf("m=%d n=%d k=%d: element %d is %v in parts, %v in one call", m, n, k, i, parts.Data[i], w)
				}
			}
		}
	})
}

// TestMulLarge covers the blocked paths.
func TestMulLarge(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		sizes := [][3]int{{100, 70, 530}, {67, 300, 257}, {300, 133, 290}}
		if testing.Short() || level == levelGeneric {
			sizes = sizes[:1]
		}
		for _, s := range sizes {
			for mode := range 8 {
				t.Run(fmt.Sprint(s, mode), func(t *testing.T) { checkMul(t, r, mode, s[0], s[1], s[2], normal(r)) })
			}
		}
	})
}

// TestMulWith: the same bits with scratch as without.
func TestMulWith(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 9))
		m, n, k := 205, 130, 300
		a, b := guardedSlice(r, k*m, normal(r)).x, guardedSlice(r, k*n, normal(r)).x
		with, without := guardedSlice(r, m*n, normal(r)), make([]float32, m*n)
		scratch := guardedSlice(r, MulScratch, normal(r))
		Mul(m, n, k, Rows(a, m).T(), Rows(b, n), Rows(without, n))
		MulAdd(m, n, k, Rows(a, m).T(), Rows(b, n), Rows(without, n))
		MulWith(scratch.x, m, n, k, Rows(a, m).T(), Rows(b, n), Rows(with.x, n))
		MulAddWith(scratch.x, m, n, k, Rows(a, m).T(), Rows(b, n), Rows(with.x, n))
		for i, v := range without {
			if math.Float32bits(with.x[i]) != math.Float32bits(v) {
				t.Fatalf("element %d: %v with scratch, %v without", i, with.x[i], v)
			}
		}
		with.unhurt(t, nil)
		scratch.unhurt(t, nil)

		m, n, k = 70, 520, 300
		x, w, y, z := uniform(m*1024), uniform(k*n), make([]float32, m*n), make([]float32, m*n)
		MulWith(scratch.x, m, n, k, Rows(x, 1024), Rows(w, n), Rows(y, n))
		Mul(m, n, k, Rows(x, 1024), Rows(w, n), Rows(z, n))
		for i, v := range z {
			if math.Float32bits(y[i]) != math.Float32bits(v) {
				t.Fatalf("A by rows: element %d: %v with scratch, %v without", i, y[i], v)
			}
		}
	})
}

func TestMulNoAlloc(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		a, b, c, scratch := make([]float32, 300*300), make([]float32, 300*300), make([]float32, 300*300), make([]float32, MulScratch)
		if n := testing.AllocsPerRun(2, func() {
			MulAdd(300, 300, 300, Rows(a, 300), Rows(b, 300), Rows(c, 300))
			MulWith(scratch, 300, 300, 300, Rows(a, 300).T(), Rows(b, 300), Rows(c, 300))
			var q, o [Lanes * 8]float32 // the caller's arrays stay on its stack
			var s Softmax
			Mul(8, Lanes, 8, Rows(a, 300), Rows(q[:], Lanes), Rows(o[:], Lanes))
			s.Step(o[:], 8)
			Pack(q[:], Rows(a, 300), 8, 8, 1)
			Dots(o[:8], q[:8], Rows(a, 300), 8)
			Combine(o[:8], q[:8], Rows(a, 300))
			Update(Rows(a, 300), o[:8], q[:8], q[:8])
			Unpack(Rows(a, 300), q[:], 8, 8, o[:8])
			AdamW(o[:], q[:], a, b, AdamWStep{Step: 1})
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
