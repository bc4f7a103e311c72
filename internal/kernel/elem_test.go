package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestElementwise(t *testing.T) {
	sigma := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	geluOf := func(x float64) float64 {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	slope := func(f func(float64) float64) func(x float64) float64 {
		return func(x float64) float64 { return (f(x+1e-5) - f(x-1e-5)) / 2e-5 }
	}
	silu := func(x float64) float64 { return x * sigma(x) }
	eachLevel(t, func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(dst, x, y []float32)
			want func(x, y float64) float64
			tol  float64
		}{
			{"axpy", func(dst, x, y []float32) { copy(dst, y); Axpy(0.7, x, dst) }, func(x, y float64) float64 { return float64(float32(0.7))*x + y }, 2e-7},
			{"scale", func(dst, x, y []float32) { copy(dst, x); Scale(0.7, dst) }, func(x, y float64) float64 { return float64(float32(0.7)) * x }, 1e-7},
			{"add", func(dst, x, y []float32) { copy(dst, y); Add(dst, x) }, func(x, y float64) float64 { return x + y }, 1e-7},
			{"times", func(dst, x, y []float32) { copy(dst, y); Times(dst, x) }, func(x, y float64) float64 { return x * y }, 1e-7},
			{"addTimes", func(dst, x, y []float32) { copy(dst, y); AddTimes(dst, x, y) }, func(x, y float64) float64 { return y + float64(float32(x*y)) }, 1e-7},
			{"softplus", func(dst, x, y []float32) { Softplus(dst, x) }, func(x, y float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, 2e-7},
			{"sigmoid", func(dst, x, y []float32) { Sigmoid(dst, x) }, func(x, y float64) float64 { return sigma(x) }, 3e-7},
			{"silu", func(dst, x, y []float32) { SiLU(dst, x) }, func(x, y float64) float64 { return silu(x) }, 4e-7},
			{"gelu", func(dst, x, y []float32) { GELU(dst, x) }, func(x, y float64) float64 { return geluOf(x) }, 1e-6},
			{"siluGrad", func(dst, x, y []float32) { SiLUGrad(dst, x, y) }, func(x, y float64) float64 { return y * slope(silu)(x) }, 1e-6},
			{"geluGrad", func(dst, x, y []float32) { GELUGrad(dst, x, y) }, func(x, y float64) float64 { return y * slope(geluOf)(x) }, 2e-6},
			{"siluGrad in place of x", func(dst, x, y []float32) { copy(dst, x); SiLUGrad(dst, dst, y) }, func(x, y float64) float64 { return y * slope(silu)(x) }, 1e-6},
			{"geluGrad in place of dy", func(dst, x, y []float32) { copy(dst, y); GELUGrad(dst, x, dst) }, func(x, y float64) float64 { return y * slope(geluOf)(x) }, 2e-6},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(6, 6))
				for _, n := range append(upTo(130), strip1+3) {
					x, y, dst := guardedSlice(r, n, func() float32 { return float32(r.NormFloat64() * 4) }), guardedSlice(r, n, normal(r)), guardedSlice(r, n, normal(r))
					c.run(dst.x, x.x, y.x)
					for i, got := range dst.x {
						if want := c.want(float64(x.x[i]), float64(y.x[i])); math.Abs(float64(got)-want) > c.tol*(1+math.Abs(want)) {
							t.Fatalf("n=%d: f(%v, %v) = %v, want %v", n, x.x[i], y.x[i], got, want)
						}
					}
					dst.unhurt(t, nil)
				}
			})
		}
	})
}

