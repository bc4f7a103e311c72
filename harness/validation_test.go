package harness_test

import (
	"context"
	"testing"

	"attnbench/harness"
	"attnbench/results"
)

// TestValidation: the score of the validation set is that of the last weights, whether training had found it at its last step or not, and of
// their mean where that is what is scored.
func TestValidation(t *testing.T) {
	fit := func(every int, average float64) map[string]float64 {
		r, err := harness.RecipeFor("mqar:length=16,pairs=2,eval=64")
		if err != nil {
			t.Fatal(err)
		}
		r.Model.Dim, r.Train.Batch, r.Train.Steps, r.Train.Warmup, r.Train.Rate = 16, 8, 40, 2, 0.03
		r.Train.EvalEvery, r.Train.Average = every, average
		rec, _, err := harness.Fit(context.Background(), r, "full", 1, harness.Fitting{Validate: true})
		if err != nil {
			t.Fatal(err)
		}
		return units(rec.Values)
	}
	last := map[float64]float64{}
	for _, average := range []float64{0, 0.99} {
		fresh, found := fit(0, average), fit(10, average)
		last[average] = fresh["valid-accuracy"]
		if x, y := fresh["valid-accuracy"], found["valid-accuracy"]; x != y || x == 0 {
			t.Errorf("mean of decay %v: %v where training validates, %v where it does not: want the same", average, y, x)
		}
		if _, ok := fresh["best-step"]; ok {
			t.Error("a best step without validations")
		}
		if s := found["best-step"]; s < 10 || found["best-accuracy"] == 0 {
			t.Errorf("best step %v, accuracy %v: want one of the validations", s, found["best-accuracy"])
		}
	}
	if last[0] == last[0.99] {
		t.Errorf("last weights and their mean both have %v: want a case that tells them apart", last[0])
	}
}

func units(values []results.Value) map[string]float64 {
	m := map[string]float64{}
	for _, v := range values {
		m[v.Unit] = v.Value
	}
	return m
}
