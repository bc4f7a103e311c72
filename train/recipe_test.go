package train

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"

	_ "attnbench/attn/all"
	"attnbench/model"
)

// TestRecipesAreFrozen: a hash that changes is another recipe, whose results are not those of the old.
func TestRecipesAreFrozen(t *testing.T) {
	want := map[string]string{
		"mqar":              "22e63a378200519c",
		"copy":              "0bb4bf957cb2a007",
		"opticks":           "e02c9054102ad2eb",
		"opticks-long":      "f61dc0b9ed6e93bf",
		"quick":             "197ac8d997bef3d8",
		"mqar-mix":          "8c3be54b859fc512",
		"listops":           "c040797e746db8d3",
		"induction":         "744fd4646d863b23",
		"selective-copy":    "99bf34c976df39cd",
		"mad-recall":        "8c54b5fb770e1218",
		"mad-fuzzy":         "85afe02030704821",
		"mad-memory":        "0286a5a4c5ac5658",
		"niah":              "3e10df9ffddcb486",
		"variable-tracking": "f5acb854a9e9659b",
		"common-words":      "20a15f45340ccfb7",
		"frequent-words":    "15195eb897f3dfe4",
		"parity":            "6efb4d134accf494",
		"adding":            "4db0c6aa0664d60d",
		"pathfinder":        "9b7098a0bafd5343",
		"go-package":        "360d0ee2a172ede2",
		"go-tags":           "3fec4cdc5474676c",
		"mad-compress":      "98122fb257336479",
	}
	for _, r := range Recipes() {
		if got := r.Hash(); got != want[r.Name] {
			t.Errorf("%s: hash %s: want %s; settings:\n%s", r.Name, got, want[r.Name], r)
		}
		if r.Name == "go-tags" && testing.Short() {
			delete(want, r.Name)
			continue // type-checks a part of the library
		}
		if _, err := r.Config("full", 1); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		delete(want, r.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestHashCoversEverySetting(t *testing.T) {
	r := recipes[0].Recipe
	seen := map[string]bool{r.Hash(): true}
	for i, change := range []func(*Recipe){
		func(r *Recipe) { r.Task = "mqar" }, func(r *Recipe) { r.Model.Heads++ }, func(r *Recipe) { r.Model.Tied = false },
		func(r *Recipe) { r.Settings.Rate *= 1.0001 }, func(r *Recipe) { r.Settings.Steps++ }, func(r *Recipe) { r.Settings.Clip = 0 },
	} {
		x := r
		change(&x)
		if seen[x.Hash()] {
			t.Errorf("change %d has the hash of another recipe", i)
		}
		seen[x.Hash()] = true
	}
	x := r
	x.Settings.Beta1, x.Settings.Eps = 0.9, 1e-8 // the defaults, said aloud
	if x.Hash() != r.Hash() {
		t.Errorf("defaults that are spelled out change the hash")
	}
}

func TestRecipeFor(t *testing.T) {
	for _, c := range []struct{ spec, name, task string }{
		{"mqar", "mqar", "mqar:reach=14"},
		{"mqar:pairs=8", "mqar", "mqar:pairs=8"},
		{"opticks", "opticks", "opticks:length=256"},
		{"gosrc", "opticks", "gosrc:length=256"},
		{"books:path=/x", "opticks", "books:path=/x"},
		{"niah:haystack=needles", "niah", "niah:haystack=needles"},
		{"lra-image:path=/x", "go-package", "lra-image:path=/x"},
	} {
		r, err := RecipeFor(c.spec)
		if err != nil || r.Name != c.name || r.Task != c.task {
			t.Errorf("%s: %s, %s, %v: want %s, %s", c.spec, r.Name, r.Task, err, c.name, c.task)
		}
	}
	if _, err := RecipeFor("chess"); err == nil || !strings.Contains(err.Error(), "want one of adding, books, ") {
		t.Errorf("error %v: want one that lists the tasks", err)
	}
	if _, err := RecipeNamed("chess"); err == nil || !strings.Contains(err.Error(), "opticks-long") {
		t.Errorf("error %v: want one that lists the recipes", err)
	}
	if _, err := recipes[0].Config("ful", 1); err == nil || !strings.Contains(err.Error(), "ful") {
		t.Errorf("error %v: want one that names the mechanism", err)
	}
}

// short returns a recipe of the model in n steps, with a smaller evaluation.
func short(t *testing.T, name, spec, mech string, n int) Config {
	t.Helper()
	r, err := RecipeNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	r.Task, r.Settings.Steps, r.Settings.Warmup, r.Settings.EvalEvery = spec, n, min(2, n), 3
	c, err := r.Config(mech, 1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestModelSameBits: a language model's run has the same bits on any number of cores, and when resumed.
func TestModelSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	const spec = "opticks:length=48,eval=1000"
	for _, mech := range []string{"full", "gla|sliding:window=8", "sigmoid"} {
		var want string
		for _, procs := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(procs)
			got := same(mustRun(t, short(t, "opticks", spec, mech, 7)))
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s: other bits at GOMAXPROCS %d", mech, procs)
			}
		}
		path := t.TempDir() + "/c"
		c := short(t, "opticks", spec, mech, 7)
		c.Checkpoint = path
		ctx, cancel := context.WithCancel(context.Background())
		c.Progress = func(p Progress) {
			if p.Step == 4 {
				cancel()
			}
		}
		if r, err := Run(ctx, c); err == nil || r.Steps != 4 {
			t.Fatalf("%s: %d steps, error %v: want a stop after 4", mech, r.Steps, err)
		}
		c = short(t, "opticks", spec, mech, 7)
		c.Checkpoint = path
		if got := same(mustRun(t, c)); got != want {
			t.Errorf("%s: resumed, it ends with %s\nwant %s", mech, got, want)
		}
		// The file restores the trained model without a run.
		saved, err := ReadCheckpoint(path)
		if err != nil {
			t.Fatal(err)
		}
		fresh := short(t, "opticks", spec, mech, 7).Model.(*model.LM)
		if err := saved.Restore(fresh.Params()); err != nil {
			t.Fatal(err)
		}
		for i, p := range c.Model.Params() {
			if !slices.Equal(p.Data, fresh.Params()[i].Data) {
				t.Errorf("%s: %s is not restored", mech, p.Name)
			}
		}
	}
}

// TestRecall: what the recipe for recall promises, at its full length for full attention. A window of 8 in two layers knows
// nothing of pairs more than 14 tokens back.
func TestRecall(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r, err := RecipeNamed("mqar")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mech      string
		steps     int
		unit      string
		low, high float64
	}{
		{"full", r.Settings.Steps, "accuracy", 0.99, 1},
		{"sliding:window=8", 150, "far-accuracy", 0, 0.02},
	} {
		r.Settings.Steps = c.steps
		cfg, err := r.Config(c.mech, 1)
		if err != nil {
			t.Fatal(err)
		}
		res := mustRun(t, cfg)
		m, ok := res.Metric(c.unit)
		v := m.Value
		t.Logf("%s: %s %.4f after %d steps", c.mech, c.unit, v, c.steps)
		if !ok || v < c.low || v > c.high {
			t.Errorf("%s: %s %v: want %v to %v", c.mech, c.unit, v, c.low, c.high)
		}
	}
}
