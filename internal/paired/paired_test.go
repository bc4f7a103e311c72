package paired

import (
	"math"
	"runtime"
	"testing"
	"time"

	"attnbench/internal/kernel"
)

// Work that is the peak's own loop is all of the peak, half of it is half: the pairing adds no bias. A best of bursts in
// place of a mean, or work counted without its time, fails here on any machine with neighbours.
func TestShareOfTheLoopItself(t *testing.T) {
	old := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(old)
	if kernel.Level() == "generic" {
		t.Skip("the generic peak is the higher of two loops")
	}
	const n = 1 << 18
	loop := func() { kernel.FMALoop(n) }
	flops := float64(kernel.FMALoop(n))
	for _, part := range []float64{1, 0.5} {
		var got Share
		for range 3 {
			got = OfPeak(15, part*flops, loop)
			if got.Rounds != 15 || !(got.Low <= got.Median && got.Median <= got.High) {
				t.Fatalf("share %+v: want 15 rounds, and the median between the others", got)
			}
			if math.Abs(got.Median/part-1) < 0.15 {
				break
			}
		}
		switch off := math.Abs(got.Median/part-1) >= 0.15; {
		case off && got.High > 1.5*got.Low:
			t.Skipf("ratios from %.2f to %.2f: this machine is too busy to tell", got.Low, got.High)
		case off:
			t.Errorf("%g of the loop's operations: share %+v", part, got)
		}
	}
}

// together gives each worker's work over its own time: n workers that each do a known amount a second do n times as much.
func TestTogether(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		got := together(workers, func(int) func() float64 {
			return func() float64 { // 1000 a second, however long it is kept from its core
				begin := time.Now()
				time.Sleep(time.Millisecond)
				return 1000 * time.Since(begin).Seconds()
			}
		})
		if want := 1000 * float64(workers); math.Abs(got/want-1) > 0.1 {
			t.Errorf("%d workers: %g a second together, want %g", workers, got, want)
		}
	}
}

// A piece that outlasts the whole measurement is counted once, over the time that it took.
func TestLongPiece(t *testing.T) {
	got := together(1, func(int) func() float64 {
		return func() float64 { time.Sleep(2 * span); return 1 }
	})
	if most := 1 / (2 * span).Seconds(); !(got > 0 && got <= most) {
		t.Errorf("rate %g: want above 0 and at most %g", got, most)
	}
}

// The work's time is at least that of a peak, however short one run is, and however long the first one was kept from its core.
func TestRateOf(t *testing.T) {
	for _, first := range []time.Duration{0, span / 2} {
		runs, begin := 0, time.Now()
		got := rateOf(func() {
			if runs++; runs == 1 {
				time.Sleep(first)
			}
			time.Sleep(100 * time.Microsecond)
		})
		took := time.Since(begin)
		if took < span || math.Abs(got*took.Seconds()/float64(runs)-1) > 0.1 {
			t.Errorf("first run %v longer: %d runs in %v, rate %g: want runs of at least %v, and their rate", first, runs, took, got, span)
		}
	}
}

func TestUndisturbed(t *testing.T) {
	for _, c := range []struct {
		what   string
		rates  []float64 // of one measurement after the other
		best   float64
		want   float64
		peaks  int // measurements
		wanted float64
	}{
		{"the first", []float64{5}, 0, 5, 1, 5},
		{"a little slower", []float64{7}, 10, 7, 1, 10},
		{"half, then well", []float64{5, 9}, 10, 9, 2, 10},
		{"half, and better than ever", []float64{5, 11}, 10, 11, 2, 11},
		{"slow for good", []float64{5, 4, 3}, 10, 5, 3, 10},
	} {
		n, best := 0, c.best
		got := Undisturbed(&best, func() float64 { n++; return c.rates[n-1] })
		if got != c.want || n != c.peaks || best != c.wanted {
			t.Errorf("%s: %g from %d measurements, best %g: want %g from %d, best %g", c.what, got, n, best, c.want, c.peaks, c.wanted)
		}
	}
}

func TestReadOfAnySize(t *testing.T) {
	for _, n := range []int{1, 15, 16, 17, 1000, section - 1, section + 1, 3*section + 7} {
		x := make([]float32, n)
		for i := range x {
			x[i] = 1
		}
		for _, workers := range []int{1, 2, 3} {
			if got := Read(x, workers); !(got > 1e6) || math.IsInf(got, 0) {
				t.Errorf("%d floats by %d workers: %g B/s", n, workers, got)
			}
		}
	}
}
