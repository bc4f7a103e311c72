package train

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

// TestRules holds two steps of each rule to a calculation by hand: one parameter of value 1, gradients 0.5 and -0.25, rate 0.1.
func TestRules(t *testing.T) {
	adam := func(decay float64) float64 { // both kinds of decay
		p, m, v := 1.0, 0.0, 0.0
		for i, g := range []float64{0.5, -0.25} {
			g += decay * p
			m, v = 0.9*m+0.1*g, 0.999*v+0.001*g*g
			p -= 0.1 * (m / (1 - math.Pow(0.9, float64(i+1)))) / (math.Sqrt(v/(1-math.Pow(0.999, float64(i+1)))) + 1e-8)
		}
		return p
	}
	adafactor := func() float64 { // a vector of one: u = g/√v, clipped at 1, times its size
		p, v := 1.0, 0.0
		for i, g := range []float64{0.5, -0.25} {
			beta := 1 - math.Pow(float64(i+1), -0.8)
			v = beta*v + (1-beta)*g*g
			u := g / math.Sqrt(v)
			p -= 0.1 * p * u / max(1, math.Abs(u))
		}
		return p
	}
	for _, c := range []struct {
		rule  string
		decay float64
		want  float64
	}{
		{"sgd", 0, 1 - 0.1*0.5 - 0.1*(0.9*0.5-0.25)},
		{"sgd", 0.1, (1*0.99-0.05)*0.99 - 0.1*(0.45-0.25)},
		{"lion", 0, 1 - 0.1 + 0.1}, // sign(0.05), then sign(0.9·0.005 - 0.025) = -1
		{"lion", 0.1, (0.99-0.1)*0.99 + 0.1},
		{"adam", 0, adam(0)},
		{"adam", 0.1, adam(0.1)},
		{"muon", 0, adam(0)}, // a vector goes by AdamW, with β2 as it is set below
		{"adafactor", 0, adafactor()},
	} {
		p := param("w", true, 1)
		o, err := NewOptimiser(c.rule, []*autograd.Param{p})
		if err != nil {
			t.Fatal(err)
		}
		o.Decay = c.decay
		if c.rule == "muon" {
			o.Beta2 = 0.999
		}
		for _, g := range []float32{0.5, -0.25} {
			p.Grad[0] = g
			o.Step(attn.NewWorkspace(), 0.1, 1)
		}
		if got := float64(p.Data[0]); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s, decay %v: %v: want %v", c.rule, c.decay, got, c.want)
		}
	}
	if _, err := NewOptimiser("adagrad", nil); err == nil {
		t.Error("an unknown optimiser is taken")
	}
}

// TestOrthogonal: the singular values of the result are near 1, so that X·Xᵀ is near the identity of the smaller side.
func TestOrthogonal(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][2]int{{4, 4}, {3, 9}, {9, 3}, {32, 64}} {
		rows, cols := s[0], s[1]
		g := make([]float32, rows*cols)
		for i := range g {
			g[i] = float32(r.NormFloat64())
		}
		p := &autograd.Param{Shape: []int{rows, cols}, Data: g}
		ws := attn.NewWorkspace()
		var x []float32
		attn.Parallel(ws, 1, muonScratch(p), [3]any{g, rows, &x}, func(s *attn.Scratch, a *[3]any, _ int) {
			g, rows := a[0].([]float32), a[1].(int)
			*a[2].(*[]float32) = slices.Clone(orthogonal(s, g, rows, len(g)/rows))
		})
		// Singular values after 5 steps lie in 0.68 to 1.13: ‖X‖² is n times their mean square.
		sum, same := 0.0, 0.0
		for i, v := range x {
			sum += float64(v) * float64(v)
			same += float64(v) * float64(g[i])
		}
		if n := float64(min(rows, cols)); sum < 0.4*n || sum > 1.35*n || same <= 0 {
			t.Errorf("%dx%d: the sum of squares is %.3f: want about %v; along the gradient %.3f", rows, cols, sum, n, same)
		}
	}
}

