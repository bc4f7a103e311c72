// Package translate is the system translate: an encoder-decoder that learns to translate the Bible's verses or whole chapters into Spanish, or
// everyday sentences into Chinese, with any mechanism in each of its three attentions; and the recurrent model that was there before.
package translate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/internal/options"
	"attnbench/model/seq2seq"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/task"
	"attnbench/text/metric"
	"attnbench/train"
)

func init() { system.Register("translate", defaults, Options.New) }

// Options holds the options of the system, spelled translate:set=tatoeba-en-zh,beam=1.
type Options struct {
	Set       string  `opt:"set"`       // bible-en-es or tatoeba-en-zh
	Form      string  `opt:"form"`      // sentence, or chapter: whole chapters of the Bible
	Words     int     `opt:"words"`     // most tokens of the vocabulary; 0 for the set's own
	Dim       int     `opt:"dim"`       // width of the Transformer
	Layers    int     `opt:"layers"`    // of encoder and decoder each
	Heads     int     `opt:"heads"`     // of each attention
	Norm      string  `opt:"norm"`      // pre or post
	Positions string  `opt:"positions"` // sinusoidal, learned or rotary
	Tokens    int     `opt:"tokens"`    // of a side in a batch, padding included; 0 for the form's own
	Optimiser string  `opt:"optimiser"` // one of train.Rules
	Rate      float64 `opt:"rate"`      // peak learning rate
	Warmup    int     `opt:"warmup"`    // steps
	Dropout   float64 `opt:"dropout"`   // in training
	Smoothing float64 `opt:"smoothing"` // of labels
	Beam      int     `opt:"beam"`      // width of the search, 1 is greedy; 0 for the form's own
	Penalty   float64 `opt:"penalty"`   // of the search: exponent of the length
}

var defaults = Options{
	Set: "bible-en-es", Form: "sentence", Dim: 128, Layers: 2, Heads: 4, Norm: "pre", Positions: "rotary",
	Optimiser: "muon", Rate: 0.008, Warmup: 100, Dropout: 0.1, Smoothing: 0.1, Penalty: 0.6,
}

// recurrent is what Fit.Mech says for the recurrent encoder-decoder. It is no mechanism: all of that model's sequence mixing is its own.
const recurrent = "lstm"

const unitLoss = "nats/token"

type translate struct {
	o    Options
	set  set
	info system.Info
}

// New returns the system with the options o.
func (o Options) New() (system.System, error) {
	i := slices.IndexFunc(sets, func(s set) bool { return s.name == o.Set })
	if i < 0 {
		return nil, options.Error("set", o.Set, "bible-en-es or tatoeba-en-zh")
	}
	s := sets[i]
	if o.Form != "sentence" && (o.Form != "chapter" || !s.chapters) {
		return nil, options.Error("form", o.Form, "sentence, or for bible-en-es chapter")
	}
	for _, c := range []struct {
		name          string
		got, min, max int
	}{
		{"words", o.Words, 0, 1 << 20}, {"dim", o.Dim, 1, 1 << 16}, {"layers", o.Layers, 1, 1 << 10}, {"heads", o.Heads, 1, 1 << 16},
		{"tokens", o.Tokens, 0, 1 << 24}, {"warmup", o.Warmup, 0, 1 << 40}, {"beam", o.Beam, 0, 1 << 10},
	} {
		if c.got < c.min || c.got > c.max {
			return nil, options.Error(c.name, c.got, fmt.Sprintf("an integer from %d to %d", c.min, c.max))
		}
	}
	for _, c := range []struct {
		name string
		ok   bool
		got  float64
		want string
	}{
		{"rate", o.Rate > 0, o.Rate, "a number above 0"}, {"smoothing", o.Smoothing >= 0 && o.Smoothing < 1, o.Smoothing, "0 to below 1"},
		{"dropout", o.Dropout >= 0 && o.Dropout < 1, o.Dropout, "0 to below 1"}, {"penalty", o.Penalty >= 0, o.Penalty, "at least 0"},
	} {
		if !c.ok {
			return nil, options.Error(c.name, c.got, c.want)
		}
	}
	if o.Heads > o.Dim || o.Dim%o.Heads != 0 {
		return nil, options.Error("heads", o.Heads, fmt.Sprintf("a divisor of dim, %d", o.Dim))
	}
	if o.Norm != "pre" && o.Norm != "post" {
		return nil, options.Error("norm", o.Norm, "pre or post")
	}
	if !slices.Contains([]string{"sinusoidal", "learned", "rotary"}, o.Positions) {
		return nil, options.Error("positions", o.Positions, "sinusoidal, learned or rotary")
	}
	if !slices.Contains(train.Rules(), o.Optimiser) {
		return nil, options.Error("optimiser", o.Optimiser, strings.Join(train.Rules(), ", "))
	}
	x := &translate{o: o, set: s}
	x.describe()
	return x, nil
}

