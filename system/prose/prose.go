// Package prose sets language models of three generations side by side on the same novels: n-grams, recurrent networks and
// decoder Transformers, at equal parameters and equal training bytes.
package prose

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"attnbench/attn"
	"attnbench/internal/options"
	"attnbench/model"
	"attnbench/model/ngram"
	"attnbench/model/rnn"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/task"
	"attnbench/train"
)

func init() {
	system.Register("prose", defaults, Prose.New)
}

var defaults = Prose{Params: 420000, Length: 512, Batch: 8, Rate: 0.02, Layers: 3, Dim: 96, Eval: 1 << 17}

// Prose holds the options of the system.
type Prose struct {
	Params int     `opt:"params"` // learned numbers of each neural model; widths follow from it
	Length int     `opt:"length"` // bytes of a row, which every model sees alone
	Batch  int     `opt:"batch"`  // rows a step
	Rate   float64 `opt:"rate"`   // peak learning rate
	Layers int     `opt:"layers"` // of the Transformer; the recurrent models have 2
	Dim    int     `opt:"dim"`    // of the Transformer, with a head for each 32
	Eval   int     `opt:"eval"`   // bytes of the test set to score, and of the validation set
}

// points is how often a model is scored on the validation set while it learns.
const points = 10

// tolerance is how far a model's parameters may be from what was asked for.
const tolerance = 0.05

// New returns the system with the options o.
func (o Prose) New() (system.System, error) {
	for _, x := range []struct {
		name            string
		value, min, max int
	}{
		{"params", o.Params, 1, 1 << 32}, {"length", o.Length, 2, 1 << 20}, {"batch", o.Batch, 1, 1 << 20}, {"eval", o.Eval, 1, 1 << 40},
		{"layers", o.Layers, 1, 1 << 10}, {"dim", o.Dim, 1, 1 << 16},
	} {
		if x.value < x.min || x.value > x.max {
			return nil, options.Error(x.name, x.value, fmt.Sprintf("an integer from %d to %d", x.min, x.max))
		}
	}
	if !(o.Rate > 0) || math.IsInf(o.Rate, 0) {
		return nil, options.Error("rate", o.Rate, "a finite number above 0")
	}
	return o, nil
}

// steps of a model by default.
const steps = 1200

// settings are the same for all models. Muon, since after 200 steps it is far ahead of AdamW for both
// kinds: 2.47 against 2.61 bits a byte for full attention, 2.28 against 2.52 for LSTM.
func (o Prose) settings(n int) train.Settings {
	return train.Settings{
		Steps: n, Batch: o.Batch, Rate: o.Rate, Warmup: n / 20, Decay: 0.1, Clip: 1, Beta2: 0.95, EvalEvery: n / points, Optimiser: "muon",
	}
}

func (o Prose) Info() system.Info {
	info := system.Info{
		Name:   system.Spell("prose", o, defaults),
		Title:  "English novels, byte by byte",
		Mech:   "decoder's self-attention; or the model before it: ngram:order=5, elman, gru, lstm",
		Recipe: fmt.Sprintf("prose 1\n%+v\n%+v\n%+v\n", o, o.settings(points), o.decoder("")),
		Steps:  steps,
		Sets:   []string{"books"},
		Floors: []task.Baseline{ // of the set's README, on the whole test set with quotes and dashes as they are
			{Name: "order-1", Values: []task.Value{{Unit: "bits/byte", Value: 3.55}}},
			{Name: "gzip", Values: []task.Value{{Unit: "bits/byte", Value: 2.95}}},
			{Name: "xz", Values: []task.Value{{Unit: "bits/byte", Value: 2.39}}},
		},
		Metrics: task.TextMetrics(o.Length),
	}
	for i := range points {
		info.Metrics = append(info.Metrics, task.Metric{
			Unit: curveUnit(i + 1), Better: "lower", Chance: 8, Help: fmt.Sprintf("mean loss on the validation set after %d%% of the steps", 100*(i+1)/points),
		})
	}
	return info
}

func curveUnit(point int) string { return fmt.Sprintf("valid-bits/byte@%d", 100*point/points) }

