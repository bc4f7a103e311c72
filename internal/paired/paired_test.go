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
	for _, c := range []struct{ counted, want float64 }{{1, 1}, {0.5, 0.5}} {
		got := OfPeak(15, c.counted*flops, loop)
		if math.Abs(got.Median/c.want-1) > 0.1 || got.Rounds != 15 || !(got.Low <= got.Median && got.Median <= got.High) {
			t.Errorf("%g of the loop's operations: share %+v, want %g", c.counted, got, c.want)
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
