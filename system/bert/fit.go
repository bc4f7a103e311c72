// Package bert holds the systems around bidirectional encoders, over any mechanism: bert-mlm pre-trains one on books, and classify, ner and
// authorship fine-tune it, or train one from nothing, to classify short texts, to find named entities, and to tell who wrote a long passage.
package bert

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"attnbench/attn"
	"attnbench/model/bert"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/task"
	"attnbench/text/wordpiece"
	"attnbench/train"
)

// spelled returns the canonical spelling of a mechanism or layer pattern that an encoder can be trained with.
func spelled(mech string) (string, error) {
	parts, err := attn.Pattern(mech)
	if err != nil {
		return "", err
	}
	for _, p := range parts {
		m, err := attn.New(p)
		if err != nil {
			return "", err
		}
		if info := m.Info(); info.Inference || info.Masks&attn.Bidirectional == 0 {
			return "", fmt.Errorf("%s: mask is %v, inference alone %v: want a trained mechanism under a bidirectional mask", p, info.Masks, info.Inference)
		}
	}
	return strings.Join(parts, "|"), nil
}

// start is what a model starts from.
type start struct {
	config bert.Config // of the encoder, without its length
	words  *wordpiece.Vocabulary
	from   *pretrained // nil for nothing
}

// open reads the file to start from, or else takes the vocabulary of own, unless nil, or of the books.
func (t *Tuning) open(f *system.Fit, s *Size, dropout float64, own func() (*wordpiece.Vocabulary, error)) (*start, error) {
	mech, err := spelled(f.Mech)
	if err != nil {
		return nil, err
	}
	x := &start{config: s.config(dropout)}
	switch {
	case t.Init != "":
		if x.from, err = loadPretrained(forMech(string(t.Init), mech)); err == nil {
			x.config, x.words = x.from.config, x.from.words
			x.config.Dropout = dropout
		}
	case own != nil:
		x.words, err = own()
	default:
		x.words, err = bookWords(f, s.Pieces)
	}
	if err != nil {
		return nil, err
	}
	x.config.Vocab, x.config.Attention, x.config.Seed = x.words.Size(), mech, f.Seed
	return x, nil
}

// build makes a model by one of package bert's functions, long enough for the lists, from what the start says.
func (x *start) build(lists [][]example, model func(c bert.Config) (*bert.Model, error)) (*bert.Model, error) {
	c := x.config
	if x.from == nil || c.Positions != "learned" {
		c.MaxLen = 1
		for _, list := range lists {
			for _, e := range list {
				c.MaxLen = max(c.MaxLen, len(e.pieces))
			}
		}
	}
	m, err := model(c)
	if err == nil && x.from != nil {
		err = x.from.restore(m)
	}
	return m, err
}

// variant names what a run differs in from others of its recipe: a checkpoint is gone on with under the same only.
func (x *start) variant() string {
	if x.from == nil {
		return x.config.Attention
	}
	return x.config.Attention + " from " + x.from.config.Attention + ", " + x.from.origin
}

func hash(text string) string { return fmt.Sprintf("%.8x", sha256.Sum256([]byte(text))) }

// fit trains a model on k and scores it on the test set; the values are those of the score, and what a pass over the test set costs.
func fit(ctx context.Context, f *system.Fit, info *system.Info, s Schedule, decay float64, m *bert.Model, k *batches, variant string) (system.Result, error) {
	steps := f.Steps
	if steps == 0 {
		steps = info.Steps
	}
	for i, e := range k.test {
		if len(e.pieces) == 0 || len(e.pieces) != len(e.labels) {
			return system.Result{}, fmt.Errorf("test example %d has %d pieces and %d labels: want as many of each", i, len(e.pieces), len(e.labels))
		}
	}
	if len(k.test) == 0 {
		return system.Result{}, fmt.Errorf("data set %s: nothing to test on: want the whole set", info.Sets[0])
	}
	if len(k.epoch(0, rand.New(rand.NewPCG(f.Seed, 0)))) == 0 {
		return system.Result{}, fmt.Errorf("data set %s: nothing to train on: want the whole set", info.Sets[0])
	}
	r, err := train.Run(ctx, train.Config{
		Settings: train.Settings{Steps: steps, Batch: 1, Rate: s.Rate, Warmup: steps / 10, Decay: decay, Clip: 1, Beta2: 0.98},
		Model:    &trained{m, f.Seed}, Task: k, Seed: f.Seed, Recipe: hash(info.Recipe), Variant: variant,
		Progress: f.Progress, Checkpoint: f.Checkpoint, CheckpointEvery: 100,
	})
	if err != nil {
		return system.Result{}, err
	}
	if r.Diverged {
		return system.Result{}, fmt.Errorf("the training diverged: %s", r.Reason)
	}
	pieces, flops := 0, 0.0
	for _, e := range k.test {
		pieces += len(e.pieces)
		flops += float64(m.FLOPs(len(e.pieces)))
	}
	return system.Result{
		Values: append(r.Metrics,
			task.Value{Unit: unitFLOPs, Value: flops / float64(len(k.test)), Count: len(k.test)},
			task.Value{Unit: unitSpeed, Value: float64(pieces) / max(r.EvalSeconds, 1e-9), Count: pieces}),
		Params: nn.Count(m.Params()), Steps: r.Steps, Seconds: r.Seconds,
	}, nil
}

const (
	unitFLOPs = "FLOPs"
	unitSpeed = "tok/s"
)

// none is the chance of a metric that guessing has no part in.
var none = math.NaN()

// costs are the metrics that every system ends with.
func costs() []task.Metric {
	return []task.Metric{
		{Unit: unitFLOPs, Better: "lower", Chance: none, Help: "of the encoder on one text of the test set, mean"},
		{Unit: unitSpeed, Better: "higher", Chance: none, Help: "pieces of the test set a second"},
	}
}

// choose returns n of list, or all for 0: taken by turns from each group, in an order that the seed draws, so that groups
// are as even as they can be and fewer are a part of more.
func choose[T any](list []T, group func(T) string, n int, seed uint64) []T {
	if n == 0 || n >= len(list) {
		return list
	}
	r := rand.New(rand.NewPCG(seed, 1<<40))
	var names []string
	groups := map[string][]T{}
	for _, i := range r.Perm(len(list)) {
		g := group(list[i])
		if groups[g] == nil {
			names = append(names, g)
		}
		groups[g] = append(groups[g], list[i])
	}
	var out []T
	for turn := 0; ; turn++ {
		for _, g := range names {
			if turn < len(groups[g]) {
				if out = append(out, groups[g][turn]); len(out) == n {
					return out
				}
			}
		}
	}
}
