package harness

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attnbench/internal/kernel"
)

// Peak is the machine's limit at one moment, all workers together.
type Peak struct {
	FLOPs float64 // a second, by fused multiply-add on registers or in the first-level cache, whichever is more
	Read  float64 // bytes a second, over a buffer as large as was asked for
}

// Roof returns the least time in seconds in which the machine could do flops operations and move bytes.
func (p Peak) Roof(flops, bytes int64) float64 {
	return max(float64(flops)/p.FLOPs, float64(bytes)/p.Read)
}

// Mean returns the mean of two peaks, those before and after a measurement.
func (p Peak) Mean(q Peak) Peak { return Peak{(p.FLOPs + q.FLOPs) / 2, (p.Read + q.Read) / 2} }

const (
	minRead = 256 << 10 // bytes: a smaller buffer would time the start of the workers
	maxRead = 128 << 20 // beyond the last-level cache
	// A peak is the mean rate over as long as a neighbour's turn lasts, as the figure that it is paired with is a mean:
	// the best of short bursts finds a quiet moment that the measurement has not had.
	burst = 15 * time.Millisecond
)

// Meter measures the machine's peak in this process, a few milliseconds at a time, so that each
// measurement is paired with the limit that held when it was taken.
type Meter struct {
	buf  []float32
	best float64 // highest FLOP rate seen so far
}

// NewMeter returns a meter.
func NewMeter() *Meter { return &Meter{} }

// Peak measures the limit now, with the read bandwidth of a working set of that many bytes.
func (m *Meter) Peak(bytes int64) Peak {
	p := Peak{FLOPs: flopsPeak(workers()), Read: m.read(m.room(min(max(bytes, minRead), maxRead)), workers())}
	m.best = max(m.best, p.FLOPs)
	return p
}

// room returns a working set of that many bytes.
func (m *Meter) room(bytes int64) []float32 {
	n := int(bytes) / 4
	if n > len(m.buf) {
		m.buf = make([]float32, n)
		for i := range m.buf {
			m.buf[i] = 1 // without a write all pages are one page of zeros, and lie in the cache
		}
	}
	return m.buf[:n]
}

// flopsPeak returns the operations a second of that many cores together.
func flopsPeak(cores int) float64 {
	if kernel.Level() == "generic" {
		return together(cores, mulBurst)
	}
	return together(cores, fmaBurst)
}

// Best returns the highest FLOP rate that the meter has seen.
func (m *Meter) Best() float64 { return m.best }

func fmaBurst(stop time.Time) (work float64) {
	for time.Now().Before(stop) {
		work += float64(kernel.FMALoop(4096))
	}
	return work
}

// mulBurst multiplies small matrices that stay in the first-level cache: without vector
// instructions the compiled product is faster than the loop above.
func mulBurst(stop time.Time) (work float64) {
	const n = 32
	var buf [3 * n * n]float32
	a, b, c := kernel.Rows(buf[:n*n], n), kernel.Rows(buf[n*n:2*n*n], n), kernel.Rows(buf[2*n*n:], n)
	for time.Now().Before(stop) {
		for range 8 {
			kernel.Mul(n, n, n, a, b, c)
		}
		work += 8 * 2 * n * n * n
	}
	return work
}

// read returns the bytes a second of that many cores that read x together, each its own part again and again.
func (m *Meter) read(x []float32, cores int) float64 {
	var turn atomic.Int64
	parts := slices.Collect(slices.Chunk(x, (len(x)+cores-1)/cores))
	return together(cores, func(stop time.Time) (work float64) {
		part := parts[int(turn.Add(1)-1)%len(parts)]
		kernel.ReadLoop(part) // into the worker's own cache, as far as it fits
		for first := true; first || time.Now().Before(stop); first = false {
			kernel.ReadLoop(part)
			work += 4 * float64(len(part))
		}
		return work
	})
}

func workers() int { return runtime.GOMAXPROCS(0) }

// together runs f on that many cores at once and returns the sum of their rates. f works until stop
// and returns how much it did; its rate is over the time that it took.
func together(cores int, f func(stop time.Time) float64) float64 {
	var ready atomic.Int64
	var wait sync.WaitGroup
	rates := make([]float64, cores)
	for w := range rates {
		wait.Go(func() {
			ready.Add(1)
			for ready.Load() < int64(len(rates)) {
				runtime.Gosched()
			}
			start := time.Now()
			rates[w] = f(start.Add(burst)) / time.Since(start).Seconds()
		})
	}
	wait.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}
