// Package vanish measures how far back a model remembers: the gradient that reaches an input from a loss k tokens later, and
// whether what stood k tokens before can be copied.
package vanish

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/model/rnn"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/task"
	"attnbench/train"
)

func init() { system.Register("vanish", defaults, Vanish.New) }

var defaults = Vanish{Distance: 256}

// Vanish holds the options of the system.
type Vanish struct {
	Distance int `opt:"distance"` // the largest; 4 times a power of two
}

// New returns the system with the options o.
func (o Vanish) New() (system.System, error) {
	_, err := o.task()
	return o, err
}

func (o Vanish) task() (task.Task, error) {
	return task.Copy{Items: items, Symbols: 8, Distance: o.Distance, Eval: 1024}.New()
}

const (
	items = 4
	// gradientRows is how many rows a norm is the mean over.
	gradientRows = 64
)

// recipe is the copying problem's own: its decoder is the Transformer, whose parameters the recurrent models have to within a few hundredths.
func recipe() train.NamedRecipe {
	r, err := train.RecipeNamed("copy")
	if err != nil {
		panic(err) // one of the frozen recipes
	}
	return r
}

// settings are the same for all models.
func settings(steps int) train.Settings {
	s := recipe().Settings
	s.Warmup = s.Warmup * steps / s.Steps
	s.Steps = steps
	return s
}

// distances are those that gradients are measured at, the loss's own token first.
func (o Vanish) distances() []int {
	list := []int{0}
	for d := items; d <= o.Distance; d *= 2 {
		list = append(list, d)
	}
	return list
}

func (o Vanish) Info() system.Info {
	r := recipe()
	info := system.Info{
		Name:   system.Spell("vanish", o, defaults),
		Title:  "how far back a model remembers",
		Mech:   "the attention of a decoder; or elman, gru, lstm",
		Recipe: fmt.Sprintf("vanish 1\n%v%d\n", r.Recipe, gradientRows),
		Steps:  r.Settings.Steps,
	}
	if t, err := o.task(); err == nil {
		info.Metrics = t.Info().Metrics
	}
	for _, when := range []string{"start-gradient", "gradient"} {
		for _, d := range o.distances() {
			help := "norm of d loss / d input, of the input so many tokens before the loss, after training"
			if when != "gradient" {
				help = "the same before training"
			}
			info.Metrics = append(info.Metrics, task.Metric{Unit: fmt.Sprintf("%s@%d", when, d), Better: "higher", Help: help})
		}
	}
	return info
}

// Model is what gradients of inputs can be asked of.
type Model interface {
	train.Model
	WatchInputs(grad []float32)
}

// model returns a model before training, and the width of its inputs.
func (o Vanish) model(mech string, info task.Info, seed uint64) (Model, int, error) {
	c := recipe().Model
	c.Vocab, c.MaxLen, c.Seed, c.Attention = info.Vocab, info.Length, seed, mech
	if !slices.Contains(rnn.Cells, mech) {
		if _, err := attn.Pattern(mech); err != nil {
			return nil, 0, fmt.Errorf("%w; or one of the models %s", err, strings.Join(rnn.Cells, ", "))
		}
		m, err := model.New(c)
		return m, c.Dim, err
	}
	r := rnn.Config{Cell: mech, Vocab: info.Vocab, Layers: 1, Seed: seed}
	r.Dim = rnn.Dim(r, c.Vocab*c.Dim+c.Layers*(4*c.Dim*c.Dim+c.Dim)+c.Dim)
	m, err := rnn.New(r)
	return m, r.Dim, err
}

// Fit trains the model that f.Mech names.
func (o Vanish) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	t, err := o.task()
	if err != nil {
		return system.Result{}, err
	}
	info := o.Info()
	if f.Steps == 0 {
		f.Steps = info.Steps
	}
	m, dim, err := o.model(f.Mech, t.Info(), f.Seed)
	if err != nil {
		return system.Result{}, err
	}
	ws := attn.NewWorkspace()
	before, err := o.gradients("start-gradient", ws, t, m, dim)
	if err != nil {
		return system.Result{}, err
	}
	r, err := train.Run(ctx, train.Config{
		Settings: settings(f.Steps), Model: m, Task: t, Seed: f.Seed, Recipe: info.Recipe, Variant: f.Mech,
		Progress: f.Progress, Checkpoint: f.Checkpoint, CheckpointEvery: 100, Workspace: ws,
	})
	if err != nil {
		return system.Result{}, err
	}
	if r.Diverged {
		return system.Result{}, fmt.Errorf("training diverged: %s", r.Reason)
	}
	after, err := o.gradients("gradient", ws, t, m, dim)
	if err != nil {
		return system.Result{}, err
	}
	return system.Result{
		Values: slices.Concat(r.Metrics, before, after), Params: nn.Count(m.Params()), Steps: r.Steps, Seconds: r.Seconds,
	}, nil
}

// gradients returns, for each distance, the norm of the gradient that the loss of one mark has with respect to the embedding of the item
// that it asks for, and at distance 0 to that of the mark, as a mean over rows.
func (o Vanish) gradients(unit string, ws *attn.Workspace, t task.Task, m Model, dim int) ([]task.Value, error) {
	distances := o.distances()
	sums, counts := make([]float64, len(distances)), make([]int, len(distances))
	tape := autograd.NewTape(ws)
	length := t.Info().Length
	grad := make([]float32, length*dim)
	m.WatchInputs(grad)
	defer func() {
		m.WatchInputs(nil)
		for _, p := range m.Params() {
			clear(p.Grad)
		}
	}()
	row := 0
	for b := range t.Eval(task.Test, 1) {
		mark := -1
		for i, l := range b.Labels { // one mark of the row, each in its turn
			if l >= 0 {
				if mark++; mark != row%items {
					b.Labels[i] = -1
				}
			}
		}
		row++
		at := slices.IndexFunc(b.Labels, func(l int32) bool { return l >= 0 })
		d := at - slices.Index(b.Tokens, b.Labels[at])
		i := slices.Index(distances, d)
		if counts[i] == gradientRows {
			continue
		}
		tape.Reset()
		clear(grad)
		loss, err := m.Loss(tape, b.Tokens, b.Labels, 1, length)
		if err != nil {
			return nil, err
		}
		if err := tape.Backward(loss); err != nil {
			return nil, err
		}
		norm := func(i int) float64 {
			sum := 0.0
			for _, x := range grad[i*dim : (i+1)*dim] {
				sum += float64(x) * float64(x)
			}
			return math.Sqrt(sum)
		}
		sums[i] += norm(at - d)
		counts[i]++
		sums[0] += norm(at)
		counts[0]++
	}
	var values []task.Value
	for i, d := range distances {
		if counts[i] > 0 {
			values = append(values, task.Value{Unit: fmt.Sprintf("%s@%d", unit, d), Value: sums[i] / float64(counts[i]), Count: counts[i]})
		}
	}
	return values, nil
}
