package harness

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"attnbench/results"
)

func TestCrossing(t *testing.T) {
	inf := math.Inf(1)
	lengths := []int{64, 256, 1024, 4096}
	for _, x := range []struct {
		what   string
		ratios []float64
		want   float64
	}{
		{"always", []float64{0.9, 0.8, 0.5, 0.1}, 0},
		{"never", []float64{2, 2, 2, 1}, inf},
		{"half way on both scales", []float64{4, 2, 0.5, 0.1}, 512},
		{"at the first that is below", []float64{4, 2, 1, 0.25}, 1024},
		{"the last crossing counts", []float64{0.5, 2, 0.5, 0.1}, 512},
		{"below, and above in the end", []float64{0.5, 0.5, 0.5, 1.5}, inf},
		{"no number is not below", []float64{4, 2, 0.5, math.NaN()}, inf},
	} {
		if got := crossing(lengths, x.ratios); got != x.want && math.Abs(got-x.want) > 1e-9*x.want {
			t.Errorf("%s: %v: want %v", x.what, got, x.want)
		}
	}
}

// The interval is that of a median by order: with six samples the smallest and largest, at 1 - 2/2^6.
func TestBetween(t *testing.T) {
	inf := math.Inf(1)
	for _, x := range []struct {
		values         []float64
		mid, low, high float64
		confidence     float64
	}{
		{[]float64{100, 400, 50, 800, 200, 100}, math.Sqrt(100 * 200), 50, 800, 1 - 2/64.0},
		{[]float64{0, 0, 0, 0, 0, 90}, 0, 0, 90, 1 - 2/64.0},
		{[]float64{0, 0, 0, 90, 90, inf}, 90, 0, inf, 1 - 2/64.0},
		{[]float64{90, 90, 90, inf, inf, inf}, inf, 90, inf, 1 - 2/64.0},
		{[]float64{7}, 7, 7, 7, 0},
		{[]float64{0, inf}, inf, 0, inf, 0.5},
		{[]float64{5, 1, 2, 3, 4, 6, 7, 8, 9}, 5, 2, 8, 1 - 20/512.0},
	} {
		mid, low, high, confidence := between(x.values)
		if mid != x.mid || low != x.low || high != x.high || math.Abs(confidence-x.confidence) > 1e-9 {
			t.Errorf("%v: %v in %v to %v, %v: want %v in %v to %v, %v", x.values, mid, low, high, confidence, x.mid, x.low, x.high, x.confidence)
		}
	}
}

// question is a crossover without measurements.
func question(mechs ...string) *Crossover {
	return &Crossover{Base: "full", Mechs: mechs, Kinds: []Kind{Prefill, Train, Decode}, Lengths: []int{16, 64, 256, 1024}, Samples: 6, Seed: 3,
		Case: Case{Heads: 2, Dim: 8, Causal: true}}
}

