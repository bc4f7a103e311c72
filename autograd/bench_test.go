package autograd

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// BenchmarkLinear has the products of a dense layer, y = x·w and its two gradients, at the sizes of a small language
// model: of-peak is the median of ratios to the FMA loop run just before and after, times the workers.
func BenchmarkLinear(b *testing.B) {
	for _, s := range [][3]int{{1024, 256, 768}, {1024, 256, 1024}, {1024, 1024, 256}, {1024, 1024, 1024}, {4096, 64, 256}} {
		rows, in, out := s[0], s[1], s[2]
		b.Run(fmt.Sprintf("rows=%d/in=%d/out=%d", rows, in, out), func(b *testing.B) {
			t := NewTape(attn.NewWorkspace())
			x, w, g := make([]float32, rows*in), make([]float32, in*out), make([]float32, rows*out)
			dx, dw := make([]float32, rows*in), make([]float32, in*out)
			for _, v := range [][]float32{x, w, g} {
				for i := range v {
					v[i] = float32(i%17) - 8
				}
			}
			xm, wm, gm := kernel.Rows(x, in), kernel.Rows(w, out), kernel.Rows(g, out)
			step := func() {
				t.multiply(product{m: rows, n: out, k: in, a: xm, b: wm, c: gm})
				t.multiply(product{m: in, n: out, k: rows, a: xm.T(), b: gm, c: kernel.Rows(dw, out)})
				t.multiply(product{m: rows, n: in, k: out, a: gm, b: wm.T(), c: kernel.Rows(dx, in)})
			}
			peak := func() float64 {
				start, n := time.Now(), 0.0
				for time.Since(start) < 2*time.Millisecond {
					n += float64(kernel.FMALoop(4096))
				}
				return n / time.Since(start).Seconds()
			}
			step()
			var ratios []float64
			for b.Loop() {
				before := peak()
				start := time.Now()
				step()
				rate := 6 * float64(rows) * float64(in) * float64(out) / time.Since(start).Seconds()
				ratios = append(ratios, rate/((before+peak())/2))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-peak")
			b.ReportMetric(ratios[len(ratios)*9/10], "of-peak-p90")
		})
	}
}
