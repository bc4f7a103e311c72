package harness

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
)

func TestLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 256 MiB and more")
	}
	list, err := Limits(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	rate := map[string]float64{}
	for _, l := range list {
		if !(0 < l.Low && l.Low <= l.Rate && l.Rate <= l.High) {
			t.Errorf("%s: rate %g between %g and %g", l.Name(), l.Rate, l.Low, l.High)
		}
		if l.Cores == 1 {
			rate[l.What+l.Level] = l.Rate
		}
		r := benchfmt.NewReader(strings.NewReader("Benchmark"+l.Name()+" 1 2 "+l.Unit+"\n"), "")
		if !r.Scan() {
			t.Fatalf("%s: nothing read: %v", l.Name(), r.Err())
		}
		if _, ok := r.Result().(*benchfmt.Result); !ok {
			t.Errorf("%s is no name of a benchmark: %v", l.Name(), r.Result())
		}
	}
	if rate["readL2"] < rate["readDRAM"] {
		t.Errorf("L2 is read at %g B/s, memory at %g", rate["readL2"], rate["readDRAM"])
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Limits(ctx, 1); err == nil {
		t.Error("a cancelled measurement ends without an error")
	}
}