// TestActivationExtremes: no overflow inside, NaN stays where it is.
func TestActivationExtremes(t *testing.T) {
	nan := float32(math.NaN())
	x := []float32{-3e38, -1e4, -100, -87.5, -80, 0, 80, 87.5, 100, 1e4, 3e38, nan, 1}
	eachLevel(t, func(t *testing.T) {
		y, ones := make([]float32, len(x)), make([]float32, len(x))
		for i := range ones {
			ones[i] = 1
		}
		for name, f := range map[string]func(){
			"softplus": func() { Softplus(y, x) },
			"sigmoid":  func() { Sigmoid(y, x) }, "silu": func() { SiLU(y, x) }, "gelu": func() { GELU(y, x[:]) },
			"siluGrad": func() { SiLUGrad(y, x, ones) }, "geluGrad": func() { GELUGrad(y, x, ones) },
		} {
			f()
			for i, v := range y {
				finite := v == v && !math.IsInf(float64(v), 0)
				// x·x overflows in GELU's cube for |x| > 1e19: only large finite arguments count.
				if math.Abs(float64(x[i])) < 1e6 && !finite || (x[i] != x[i]) != (v != v) && math.Abs(float64(x[i])) < 1e6 {
					t.Errorf("%s(%v) = %v", name, x[i], v)
				}
			}
			if y[11] == y[11] {
				t.Errorf("%s(NaN) = %v", name, y[11])
			}
		}
		Softplus(y[:7], []float32{-3e38, -80, -5, 0, 5, 80, 3e38})
		for i, want := range []float64{0, 1.804851387845415e-35, 0.006715348489117967, math.Ln2, 5.006715348489118, 80, 3e38} {
			if math.Abs(float64(y[i])-want) > 3e-7*want {
				t.Errorf("softplus %d of the extremes: %v, want %v", i, y[i], want)
			}
		}
		Sigmoid(y, x)
		if y[0] != 0 || y[10] != 1 || y[5] != 0.5 || y[3] != 0 || y[4] == 0 {
			t.Errorf("sigmoid of extremes: %v", y)
		}
	})
}

func TestAdamW(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		p, m, v := []float32{1}, []float32{0}, []float32{0}
		AdamW(p, []float32{0.5}, m, v, AdamWStep{LR: 0.1, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Step: 1})
		if math.Abs(float64(p[0])-0.899) > 1e-6 {
			t.Errorf("first step gives %v, want 0.8990000", p[0])
		}
		r := rand.New(rand.NewPCG(7, 7))
		for n := range 131 {
			s := AdamWStep{LR: 1e-2, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.1}
			p, g, m, v := guardedSlice(r, n, normal(r)), guardedSlice(r, n, normal(r)), guardedSlice(r, n, func() float32 { return 0 }), guardedSlice(r, n, func() float32 { return 0 })
			wp, wm, wv := make([]float64, n), make([]float64, n), make([]float64, n)
			for i := range wp {
				wp[i] = float64(p.x[i])
			}
			for s.Step = 1; s.Step <= 3; s.Step++ {
				AdamW(p.x, g.x, m.x, v.x, s)
				for i, gi := range g.x {
					wm[i] = s.Beta1*wm[i] + (1-s.Beta1)*float64(gi)
					wv[i] = s.Beta2*wv[i] + (1-s.Beta2)*float64(gi)*float64(gi)
					t := float64(s.Step)
					wp[i] -= s.LR * (wm[i]/(1-math.Pow(s.Beta1, t))/(math.Sqrt(wv[i]/(1-math.Pow(s.Beta2, t)))+s.Eps) + s.Decay*wp[i])
				}
			}
			for i := range wp {
				if math.Abs(wp[i]-float64(p.x[i])) > 1e-6*(1+math.Abs(wp[i])) {
					t.Fatalf("n=%d: p[%d] = %v, want %v", n, i, p.x[i], wp[i])
				}
			}
			for _, s := range []*guarded{p, m, v} {
				s.unhurt(t, nil)
			}
		}
		p, m, v = []float32{1}, []float32{1e-38}, []float32{1e-38}
		for range 20 {
			AdamW(p, []float32{0}, m, v, AdamWStep{LR: 0, Beta1: 0.9, Beta2: 0.9, Eps: 1e-8, Step: 1})
		}
		if m[0] != 0 || v[0] != 0 {
			t.Errorf("moments rest at %v, %v", m[0], v[0])
		}
	})
}

func TestCrossEntropy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		x := []float32{1, 2, 3, NegInf}
		loss := CrossEntropy(x, 1)
		want := []float64{0.09003057, 0.24472847 - 1, 0.66524096, 0}
		if math.Abs(float64(loss)-1.4076060) > 1e-6 {
			t.Errorf("loss %v", loss)
		}
		for i, w := range want {
			if math.Abs(float64(x[i])-w) > 1e-6 {
				t.Errorf("gradient %v, want %v", x, want)
				break
			}
		}
		empty := []float32{NegInf, NegInf}
		if l := SoftmaxRow(empty); l != NegInf || empty[0] != 0 || empty[1] != 0 {
			t.Errorf("row without scores: %v, %v", l, empty)
		}
	})
}

func TestCalibration(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		if f := FMALoop(5000); f < 5000*16 {
			t.Errorf("FMALoop counts %d operations", f)
		}
		x := make([]float32, 70001)
		for i := range x {
			x[i] = 1
		}
		if s := ReadLoop(x); s != 70001 {
			t.Errorf("ReadLoop returns %v", s)
		}
	})
}
