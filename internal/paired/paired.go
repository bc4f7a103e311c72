// Package paired measures work as a share of what the machine could do at the same moment. The clock and the neighbours
// of a virtual machine change a rate by a fifth within a second; a ratio to a peak measured just before and after
// the work changes much less, and the median of several less still.
package paired

import (
	"runtime"
	"slices"
	"time"
)

// A Share is what several ratios come to.
type Share struct {
	Median, Low, High float64 // the middle, the smallest and the largest ratio
	Rounds            int
}

// OfPeak returns the share of the multiply-add peak of GOMAXPROCS workers at which f does flops operations: the median of
// rounds ratios, each of at least 15 ms of f to the mean of a peak of 15 ms before it and one after.
func OfPeak(rounds int, flops float64, f func()) Share {
	workers := runtime.GOMAXPROCS(0)
	return share(rounds, flops, f, func() float64 { return FMA(workers) })
}

// OfRead returns the share of the bandwidth of reading x, in parts by GOMAXPROCS workers, at which f moves bytes, in the way of OfPeak.
func OfRead(rounds int, bytes float64, x []float32, f func()) Share {
	workers := runtime.GOMAXPROCS(0)
	return share(rounds, bytes, f, func() float64 { return Read(x, workers) })
}

// share runs f in each round until 15 ms are over, as the peaks do. How often that is cannot be found out beforehand: a
// thread that is off its core for 15 ms would end the search at once, and the rounds would then compare a moment of the
// work, between two disturbances, with peaks that had their share of them.
func share(rounds int, work float64, f func(), peak func() float64) Share {
	f()
	var ratios []float64
	best := 0.0
	before := Undisturbed(&best, peak)
	for range max(1, rounds) {
		rate := work * rateOf(f)
		after := Undisturbed(&best, peak)
		ratios = append(ratios, rate/((before+after)/2))
		before = after
	}
	slices.Sort(ratios)
	return Share{ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], len(ratios)}
}

// rateOf returns how often a second f runs, by as many runs as take 15 ms. The clock is looked at after one run, two more, four
// more and so on while they are short, so that looking takes no time beside them.
func rateOf(f func()) float64 {
	start := time.Now()
	for n, batch := 0, 1; ; {
		for range batch {
			f()
		}
		n += batch
		t := time.Since(start)
		if t >= span {
			return float64(n) / t.Seconds()
		}
		if t < span/8 {
			batch *= 2
		}
	}
}
