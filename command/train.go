package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"attnbench/attn"
	"attnbench/harness"
	"attnbench/model/public"
	"attnbench/results"
	"attnbench/system"
	"attnbench/task"
	"attnbench/train"

	"github.com/spf13/cobra"
)

func newTrainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "train [MECH…]",
		Short: "Train models that differ in the mechanism alone, and score them on a task",
		Long: `Train one model for each mechanism and seed, by the task's recipe, and score it on the task's test set. The
recipe is the same for all: a row differs from the next in the mechanism alone. Flags change it for all alike; its
hash stands with each result.

On text the score is bits per byte, also by position and for bytes that repeat an earlier pair of the context
(recall), beside n-gram baselines fitted on the training part; on recall tasks it is accuracy.

Tasks: ` + strings.Join(task.Names(), ", ") + `; whole systems, with models and metrics of their own:
` + strings.Join(system.Names(), ", ") + ` (they read --data). A task with options is spelled name:option=value,option=value.
A layer pattern a|b gives the layers of a model different mechanisms, in turn. In place of a mechanism, elman, gru and lstm
are recurrent networks of as many learned numbers.`,
		Example: `  attnbench train full --steps 300
  attnbench train --mech full,sliding:window=64,linear --task opticks --steps 1000 --count 3 --out text.txt
  attnbench train --mech full,sliding:window=8 --task mqar --seed 1
  attnbench train full --recipe opticks-long --steps 600
  attnbench train 'linear|full'
  attnbench train full --save models && attnbench eval --checkpoint models/full-1 --text book.txt`,
	}
	format := addFormat(cmd)
	var mechs specsFlag
	var spec, named, out, data, checkpoints, save, plot string
	var seed uint64
	var count int
	var iso string
	var rates []float64
	var r harness.Recipe
	f := cmd.Flags()
	f.Var(&mechs, "mech", "mechanisms or layer patterns, between commas")
	f.StringVar(&spec, "task", "opticks", "task, with options")
	f.StringVar(&named, "recipe", "", "frozen recipe, in place of the task's default: "+recipeNames())
	f.Uint64Var(&seed, "seed", 1, "seed of the first model and its data; each further one has the next")
	f.IntVar(&count, "count", 1, "models of each mechanism")
	f.StringVar(&out, "out", "", "file of results, made or gone on with; default none")
	f.StringVar(&data, "data", "", "folder with the data sets of a system")
	f.StringVar(&checkpoints, "checkpoints", "", "folder for the checkpoints of the models, which a later run goes on from and generate reads")
	f.StringVar(&save, "save", "", "folder for the trained models, one folder each, which eval reads; not for systems")
	f.StringVar(&plot, "plot", "", "file, .svg or .png, for curves of the units that are numbered, such as accuracy@4")
	f.IntVar(&r.Train.Steps, "steps", 0, "optimiser steps")
	f.IntVar(&r.Train.Batch, "batch", 0, "rows a step")
	f.Float64Var(&r.Train.Rate, "lr", 0, "peak learning rate; the last one keeps its proportion")
	f.Float64SliceVar(&rates, "rates", nil, "peak learning rates, each of which every mechanism is trained at, in place of --lr: adds a table of the best one and of the robustness")
	f.IntVar(&r.Train.Warmup, "warmup", 0, "steps of linear warm-up")
	f.StringVar(&r.Train.Optimiser, "optimiser", "", "optimiser: "+strings.Join(train.Rules(), ", "))
	f.StringVar(&r.Train.Schedule, "schedule", "", "learning rate after the warm-up: "+strings.Join(train.Schedules, ", "))
	for _, d := range dials {
		f.Float64Var(d.of(&r), d.name, 0, d.help)
	}
	f.StringVar(&iso, "iso", "params", "what the models have in common to within 10%: params, fit (MLPs make up for it), state (bytes at the task's length) or none")
	f.IntVar(&r.Train.Micro, "micro", 0, "rows at a time, gradients added up; 0 for the whole batch")
	f.BoolVar(&r.Model.Recompute, "recompute", false, "compute each layer again in the backward pass: less memory, the same bits")
	f.IntVar(&r.Model.Dim, "dim", 0, "width of the model")
	f.IntVar(&r.Model.Layers, "layers", 0, "layers of the model")
	f.IntVar(&r.Model.Heads, "heads", 0, "heads of a layer")
	f.IntVar(&r.Model.ShortConv, "short-conv", 0, "width of the short convolution of queries, keys and values, where the mechanism declares none; 0 for none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, a := range args {
			if err := mechs.Set(a); err != nil {
				return usage(cmd, err)
			}
		}
		if len(mechs) == 0 {
			return usage(cmd, errors.New("no mechanism: want one at least (attnbench list shows them)"))
		}
		if count < 1 || count > harness.MaxSamples {
			return usage(cmd, fmt.Errorf("--count %d: want 1 to %d", count, harness.MaxSamples))
		}
		if plot != "" {
			if err := results.CheckCurves(plot); err != nil {
				return err
			}
		}
		if system.Has(spec) {
			for _, flag := range append(strings.Split(dialNames(), ", "), "recipe", "save", "iso", "batch", "micro", "recompute", "lr", "rates", "warmup", "optimiser", "schedule", "dim", "layers", "heads", "short-conv") {
				if cmd.Flags().Changed(flag) {
					return usage(cmd, fmt.Errorf("--%s with --task %s: want its options in the spelling of the task", flag, spec))
				}
			}
			y := &fitting{cmd: cmd, spec: spec, data: data, mechs: mechs, seed: seed, count: count, steps: r.Train.Steps, out: out, plot: plot, checkpoints: checkpoints}
			return y.run(format.Format)
		}
		if _, err := task.New(spec); err != nil {
			return err
		}
		if data != "" {
			return usage(cmd, fmt.Errorf("--data with --task %s: want it for a system alone: %s", spec, strings.Join(system.Names(), ", ")))
		}
		recipe, err := harness.RecipeFor(spec)
		if named != "" {
			recipe, err = harness.RecipeNamed(named)
			if cmd.Flags().Changed("task") {
				recipe.Task = spec
			}
		}
		if err != nil {
			return err
		}
		if err := checkRates(rates, cmd.Flags().Changed); err != nil {
			return usage(cmd, err)
		}
		set := cmd.Flags().Changed
		if n := layersOf(mechs); !set("layers") && n > recipe.Model.Layers {
			warn(cmd, fmt.Errorf("%d layers for all, as many as the longest pattern has mechanisms (the recipe has %d; --layers says another number)", n, recipe.Model.Layers))
			r.Model.Layers = n
			set = func(flag string) bool { return flag == "layers" || cmd.Flags().Changed(flag) }
		}
		change(&recipe, r, set)
		if recipe, err = harness.CheckIso(recipe, mechs, iso); err != nil {
			return err
		}
		t := &training{cmd: cmd, recipe: recipe, mechs: mechs, seed: seed, count: count, out: out, save: save, plot: plot, checkpoints: checkpoints}
		if len(rates) > 0 {
			return (&rateGrid{training: *t, rates: rates}).run(format.Format)
		}
		return t.run(format.Format)
	}
	return cmd
}