func (x *translate) words() int {
	if x.o.Words > 0 {
		return x.o.Words
	}
	return x.set.words
}

func (x *translate) long() bool { return x.o.Form == "chapter" }

// tokens is what a batch holds of a side. A long batch has room for the longest chapters of the test.
func (x *translate) tokens() int {
	switch {
	case x.o.Tokens > 0:
		return x.o.Tokens
	case x.long():
		return 2560
	}
	return 1024
}

// beam is the width of the search. Of a chapter it is greedy: caches of thousands of tokens would change places at every step.
func (x *translate) beam() int {
	switch {
	case x.o.Beam > 0:
		return x.o.Beam
	case x.long():
		return 1
	}
	return 4
}

// steps is a training of about 6 minutes on two cores.
func (x *translate) steps() int {
	if x.long() {
		return 720
	}
	return 1800
}

func (x *translate) bleu() metric.BLEU {
	m, err := metric.NewBLEU(x.set.tokenize)
	if err != nil {
		panic("translate: " + err.Error()) // the sets name their own
	}
	return m
}

func (x *translate) describe() {
	bleu := "BLEU-" + x.set.tokenize
	help := "of the translations, 0 to 100, " + x.bleu().Signature("var")
	x.info = system.Info{
		Name: system.Spell("translate", x.o, defaults), Title: "Translation, " + x.o.Set + ", by " + x.o.Form,
		Mech: "encoder+decoder+cross, or " + recurrent + " for the recurrent encoder-decoder with additive attention", Steps: x.steps(), Sets: []string{x.o.Set},
		Metrics: []task.Metric{
			{Unit: bleu, Better: "higher", Help: help},
			{Unit: bleu + "-low", Better: "higher", Help: "lower end of its 95% bootstrap interval"},
			{Unit: bleu + "-high", Better: "higher", Help: "upper end"},
			{Unit: "chrF2", Better: "higher", Help: "of the translations, 0 to 100, " + metric.ChrF2.Signature("var")},
			{Unit: "chrF2-low", Better: "higher", Help: "lower end of its 95% bootstrap interval"},
			{Unit: "chrF2-high", Better: "higher", Help: "upper end"},
			{Unit: unitLoss, Better: "lower", Chance: math.Log(float64(x.words())), Help: "loss of the test set's first references, teacher-forced"},
			{Unit: "out-tok/s", Better: "higher", Chance: math.NaN(), Help: "tokens of translations written a second, reading and beam included"},
			{Unit: "state-B/source", Better: "lower", Chance: math.NaN(), Help: "decoding state a source at the end of the search, mean over batches"},
		},
		Floors: x.floors(),
	}
	x.info.Recipe = fmt.Sprintf("%+v words=%d tokens=%d beam=%d set=%+v version=1", x.o, x.words(), x.tokens(), x.beam(), x.set)
}

// Info describes the system.
func (x *translate) Info() system.Info { return x.info }

// config is that of the Transformer with an attention each.
func (x *translate) config(words int, seed uint64, mechs []string) seq2seq.Config {
	o := x.o
	return seq2seq.Config{
		Words: words, Dim: o.Dim, Encoder: o.Layers, Decoder: o.Layers, Heads: o.Heads, MLPWidth: 4 * o.Dim, Norm: o.Norm, Positions: o.Positions,
		Tied: true, Dropout: o.Dropout, MaxLen: x.mostTokens() + 1, Seed: seed, EncoderSelf: mechs[0], DecoderSelf: mechs[1], Cross: mechs[2],
	}
}

// mostTokens bounds a sequence: in training a batch has no longer one, and a translation is cut there.
func (x *translate) mostTokens() int { return max(x.tokens(), 4096) }

