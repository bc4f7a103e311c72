package harness

import (
	"context"
	"slices"
	"testing"

	"attnbench/attn"
	"attnbench/model"
	"attnbench/results"
	"attnbench/train"
)

var tinyRecipe = Recipe{
	Name: "tiny", Task: "opticks:length=32,eval=512",
	Model: model.Config{Dim: 16, Layers: 1, Heads: 2, Tied: true},
	Train: train.Settings{Steps: 2, Batch: 2, Rate: 1e-3, Clip: 1},
}

func TestQuick(t *testing.T) {
	var last Progress
	r, err := Quick(context.Background(), QuickOptions{
		Lengths: []int{24, 48}, Heads: 2, Dim: 8, Samples: 2, Recipe: tinyRecipe,
		Progress: func(p Progress) { last = p },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Outcome.Failed) > 0 {
		t.Errorf("failed: %v", r.Outcome.Failed)
	}
	if last.Done != last.Total {
		t.Errorf("progress ends at %+v", last)
	}
	if len(r.Mechs) == 0 || len(r.Mechs) > 8 {
		t.Errorf("%d mechanisms in the main job %v: want 1 to 8", len(r.Mechs), r.Mechs)
	}
	for _, m := range r.Mechs {
		for _, n := range r.Lengths {
			if s := r.Samples(m, Prefill, n, "sec/op"); len(s) != 2 {
				t.Errorf("%s at %d tokens: %d samples of prefill: want 2", m, n, len(s))
			}
		}
		if s := r.Samples(m, Accuracy, 0, "bits/byte"); len(s) != 1 || s[0] < 1 || s[0] > 12 {
			t.Errorf("%s: bits/byte %v: want one figure", m, s)
		}
	}
	if len(r.Baselines) == 0 || r.Peak.FLOPs <= 0 {
		t.Errorf("baselines %v, peak %v", r.Baselines, r.Peak)
	}
}

func TestFitIsDeterministicAndKeyed(t *testing.T) {
	mech := attn.Names()[0]
	a, _, err := Fit(context.Background(), tinyRecipe, mech, 1, Fitting{})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := Fit(context.Background(), tinyRecipe, mech, 1, Fitting{})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Fit(context.Background(), tinyRecipe, mech, 2, Fitting{})
	if err != nil {
		t.Fatal(err)
	}
	va, _ := value(a, "bits/byte")
	vb, _ := value(b, "bits/byte")
	vc, _ := value(c, "bits/byte")
	if va != vb || va == vc {
		t.Errorf("seed 1 gave %v and %v, seed 2 %v: want equal, and another", va, vb, vc)
	}
	if a.Key() != b.Key() || a.Key() == c.Key() {
		t.Errorf("keys %q, %q, %q: want equal, and another", a.Key(), b.Key(), c.Key())
	}
	other := tinyRecipe
	other.Train.Rate *= 2
	h, err := tinyRecipe.Hash()
	if err != nil {
		t.Fatal(err)
	}
	if o, err := other.Hash(); err != nil || o == h {
		t.Errorf("another learning rate has recipe %s, %v: want one that differs from %s", o, err, h)
	}
	jobs, _, err := FitJobs(tinyRecipe, []string{mech}, 2, 1)
	if err != nil || len(jobs) != 2 || jobs[0].Key != a.Key() || jobs[1].Key != c.Key() {
		t.Errorf("jobs %v, %v: want the keys of their records", jobs, err)
	}
	if !slices.ContainsFunc(a.Values, func(v results.Value) bool { return v.Unit == "step-B" && v.Value > 1e4 }) {
		t.Errorf("values %v: want step-B", a.Values)
	}
}
