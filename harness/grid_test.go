package harness

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"attnbench/attn"
)

// Sizes that no machine has are errors, or cells that are left out, before anything is allocated or counted.
func TestGridSizes(t *testing.T) {
	good := Grid{Kinds: []Kind{Prefill}, Mechs: []string{"full"}, Lengths: []int{64}, Heads: []int{2}, Dims: []int{8}, Samples: 1}
	for _, c := range []struct {
		name string
		set  func(g *Grid, o *Options)
		want string
	}{
		{"good", func(*Grid, *Options) {}, ""},
		{"length 0", func(g *Grid, _ *Options) { g.Lengths[0] = 0 }, "length 0: want at least 1"},
		{"length -1", func(g *Grid, _ *Options) { g.Lengths[0] = -1 }, "length -1: want at least 1"},
		{"length", func(g *Grid, _ *Options) { g.Lengths[0] = math.MaxInt }, "want a shape of fewer than 2^62"},
		{"half the length", func(g *Grid, _ *Options) { g.Lengths[0] = math.MaxInt/2 + 1 }, "want a shape of fewer than 2^62"},
		{"2^31 tokens", func(g *Grid, _ *Options) { g.Lengths[0] = 1 << 31 }, "want a shape of fewer than 2^62"},
		{"heads", func(g *Grid, _ *Options) { g.Heads[0] = math.MaxInt }, "want a shape of fewer than 2^62"},
		{"dim", func(g *Grid, _ *Options) { g.Dims[0] = math.MaxInt }, "want a shape of fewer than 2^62"},
		{"batch", func(g *Grid, _ *Options) { g.Batch = []int{math.MaxInt} }, "want a shape of fewer than 2^62"},
		{"batch 0", func(g *Grid, _ *Options) { g.Batch = []int{1, 0} }, "batch 0: want at least 1"},
		{"samples", func(g *Grid, _ *Options) { g.Samples = math.MaxInt }, "want 1 to 10000"},
		{"time", func(_ *Grid, o *Options) { o.MinTime = -time.Second }, "time of a sample is -1s"},
	} {
		g, o := good, Options{}
		g.Lengths, g.Heads, g.Dims = []int{64}, []int{2}, []int{8}
		c.set(&g, &o)
		jobs, err := g.Jobs(o)
		if c.want == "" {
			if err != nil || len(jobs) != 1 {
				t.Errorf("%s: %d jobs, %v", c.name, len(jobs), err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want %q", c.name, err, c.want)
		}
	}
}

// A cell whose inputs alone do not fit is left out without asking its mechanism what it costs, which may take as long as its length.
func TestGridLargeCells(t *testing.T) {
	for _, mech := range attn.Names() {
		g := Grid{Kinds: []Kind{Prefill, Train, Decode}, Mechs: []string{mech}, Lengths: []int{1 << 24}, Heads: []int{1}, Dims: []int{64}, Samples: 2}
		o := Options{Limit: 1 << 30}
		start := time.Now()
		jobs, err := g.Jobs(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			var large *TooLarge
			var none *Unsupported
			if _, err := j.Run(t.Context()); !errors.As(err, &large) && !errors.As(err, &none) {
				t.Errorf("%s: %v: want it left out", j.Name, err)
			}
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: %v for cells that do not fit: want them left out at once", mech, d)
		}
	}
}
