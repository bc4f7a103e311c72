package harness

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"attnbench/results"
)

func TestLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 256 MiB and more")
	}
	list, err := Limits(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, l := range list {
		if len(l.Rates) != 1 || !(l.Rates[0] > 1e8) {
			t.Errorf("%s: rates %v: want one, of at least 10^8 a second", l.Name(), l.Rates)
		}
		seen[l.What+l.Level]++
	}
	cores := min(workers(), 2)
	for _, what := range []string{"fma", "readL2", "readL3", "readDRAM"} {
		if seen[what] != cores {
			t.Errorf("%s: measured %d times: want %d, by one core and by all", what, seen[what], cores)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Limits(ctx, 1); err == nil {
		t.Error("a cancelled measurement ends without an error")
	}
}

func TestWorkingSets(t *testing.T) {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	for _, c := range []struct {
		what           string
		l2, l3, memory int64
		cores          int
		want           [3]int64
	}{
		{"512 KiB and 32 MiB, one core", 512 * kib, 32 * mib, 16 * gib, 1, [3]int64{256 * kib, 4 * mib, 256 * mib}},
		{"the same, two cores", 512 * kib, 32 * mib, 16 * gib, 2, [3]int64{512 * kib, 4 * mib, 256 * mib}},
		{"caches unknown", 0, 0, 0, 1, [3]int64{512 * kib, 4 * mib, 256 * mib}},
		{"a large last level", 1 * mib, 384 * mib, 64 * gib, 1, [3]int64{512 * kib, 48 * mib, 1536 * mib}},
		{"the same, little memory", 1 * mib, 384 * mib, 1 * gib, 1, [3]int64{512 * kib, 48 * mib, 256 * mib}},
		{"second level as large as the last", 2 * mib, 2 * mib, 16 * gib, 8, [3]int64{8 * mib, 32 * mib, 256 * mib}},
	} {
		for i, l := range reads(c.l2, c.l3, c.memory, c.cores) {
			if l.Bytes != c.want[i] || l.Cores != c.cores {
				t.Errorf("%s: %s by %d cores: set of %d: want %d", c.what, l.Level, l.Cores, l.Bytes, c.want[i])
			}
		}
	}
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		rates             []float64
		median, low, high float64
	}{
		{[]float64{3, 1, 2}, 2, 1, 3},
		{[]float64{4, 1, 2, 8}, 3, 1, 8},
		{[]float64{5}, 5, 5, 5},
		{nil, 0, 0, 0},
	} {
		l := Limit{Rates: c.rates}
		if median, low, high := l.Summary(); median != c.median || low != c.low || high != c.high {
			t.Errorf("%v: %g, %g to %g: want %g, %g to %g", c.rates, median, low, high, c.median, c.low, c.high)
		}
	}
}

// What WriteLimits writes reads back as samples that are pooled: name, rate and working set.
func TestLimitsReadBack(t *testing.T) {
	list := []Limit{
		{What: "fma", Cores: 1, Unit: "FLOP/s", Rates: []float64{1e9, 3e9, 2e9}},
		{What: "read", Level: "L2", Cores: 2, Bytes: 1 << 20, Unit: "B/s", Rates: []float64{5e9}},
	}
	var b bytes.Buffer
	if err := WriteLimits(&b, list); err != nil {
		t.Fatal(err)
	}
	var s results.Set
	if err := s.Read(&b, "machine.txt"); err != nil || len(s.Warnings) > 0 {
		t.Fatal(err, s.Warnings)
	}
	var names []string
	for _, r := range s.Results {
		names = append(names, string(r.Name))
	}
	want := "Peak/what=fma/cores=1 Peak/what=fma/cores=1 Peak/what=fma/cores=1 Read/level=L2/cores=2"
	if got := strings.Join(names, " "); got != want {
		t.Fatalf("names %s: want %s", got, want)
	}
	if v, ok := s.Results[1].Value("FLOP/s"); !ok || v != 3e9 {
		t.Errorf("second measurement %g, %v: want 3e9 FLOP/s", v, ok)
	}
	if v, ok := s.Results[3].Value("set-B"); !ok || v != 1<<20 {
		t.Errorf("working set %g, %v: want 2^20 set-B", v, ok)
	}
}