// TestAdafactorFactors: of a gradient of rank one the factors hold the second moment exactly, so the first step has size 1 everywhere.
func TestAdafactorFactors(t *testing.T) {
	p := autograd.NewParam("w", false, 2, 3)
	for i := range p.Data {
		p.Data[i] = 1
	}
	o, err := NewOptimiser("adafactor", []*autograd.Param{p})
	if err != nil {
		t.Fatal(err)
	}
	for y, a := range []float32{1, -2} {
		for x, b := range []float32{1, 3, 0.5} {
			p.Grad[3*y+x] = a * b
		}
	}
	o.Step(attn.NewWorkspace(), 0.1, 1)
	for i, x := range p.Data {
		want := 0.9
		if i >= 3 {
			want = 1.1
		}
		if math.Abs(float64(x)-want) > 1e-5 {
			t.Errorf("element %d: %v: want %v", i, x, want)
		}
	}
	if len(o.m[0]) != 2 || len(o.v[0]) != 3 {
		t.Errorf("it keeps %d and %d numbers: want 2 and 3", len(o.m[0]), len(o.v[0]))
	}
}

// TestRulesTrain: each rule lowers the loss, gives the same bits on any number of cores, and resumes to them.
func TestRulesTrain(t *testing.T) {
	for _, rule := range Rules() {
		t.Run(rule, func(t *testing.T) {
			settings := func(t *testing.T) Config {
				c := config(t)
				c.Optimiser, c.Average, c.Schedule = rule, 0.5, "wsd"
				if rule == "sgd" {
					c.Rate = 1
				}
				return c
			}
			whole := settings(t)
			r := mustRun(t, whole)
			if first, last := r.Losses[0], r.Losses[len(r.Losses)-1]; !(last < first) {
				t.Errorf("loss from %v to %v: want it lower", first, last)
			}
			want := same(r)
			procs := runtime.GOMAXPROCS(3)
			defer runtime.GOMAXPROCS(procs)
			if got := same(mustRun(t, settings(t))); got != want {
				t.Errorf("on 3 cores %s: want %s", got, want)
			}
			c := settings(t)
			c.Checkpoint = filepath.Join(t.TempDir(), "run")
			ctx, cancel := context.WithCancel(context.Background())
			c.Progress = func(p Progress) {
				if p.Step == 11 {
					cancel()
				}
			}
			if _, err := Run(ctx, c); err == nil {
				t.Fatal("a cancelled run ends without an error")
			}
			again := settings(t)
			again.Checkpoint = c.Checkpoint
			if got := same(mustRun(t, again)); got != want {
				t.Errorf("resumed: %s: want %s", got, want)
			}
			if !slices.Equal(again.Model.(*table).out.Data, whole.Model.(*table).out.Data) {
				t.Error("the resumed run ends with other parameters")
			}
		})
	}
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		want []float64
	}{
		{Schedule{Peak: 1, Warmup: 2, Steps: 6, Kind: "constant"}, []float64{0.5, 1, 1, 1, 1, 1}},
		{Schedule{Peak: 1, Final: 0.2, Warmup: 2, Steps: 6, Kind: "linear-decay"}, []float64{0.5, 1, 0.8, 0.6, 0.4, 0.2}},
		{Schedule{Peak: 2, Warmup: 4, Steps: 16, Kind: "inverse-sqrt"}, []float64{0.5, 1, 1.5, 2, 1.788854, 1.632993}},
		{Schedule{Peak: 1, Steps: 10, Kind: "wsd"}, []float64{1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0}},
	} {
		if err := c.s.check(); err != nil {
			t.Error(err)
		}
		for i, want := range c.want {
			if got := c.s.Rate(i + 1); math.Abs(got-want) > 1e-6 {
				t.Errorf("%s, step %d: %v: want %v", c.s.Kind, i+1, got, want)
			}
		}
	}
	if (Schedule{Peak: 1, Steps: 1, Kind: "step"}).check() == nil {
		t.Error("an unknown schedule is taken")
	}
}
