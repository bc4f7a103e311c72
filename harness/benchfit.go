package harness

import (
	"context"
	"slices"
	"testing"

	"attnbench/results"
)

// accuracy trains every mechanism on every task by the task's recipe.
func (s *suite) accuracy(b *testing.B) {
	tasks := bench.tasks
	if len(tasks) == 0 {
		tasks = defaultTasks()
	}
	for _, spec := range tasks {
		r, err := RecipeFor(spec)
		if err != nil {
			b.Fatal(err)
		}
		if bench.steps > 0 {
			r.Train.Steps = bench.steps
			r.Train.Warmup = min(r.Train.Warmup, bench.steps/10)
		}
		var runs []*run
		for _, mech := range bench.mechs.orMechanisms() {
			x, err := newRun(r, mech, 0)
			if err != nil {
				skip(err, b.Fatal)
				continue
			}
			runs = append(runs, x)
		}
		if len(runs) == 0 {
			continue
		}
		b.Run(runs[0].parts()[0], func(b *testing.B) {
			for _, x := range runs {
				b.Run(x.parts()[1], func(b *testing.B) {
					printConfig(x.config()[:3]...) // all but the seed
					fits(b, x, x.parts()[2:])
				})
			}
		})
	}
}

// fits runs a sub-benchmark for each of the parts that are left of the name, and at the end the training.
func fits(b *testing.B, x *run, parts []string) {
	if len(parts) > 1 {
		b.Run(parts[0], func(b *testing.B) { fits(b, x, parts[1:]) })
		return
	}
	var seeds seeds
	b.Run(parts[0], func(b *testing.B) {
		one := *x
		one.seed = seeds.next()
		var values, again []results.Value
		for b.Loop() { // equal runs, more than one only when a run takes less than -benchtime
			var err error
			if again, _, err = one.fit(context.Background(), Fitting{}); err != nil {
				b.Fatal(err)
			}
			if values == nil {
				values = again
			}
		}
		exact := func(v results.Value) bool { return v.Unit == "sec/step" }
		if !slices.Equal(slices.DeleteFunc(slices.Clone(values), exact), slices.DeleteFunc(slices.Clone(again), exact)) {
			b.Fatalf("seed %d gave %v, and then %v: want the same figures", one.seed, values, again)
		}
		for _, v := range values {
			b.ReportMetric(v.Value, v.Unit)
		}
		b.ReportMetric(float64(one.seed), results.SeedUnit)
	})
}
