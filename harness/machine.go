package harness

import (
	"context"
	"fmt"
	"runtime"
	"slices"
)

// A Limit is what the machine can do of one thing, by one core or by all together.
type Limit struct {
	What      string // "fma": multiply-adds on registers; "read": reading a working set again and again
	Level     string // for read: L2, L3 or DRAM
	Bytes     int64  // of the working set, all cores together
	Cores     int
	Unit      string  // FLOP/s or B/s
	Rate      float64 // the median of several measurements
	Low, High float64
	Count     int
}

// Name is the limit's name as a benchmark.
func (l Limit) Name() string {
	if l.What == "fma" {
		return fmt.Sprintf("Peak/what=fma/cores=%d", l.Cores)
	}
	return fmt.Sprintf("Read/level=%s/bytes=%d/cores=%d", l.Level, l.Bytes, l.Cores)
}

// caches returns the sizes in bytes of the second-level cache of a core and of the last-level one; what the system does
// not tell is taken as 1 MiB and 32 MiB.
func caches() (l2, l3 int64) {
	l2, l3 = cacheSize(2), cacheSize(3)
	if l2 == 0 {
		l2 = 1 << 20
	}
	if l3 == 0 {
		l3 = 32 << 20
	}
	return l2, max(l3, 2*l2)
}

// Limits measures the machine: the multiply-add peak, and the bandwidth of reading working sets of half the second-level
// cache of each core, of half the last-level one, and of four times that, by one core and by all. Each is
// the median of count measurements of 15 ms.
func Limits(ctx context.Context, count int) ([]Limit, error) {
	l2, l3 := caches()
	cores := []int{1}
	if n := runtime.GOMAXPROCS(0); n > 1 {
		cores = append(cores, n)
	}
	var list []Limit
	for _, n := range cores {
		list = append(list, Limit{What: "fma", Cores: n, Unit: "FLOP/s"})
	}
	for _, n := range cores {
		list = append(list,
			Limit{What: "read", Level: "L2", Bytes: l2 / 2 * int64(n), Cores: n, Unit: "B/s"},
			Limit{What: "read", Level: "L3", Bytes: max(l3/2, 2*l2*int64(n)), Cores: n, Unit: "B/s"},
			Limit{What: "read", Level: "DRAM", Bytes: max(4*l3, 256<<20), Cores: n, Unit: "B/s"})
	}
	meter := NewMeter()
	for i := range list {
		l := &list[i]
		var rates []float64
		for range max(1, count) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if l.What == "fma" {
				rates = append(rates, flopsPeak(l.Cores))
				continue
			}
			rates = append(rates, meter.read(meter.room(l.Bytes), l.Cores))
		}
		slices.Sort(rates)
		l.Rate, l.Low, l.High, l.Count = rates[len(rates)/2], rates[0], rates[len(rates)-1], len(rates)
	}
	return list, nil
}
