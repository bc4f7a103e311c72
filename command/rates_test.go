package command

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"attnbench/harness"
	"attnbench/results"
	"attnbench/task"

	"github.com/spf13/cobra"
)

// TestRateOfTheValidationSet: the rate that is best on the validation set is taken, also where the test set says otherwise or a rate diverged,
// and a file without its scores is refused.
func TestRateOfTheValidationSet(t *testing.T) {
	k, err := task.New("mqar")
	if err != nil {
		t.Fatal(err)
	}
	info := k.Info()
	recipe, err := harness.RecipeFor("mqar")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := harness.FitJobs(recipe, []string{"full"}, 1, 1); err != nil { // makes the units known
		t.Fatal(err)
	}
	// Of two rates and three seeds: test, validation.
	scores := [2][3][2]float64{{{0.9, 0.2}, {0.9, 0.3}, {0.9, 0.9}}, {{0.1, 0.5}, {0.2, 0.6}, {0.4, 0.4}}}
	grid := func(values func(rate, seed int) []results.Value) (string, map[string]int, error) {
		var out bytes.Buffer
		g := &rateGrid{rates: []float64{0.001, 0.01}, place: map[string]ratePlace{}}
		g.cmd, g.mechs, g.out = &cobra.Command{}, []string{"full"}, "g.txt"
		g.cmd.SetOut(&out)
		set := new(results.Set)
		for rate := range 2 {
			for seed := range 3 {
				r := results.Record{Name: "Accuracy/mech=full", Iters: 1, Config: []results.Config{{Key: "recipe", Value: fmt.Sprint(rate)}, {Key: "seed", Value: fmt.Sprint(seed)}}, Values: values(rate, seed)}
				if err := set.Add(r); err != nil {
					t.Fatal(err)
				}
				set.Each(func(key string, _ []results.Value) {
					if _, known := g.place[key]; !known {
						g.place[key] = ratePlace{"full", rate}
					}
				})
			}
		}
		best, err := g.write(results.CSV, set, &info)
		return out.String(), best, err
	}
	got, best, err := grid(func(rate, seed int) []results.Value {
		s := scores[rate][seed]
		return []results.Value{{Value: s[0], Unit: "accuracy"}, {Value: s[1], Unit: "valid-accuracy"}}
	})
	if err != nil || best["full"] != 1 || !strings.Contains(got, "full,0.9,0.2,0.01,0.2,0.1,0.4,3,0.50") {
		t.Errorf("rate %d, %v:\n%s\nwant the second", best["full"], err, got)
	}
	if _, best, err = grid(func(rate, seed int) []results.Value {
		if rate == 1 {
			return []results.Value{{Value: 1, Unit: "diverged"}}
		}
		return []results.Value{{Value: 0.1, Unit: "accuracy"}, {Value: 0.1, Unit: "valid-accuracy"}}
	}); err != nil || best["full"] != 0 {
		t.Errorf("rate %d, %v: want the first, of which no run diverged", best["full"], err)
	}
	if _, _, err = grid(func(int, int) []results.Value { return []results.Value{{Value: 0.1, Unit: "accuracy"}} }); err == nil || !strings.Contains(err.Error(), "g.txt: a result without valid-accuracy") {
		t.Errorf("a file without validations: error %v", err)
	}
}
