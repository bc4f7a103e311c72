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

func share(rounds int, work float64, f func(), peak func() float64) Share {
	f()
	n := 1
	for clock(n, f) < span.Seconds() {
		n *= 2
	}
	var ratios []float64
	before := peak()
	for range max(1, rounds) {
		rate := work * float64(n) / clock(n, f)
		after := peak()
		ratios = append(ratios, rate/((before+after)/2))
		before = after
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
