package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/internal/kernel"
	"attnbench/task"
)

// Config is one training run.
type Config struct {
	Settings
	Model Model
	Task  task.Task
	Seed  uint64 // of the order of training data; the model's own seed has made its parameters

	// Recipe and Variant name the run in a checkpoint, which is resumed under the same names only: by a
	// recipe's hash and, say, a mechanism's spelling.
	Recipe, Variant string

	SkipNonFinite bool // a step whose gradient is not finite is left out; else the run ends there

	// Progress, unless nil, is called after every step.
	Progress func(Progress)

	// Checkpoint, unless empty, is the file to write every CheckpointEvery steps (0: at the end only) and when ctx ends.
	// A run starts from what the file holds, if it exists.
	Checkpoint      string
	CheckpointEvery int

	NoTest    bool            // leave Result.Metrics empty
	Workspace *attn.Workspace // to compute in; nil for a new one
}

// Progress tells how far a run is.
type Progress struct {
	Step, Steps int
	Loss        float64 // of this step's batch, in nats a labelled token
	Rate        float64 // learning rate that the step used
	Norm        float64 // of the gradient, before clipping
	Skipped     bool    // the gradient was not finite and the step left out
	Tokens      int     // labelled tokens of the step
	Seconds     float64 // of training so far
	Speed       float64 // tokens a second, labelled or not, since Run was called
}

// Result is what a run came to.
type Result struct {
	Steps       int          // steps done, also by the runs that this one resumed
	Losses      []float32    // training loss of every step, nats a labelled token
	Valid       []Validation // every EvalEvery steps
	Metrics     []task.Value // of the test set, at the end
	Best        []task.Value // of the test set, at the step whose validation was the best; nil without validations
	BestStep    int
	Tokens      int64   // labelled tokens trained on
	Seconds     float64 // spent in training steps
	EvalSeconds float64 // spent in validations and the test
	Skipped     int     // steps left out
	Diverged    bool    // a loss or gradient was not finite, and the run ended there
	Reason      string  // why it diverged
	Reached     bool    // it stopped early, at the target
}

// Validation is the score of the validation set after a step.
type Validation struct {
	Step   int
	Values []task.Value
}

// Metric returns the value of a metric of the test set.
func (r *Result) Metric(unit string) (task.Value, bool) { return task.Find(r.Metrics, unit) }

// Run trains c.Model and scores it on the task's test set. A run that diverges is a result like any other; an error
// means that the configuration is wrong, a file could not be read or written, or ctx ended (the result then
// says how far the run came).
func Run(ctx context.Context, c Config) (Result, error) {
	r, err := newRun(c)
	if err != nil {
		return Result{}, fmt.Errorf("train: %w", err)
	}
	if err := r.loop(ctx); err != nil {
		return r.Result, fmt.Errorf("train: %w", err)
	}
	return r.Result, nil
}

type run struct {
	Config
	Result
	target *task.Metric
	rate   Schedule
	opt    *Optimiser
	mean   [][]float32 // of each parameter; nil without Average
	best   *best       // nil without validations
	tape   *autograd.Tape
}

func newRun(c Config) (*run, error) {
	c.Settings = c.Settings.withDefaults()
	if err := c.Settings.check(); err != nil {
		return nil, err
	}
	if c.CheckpointEvery < 0 {
		return nil, fmt.Errorf("checkpoint every %d steps: want at least 0", c.CheckpointEvery)
	}
	if c.Workspace == nil {
		c.Workspace = attn.NewWorkspace()
	}
	r := &run{Config: c, rate: c.schedule(), tape: autograd.NewTape(c.Workspace)}
	if c.TargetUnit != "" {
		info := c.Task.Info()
		m, err := info.Metric(c.TargetUnit)
		if err != nil {
			return nil, err
		}
		r.target = &m
	}
	var err error
	if r.opt, err = NewOptimiser(cmp.Or(c.Optimiser, "adamw"), c.Model.Params()); err != nil {
		return nil, err
	}
	r.opt.Beta1, r.opt.Beta2, r.opt.Eps, r.opt.Decay = c.Beta1, c.Beta2, c.Eps, c.Settings.Decay
	r.opt.Clear()
	if c.Average > 0 {
		for _, p := range r.opt.params {
			r.mean = append(r.mean, slices.Clone(p.Data))
		}
	}
	if c.EvalEvery > 0 {
		r.best = newBest(r)
	}
	if c.Checkpoint != "" {
		switch err := r.resume(); {
		case errors.Is(err, os.ErrNotExist):
			return r, r.save() // a path that cannot be written is known before the first step
		case err != nil:
			return nil, err
		}
	}
	return r, nil
}

