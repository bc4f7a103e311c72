package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ofPeak measures f against the FMA loop run just before and after, in short windows: a clock that changes speed
// changes both. median is the median of the paired ratios; best is the highest rate of f over the
// highest rate of the loop, which a busy neighbour disturbs least.
func ofPeak(flops float64, f func()) (median, best float64) {
	clock := func(n int, f func()) float64 {
		t := time.Now()
		for range n {
			f()
		}
		return time.Since(t).Seconds()
	}
	const rounds = 2000 // of the FMA loop: about 20 µs
	loop := float64(FMALoop(rounds))
	peak := func() float64 { return loop / clock(1, func() { FMALoop(rounds) }) }
	n := 1
	for clock(n, f) < 30e-6 {
		n *= 2
	}
	var ratios []float64
	var topRate, topPeak float64
	for start := time.Now(); len(ratios) < 15 || time.Since(start) < 800*time.Millisecond; {
		before := peak()
		rate := flops * float64(n) / clock(n, f)
		after := peak()
		ratios = append(ratios, rate/((before+after)/2))
		topRate, topPeak = max(topRate, rate), max(topPeak, before, after)
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], topRate / topPeak
}

func reportOfPeak(b *testing.B, flops float64, f func()) {
	b.Helper()
	median, best := ofPeak(flops, f)
	for b.Loop() {
		f()
	}
	b.ReportMetric(median, "of-peak")
	b.ReportMetric(best, "of-peak-best")
}

var fmaSink float32

func uniform(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	x := make([]float32, n)
	for i := range x {
		x[i] = r.Float32() - 0.5
	}
	return x
}

// BenchmarkMul has the shapes of attention (128 keys, 32 lanes: A by rows is K, A by columns is Vᵀ; ld is
// the stride of K and V) and of dense layers.
func BenchmarkMul(b *testing.B) {
	for _, d := range []int{64, 128} {
		for _, heads := range []int{1, 8} {
			ld := heads * d
			a, q, s := uniform(128*ld), uniform(d*Lanes), make([]float32, 128*Lanes)
			b.Run(fmt.Sprintf("shape=rows/d=%d/ld=%d", d, ld), func(b *testing.B) {
				reportOfPeak(b, 2*128*Lanes*float64(d), func() { Mul(128, Lanes, d, Rows(a, ld), Rows(q, Lanes), Rows(s, Lanes)) })
			})
			if heads == 1 {
				k16, q16 := make([]uint32, 128*d/2), make([]uint32, d/2*Lanes)
				RoundRows(k16, d/2, Rows(a, ld), 128, d)
				RoundPairs(q16, Lanes, Rows(q, Lanes), d, Lanes)
				b.Run(fmt.Sprintf("shape=pairs/d=%d/native=%q", d, NativePairs()), func(b *testing.B) {
					reportOfPeak(b, 2*128*Lanes*float64(d), func() { MulPairs(128, Lanes, d/2, 1, PairRows(k16, d/2), PairRows(q16, Lanes), Rows(s, Lanes)) })
				})
			}
			p, o, scale := uniform(128*Lanes), make([]float32, d*Lanes), uniform(Lanes)
			b.Run(fmt.Sprintf("shape=cols/d=%d/ld=%d", d, ld), func(b *testing.B) {
				reportOfPeak(b, 2*128*Lanes*float64(d), func() { MulScale(scale, d, Lanes, 128, Rows(a, ld).T(), Rows(p, Lanes), Rows(o, Lanes)) })
			})
		}
	}
	for _, s := range [][3]int{{1024, 256, 256}, {1024, 768, 256}, {1024, 256, 1024}, {1024, 1024, 1024}, {128, 1000, 100}, {1000, 130, 250}} {
		m, n, k := s[0], s[1], s[2]
		x, w, y, scratch := uniform(m*k), uniform(k*n), uniform(m*n), make([]float32, MulScratch)
		b.Run(fmt.Sprintf("shape=dense/m=%d/n=%d/k=%d", m, n, k), func(b *testing.B) {
			reportOfPeak(b, 2*float64(m)*float64(n)*float64(k), func() { Mul(m, n, k, Rows(x, k), Rows(w, n), Rows(y, n)) })
		})
		b.Run(fmt.Sprintf("shape=denseWith/m=%d/n=%d/k=%d", m, n, k), func(b *testing.B) {
			reportOfPeak(b, 2*float64(m)*float64(n)*float64(k), func() { MulWith(scratch, m, n, k, Rows(x, k), Rows(w, n), Rows(y, n)) })
		})
		b.Run(fmt.Sprintf("shape=weights/m=%d/n=%d/k=%d", k, n, m), func(b *testing.B) {
			reportOfPeak(b, 2*float64(m)*float64(n)*float64(k), func() { MulAddWith(scratch, k, n, m, Rows(x, k).T(), Rows(y, n), Rows(w, n)) })
		})
	}
}

