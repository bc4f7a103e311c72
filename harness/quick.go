package harness

import (
	"context"

	"attnbench/attn"
	"attnbench/results"
	"attnbench/task"
)

// QuickOptions are those of the main job. The zero value is what the command without arguments runs.
type QuickOptions struct {
	All      bool   // every registered mechanism, and every cell that the system has memory for
	Lengths  []int  // of prefill and decoding; nil means 512, 2048 and 8192
	Heads    int    // 0 means 4
	Dim      int    // of a head; 0 means 64
	Samples  int    // of each figure of time; 0 means 6, the least that give an interval at 95%
	Seed     uint64 // of the first sample; 0 means 1
	Recipe   Recipe // of the training; the zero value means the main job's own
	Progress func(Progress)
}

// What a cell may need unless All is set: scores that a mechanism keeps for all pairs of 8192 tokens take more.
const quickLimit = 1 << 30

// The floating-point operations of a sample: how often a cell runs depends on its shape alone, so that
// every machine does the same work. Decoding is bound by memory, and takes ten times as long for as many.
const (
	quickWork       = 2e9
	quickDecodeWork = quickWork / 10
)

func (o QuickOptions) withDefaults() QuickOptions {
	if o.Lengths == nil {
		o.Lengths = []int{512, 2048, 8192}
	}
	if o.Heads == 0 {
		o.Heads = 4
	}
	if o.Dim == 0 {
		o.Dim = 64
	}
	if o.Samples == 0 {
		o.Samples = 6
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Recipe.Task == "" {
		o.Recipe, _ = RecipeNamed("quick")
	}
	return o
}

// Report is what the main job found.
type Report struct {
	Peak      Peak     // before the first cell; Read is of main memory
	Mechs     []string // that were measured, in canonical spelling
	LeftOut   []string // registered, but not part of the main job
	Lengths   []int
	Recipe    Recipe
	Task      task.Info
	Baselines []task.Baseline // of the task
	Records   []results.Record
	Outcome   Outcome
}

// Quick is the main job: the machine's peak; prefill, decoding and exact memory at a few lengths for every
// mechanism that Info marks Quick; then each of them in one small language model, trained on real text by one recipe.
// The number of runs and steps is fixed in advance. When ctx ends, the report holds what was done.
func Quick(ctx context.Context, o QuickOptions) (*Report, error) {
	o = o.withDefaults()
	r := &Report{Lengths: o.Lengths, Recipe: o.Recipe}
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			return nil, err
		}
		if info := m.Info(); info.Quick || o.All {
			r.Mechs = append(r.Mechs, info.Name)
		} else {
			r.LeftOut = append(r.LeftOut, info.Name)
		}
	}
	t, err := task.New(o.Recipe.Task)
	if err != nil {
		return nil, err
	}
	r.Task = t.Info()
	if r.Baselines, err = task.Baselines(t); err != nil {
		return nil, err
	}
	meter := NewMeter()
	r.Peak = meter.Peak(maxRead)
	jobs, skipped, err := quickJobs(o, r.Mechs, meter)
	if err != nil {
		return nil, err
	}
	var store Memory
	r.Outcome, err = Sweep(ctx, jobs, &store, o.Progress)
	r.Outcome.Skipped = append(once(r.Outcome.Skipped), skipped...)
	r.Records = store.Records
	return r, err
}

func quickJobs(o QuickOptions, mechs []string, meter *Meter) (jobs []Job, skipped []Failure, err error) {
	for i := range o.Samples {
		for _, k := range []Kind{Prefill, Decode} {
			g := Grid{
				Kinds: []Kind{k}, Mechs: mechs, Lengths: o.Lengths,
				Heads: []int{o.Heads}, Dims: []int{o.Dim}, Samples: 1, Seed: o.Seed + uint64(i),
			}
			m := Options{Work: quickWork, Limit: quickLimit, NoRSS: true, Meter: meter}
			if k == Decode {
				m.Work = quickDecodeWork
			}
			if o.All {
				m.Limit = 0
			}
			if i > 0 {
				m.Fidelity = -1 // errors are those of the first sample
			}
			list, err := g.Jobs(m)
			if err != nil {
				return nil, nil, err
			}
			jobs = append(jobs, list...)
		}
	}
	fits, skipped, err := FitJobs(o.Recipe, mechs, 1, o.Seed)
	return append(jobs, fits...), skipped, err
}

// once leaves one failure of each cell: what cannot be measured cannot be for any seed.
func once(list []Failure) []Failure {
	seen := map[string]bool{}
	var out []Failure
	for _, f := range list {
		if !seen[f.Name] {
			seen[f.Name] = true
			out = append(out, f)
		}
	}
	return out
}

// Samples returns the samples of a figure of a mechanism, in the order of their seeds: at n tokens, or, of
// Accuracy, of the model that was trained. It is empty for a cell without a result.
func (r *Report) Samples(mech string, k Kind, n int, unit string) []float64 {
	var list []float64
	for _, rec := range r.Records {
		c := parseName(rec.Name)
		if c.kind != k.String() || c.mech != mech || k != Accuracy && c.n != n {
			continue
		}
		for _, v := range rec.Values {
			if v.Unit == unit {
				list = append(list, v.Value)
			}
		}
	}
	return list
}
