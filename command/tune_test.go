package command

import (
	"math"
	"slices"
	"testing"

	"attnbench/task"
)

func TestReach(t *testing.T) {
	losses := make([]float32, 40) // means of 4
	for i := range losses {
		losses[i] = float32(40 - i)
	}
	for target, want := range map[float64]int{0: 0, 0.5: 0, 2.5: 40, 10.5: 32, 38.5: 4, 50: 4} {
		if got := reach(losses, target); got != want {
			t.Errorf("target %v: step %d: want %d", target, got, want)
		}
	}
	if got := reach(nil, 1); got != 0 {
		t.Errorf("no losses: step %d: want 0", got)
	}
}

func TestBetterPutsDivergedLast(t *testing.T) {
	for better, want := range map[string][]float64{"lower": {1, 2, 3}, "higher": {3, 2, 1}} {
		u := tuning{metric: task.Metric{Unit: "x", Better: better}}
		list := []*strategy{{score: 2}, {score: math.NaN()}, {score: 3}, {score: 1}}
		slices.SortStableFunc(list, u.better)
		for i, x := range want {
			if list[i].score != x {
				t.Errorf("%s, place %d: %v: want %v", better, i, list[i].score, x)
			}
		}
		if last := list[3].score; last == last {
			t.Errorf("%s: last is %v: want NaN", better, last)
		}
	}
}

func TestMedian(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		list []float64
		want float64
	}{
		{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{9, 1, 2, 4}, 3}, {[]float64{nan, 5, 1}, 1}, {[]float64{nan, 1}, nan},
	} {
		if got := median(slices.Clone(c.list)); got != c.want && (got == got || c.want == c.want) {
			t.Errorf("%v: %v: want %v", c.list, got, c.want)
		}
	}
}