// Fit trains the model that f.Mech names.
func (o Prose) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	if f.Steps == 0 {
		f.Steps = steps
	}
	if f.Steps < points || f.Steps%points != 0 {
		return system.Result{}, fmt.Errorf("%d steps: want a multiple of %d", f.Steps, points)
	}
	dir, err := f.Set("books", "index.tsv")
	if err != nil {
		return system.Result{}, err
	}
	k, err := task.Books{Path: task.Path(dir), Length: o.Length, Eval: o.Eval, Fold: true}.New()
	if err != nil {
		return system.Result{}, err
	}
	name, opts, _ := strings.Cut(f.Mech, ":")
	if name == "ngram" {
		g := grams{Order: 5}
		if err := options.Parse(opts, &g); err != nil {
			return system.Result{}, fmt.Errorf("model ngram: %w", err)
		}
		return g.fit(k, f, f.Steps*o.Batch*o.Length)
	}
	m, err := o.model(f.Mech, f.Seed)
	if err != nil {
		return system.Result{}, err
	}
	r, err := train.Run(ctx, train.Config{
		Settings: o.settings(f.Steps), Model: m, Task: k, Seed: f.Seed, Recipe: o.Info().Recipe, Variant: f.Mech,
		Progress: f.Progress, Checkpoint: f.Checkpoint, CheckpointEvery: max(1, f.Steps/points),
	})
	if err != nil {
		return system.Result{}, err
	}
	if r.Diverged {
		return system.Result{}, fmt.Errorf("training diverged: %s", r.Reason)
	}
	values := slices.Clone(r.Metrics)
	for i, v := range r.Valid {
		values = append(values, task.Value{Unit: curveUnit(i + 1), Value: v.Values[0].Value, Count: v.Values[0].Count})
	}
	return system.Result{Values: values, Params: nn.Count(m.Params()), Steps: r.Steps, Seconds: r.Seconds}, nil
}

// decoder is the Transformer of the comparison, but for the width of its MLPs.
func (o Prose) decoder(mech string) model.Config {
	return model.Config{
		Vocab: 256, Dim: o.Dim, Layers: o.Layers, Heads: max(1, o.Dim/32), MLP: "swiglu", Attention: mech, Positions: "rope", ShortConv: 4, Tied: true, MaxLen: o.Length,
	}
}

// model returns a neural model, before training, whose width is such that it has as many parameters as wanted.
func (o Prose) model(mech string, seed uint64) (train.Model, error) {
	var m train.Model
	var err error
	if slices.Contains(rnn.Cells, mech) {
		c := rnn.Config{Cell: mech, Vocab: 256, Layers: 2, Seed: seed}
		c.Dim = max(4, (rnn.Dim(c, o.Params)+2)/4*4) // what vectors like
		m, err = rnn.New(c)
	} else {
		m, err = o.attention(mech, seed)
	}
	if err != nil {
		return nil, err
	}
	if n := nn.Count(m.Params()); math.Abs(float64(n-o.Params)) > tolerance*float64(o.Params) {
		return nil, fmt.Errorf("%s has %d parameters: want %d to within %v", mech, n, o.Params, tolerance)
	}
	return m, nil
}

// attention returns a decoder Transformer.
func (o Prose) attention(mech string, seed uint64) (*model.LM, error) {
	parts, err := attn.Pattern(mech)
	if err != nil {
		return nil, fmt.Errorf("%w; or one of the models ngram, %s", err, strings.Join(rnn.Cells, ", "))
	}
	c := o.decoder(strings.Join(parts, "|"))
	c.Seed = seed
	var n [2]int
	for i := range n {
		c.MLPWidth = i + 1
		m, err := model.New(c)
		if err != nil {
			return nil, err
		}
		n[i] = nn.Count(m.Params())
	}
	c.MLPWidth = 1 + (o.Params-n[0])/(n[1]-n[0])
	if c.MLPWidth < 1 {
		return nil, fmt.Errorf("%s has %d parameters without its MLPs: want fewer than %d", mech, n[0], o.Params)
	}
	return model.New(c)
}

// grams is the n-gram model, spelled ngram:order=5.
type grams struct {
	Order int `opt:"order"`
}

// fit fits models to growing parts of so many bytes of the training text.
func (g grams) fit(k task.Task, f system.Fit, budget int) (system.Result, error) {
	if g.Order < 1 || g.Order > ngram.MaxOrder {
		return system.Result{}, fmt.Errorf("model ngram: %w", options.Error("order", g.Order, fmt.Sprintf("1 to %d", ngram.MaxOrder)))
	}
	var r system.Result
	var curve []task.Value
	for i := range points {
		start := time.Now()
		m, err := ngram.Fit(ngram.KneserNey, g.Order, 256, ngram.None, spread(task.TextOf(k), (i+1)*budget/points)...)
		if err != nil {
			return r, err
		}
		r.Seconds = time.Since(start).Seconds()
		v, err := task.ScoreNGram(k, task.Valid, m)
		if err != nil {
			return r, err
		}
		curve = append(curve, task.Value{Unit: curveUnit(i + 1), Value: v[0].Value, Count: v[0].Count})
		if i < points-1 {
			continue
		}
		for _, n := range m.Grams() {
			r.Params += n
		}
		if r.Values, err = task.ScoreNGram(k, task.Test, m); err != nil {
			return r, err
		}
	}
	r.Values, r.Steps = append(r.Values, curve...), f.Steps
	return r, nil
}

// spread returns so many bytes of a text as pieces that lie evenly in it, all of it when there are fewer.
func spread(text []byte, total int) [][]int32 {
	const pieces = 64
	var docs [][]int32
	if total >= len(text) {
		return append(docs, ngram.Bytes(text))
	}
	for i := range pieces {
		lo := i * len(text) / pieces
		docs = append(docs, ngram.Bytes(text[lo:lo+(i+1)*total/pieces-i*total/pieces]))
	}
	return docs
}
