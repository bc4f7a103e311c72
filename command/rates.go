package command

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/harness"
	"attnbench/results"
	"attnbench/task"
)

// A rateGrid is what train does with --rates: each mechanism at each peak learning rate. A task's order of mechanisms can turn round
// with the rate, so a mechanism is told by its best one, and by how much it depends on it.
type rateGrid struct {
	training
	rates []float64
	place map[string]ratePlace // by the key of a cell
}

// ratePlace is where a cell stands in the grid.
type ratePlace struct {
	mech string
	rate int
}

// checkRates reports what --rates cannot be, or cannot stand beside.
func checkRates(rates []float64, set func(flag string) bool) error {
	seen := map[float64]bool{}
	for _, r := range rates {
		switch {
		case !(r > 0) || math.IsInf(r, 0):
			return fmt.Errorf("--rates: learning rate %v: want a finite number above 0", r)
		case seen[r]:
			return fmt.Errorf("--rates: learning rate %v: given twice", r)
		}
		seen[r] = true
	}
	for _, flag := range []string{"lr", "save", "plot"} {
		if len(rates) > 0 && set(flag) {
			return fmt.Errorf("--%s with --rates: want one or the other", flag)
		}
	}
	return nil
}

func (g *rateGrid) run(f results.Format) error {
	tk, err := task.New(g.recipe.Task)
	if err != nil {
		return err
	}
	info := tk.Info()
	g.place = map[string]ratePlace{}
	var jobs []harness.Job
	for seed := range g.count { // the first seed of the whole grid before the second of any
		for i, rate := range g.rates {
			for _, mech := range g.mechs {
				one := g.training
				one.mechs, one.seed, one.count, one.validate = []string{mech}, g.seed+uint64(seed), 1, true
				one.recipe.Train.FinalRate *= rate / g.recipe.Train.Rate
				one.recipe.Train.Rate = rate
				list, err := one.jobs()
				if err != nil {
					return err
				}
				for _, j := range list {
					g.place[j.Key] = ratePlace{mech, i}
				}
				jobs = append(jobs, list...)
			}
		}
	}
	if len(jobs) == 0 {
		return errNoneTrained
	}
	set, err := collect(g.cmd, jobs, g.out)
	if err != nil {
		return err
	}
	best, err := g.write(f, set, &info)
	if err != nil {
		return err
	}
	// One table of each mechanism at its best rate, as if they had one recipe.
	set.Keep(func(key string) bool { p := g.place[key]; return best[p.mech] == p.rate })
	set.Rename("recipe", "best of "+g.spelled())
	fmt.Fprintln(g.cmd.OutOrStdout())
	return g.tables(set, f)
}

func (g *rateGrid) spelled() string {
	var s []string
	for _, r := range g.rates {
		s = append(s, fmt.Sprintf("%g", r))
	}
	return strings.Join(s, ", ")
}

// write draws the grid: medians over the seeds at each rate, of the rate that is best on the validation set the range, and the robustness,
// and returns the number of each mechanism's best rate.
func (g *rateGrid) write(f results.Format, set *results.Set, info *task.Info) (best map[string]int, err error) {
	m, valid := &info.Metrics[0], harness.ValidUnit(info)
	scores, valids := map[ratePlace][]float64{}, map[ratePlace][]float64{}
	set.Each(func(key string, values []results.Value) {
		x, y := math.NaN(), math.NaN() // diverged
		diverged := false
		for _, v := range values {
			switch v.Unit {
			case m.Unit:
				x = v.Value
			case valid:
				y = v.Value
			case "diverged":
				diverged = true
			}
		}
		if y != y && !diverged && err == nil {
			err = fmt.Errorf("%s: a result without %s, by which rates are chosen: want another file", g.out, valid)
		}
		at := g.place[key]
		scores[at], valids[at] = append(scores[at], x), append(valids[at], y)
	})
	if err != nil {
		return nil, err
	}
	sheet := results.Sheet{Title: fmt.Sprintf("%s of %s by peak learning rate, median of up to %d seeds", m.Unit, g.recipe.Task, g.samples(scores)), Header: []string{"mech"}, Left: 1}
	for _, r := range g.rates {
		sheet.Header = append(sheet.Header, fmt.Sprintf("%g", r))
	}
	sheet.Header = append(sheet.Header, "rate", "median", "lowest", "highest", "n", "robustness")
	best = map[string]int{}
	for _, mech := range g.mechs {
		row := []string{mech}
		medians := make([]float64, len(g.rates)) // of the validation set
		at := 0
		for i := range g.rates {
			tested := math.NaN()
			medians[i] = math.NaN()
			if p := (ratePlace{mech, i}); len(scores[p]) > 0 {
				tested, medians[i] = median(slices.Clone(scores[p])), median(slices.Clone(valids[p]))
			}
			row = append(row, number(tested))
			if better(m, medians[i], medians[at]) {
				at = i
			}
		}
		best[mech] = at
		top := slices.Sorted(slices.Values(scores[ratePlace{mech, at}]))
		if len(top) == 0 {
			continue // it cannot be trained, which has been said
		}
		within := 0
		for _, x := range medians {
			if math.Abs(x-medians[at]) <= 0.05*math.Abs(medians[at]) {
				within++
			}
		}
		sheet.Rows = append(sheet.Rows, append(row, number(g.rates[at]), number(median(slices.Clone(top))), number(top[0]), number(top[len(top)-1]), fmt.Sprint(len(top)),
			fmt.Sprintf("%.2f", float64(within)/float64(len(medians)))))
	}
	sheet.Notes = []string{"rate is the best by the median of " + valid + "; median, lowest and highest are of its n seeds on the test set",
		"robustness is the fraction of the rates whose median of " + valid + " is within 5% of the best"}
	return best, sheet.Write(g.cmd.OutOrStdout(), f)
}

// better tells whether x is a better score than y; none is better than NaN.
func better(m *task.Metric, x, y float64) bool {
	switch {
	case x != x:
		return false
	case y != y:
		return true
	case m.Better == "higher":
		return x > y
	}
	return x < y
}

func (g *rateGrid) samples(scores map[ratePlace][]float64) int {
	n := 0
	for _, s := range scores {
		n = max(n, len(s))
	}
	return n
}
