package train

import (
	"math"
	"testing"
)

func TestRates(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Schedule
		want []float64
	}{
		{"warm-up and cosine", Schedule{Peak: 1, Warmup: 4, Steps: 10}, []float64{0.25, 0.5, 0.75, 1, 0.933013, 0.75, 0.5, 0.25, 0.066987, 0}},
		{"to a final rate", Schedule{Peak: 1, Final: 0.5, Steps: 2}, []float64{0.75, 0.5, 0.5}},
		{"no warm-up", Schedule{Peak: 2, Steps: 3}, []float64{1.5, 0.5, 0}},
		{"warm-up alone", Schedule{Peak: 1, Warmup: 2, Steps: 2}, []float64{0.5, 1}},
		{"one step", Schedule{Peak: 1, Steps: 1}, []float64{0}},
		{"one step of warm-up", Schedule{Peak: 1, Warmup: 1, Steps: 1}, []float64{1}},
	} {
		if err := c.s.check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for i, want := range c.want {
			if got := c.s.Rate(i + 1); math.Abs(got-want) > 1e-6 {
				t.Errorf("%s: step %d: rate %v: want %v", c.name, i+1, got, want)
			}
		}
	}
	for _, s := range []Schedule{
		{Peak: 1, Warmup: 5, Steps: 4}, {Peak: 0, Steps: 4}, {Peak: -1, Steps: 4}, {Peak: math.NaN(), Steps: 4}, {Peak: math.Inf(1), Steps: 4},
		{Peak: 1, Final: 2, Steps: 4}, {Peak: 1, Final: -1, Steps: 4}, {Peak: 1, Warmup: -1, Steps: 4}, {Peak: 1, Steps: -1},
		{Peak: 1e39, Steps: 4}, {Peak: 1, Steps: math.MaxInt},
	} {
		if s.check() == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}
