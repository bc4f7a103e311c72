package task

import (
	"math"
	"strings"
	"testing"
)

func TestMQARMixSolver(t *testing.T) {
	solved(t, "mqar-mix:eval=20", func(tokens []int32) int32 {
		n := len(tokens) - 1
		for i := range n {
			if tokens[i] == tokens[n] {
				return tokens[i+1]
			}
		}
		return -1
	})
}

// TestMQARMixSettings: what is drawn, in which shares and in which order, and what the score tells apart.
func TestMQARMixSettings(t *testing.T) {
	k := mustNew(t, "mqar-mix")
	n := map[int]int{}
	const steps = 4000
	for step := range steps {
		n[scored(k.Train(3, step, 1).Labels)]++
	}
	for pairs, weight := range map[int]float64{4: 5, 8: 1, 16: 1, 32: 1, 64: 1} {
		p := weight / 9
		if sigma := math.Sqrt(steps * p * (1 - p)); math.Abs(float64(n[pairs])-steps*p) > 4.5*sigma {
			t.Errorf("%d steps of %d pairs: want %.0f ± %.0f", n[pairs], pairs, steps*p, 4.5*sigma)
		}
	}
	k = mustNew(t, "mqar-mix:epoch=9")
	var order []int
	for step := range 18 {
		order = append(order, scored(k.Train(3, step, 1).Labels))
	}
	for i, want := range []int{4, 4, 4, 4, 4, 8, 16, 32, 64} {
		if order[i] != want || order[9+i] != want {
			t.Fatalf("pairs by step %v: want five of 4, then 8, 16, 32, 64, and again", order)
		}
	}
	// Who answers rows up to 256 tokens alone is right inside and wrong beyond.
	rows := map[string]int{"accuracy@4": 4, "accuracy@8": 8, "accuracy@16": 16, "accuracy@32": 32, "accuracy@64": 64, "accuracy@128": 128, "accuracy@256": 256}
	k = mustNew(t, "mqar-mix:eval=3")
	score := k.NewScore()
	for b := range k.Eval(Test, 2) {
		predicted := make([]int32, len(b.Tokens))
		if b.Length <= 256 {
			copy(predicted, b.Labels)
		}
		if err := score.Add(b, make([]float32, len(b.Tokens)), predicted); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range score.Values() {
		want, count := 1.0, 3*rows[v.Unit]
		switch v.Unit {
		case "accuracy", "row-accuracy", "nats/query":
			continue
		case "inside-accuracy":
			count = 3 * (4 + 8 + 16 + 32 + 64)
		case "beyond-accuracy":
			want, count = 0, 3*(128+256)
		case "accuracy@128", "accuracy@256":
			want = 0
		}
		if v.Value != want || v.Count != count {
			t.Errorf("%+v: want %v of %d", v, want, count)
		}
	}
}

func TestMQARMixErrors(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"train=64", "option train=64: want settings"},
		{"train=64x4-", "option train=64x4-"},
		{"train=64x0", "option train=64x0"},
		{"train=64x4-64x4x2", "of different lengths or pairs"},
		{"train=64x4x99999999999999999999", "option train"},
		{"test=64x4x2", "option test=64x4x2: want settings"},
		{"test=64x4-128x4", "settings that differ in their pairs"},
		{"test=64x17", "setting 64x17: option pairs=17"},
		{"vocab=1024", "setting 1024x256: option vocab=1024"},
		{"epoch=-1", "option epoch=-1"},
		{"eval=0", "option eval=0"},
	} {
		if _, err := New("mqar-mix:" + c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.options, err, c.want)
		}
	}
}
