package model

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSampler: how often each token comes, against probabilities worked out by hand. Logits are ln 4, ln 3, ln 2, ln 1.
func TestSampler(t *testing.T) {
	logits := []float32{float32(math.Log(2)), float32(math.Log(4)), 0, float32(math.Log(3)), float32(math.NaN()), float32(math.Inf(-1))}
	for _, c := range []struct {
		name string
		s    Sampler
		want []float64
	}{
		{"greedy", Sampler{}, []float64{0, 1, 0, 0}},
		{"all", Sampler{Temperature: 1}, []float64{.2, .4, .1, .3}},
		{"temperature 1/2 squares", Sampler{Temperature: 0.5}, []float64{4. / 30, 16. / 30, 1. / 30, 9. / 30}},
		{"top-k", Sampler{Temperature: 1, TopK: 2}, []float64{0, 4. / 7, 0, 3. / 7}},
		{"top-k of one", Sampler{Temperature: 9, TopK: 1}, []float64{0, 1, 0, 0}},
		{"top-k beyond all", Sampler{Temperature: 1, TopK: 100}, []float64{.2, .4, .1, .3}},
		{"top-p within the first", Sampler{Temperature: 1, TopP: 0.3}, []float64{0, 1, 0, 0}},
		{"top-p takes the token that reaches it", Sampler{Temperature: 1, TopP: 0.6}, []float64{0, 4. / 7, 0, 3. / 7}},
		{"top-p of 1", Sampler{Temperature: 1, TopP: 1}, []float64{.2, .4, .1, .3}},
		{"top-p of what top-k leaves", Sampler{Temperature: 1, TopK: 3, TopP: 0.7}, []float64{0, 4. / 7, 0, 3. / 7}},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		const n = 20000
		var counts [6]int
		for range n {
			counts[c.s.Next(logits, r)]++
		}
		for i, w := range append(c.want, 0, 0) {
			got := float64(counts[i]) / n
			if math.Abs(got-w) > 4*math.Sqrt(w*(1-w)/n) {
				t.Errorf("%s: token %d: %.4f: want %.4f", c.name, i, got, w)
			}
		}
	}
	inf := float32(math.Inf(1))
	if got := (&Sampler{Temperature: 1}).Next([]float32{0, inf, 0}, rand.New(rand.NewPCG(1, 2))); got != 1 {
		t.Errorf("an infinite logit: token %d: want 1", got)
	}
}

func TestSamplerCheck(t *testing.T) {
	for _, c := range []struct {
		s    Sampler
		want string
	}{
		{Sampler{Temperature: -1}, "temperature -1"}, {Sampler{Temperature: math.NaN()}, "temperature NaN"},
		{Sampler{TopK: -1}, "top-k -1"}, {Sampler{TopP: 1.5}, "top-p 1.5"}, {Sampler{TopP: math.NaN()}, "top-p NaN"},
	} {
		if err := c.s.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
	if err := (&Sampler{Temperature: 1, TopK: 3, TopP: .9}).Check(); err != nil {
		t.Error(err)
	}
}
