package paired

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attnbench/internal/kernel"
)

// span is how long a limit is measured. It is the mean rate over that time, not the best of short bursts: the work that it
// is compared with takes tens of milliseconds and has its share of the neighbours' turns, of which a burst can find none.
const span = 15 * time.Millisecond

// disturbed is the share of the best rate seen under which a peak is taken again: two workers on one core give half.
const disturbed = 0.6

// Undisturbed returns what peak measures. A rate far below *best, the highest so far, is one of workers that shared a core or were
// off theirs for long, and says nothing of work that was not: it is measured again, at most twice, and the highest counts.
func Undisturbed(best *float64, peak func() float64) float64 {
	rate := peak()
	for try := 0; try < 2 && rate < disturbed**best; try++ {
		rate = max(rate, peak())
	}
	*best = max(*best, rate)
	return rate
}

// FMA returns the multiply-adds, in FLOP/s, that so many workers do together on registers, measured for 15 ms. Where the
// level in use has no vectors, the compiled product of small matrices is measured too and the higher rate counts.
func FMA(workers int) float64 {
	loop := together(workers, func(int) func() float64 {
		return func() float64 { return float64(kernel.FMALoop(4096)) }
	})
	if kernel.Level() != "generic" {
		return loop
	}
	return max(loop, together(workers, smallProducts))
}

// Pairs returns the rate, in FLOP/s, of products of bfloat16 by so many workers whose operands stay in the first-level cache, measured for 15 ms.
func Pairs(workers int) float64 {
	return together(workers, func(int) func() float64 {
		const m, k, times = 64, 64, 16
		words, c := make([]uint32, m*k+k*kernel.Lanes), make([]float32, m*kernel.Lanes)
		a, b := kernel.PairRows(words[:m*k], k), kernel.PairRows(words[m*k:], kernel.Lanes)
		return func() float64 {
			for range times {
				kernel.MulPairs(m, kernel.Lanes, k, 1, a, b, kernel.Rows(c, kernel.Lanes))
			}
			return times * 2 * m * kernel.Lanes * 2 * k
		}
	})
}

// smallProducts multiplies matrices that stay in the first-level cache.
func smallProducts(int) func() float64 {
	const n, times = 32, 8
	buf := make([]float32, 3*n*n)
	a, b, c := kernel.Rows(buf[:n*n], n), kernel.Rows(buf[n*n:2*n*n], n), kernel.Rows(buf[2*n*n:], n)
	return func() float64 {
		for range times {
			kernel.Mul(n, n, n, a, b, c)
		}
		return times * 2 * n * n * n
	}
}

// section is how many floats are read between two looks at the clock: 1 MiB takes 10 µs in the nearest cache.
const section = 1 << 18

// Read returns the bytes a second at which so many workers read x together, each its own part of it from start to end
// again and again, measured for 15 ms after one pass that brings the part into the caches as far as it fits. x must have been
// written: pages that never were are all one page of zeros.
func Read(x []float32, workers int) float64 {
	size := max(1, (len(x)+workers-1)/workers)
	size = (size + 15) &^ 15 // whole cache lines
	parts := slices.Collect(slices.Chunk(x, size))
	return together(min(workers, len(parts)), func(worker int) func() float64 {
		part, at := parts[worker], 0
		kernel.ReadLoop(part)
		return func() float64 {
			n := 0
			for n < section {
				m := min(section, len(part)-at)
				kernel.ReadLoop(part[at : at+m])
				n += m
				at = (at + m) % len(part)
			}
			return 4 * float64(n)
		}
	})
}

// together runs the loops of so many workers at once and returns the sum of their rates. start prepares a worker and
// returns its loop's body, which does some microseconds of work and returns how much.
//
// What the clock could do wrong: the first piece, in which caches and the clock speed for wide vectors settle, is not
// timed; the clock is looked at after whole pieces only, so that work and time always belong together and no rate is
// without work; and a piece is long against a look at the clock, some 50 ns. A worker that was off its
// core for a while says so by its mean, as the work that is compared says by its own.
func together(workers int, start func(worker int) func() float64) float64 {
	var ready atomic.Int64
	var wait sync.WaitGroup
	rates := make([]float64, workers)
	for w := range rates {
		wait.Go(func() {
			piece := start(w)
			piece()
			ready.Add(1)
			for ready.Load() < int64(len(rates)) {
				runtime.Gosched()
			}
			work, begin := 0.0, time.Now()
			for {
				work += piece()
				if t := time.Since(begin); t >= span {
					rates[w] = work / t.Seconds()
					return
				}
			}
		})
	}
	wait.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}
