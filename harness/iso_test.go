package harness

import (
	"math"
	"strings"
	"testing"

	"attnbench/model"
	"attnbench/nn"
	"attnbench/results"
	"attnbench/task"
	"attnbench/train"
)

func isoRecipe() Recipe {
	return Recipe{
		Task:  "opticks:length=64,eval=512",
		Model: model.Config{Dim: 32, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 64, Positions: "rope", Tied: true},
		Train: train.Settings{Steps: 3, Batch: 2, Rate: 0.01},
	}
}

func TestCheckIso(t *testing.T) {
	for _, c := range []struct {
		iso, mechs, want string // an error; empty for none
	}{
		{"params", "full sliding:window=8 alibi", ""},
		{"params", "full gla", "gla has 29120 parameters, full 24928, +16.8%"},
		{"params", "gla full", "full has 24928 parameters, gla 29120, -14.4%"},
		{"fit", "full gla full|gla", ""},
		{"none", "full gla", ""},
		{"state", "full naive", ""},
		{"state", "full sliding:window=8", "sliding:window=8 has 4096 bytes of state, full 32768, -87.5%"},
		{"size", "full", `iso "size": want one of params, fit, state, none`},
	} {
		_, err := CheckIso(isoRecipe(), strings.Fields(c.mechs), c.iso)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: error %v: want %q", c.iso, c.mechs, err, c.want)
		}
	}
	r := isoRecipe()
	r.Model.MLP, r.Model.MLPWidth = "none", 0
	if _, err := CheckIso(r, []string{"full", "gla"}, "fit"); err == nil || !strings.Contains(err.Error(), "want a model with MLPs") {
		t.Errorf("fit without MLPs: error %v: want one that says so", err)
	}
}

func TestFitIso(t *testing.T) {
	r, err := CheckIso(isoRecipe(), []string{"full", "gla"}, "fit")
	if err != nil {
		t.Fatal(err)
	}
	k, err := task.New(r.Task)
	if err != nil {
		t.Fatal(err)
	}
	for _, mech := range []string{"full", "gla", "gla|full"} {
		m, err := r.train().NewModel(k, mech, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n := nn.Count(m.Params()); math.Abs(float64(n-r.Params)) > 0.01*float64(r.Params) {
			t.Errorf("%s: %d parameters: want %d to within 1%%", mech, n, r.Params)
		}
	}
}

// TestDivergedIsAResult: a rate that no training survives gives a record that says so.
func TestDivergedIsAResult(t *testing.T) {
	r := isoRecipe()
	r.Train.Rate, r.Train.Steps = 1e30, 20
	rec, res, err := Fit(t.Context(), r, "full", 1, Fitting{})
	if err != nil || !res.Diverged {
		t.Fatalf("error %v, diverged %v: want none, true", err, res.Diverged)
	}
	has := map[string]float64{}
	for _, v := range rec.Values {
		has[v.Unit] = v.Value
	}
	if has["diverged"] != 1 || has["params"] == 0 || has["bits/byte"] != 0 {
		t.Errorf("record %v: want diverged 1, its size and no score", has)
	}
	if _, ok := results.LookupUnit("diverged"); !ok {
		t.Error("diverged is no unit")
	}
}
