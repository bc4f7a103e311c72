// Package paired measures work as a share of what the machine could do at the same moment. The clock and the neighbours
// of a virtual machine change a rate by a fifth within a second; a ratio to a peak measured just before and after
// the work changes much less, and the median of several less still.
package paired

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attnbench/internal/kernel"
)

// A Share is what several ratios come to.
type Share struct {
	Median, Low, High float64 // the middle, the smallest and the largest ratio
	Rounds            int
}

// span is how long a peak is measured, and the least that the work is.
const span = 15 * time.Millisecond

// OfPeak returns the share of the multiply-add peak of GOMAXPROCS workers at which f does flops operations, from at least
// rounds ratios.
func OfPeak(rounds int, flops float64, f func()) Share {
	return share(rounds, flops, f, func(deadline time.Time) (work float64) {
		for time.Now().Before(deadline) {
			work += float64(kernel.FMALoop(4096))
		}
		return work
	})
}

// OfRead returns the share of the bandwidth of reading x, in parts by GOMAXPROCS workers, at which f moves bytes.
func OfRead(rounds int, bytes float64, x []float32, f func()) Share {
	workers := runtime.GOMAXPROCS(0)
	parts := slices.Collect(slices.Chunk(x, (len(x)+workers-1)/workers))
	var turn atomic.Int64
	return share(rounds, bytes, f, func(deadline time.Time) (work float64) {
		part := parts[int(turn.Add(1)-1)%len(parts)]
		for first := true; first || time.Now().Before(deadline); first = false {
			kernel.ReadLoop(part)
			work += 4 * float64(len(part))
		}
		return work
	})
}

func share(rounds int, work float64, f func(), loop func(deadline time.Time) float64) Share {
	f()
	n := 1
	for clock(n, f) < span.Seconds() {
		n *= 2
	}
	var ratios []float64
	for range max(1, rounds) {
		before := together(loop)
		rate := work * float64(n) / clock(n, f)
		ratios = append(ratios, rate/((before+together(loop))/2))
	}
	slices.Sort(ratios)
	return Share{ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], len(ratios)}
}

func clock(n int, f func()) float64 {
	start := time.Now()
	for range n {
		f()
	}
	return time.Since(start).Seconds()
}

// together runs the loop on every worker at once and returns the sum of their rates.
func together(loop func(deadline time.Time) float64) float64 {
	var ready atomic.Int64
	var wait sync.WaitGroup
	rates := make([]float64, runtime.GOMAXPROCS(0))
	for w := range rates {
		wait.Go(func() {
			ready.Add(1)
			for ready.Load() < int64(len(rates)) {
				runtime.Gosched()
			}
			start := time.Now()
			rates[w] = loop(start.Add(span)) / time.Since(start).Seconds()
		})
	}
	wait.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}