// answers gives a crossover results of ratio(n)·(1+noise) for a kind.
func answers(t *testing.T, x *Crossover, k Kind, ratio func(n int) float64) *results.Set {
	set := new(results.Set)
	for i := range x.Samples {
		for _, mech := range x.mechs {
			for _, n := range x.lengths(mech, k) {
				r := results.Record{Name: x.duel(mech, k, n).Name(), Iters: 1, Values: []results.Value{{Value: ratio(n) * (1 + 0.01*float64(i)), Unit: "of-base"}},
					Config: []results.Config{{Key: "seed", Value: fmt.Sprint(x.Seed + uint64(i))}}}
				if err := set.Add(r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return set
}

// A ratio of 300/n crosses 1 at 300; refining closes in on it, and stops.
func TestCrossingsOfTime(t *testing.T) {
	x := question("linear")
	if err := x.fill(); err != nil {
		t.Fatal(err)
	}
	ratio := func(n int) float64 { return 300 / float64(n) }
	rounds := 0
	for x.Refine(answers(t, x, Prefill, ratio)) > 0 {
		if rounds++; rounds > 10 {
			t.Fatal("refining does not end")
		}
	}
	if got := x.lengths("linear", Prefill); !slices.Contains(got, 512) || len(got) < 6 {
		t.Errorf("lengths %v: want some between 256 and 1024", got)
	}
	if n := len(x.lengths("linear", Decode)); n != 4 {
		t.Errorf("%d lengths of another kind: want 4", n)
	}
	list, err := x.Crossings(answers(t, x, Prefill, ratio))
	if err != nil {
		t.Fatal(err)
	}
	c := list[0]
	if c.Quantity != "Prefill time" || math.Abs(c.Low-300) > 1 || math.Abs(c.High-315) > 1 || c.From <= c.Low || c.From >= c.High || c.Samples != 6 {
		t.Errorf("%+v: want from 300 to 315", c)
	}
	if math.Abs(c.AtFirst-ratio(16)*1.025) > 1e-6 || c.First != 16 || c.Last != 1024 {
		t.Errorf("%+v: shares at the ends", c)
	}
	if len(list) != 4 { // and memory of each kind
		t.Errorf("%d crossings: want the time of one kind, and the memory of three", len(list))
	}
}

// A window of 100 holds less than all keys from 101 tokens on: exactly there.
func TestCrossingsOfMemory(t *testing.T) {
	x := question("sliding:window=100")
	if err := x.fill(); err != nil {
		t.Fatal(err)
	}
	c, ok, err := x.memory("sliding:window=100", Decode)
	if err != nil || !ok || c.From != 101 || !c.Exact {
		t.Errorf("%+v, %v, %v: want exactly 101", c, ok, err)
	}
	c, ok, err = x.memory("naive", Prefill)
	if err != nil || !ok || !math.IsInf(c.From, 1) || c.AtLast < 1 {
		t.Errorf("%+v, %v, %v: want never", c, ok, err)
	}
}

func TestCrossoverErrors(t *testing.T) {
	for _, x := range []struct {
		change func(x *Crossover)
		want   string
	}{
		{func(x *Crossover) { x.Samples = 0 }, "samples=0"},
		{func(x *Crossover) { x.Lengths = []int{64} }, "lengths [64]: want two or more"},
		{func(x *Crossover) { x.Lengths = []int{64, 64} }, "increasing"},
		{func(x *Crossover) { x.Lengths = []int{64, 32} }, "increasing"},
		{func(x *Crossover) { x.Lengths = []int{0, 32} }, "length 0: want at least 1"},
		{func(x *Crossover) { x.Base = "ful" }, `unknown mechanism "ful"`},
		{func(x *Crossover) { x.Mechs = []string{"linear", "linear"} }, "each mechanism once"},
		{func(x *Crossover) { x.Mechs = []string{"full"} }, "none that is the base"},
		{func(x *Crossover) { x.Case.KVHeads = 3 }, "2 heads over 3"},
	} {
		q := question("linear")
		x.change(q)
		if _, err := q.Jobs(Options{}); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("error %v: want %s", err, x.want)
		}
	}
}

// Turns go a b b a, and a round that is disturbed does not move the ratio.
func TestInTurns(t *testing.T) {
	var order []int
	wait := [2]time.Duration{4 * time.Millisecond, 2 * time.Millisecond}
	disturbed := 0
	fake := func(i int) *probe {
		return &probe{step: func() error {
			order = append(order, i)
			time.Sleep(wait[i])
			if i == 0 && len(order) > 4 && disturbed == 0 {
				disturbed++
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		}}
	}
	got, err := inTurns(context.Background(), [2]*probe{fake(0), fake(1)}, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	order = slices.Compact(order)
	if len(order) < 9 || !slices.Equal(order[:5], []int{0, 1, 0, 1, 0}) {
		t.Errorf("turns %v: want a b b a", order)
	}
	if disturbed != 1 || got.ratio < 1.5 || got.ratio > 2.5 {
		t.Errorf("ratio %v: want about 2, whatever disturbs one round", got.ratio)
	}
	boom := errors.New("boom")
	bad := &probe{step: func() error { return boom }}
	if _, err := inTurns(context.Background(), [2]*probe{fake(0), bad}, time.Millisecond); !errors.Is(err, boom) {
		t.Errorf("error %v: want that of the step", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := inTurns(ctx, [2]*probe{fake(0), fake(1)}, time.Millisecond); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v: want that of the context", err)
	}
}