// layersOf is the number of mechanisms of the longest layer pattern.
func layersOf(mechs []string) int {
	n := 1
	for _, m := range mechs {
		if parts, err := attn.Pattern(m); err == nil { // else training says what is wrong with it
			n = max(n, len(parts))
		}
	}
	return n
}

func recipeNames() string {
	var names []string
	for _, r := range train.Recipes() {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

// share returns as large a part of to as part is of from, without overflow.
func share(part, to, from int) int {
	return int(float64(part) * float64(to) / float64(max(1, from)))
}

// change takes over into the recipe what the flags set.
func change(to *harness.Recipe, from harness.Recipe, set func(flag string) bool) {
	if set("steps") {
		// As large a part of the run as before, unless it is set too.
		to.Train.Warmup = share(to.Train.Warmup, from.Train.Steps, to.Train.Steps)
		to.Train.Steps = from.Train.Steps
	}
	if set("lr") {
		to.Train.FinalRate *= from.Train.Rate / to.Train.Rate
		to.Train.Rate = from.Train.Rate
	}
	if set("optimiser") {
		to.Train.Optimiser, to.Train.Beta1, to.Train.Beta2, to.Train.Eps = from.Train.Optimiser, 0, 0, 0
	}
	if set("schedule") {
		to.Train.Schedule = from.Train.Schedule
	}
	for _, d := range dials {
		if set(d.name) {
			*d.of(to) = *d.of(&from)
		}
	}
	if set("recompute") {
		to.Model.Recompute = from.Model.Recompute
	}
	if set("dim") || set("layers") || set("heads") {
		to.Params = 0 // they were another model's
	}
	for _, n := range []struct {
		flag     string
		to, from *int
	}{
		{"batch", &to.Train.Batch, &from.Train.Batch}, {"micro", &to.Train.Micro, &from.Train.Micro}, {"warmup", &to.Train.Warmup, &from.Train.Warmup},
		{"dim", &to.Model.Dim, &from.Model.Dim}, {"layers", &to.Model.Layers, &from.Model.Layers}, {"heads", &to.Model.Heads, &from.Model.Heads},
		{"short-conv", &to.Model.ShortConv, &from.Model.ShortConv},
	} {
		if set(n.flag) {
			*n.to = *n.from
		}
	}
}

var errNoneTrained = errors.New("no mechanism can be trained: want one with a backward pass")

// training is what one train command does.
type training struct {
	cmd    *cobra.Command
	recipe harness.Recipe
	mechs  []string
	seed   uint64
	count  int
	out    string
	save   string // folder for the models; empty for none
	plot   string

	checkpoints string
	validate    bool // results have a score of the validation set
}

func (t *training) run(f results.Format) error {
	jobs, err := t.jobs()
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		return errNoneTrained
	}
	set, err := collect(t.cmd, jobs, t.out)
	if err != nil {
		return err
	}
	t.unsaved()
	return t.tables(set, f)
}

// tables draws the results, with the task's baselines beside them.
func (t *training) tables(set *results.Set, f results.Format) error {
	tables, warnings, err := set.Tables(results.Query{})
	if err != nil {
		return err
	}
	warn(t.cmd, warnings...)
	if err := curves(t.plot, tables); err != nil {
		return err
	}
	for _, table := range tables {
		if err := t.beside(table); err != nil {
			return err
		}
	}
	if err := results.WriteTables(t.cmd.OutOrStdout(), f, tables); err != nil {
		return err
	}
	if unit := t.recipe.Train.TargetUnit; unit != "" && f != results.CSV && slices.Contains(set.UnitNames(), unit) {
		fmt.Fprintln(t.cmd.OutOrStdout())
		return results.WriteSuccess(t.cmd.OutOrStdout(), f, tables, []results.Bar{{Unit: unit, Value: t.recipe.Train.TargetValue}})
	}
	return nil
}

// curves draws the tables of one command to a file, unless its name is empty.
func curves(path string, tables []*results.Table) error {
	if path == "" {
		return nil
	}
	if len(tables) != 1 {
		return fmt.Errorf("plot %s: %d tables: want one", path, len(tables))
	}
	return results.WriteCurves(path, tables[0])
}

// collect runs the jobs, into and from the file unless its name is empty, and returns their records.
func collect(cmd *cobra.Command, jobs []harness.Job, out string) (*results.Set, error) {
	set := new(results.Set)
	if out != "" {
		if err := sweep(cmd, jobs, out); err != nil {
			return nil, err
		}
		var err error
		if set, err = results.ReadFiles(out); err != nil {
			return nil, err
		}
		set.Keep(func(key string) bool {
			for _, j := range jobs {
				if j.Key == key {
					return true
				}
			}
			return false
		})
	} else {
		var m harness.Memory
		o, err := harness.Sweep(cmd.Context(), jobs, &m, nil)
		switch {
		case errors.Is(err, context.Canceled):
			return nil, errors.New("stopped: nothing was kept, without --out")
		case err != nil:
			return nil, err
		case len(o.Failed) > 0:
			return nil, o.Failed[0].Err
		}
		if err := set.Add(m.Records...); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// jobs lists the models to train, the first seed of all before the second of any.
func (t *training) jobs() ([]harness.Job, error) {
	if t.save != "" { // before the first model
		if err := os.MkdirAll(t.save, 0o777); err != nil {
			return nil, err
		}
	}
	var jobs []harness.Job
	for i := range t.count {
		for _, mech := range t.mechs {
			seed := t.seed + uint64(i)
			list, skipped, err := harness.FitJobs(t.recipe, []string{mech}, 1, seed)
			if err != nil {
				return nil, err
			}
			if err := t.canSave(mech); err != nil {
				return nil, err
			}
			if len(skipped) > 0 && i == 0 {
				warn(t.cmd, skipped[0].Err)
			}
			for _, j := range list {
				file, err := checkpointFile(t.checkpoints, j.Key)
				if err != nil {
					return nil, err
				}
				j.Run = func(ctx context.Context) (results.Record, error) {
					show, done := steps(t.cmd.ErrOrStderr(), fmt.Sprintf("%s, seed %d", mech, seed))
					defer done()
					noteCheckpoint(t.cmd, file)
					m, rec, _, err := harness.FitModel(ctx, t.recipe, mech, seed, harness.Fitting{Progress: show, Checkpoint: file, Validate: t.validate})
					if err == nil && t.save != "" {
						err = public.SaveDecoder(t.folder(mech, seed), &public.Decoder{LM: m, Begin: -1})
					}
					return rec, err
				}
				jobs = append(jobs, j)
			}
		}
	}
	return jobs, nil
}

// folder is where a model is saved.
func (t *training) folder(mech string, seed uint64) string {
	return filepath.Join(t.save, fmt.Sprintf("%s-%d", harness.Word(mech), seed))
}

// canSave reports, before anything is trained, a model that could not be saved.
func (t *training) canSave(mech string) error {
	if t.save == "" {
		return nil
	}
	if harness.Recurrent(mech) {
		return fmt.Errorf("--save: %s: a recurrent network: want a mechanism, whose models have a public format", mech)
	}
	tk, err := task.New(t.recipe.Task)
	if err != nil {
		return err
	}
	m, err := train.Recipe{Task: t.recipe.Task, Model: t.recipe.Model, Settings: t.recipe.Train, Params: t.recipe.Params}.NewModel(tk, mech, t.seed)
	if err != nil {
		return err
	}
	if err := public.CanSave(&public.Decoder{LM: m, Begin: -1}); err != nil {
		return fmt.Errorf("--save: %s: %w", mech, err)
	}
	return nil
}

// unsaved notes the models that the file of results had, and that were not trained again.
func (t *training) unsaved() {
	for i := range t.count {
		for _, mech := range t.mechs {
			dir := t.folder(mech, t.seed+uint64(i))
			if _, err := os.Stat(dir); err != nil && t.save != "" {
				warn(t.cmd, fmt.Errorf("%s: not made: %s had the result already", dir, t.out))
			}
		}
	}
}
