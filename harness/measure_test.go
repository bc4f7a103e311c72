package harness

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"attnbench/attn"
	"attnbench/results"
)

var tiny = Case{N: 40, Heads: 4, KVHeads: 2, Dim: 8, Causal: true, Batch: 2}

func value(r results.Record, unit string) (float64, bool) {
	for _, v := range r.Values {
		if v.Unit == unit {
			return v.Value, true
		}
	}
	return 0, false
}

func TestEveryMechanismMeasures(t *testing.T) {
	units := map[Kind][]string{
		Prefill: {"sec/op", "tok/s", "FLOP/s", "B/s", "of-roof", "scratch-B", "rel-err", "allocs/op"},
		Train:   {"sec/op", "tok/s", "FLOP/s", "B/s", "of-roof", "scratch-B", "saved-B", "allocs/op"},
		Decode:  {"sec/op", "tok/s", "FLOP/s", "B/s", "of-roof", "scratch-B", "state-B", "read-B", "allocs/op"},
	}
	o := Options{Iters: 2, Meter: NewMeter()}
	for i, name := range attn.Names() {
		if testing.Short() && i%4 != 0 {
			continue
		}
		for _, k := range []Kind{Prefill, Train, Decode} {
			c := tiny
			c.Mech = name
			r, err := Measure(context.Background(), c, k, 1, o)
			var none *Unsupported
			if errors.As(err, &none) {
				t.Log(err)
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			for _, u := range units[k] {
				v, ok := value(r, u)
				if !ok || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
					t.Errorf("%s: %s is %v, %v: want a finite figure", r.Name, u, v, ok)
				}
			}
			if v, _ := value(r, "of-roof"); !(v > 0 && v <= 1) {
				t.Errorf("%s: of-roof %v: want above 0 and at most 1", r.Name, v)
			}
			if e, _ := value(r, "rel-err"); e > 1e-4 {
				t.Errorf("%s: rel-err %v: want the error of float32", r.Name, e)
			}
			if r.Get("seed") != "1" || r.Get("revision") == "" || r.Get("kernel") == "" {
				t.Errorf("%s: configuration %v", r.Name, r.Config)
			}
			if err := (&results.Set{}).Add(r); err != nil {
				t.Error(err)
			}
			if want := c.job(k, 1, o).Key; r.Key() != want {
				t.Errorf("key %q: want %q, as the job said", r.Key(), want)
			}
		}
	}
}

func TestNameHasAllParts(t *testing.T) {
	for _, c := range []struct {
		c    Case
		want string
	}{
		{Case{Mech: "a-7", N: 1024, Heads: 8, Dim: 64, Causal: true}, "Decode/mech=a-7/n=1024/heads=8/dim=64/causal=true/kv=8/batch=1"},
		{Case{Mech: "b:x=1,y=2", N: 1, Heads: 4, KVHeads: 2, Dim: 3, Batch: 5}, "Decode/mech=b:x=1,y=2/n=1/heads=4/dim=3/causal=false/kv=2/batch=5"},
	} {
		if got := c.c.Name(Decode); got != c.want {
			t.Errorf("name %s: want %s", got, c.want)
		}
	}
}

// plain stands in for mechanisms with one fault each. It copies the values.
type plain struct {
	flops, shared int64
	work          func(ws *attn.Workspace)
}

func (p plain) Info() attn.Info {
	return attn.Info{
		Name: "plain", Revision: 1, Masks: attn.Causal, Inputs: attn.QKV(), Approximates: true,
		Cost: func(attn.Shape, attn.Pass) attn.Cost { return attn.Cost{FLOPs: p.flops, Bytes: 1, Shared: p.shared} },
	}
}

func (p plain) Forward(ws *attn.Workspace, c *attn.Call) error {
	info := p.Info()
	if err := c.Check(&info); err != nil {
		return err
	}
	c.EachHead(func(h attn.HeadOf[float32]) {
		for i := range h.Queries {
			copy(h.Out(i), h.V(i))
		}
	})
	if p.work != nil {
		p.work(ws)
	}
	return nil
}