func (r *run) loop(ctx context.Context) error {
	read, spent, from := 0, 0.0, r.Result.Steps
	for {
		if err := r.validate(ctx); err != nil {
			return r.stop(ctx, err)
		}
		if every := r.CheckpointEvery; every > 0 && r.Result.Steps > from && r.Result.Steps%every == 0 && !r.diverged() {
			if err := r.save(); err != nil {
				return err
			}
		}
		if r.Result.Steps >= r.Settings.Steps || r.Diverged || r.Reached {
			break
		}
		if err := ctx.Err(); err != nil {
			return r.stop(ctx, err)
		}
		start := time.Now()
		p, tokens, err := r.step()
		if err != nil {
			return err
		}
		seconds := time.Since(start).Seconds()
		r.Seconds += seconds
		read, spent = read+tokens, spent+seconds
		p.Seconds, p.Speed = r.Seconds, float64(read)/max(spent, 1e-9)
		if r.Progress != nil {
			r.Progress(p)
		}
	}
	if !r.diverged() {
		if err := r.save(); err != nil {
			return err
		}
	}
	if r.NoTest {
		return nil
	}
	r.swapMean()
	start := time.Now()
	var err error
	r.Metrics, err = Evaluate(ctx, r.Workspace, r.Model, r.Task, task.Test, r.EvalRows())
	if err == nil && r.best != nil {
		r.Best, err = r.best.test(ctx, r)
	}
	r.EvalSeconds += time.Since(start).Seconds()
	return err
}

// stop returns err; where ctx ended it leaves a checkpoint of a model that has not diverged.
func (r *run) stop(ctx context.Context, err error) error {
	if ctx.Err() == nil || r.diverged() {
		return err
	}
	return errors.Join(err, r.save())
}

// swapMean puts the mean weights in the place of the last ones. They stay there: the model that was scored is the run's.
func (r *run) swapMean() {
	for i, p := range r.opt.params {
		if r.mean != nil {
			copy(p.Data, r.mean[i])
		}
	}
}

// step does one step of training. A gradient or loss that is not finite changes no parameter, no moment and no counter of the
// optimiser. tokens are those of the batch, labelled or not.
func (r *run) step() (p Progress, tokens int, err error) {
	n := r.Result.Steps + 1
	p = Progress{Step: n, Steps: r.Settings.Steps, Rate: r.rate.Rate(n)}
	batch := r.Task.Train(r.Seed, n-1, r.Batch)
	tokens = batch.Rows * batch.Length
	if m, ok := r.Model.(interface{ SetStep(uint64) }); ok {
		m.SetStep(uint64(n))
	}
	if p.Loss, p.Tokens, err = accumulate(r.tape, r.Model, pieces(batch, r.Micro)); err != nil {
		return p, tokens, fmt.Errorf("step %d: %w", n, err)
	}
	if p.Tokens == 0 {
		return p, tokens, fmt.Errorf("step %d: a batch without labels: want at least one", n)
	}
	p.Norm, err = r.opt.Norm(r.Workspace, n)
	if err == nil && (math.IsNaN(p.Loss) || math.IsInf(p.Loss, 0)) {
		err = fmt.Errorf("step %d: loss is %v: want a finite number", n, p.Loss)
	}
	switch {
	case err == nil:
		r.opt.Step(r.Workspace, p.Rate, ClipScale(p.Norm, r.Clip))
		for i, q := range r.opt.params {
			if r.mean != nil {
				kernel.Scale(float32(r.Average), r.mean[i])
				kernel.Axpy(float32(1-r.Average), q.Data, r.mean[i])
			}
		}
		if m, ok := r.Model.(updater); ok {
			if err := m.Update(r.Workspace); err != nil {
				return p, tokens, fmt.Errorf("step %d: %w", n, err)
			}
		}
	case r.SkipNonFinite:
		p.Skipped = true
		r.Skipped++
		r.opt.Clear()
	default:
		r.Diverged, r.Reason = true, err.Error()
		r.opt.Clear()
		return p, tokens, nil
	}
	r.Result.Steps = n
	r.Losses = append(r.Losses, float32(p.Loss))
	r.Tokens += int64(p.Tokens)
	return p, tokens, nil
}

// diverged reports whether the run has, also by its last update, which no loss has seen: weights that are not finite would be
// saved, and scored as if they were a model.
func (r *run) diverged() bool {
	for _, p := range r.opt.params {
		if i := slices.IndexFunc(p.Data, func(x float32) bool { return x-x != 0 }); i >= 0 && !r.Diverged {
			r.Diverged = true
			r.Reason = fmt.Sprintf("step %d: parameter %s, element %d, is %v: want a finite number", r.Result.Steps, p.Name, i, p.Data[i])
		}
	}
	return r.Diverged
}

// validate scores the validation set when it is time and not yet done, and notes when the target is reached.
func (r *run) validate(ctx context.Context) error {
	n := len(r.Valid)
	if r.EvalEvery == 0 || r.Result.Steps == 0 || r.Result.Steps%r.EvalEvery != 0 || r.Diverged || n > 0 && r.Valid[n-1].Step == r.Result.Steps {
		return nil
	}
	start := time.Now()
	values, err := Evaluate(ctx, r.Workspace, r.Model, r.Task, task.Valid, r.EvalRows())
	r.EvalSeconds += time.Since(start).Seconds()
	if err != nil {
		return err
	}
	for _, v := range values {
		if math.IsNaN(v.Value) || math.IsInf(v.Value, 0) {
			r.Diverged, r.Reason = true, fmt.Sprintf("step %d: validation: %s is %v: want a finite number", r.Result.Steps, v.Unit, v.Value)
			return nil
		}
	}
	r.Valid = append(r.Valid, Validation{r.Result.Steps, values})
	r.best.see(&r.Result)
	if r.target != nil {
		if v, ok := task.Find(values, r.TargetUnit); ok {
			r.Reached = v.Value >= r.TargetValue
			if r.target.Better == "lower" {
				r.Reached = v.Value <= r.TargetValue
			}
		}
	}
	return nil
}
