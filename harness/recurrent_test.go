package harness

import (
	"math"
	"testing"

	"attnbench/nn"
)

// TestRecurrentRow: a recurrent network stands beside the mechanisms, of about the size of the recipe's model and with a state that does not grow.
func TestRecurrentRow(t *testing.T) {
	r, err := RecipeFor("mqar:length=16,pairs=2,eval=32")
	if err != nil {
		t.Fatal(err)
	}
	r.Train.Steps, r.Train.Batch, r.Train.Warmup = 3, 4, 1
	jobs, skipped, err := FitJobs(r, []string{"full", "elman", "gru", "lstm"}, 1, 1)
	if err != nil || len(skipped) > 0 || len(jobs) != 4 {
		t.Fatalf("%d jobs, skipped %v, error %v", len(jobs), skipped, err)
	}
	for _, j := range jobs {
		if j.Work <= 0 {
			t.Errorf("%s: work %v", j.Name, j.Work)
		}
		rec, err := j.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again, err := j.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, v := range rec.Values {
			got[v.Unit] = v.Value
		}
		for _, v := range again.Values {
			if v.Unit != "sec/step" && v.Unit != "sec/op" && got[v.Unit] != v.Value {
				t.Errorf("%s: %s %v, then %v", j.Name, v.Unit, got[v.Unit], v.Value)
			}
		}
		for _, unit := range []string{"accuracy", "state-B", "params", "steps", "step-B"} {
			if _, ok := got[unit]; !ok {
				t.Errorf("%s: no %s", j.Name, unit)
			}
		}
	}
	for _, cell := range []string{"elman", "gru", "lstm"} {
		m, err := r.newRecurrent(cell, 256, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n, want := nn.Count(m.Params()), plainSize(&r.Model, 256); math.Abs(float64(n-want)) > 0.1*float64(want) {
			t.Errorf("%s has %d parameters: want %d within a tenth", cell, n, want)
		}
	}
	r.Model.Bottleneck = true
	if _, skipped, err := FitJobs(r, []string{"lstm"}, 1, 1); err != nil || len(skipped) != 1 {
		t.Errorf("with a bottleneck: skipped %v, error %v", skipped, err)
	}
}