// with measures the mechanism m, which no registry holds.
func with(t *testing.T, m attn.Mechanism, k Kind, o Options) (results.Record, error) {
	t.Helper()
	newMechanism = func(string) (attn.Mechanism, error) { return m, nil }
	defer func() { newMechanism = attn.New }()
	c := tiny
	c.Mech = "plain"
	return Measure(context.Background(), c, k, 1, o)
}

func TestFasterThanTheMachineIsAnError(t *testing.T) {
	if _, err := with(t, plain{flops: 1e13}, Prefill, Options{Iters: 3}); err == nil || !strings.Contains(err.Error(), "more than the measured peak") {
		t.Errorf("10^13 operations in no time: error %v", err)
	}
	r, err := with(t, plain{flops: 1}, Prefill, Options{Iters: 3})
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := value(r, "full-err"); !ok || e < 0.1 {
		t.Errorf("copied values against full attention: error %v, %v", e, ok)
	}
	if _, ok := value(r, "rel-err"); ok {
		t.Error("an error against a definition that does not exist")
	}
}

func TestHeapIsReported(t *testing.T) {
	var sink []byte
	r, err := with(t, plain{flops: 1, work: func(*attn.Workspace) { sink = make([]byte, 1<<20) }}, Prefill, Options{Iters: 3})
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := value(r, "B/op"); b < 1<<20 {
		t.Errorf("a step that allocates 1 MiB: %v B/op", b)
	}
	_ = sink
}

func TestRefusedCells(t *testing.T) {
	_, err := with(t, plain{shared: 1 << 50}, Prefill, Options{})
	var large *TooLarge
	if !errors.As(err, &large) || large.Needs < 1<<50 {
		t.Errorf("a pebibyte of scratch: %v", err)
	}
	if _, err = with(t, plain{}, Prefill, Options{Limit: 100}); !errors.As(err, &large) || large.Limit != 100 {
		t.Errorf("a limit of 100 bytes: %v", err)
	}
	var none *Unsupported
	for _, k := range []Kind{Train, Decode} {
		if _, err := with(t, plain{}, k, Options{}); !errors.As(err, &none) {
			t.Errorf("%v of a mechanism without: %v", k, err)
		}
	}
}

// Exact figures depend on nothing that was measured before, nor on the collector.
func TestBytesAreExact(t *testing.T) {
	names := attn.Names()
	exact := func(name string, k Kind) []results.Value {
		c := tiny
		c.Mech = name
		p, err := prepare(c, k, 1, false)
		if err != nil {
			var none *Unsupported
			if !errors.As(err, &none) {
				t.Error(err)
			}
			return nil
		}
		return p.exact
	}
	for _, k := range []Kind{Prefill, Train, Decode} {
		first := exact(names[0], k)
		for _, other := range names[1:] {
			exact(other, k)
		}
		old := debug.SetGCPercent(5)
		again := exact(names[0], k)
		debug.SetGCPercent(old)
		if !slices.Equal(first, again) {
			t.Errorf("%v %s: %v, after others %v", k, names[0], first, again)
		}
	}
}

