package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"attnbench/internal/paired"
	"attnbench/results"
)

// A Limit is what the machine can do of one thing, by one core or by all together.
type Limit struct {
	What  string // "fma": multiply-adds on registers; "read": reading a working set again and again
	Level string // for read: L2, L3 or DRAM
	Bytes int64  // of the working set, all cores together; for read
	Cores int
	Unit  string    // FLOP/s or B/s
	Rates []float64 // one a measurement, in order of time
}

// Name is the limit's name as a benchmark. The working set's size is no part of it, so that machines can be compared.
func (l *Limit) Name() string {
	if l.What == "fma" {
		return fmt.Sprintf("Peak/what=fma/cores=%d", l.Cores)
	}
	return fmt.Sprintf("Read/level=%s/cores=%d", l.Level, l.Cores)
}

// Summary returns the middle, the lowest and the highest of the rates.
func (l *Limit) Summary() (median, low, high float64) {
	sorted := slices.Sorted(slices.Values(l.Rates))
	n := len(sorted)
	if n == 0 {
		return 0, 0, 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]
}

// WriteLimits writes limits as Go benchmark lines under the configuration of this process, a line a measurement. The unit
// set-B is the size of the working set.
func WriteLimits(w io.Writer, list []Limit) error {
	var buf bytes.Buffer
	if err := results.WriteUnits(&buf); err != nil {
		return err
	}
	for _, c := range Config() {
		fmt.Fprintf(&buf, "%s: %s\n", c.Key, c.Value)
	}
	for i := range list {
		l := &list[i]
		for _, rate := range l.Rates {
			fmt.Fprintf(&buf, "Benchmark%s\t1\t%.6g %s", l.Name(), rate, l.Unit)
			if l.Bytes > 0 {
				fmt.Fprintf(&buf, "\t%d set-B", l.Bytes)
			}
			buf.WriteByte('\n')
		}
	}
	_, err := buf.WriteTo(w)
	return err
}

// Sizes of caches where the system does not tell.
const (
	usualL2 = 1 << 20
	usualL3 = 32 << 20
)

// reads returns the working sets that stand for the levels of memory, given the bytes of a core's second-level cache
// and of the last-level one (0 for unknown) and those that the system could give: half the second-level cache of each core; an
// eighth of the last-level one, but at least four times the first set; four times all caches, but at most a quarter of the memory.
//
// An eighth, since others use the last-level cache too: on a virtual machine with 32 MiB of it one core read 4 MiB at 60 GB/s, 8 at 38,
// and 16 at 12, hardly faster than memory, which gave 10.
func reads(l2, l3, memory int64, cores int) []Limit {
	if l2 <= 0 {
		l2 = usualL2
	}
	if l3 <= 0 {
		l3 = usualL3
	}
	near := l2 / 2 * int64(cores)
	mid := max(l3/8, 4*near)
	far := max(4*max(l3, mid), 256<<20)
	if memory > 0 {
		far = min(far, memory/4)
	}
	read := func(level string, bytes int64) Limit {
		return Limit{What: "read", Level: level, Bytes: bytes &^ 63, Cores: cores, Unit: "B/s"}
	}
	return []Limit{read("L2", near), read("L3", mid), read("DRAM", far)}
}

// Limits measures the machine count times, at least once: the multiply-add peak, and the bandwidth of reading working sets in
// the second-level cache, the last-level one and memory, each by one core and by all (GOMAXPROCS). A measurement is the mean rate over 15
// ms. All limits take turns, so that a disturbance that lasts longer than a turn does not hit one of them alone.
func Limits(ctx context.Context, count int) ([]Limit, error) {
	memory, _ := available()
	cores := []int{1}
	if n := workers(); n > 1 {
		cores = append(cores, n)
	}
	var list []Limit
	for _, n := range cores {
		list = append(list, Limit{What: "fma", Cores: n, Unit: "FLOP/s"})
	}
	for _, n := range cores {
		list = append(list, reads(cacheSize(2), cacheSize(3), memory, n)...)
	}
	meter := NewMeter()
	for range max(1, count) {
		for i := range list {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			l := &list[i]
			rate := 0.0
			if l.What == "fma" {
				rate = paired.FMA(l.Cores)
			} else {
				rate = paired.Read(meter.room(l.Bytes), l.Cores)
			}
			l.Rates = append(l.Rates, rate)
		}
	}
	return list, nil
}