// model builds the model that mech names.
func (x *translate) model(mech string, words int, seed uint64) (seq2seq.Model, error) {
	if mech != recurrent {
		mechs, err := system.Attentions(mech, attn.Bidirectional, attn.Causal, attn.Cross)
		if err != nil {
			return nil, err
		}
		return seq2seq.NewTransformer(x.config(words, seed, mechs))
	}
	exact, err := system.Exact()
	if err != nil {
		return nil, err
	}
	m, err := seq2seq.NewTransformer(x.config(words, seed, []string{exact, exact, exact}))
	if err != nil {
		return nil, err
	}
	return x.equal(words, seed, nn.Count(m.Params()))
}

// equal builds the recurrent model whose parameters are nearest in number.
func (x *translate) equal(words int, seed uint64, params int) (seq2seq.Model, error) {
	best := seq2seq.LSTMConfig{Words: words, Dim: x.o.Dim, Hidden: 8, Dropout: x.o.Dropout, Seed: seed}
	miss := func(c seq2seq.LSTMConfig) int { return max(c.Count()-params, params-c.Count()) }
	for c := best; ; best = c {
		if c.Hidden += 8; miss(c) >= miss(best) { // whole vectors
			return seq2seq.NewLSTM(best)
		}
	}
}

// Fit trains one model and scores its translations of the test set.
func (x *translate) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	d, err := load(&f, x.set, x.words())
	if err != nil {
		return system.Result{}, err
	}
	m, err := x.model(f.Mech, d.tokens.Size(), f.Seed)
	if err != nil {
		return system.Result{}, err
	}
	special, err := specialOf(d)
	if err != nil {
		return system.Result{}, err
	}
	k := &batches{data: d, long: x.long(), tokens: x.tokens(), special: special,
		info: task.Info{Name: x.info.Name, Data: fmt.Sprintf("%s %d/%d pairs, %d tokens", x.o.Set, len(d.train), len(d.test), d.tokens.Size())}}
	if len(d.questions(x.long())) == 0 || len(k.batchesOf(f.Seed, 0)) == 0 {
		return system.Result{}, fmt.Errorf("data set %s: nothing of the form %s to learn from, or to translate: want the whole set", x.o.Set, x.o.Form)
	}
	steps := f.Steps
	if steps == 0 {
		steps = x.info.Steps
	}
	ws := attn.NewWorkspace()
	r, err := train.Run(ctx, train.Config{
		Settings: train.Settings{Steps: steps, Batch: 1, Optimiser: x.o.Optimiser, Rate: x.o.Rate, Warmup: min(x.o.Warmup, steps), Decay: 0.01, Clip: 1},
		Model:    &trained{Model: m, smoothing: float32(x.o.Smoothing), seed: f.Seed},
		Task:     k,
		Seed:     f.Seed, Recipe: fmt.Sprintf("%.8x", sha256.Sum256([]byte(x.info.Recipe))), Variant: f.Mech,
		Progress: f.Progress, Checkpoint: f.Checkpoint, CheckpointEvery: 100, Workspace: ws,
	})
	if err != nil {
		return system.Result{}, err
	}
	if r.Diverged {
		return system.Result{}, fmt.Errorf("the training diverged: %s", r.Reason)
	}
	res := system.Result{Params: nn.Count(m.Params()), Steps: r.Steps, Seconds: r.Seconds}
	t := autograd.NewTape(ws)
	t.NoGrad = true
	scores, err := x.score(ctx, t, m, d, special)
	if err != nil {
		return system.Result{}, err
	}
	if f.Log != nil {
		scores.write(f.Log, f.Mech, &r)
	}
	bleu := x.info.Metrics[0].Unit
	add := func(unit string, v float64) {
		res.Values = append(res.Values, task.Value{Unit: unit, Value: v, Count: scores.bleu.Segments})
	}
	add(bleu, scores.bleu.Score)
	add(bleu+"-low", scores.bleu.Low)
	add(bleu+"-high", scores.bleu.High)
	add("chrF2", scores.chrf.Score)
	add("chrF2-low", scores.chrf.Low)
	add("chrF2-high", scores.chrf.High)
	res.Values = append(res.Values, r.Metrics...)
	add("out-tok/s", scores.speed)
	add("state-B/source", scores.state)
	return res, nil
}

func specialOf(d *data) (s seq2seq.Special, err error) {
	for _, x := range []struct {
		id   *int32
		name string
	}{{&s.Pad, padName}, {&s.Begin, beginName}, {&s.End, endName}} {
		if *x.id, err = d.tokens.Special(x.name); err != nil {
			return s, err
		}
	}
	return s, nil
}