func TestDecodeStaysNearItsContext(t *testing.T) {
	for _, name := range attn.Names() {
		for _, n := range []int{1, 2, 40, 600} {
			c := tiny
			c.Mech, c.N = name, n
			p, err := prepare(c, Decode, 1, false)
			var none *Unsupported
			if errors.As(err, &none) {
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", c.Name(Decode), err)
				continue
			}
			if len(p.exact) != 3 {
				t.Errorf("%s: exact figures %v: want state-B, read-B and scratch-B", c.Name(Decode), p.exact)
			}
			if err := p.warmUp(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestFillWithoutQueries decodes one token after a state was filled with queries and without.
func TestFillWithoutQueries(t *testing.T) {
	for _, name := range attn.Names() {
		c := tiny
		c.Mech, c.N = name, 70
		m, s, err := c.open()
		var none *Unsupported
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		inc, ok := m.(attn.Incremental)
		info := m.Info()
		if !ok || info.Selects || info.Inference || info.Masks&attn.Causal == 0 {
			continue
		}
		s.Mask = attn.Causal
		call, ws := newCall(&info, s, 1), attn.NewWorkspace()
		var outs [][]float32
		for _, asks := range []int{0, 64} {
			state, err := inc.NewState(s)
			if err != nil {
				t.Fatal(err)
			}
			last := window(&info, call, 64, 64, 65)
			for _, w := range []*attn.Call{window(&info, call, asks, 0, 64), last} {
				if err := inc.Extend(ws, state, w); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			outs = append(outs, slices.Clone(last.Out.Data[:s.Heads*s.ValueDim]))
		}
		for i, x := range outs[0] {
			if y := outs[1][i]; math.Abs(float64(x-y)) > 1e-5 {
				t.Errorf("%s: output %d is %v, and %v when the state was filled without queries", name, i, x, y)
				break
			}
		}
	}
}

func TestPeak(t *testing.T) {
	m := NewMeter()
	p := m.Peak(1 << 20)
	if p.FLOPs < 1e8 || p.Read < 1e8 || m.Best() < p.FLOPs {
		t.Errorf("peak %+v, best %v: want at least 10^8 a second", p, m.Best())
	}
	if got := (Peak{FLOPs: 100, Read: 10}).Roof(50, 20); got != 2 {
		t.Errorf("roof %v: want 2 s, the longer of 0.5 and 2", got)
	}
}

// Rates and the share of the roof follow from a sample's time, its operations and bytes, and the peaks around it.
func TestRatesAndRoof(t *testing.T) {
	m := NewMeter()
	m.best = 1e15 // no step here is too fast
	for _, c := range []struct {
		what          string
		flops, bytes  int64
		before, after Peak
		roof          float64 // 0 for none
	}{
		{"bound by operations", 100, 10, Peak{100, 10}, Peak{100, 10}, 0.5},
		{"bound by reading", 100, 40, Peak{200, 25}, Peak{200, 25}, 0.8},
		{"peaks that differ", 100, 1, Peak{50, 10}, Peak{150, 10}, 0.5},
		{"faster than the peaks around it", 100, 10, Peak{40, 10}, Peak{44, 10}, 1},
		{"nothing but bytes", 0, 10, Peak{100, 10}, Peak{100, 10}, 0.5},
		{"no costs declared", 0, 0, Peak{100, 10}, Peak{100, 10}, 0},
	} {
		p := &probe{flops: c.flops, bytes: c.bytes, tokens: 6}
		values, err := p.values(timing{sec: 2, before: c.before, after: c.after}, m)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		r := results.Record{Values: values}
		for _, w := range []struct {
			unit string
			want float64 // 0 for none
		}{{"sec/op", 2}, {"tok/s", 3}, {"FLOP/s", float64(c.flops) / 2}, {"B/s", float64(c.bytes) / 2}, {"of-roof", c.roof}} {
			if got, has := value(r, w.unit); has != (w.want > 0) || math.Abs(got-w.want) > 1e-9 {
				t.Errorf("%s: %v %s (%v): want %v", c.what, got, w.unit, has, w.want)
			}
		}
	}
}

func TestResidentMemoryOfAChild(t *testing.T) {
	if _, ok := peakRSS(); !ok {
		t.Skip("resident memory cannot be read here")
	}
	hasChild = true
	defer func() { hasChild = false }()
	big := make([]byte, 256<<20) // of this process, and no part of the child's
	for i := range big {
		big[i] = 1
	}
	c := tiny
	c.Mech = attn.Names()[0]
	r, err := Measure(context.Background(), c, Prefill, 1, Options{Iters: 1, MinTime: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := value(r, "peak-RSS-B"); !ok || v < 1<<20 || v > 128<<20 {
		t.Errorf("resident memory %v, %v: want a few MB", v, ok)
	}
	big[0] = 2
}

func TestSplitSpecs(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"full", "full"},
		{"full,a:x=1,y=2,linear", "full; a:x=1,y=2; linear"},
		{"a:x=1|b:y=2,z=3,c", "a:x=1|b:y=2,z=3; c"},
		{" a , b ", "a; b"},
		{"a,,b", "error"},
		{"x=1", "error"},
		{"a,x=1", "error"},
		{"", "error"},
	} {
		got, err := SplitSpecs(c.text)
		s := strings.Join(got, "; ")
		if err != nil {
			s = "error"
		}
		if s != c.want {
			t.Errorf("%q: %q, %v: want %q", c.text, s, err, c.want)
		}
	}
}