// BenchmarkStep reports the cycles (of the clock that the FMA loop runs at) that 8 elements cost.
func BenchmarkStep(b *testing.B) {
	x, w := uniform(128*Lanes), make([]float32, 128*Lanes)
	var s Softmax
	lse := uniform(Lanes)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"step", func() { s.Reset(); s.Step(w, 128) }},
		{"weights", func() { Weights(w, 128, lse) }},
		{"weightsGrad", func() { WeightsGrad(x, w, 128, lse) }},
		{"expSum", func() { ExpSum(w, 1) }},
		{"silu", func() { SiLU(w, x) }},
		{"gelu", func() { GELU(w, x) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			// The loop's rate in multiply-adds of 8 lanes is 2 a cycle, at either width.
			lanes := 8.0
			if level == levelAVX512 {
				lanes = 16
			}
			_, with := ofPeak(1, func() { copy(w, x); c.f() })
			_, without := ofPeak(1, func() { copy(w, x) })
			for b.Loop() {
				copy(w, x)
				c.f()
			}
			b.ReportMetric((1/with-1/without)/(4*lanes)/(128*Lanes/8), "cycles/8")
		})
	}
}

// BenchmarkDecode reads a cache of keys or values that lies in L2, L3 or memory: one query against rows of d
// floats, and the share of the rate at which ReadLoop reads the same bytes.
func BenchmarkDecode(b *testing.B) {
	for _, d := range []int{64, 128} {
		for _, rows := range []int{512, 4096, 131072} {
			m, q, w := uniform(rows*d), uniform(d), uniform(rows)
			for _, c := range []struct {
				name string
				f    func()
			}{
				{"dots", func() {
					for r := 0; r < rows; r += 512 {
						Dots(w[r:r+512], q, Rows(m[r*d:], d), 512)
					}
				}},
				{"combine", func() {
					for r := 0; r < rows; r += 512 {
						Combine(q, w[r:r+512], Rows(m[r*d:], d))
					}
				}},
			} {
				b.Run(fmt.Sprintf("%s/d=%d/rows=%d", c.name, d, rows), func(b *testing.B) {
					reps := max(1, 1<<20/(rows*d))
					clock := func(f func()) float64 {
						t := time.Now()
						for range reps {
							f()
						}
						return time.Since(t).Seconds()
					}
					read := func() { fmaSink = ReadLoop(m) }
					var ratios, rates []float64
					for start := time.Now(); len(ratios) < 9 || time.Since(start) < 500*time.Millisecond; {
						before := clock(read)
						t := clock(c.f)
						after := clock(read)
						ratios = append(ratios, (before+after)/2/t)
						rates = append(rates, float64(4*rows*d*reps)/t)
					}
					slices.Sort(ratios)
					slices.Sort(rates)
					for b.Loop() {
						c.f()
					}
					b.ReportMetric(ratios[len(ratios)/2], "of-read")
					b.ReportMetric(rates[len(rates)/2], "B/s")
				})
			}
		}
	}
}
