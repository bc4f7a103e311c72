package harness

import (
	"runtime"

	"attnbench/attn"
	"attnbench/internal/kernel"
	"attnbench/internal/paired"
)

// Peak is the machine's limit at one moment, all workers together.
type Peak struct {
	FLOPs float64 // a second, by multiply-adds on registers
	Read  float64 // bytes a second, of a working set as large as was asked for
}

// Roof returns the least time in seconds in which the machine could do flops operations and move bytes.
func (p Peak) Roof(flops, bytes int64) float64 {
	return max(float64(flops)/p.FLOPs, float64(bytes)/p.Read)
}

// Mean returns the mean of two peaks, those before and after a measurement.
func (p Peak) Mean(q Peak) Peak { return Peak{(p.FLOPs + q.FLOPs) / 2, (p.Read + q.Read) / 2} }

const (
	minRead = 4 << 10   // bytes: each worker has a cache line at least
	maxRead = 128 << 20 // beyond the last-level cache
)

// Meter measures the machine's peak in this process, so that each measurement is paired with the limit that held
// when it was taken. A peak is a mean over 15 ms, as the measurement is a mean over some 100 ms: the best of short
// bursts would find a moment without neighbours that the measurement has not had. One pair still swings with the neighbours;
// what counts is the median of the pairs of all samples.
type Meter struct {
	buf   []float32
	best  float64 // highest FLOP rate seen so far
	pairs float64 // and of products of bfloat16
}

// NewMeter returns a meter.
func NewMeter() *Meter { return &Meter{} }

// Peak measures the limit now, of as many workers as the measurement has, with the read bandwidth of a working set of that
// many bytes.
func (m *Meter) Peak(bytes int64) Peak {
	rate := paired.Undisturbed(&m.best, func() float64 { return paired.FMA(workers()) })
	return Peak{FLOPs: rate, Read: paired.Read(m.room(min(max(bytes, minRead), maxRead)), workers())}
}

// PeakOf is Peak for what a mechanism computes: where its products are of bfloat16 and the processor has these, the higher rate of theirs and
// of float32's.
func (m *Meter) PeakOf(info *attn.Info, bytes int64) Peak {
	p := m.Peak(bytes)
	if info.BFloat16 && kernel.NativePairs() != "" {
		p.FLOPs = max(p.FLOPs, paired.Undisturbed(&m.pairs, func() float64 { return paired.Pairs(workers()) }))
	}
	return p
}

// Best returns the highest FLOP rate that the meter has seen.
func (m *Meter) Best() float64 { return m.best }

// BestOf is Best for what a mechanism computes.
func (m *Meter) BestOf(info *attn.Info) float64 {
	if info.BFloat16 {
		return max(m.best, m.pairs)
	}
	return m.best
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

func workers() int { return runtime.GOMAXPROCS(0) }
