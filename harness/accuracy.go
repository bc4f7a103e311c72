package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/nn"
	"attnbench/results"
	"attnbench/task"
	"attnbench/train"
)

// A run is one model to be trained by a recipe with one mechanism.
type run struct {
	recipe   Recipe
	mech     string // canonical spelling, layer pattern, or name of a recurrent network
	seed     uint64
	task     task.Task
	hash     string
	revision string
	model    *model.LM // that fit trained
}

func newRun(r Recipe, mech string, seed uint64) (*run, error) {
	x := &run{recipe: r, mech: mech, seed: seed, revision: "1"}
	if Recurrent(mech) {
		if r.Model.Bottleneck {
			return nil, unsupported("%s: the task answers from the last token's output alone: want a mechanism", mech)
		}
	} else {
		if err := x.setPattern(mech); err != nil {
			return nil, err
		}
	}
	var err error
	if x.task, err = task.New(r.Task); err != nil {
		return nil, err
	}
	if x.hash, err = r.Hash(); err != nil {
		return nil, err
	}
	knowMetrics(x.task.Info())
	size := r.Model
	size.Vocab = x.task.Info().Vocab
	if n := 16 * size.Weights(); n > 0 && n < 1<<62 { // weights, gradients and two moments; the model itself says what is out of range
		if err := checkMemory(x.name(), int64(n), 0); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// setPattern takes a mechanism or a layer pattern, whose mechanisms must all be trainable.
func (x *run) setPattern(mech string) error {
	parts, err := attn.Pattern(mech)
	if err != nil {
		return err
	}
	var revisions []string
	for _, p := range parts {
		m, err := attn.New(p)
		if err != nil {
			return err
		}
		info := m.Info()
		if _, ok := m.(attn.Differentiable); !ok || info.Inference {
			return unsupported("%s: it cannot be trained: want a mechanism with a backward pass", p)
		}
		if info.Masks&attn.Causal == 0 {
			return unsupported("%s: mask is %v: want %v", p, attn.Causal, info.Masks)
		}
		revisions = append(revisions, fmt.Sprint(info.Revision))
	}
	x.mech, x.revision = strings.Join(parts, "|"), strings.Join(revisions, "|")
	return nil
}

// knowMetrics makes a task's metrics known as units of results.
func knowMetrics(info task.Info) {
	for _, m := range info.Metrics {
		if _, known := results.LookupUnit(m.Unit); known {
			continue
		}
		better := -1
		if m.Better == "higher" {
			better = +1
		}
		results.RegisterUnit(results.Unit{Name: m.Unit, Better: better, Plain: true, Text: m.Help})
	}
	if len(info.Metrics) > 0 {
		first, _ := results.LookupUnit(info.Metrics[0].Unit)
		for _, x := range [][2]string{{ValidUnit(&info), "of the validation set"}, {bestUnit(&info), "at the step whose validation was the best"}} {
			first.Name, first.Text = x[0], x[1]
			if _, known := results.LookupUnit(first.Name); !known {
				results.RegisterUnit(first)
			}
		}
	}
}

// ValidUnit is the unit of a task's first metric on the validation set, by which settings are chosen.
func ValidUnit(info *task.Info) string { return "valid-" + info.Metrics[0].Unit }

func bestUnit(info *task.Info) string { return "best-" + info.Metrics[0].Unit }

// parts are the parts of the run's name after Accuracy.
func (x *run) parts() []string {
	m, s := x.recipe.Model, x.recipe.Train
	return []string{
		"task=" + x.task.Info().Name,
		"mech=" + x.mech,
		fmt.Sprint("dim=", m.Dim),
		fmt.Sprint("layers=", m.Layers),
		fmt.Sprint("steps=", s.Steps),
	}
}

func (x *run) name() string { return Accuracy.String() + "/" + strings.Join(x.parts(), "/") }

// config are the lines that belong to the run's key.
func (x *run) config() []results.Config {
	return []results.Config{
		{Key: "revision", Value: x.revision},
		{Key: "recipe", Value: x.hash},
		{Key: "data", Value: x.task.Info().Data},
		{Key: "seed", Value: fmt.Sprint(x.seed)},
	}
}

// watched is a model that keeps the tape of its training steps, which knows their memory.
type watched struct {
	*model.LM
	tape *autograd.Tape
}

func (w *watched) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	w.tape = t
	return w.LM.Loss(t, tokens, labels, rows, length)
}

// fit trains the model and scores it. Of a run that diverges, this is the result.
func (x *run) fit(ctx context.Context, f Fitting) ([]results.Value, train.Result, error) {
	m, err := x.build()
	if err != nil {
		return nil, train.Result{}, err
	}
	ws := attn.NewWorkspace()
	r, err := train.Run(ctx, train.Config{
		Settings: x.recipe.Train, Model: m.Model, Task: x.task, Seed: x.seed,
		Recipe: x.hash, Variant: x.mech, Workspace: ws,
		Progress: f.Progress, Checkpoint: f.Checkpoint, CheckpointEvery: 100,
	})
	if err != nil {
		return nil, r, err
	}
	var list []results.Value
	for _, v := range r.Metrics {
		list = append(list, results.Value{Value: v.Value, Unit: v.Unit})
	}
	info := x.task.Info()
	if f.Validate && !r.Diverged {
		valid, err := x.validation(ctx, ws, m.Model, &r)
		if err != nil {
			return nil, r, err
		}
		if v, ok := task.Find(valid, info.Metrics[0].Unit); ok {
			list = append(list, results.Value{Value: v.Value, Unit: ValidUnit(&info)})
		}
	}
	if r.Diverged {
		list = []results.Value{{Value: 1, Unit: "diverged"}}
	}
	if v, ok := task.Find(r.Best, info.Metrics[0].Unit); ok {
		list = append(list, results.Value{Value: v.Value, Unit: bestUnit(&info)}, results.Value{Value: float64(r.BestStep), Unit: "best-step"})
	}
	if m.state >= 0 {
		list = append(list, results.Value{Value: float64(m.state), Unit: "state-B"})
	}
	list = append(list,
		results.Value{Value: float64(nn.Count(m.Params())), Unit: "params"},
		results.Value{Value: float64(r.Steps), Unit: "steps"},
		results.Value{Value: r.Seconds / float64(max(1, r.Steps)), Unit: "sec/step"})
	if tape := m.tape(); tape != nil { // a finished checkpoint leaves no step to measure
		list = append(list, results.Value{Value: float64(ws.Peak() + tape.Peak()), Unit: "step-B"})
	}
	return list, r, nil
}

// validation is the score of the validation set by the trained model, which the run may have found at its last step.
func (x *run) validation(ctx context.Context, ws *attn.Workspace, m train.Model, r *train.Result) ([]task.Value, error) {
	if n := len(r.Valid); n > 0 && r.Valid[n-1].Step == r.Steps && x.recipe.Train.Average == 0 {
		return r.Valid[n-1].Values, nil
	}
	return train.Evaluate(ctx, ws, m, x.task, task.Valid, x.recipe.Train.EvalRows())
}

// Fitting is what a training does beside its result.
type Fitting struct {
	Progress   func(train.Progress) // unless nil, called after every step
	Checkpoint string               // unless empty, the file to write now and then and to go on from
	Validate   bool                 // the result has the task's first metric on the validation set, too
}

// Fit trains one model by the recipe, with the mechanism or layer pattern, and scores it on the task's
// test set.
func Fit(ctx context.Context, r Recipe, mech string, seed uint64, f Fitting) (results.Record, train.Result, error) {
	_, rec, res, err := FitModel(ctx, r, mech, seed, f)
	return rec, res, err
}

// FitModel is Fit that returns the trained model, too.
func FitModel(ctx context.Context, r Recipe, mech string, seed uint64, f Fitting) (*model.LM, results.Record, train.Result, error) {
	x, err := newRun(r, mech, seed)
	if err != nil {
		return nil, results.Record{}, train.Result{}, err
	}
	values, res, err := x.fit(ctx, f)
	if err != nil {
		return nil, results.Record{}, res, fmt.Errorf("%s: %w", x.name(), err)
	}
	values = append(values, results.Value{Value: res.Seconds, Unit: "sec/op"})
	return x.model, results.Record{Name: x.name(), Iters: 1, Config: append(Config(), x.config()...), Values: values}, res, nil
}

// FitJobs returns the cells of training each mechanism by the recipe, samples of each, the first of all
// before the second of any. Mechanisms that cannot be trained are left out and listed.
func FitJobs(r Recipe, mechs []string, samples int, seed uint64) (jobs []Job, skipped []Failure, err error) {
	for i := range samples {
		for _, mech := range mechs {
			x, err := newRun(r, mech, seed+uint64(i))
			var none *Unsupported
			if errors.As(err, &none) {
				if i == 0 {
					skipped = append(skipped, Failure{mech, err})
				}
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			work := 1.0
			if m, err := x.build(); err == nil {
				work = 3 * float64(m.flops) * float64(r.Train.Batch*r.Train.Steps) / 2e10
			}
			jobs = append(jobs, Job{
				Key: results.Key(x.name(), append(Config(), x.config()...)...), Name: x.name(), Work: work,
				Run: func(ctx context.Context) (results.Record, error) {
					rec, _, err := Fit(ctx, r, x.mech, x.seed, Fitting{})
					return rec, err
				},
			})
		}
	}
	return jobs, skipped, nil
}
