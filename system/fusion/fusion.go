// Package fusion holds the system that answers questions about written and spoken digits, over any mechanism: what digit it is when image, sound or both
// are corrupted, whether the sound matches the image, and what digits were shown and said in a sequence of thousands of patches, frames and names.
package fusion

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/attn"
	"attnbench/internal/options"
	"attnbench/model/fusion"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/task"
	"attnbench/train"
)

func init() { system.Register("fusion", defaults, Fusion.New) }

// Fusion holds the options, spelled fusion:form=match,fuse=cross.
type Fusion struct {
	Form    string `opt:"form"`    // digit, match or recall
	Fuse    string `opt:"fuse"`    // early, cross or late
	Input   string `opt:"input"`   // both, or image or sound alone
	Corrupt string `opt:"corrupt"` // all: trained under any, tested under each; or the name of the only one
	Test    string `opt:"test"`    // test, valid, or a speaker, who is left out of the training
	Items   int    `opt:"items"`   // digits of a sequence of recall, at most

	Patch  int    `opt:"patch"`  // pixels of the sides of a patch, a divisor of 28; 1 for raw pixels
	Frames string `opt:"frames"` // mel: log-mel spectra of 32 ms, or raw: samples
	Hop    int    `opt:"hop"`    // samples from one frame to the next, of 8000 a second

	Dim     int     `opt:"dim"`     // width
	Layers  int     `opt:"layers"`  // of each encoder
	Readers int     `opt:"readers"` // layers of the reader of cross
	Heads   int     `opt:"heads"`   // of each attention
	Causal  bool    `opt:"causal"`  // tokens see those before alone
	Batch   int     `opt:"batch"`   // examples a step; 0 for the form's own
	Rate    float64 `opt:"rate"`    // peak learning rate
	Dropout float64 `opt:"dropout"` // of embeddings, of sublayers and before the answer

	Init options.Path `opt:"init"` // checkpoint of a model of the same sizes, of any form, to start from; empty to start from nothing
}

var defaults = Fusion{
	Form: "digit", Fuse: "early", Input: "both", Corrupt: "all", Test: "test", Items: 32, Patch: 7, Frames: "mel", Hop: 80,
	Dim: 64, Layers: 3, Readers: 2, Heads: 4, Rate: 0.003, Dropout: 0.05,
}

// size is what the steps and the batch of a form are when the options and the fit leave them open.
var sizes = map[string]struct{ steps, batch int }{
	"digit": {2000, 64}, "match": {2000, 64}, "recall": {2000, 16},
}

const decay = 0.05

var speakers = []string{"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}

type fuser struct {
	o          Fusion
	form       form
	conditions []condition
	render     *renderer
	info       system.Info
}

// New returns the system with the options o.
func (o Fusion) New() (system.System, error) {
	x := &fuser{o: o}
	if err := x.check(); err != nil {
		return nil, err
	}
	var err error
	if x.render, err = newRenderer(o.Patch, o.Hop, o.Frames == "raw"); err != nil {
		return nil, err
	}
	if x.o.Batch == 0 {
		x.o.Batch = sizes[o.Form].batch
	}
	chance := x.form.chance
	metric := func(name string) task.Metric {
		help := "fraction of the questions that are answered rightly"
		if name != "" {
			help, name = help+", "+name, "@"+name
		}
		return task.Metric{Unit: "accuracy" + name, Better: "higher", Chance: chance, Help: help}
	}
	mech := "self-attention"
	if o.Fuse == "cross" {
		mech = "encoder+reader+cross"
	}
	x.info = system.Info{
		Name: system.Spell("fusion", o, defaults), Title: "fused digits, " + o.Form, Mech: mech, Steps: sizes[o.Form].steps,
		Recipe: fmt.Sprintf("fusion 4 %+v decay %v image %v %v sound %v %v moves %v speeds %v questions %v", x.o, decay, imageNoise, imageHole, soundNoise, soundHole, moves, speeds, recallQuestions),
		Sets:   []string{pairsSet, imagesSet, soundsSet}, Metrics: []task.Metric{metric("")}, Floors: x.floors(),
	}
	for _, g := range x.form.groups(x, nil) {
		x.info.Metrics = append(x.info.Metrics, metric(g.name))
	}
	x.info.Metrics = append(x.info.Metrics,
		task.Metric{Unit: "nats/query", Better: "lower", Chance: -math.Log(chance), Help: "mean loss of a question"},
		task.Metric{Unit: unitTokens, Better: "lower", Chance: math.NaN(), Help: "of the longest example of the test: patches, frames and words"})
	return x, nil
}

const unitTokens = "tokens"

func (x *fuser) check() error {
	o := &x.o
	var ok bool
	if x.form, ok = formNamed(o.Form); !ok {
		return options.Error("form", o.Form, "digit, match or recall")
	}
	for _, c := range conditions {
		if o.Corrupt == "all" && (x.form.missing || c.image != missing && c.sound != missing) || o.Corrupt == c.name {
			x.conditions = append(x.conditions, c)
		}
	}
	if o.Corrupt != "all" && len(x.conditions) == 1 {
		c := x.conditions[0]
		if (c.image == missing || c.sound == missing) && !x.form.missing || c.image == missing && o.Input == "image" || c.sound == missing && o.Input == "sound" {
			return options.Error("corrupt", o.Corrupt, "one that leaves enough to answer from")
		}
	}
	for _, c := range []struct {
		name, got string
		want      []string
	}{
		{"fuse", o.Fuse, fusion.Fusions}, {"input", o.Input, []string{"both", "image", "sound"}}, {"corrupt", o.Corrupt, append([]string{"all"}, conditionNames()...)},
		{"test", o.Test, append([]string{"test", "valid"}, speakers...)}, {"frames", o.Frames, []string{"mel", "raw"}},
	} {
		if !slices.Contains(c.want, c.got) {
			return options.Error(c.name, c.got, strings.Join(c.want, ", "))
		}
	}
	for _, c := range []struct {
		name           string
		got, min, most int
	}{
		{"items", o.Items, leastItems, len(names)}, {"patch", o.Patch, 1, side}, {"hop", o.Hop, 1, rate}, {"dim", o.Dim, 1, 1 << 16},
		{"layers", o.Layers, 1, 1 << 16}, {"readers", o.Readers, 1, 1 << 16}, {"heads", o.Heads, 1, 1 << 16}, {"batch", o.Batch, 0, 1 << 16},
	} {
		if c.got < c.min || c.got > c.most {
			return options.Error(c.name, c.got, fmt.Sprintf("an integer from %d to %d", c.min, c.most))
		}
	}
	switch {
	case side%o.Patch != 0:
		return options.Error("patch", o.Patch, "a divisor of 28")
	case o.Frames == "mel" && o.Hop > melWindow:
		return options.Error("hop", o.Hop, fmt.Sprintf("at most the window of a spectrum, %d", melWindow))
	case o.Dim%o.Heads != 0:
		return options.Error("heads", o.Heads, fmt.Sprintf("a divisor of dim, %d", o.Dim))
	case !(o.Rate > 0):
		return options.Error("rate", o.Rate, "a number above 0")
	case !(o.Dropout >= 0 && o.Dropout < 1):
		return options.Error("dropout", o.Dropout, "0 to below 1")
	}
	return nil
}

func conditionNames() (list []string) {
	for _, c := range conditions {
		list = append(list, c.name)
	}
	return list
}

// Info describes the system.
func (x *fuser) Info() system.Info { return x.info }

// config is that of a model, without its mechanisms, its longest example and its seed.
func (x *fuser) config() fusion.Config {
	o := &x.o
	n := side / o.Patch
	return fusion.Config{
		Image: o.Input != "sound", Sound: o.Input != "image", Patches: n * n, PatchWidth: o.Patch * o.Patch, FrameWidth: x.render.frameWidth(),
		Words: len(words), Classes: answers, Fuse: o.Fuse, Dim: o.Dim, Layers: o.Layers, Readers: o.Readers, Heads: o.Heads, MLPWidth: 4 * o.Dim,
		Causal: o.Causal, Dropout: o.Dropout,
	}
}

// model builds the model of a fit for examples of at most longest tokens.
func (x *fuser) model(mech string, longest int, seed uint64) (*fusion.Model, string, error) {
	c := x.config()
	self := attn.Bidirectional
	if c.Causal {
		self = attn.Causal
	}
	masks := []attn.Mask{self}
	if c.Fuse == "cross" {
		masks = append(masks, self, attn.Cross)
	}
	specs, err := system.Attentions(mech, masks...)
	if err != nil {
		return nil, "", err
	}
	c.Encoder, c.MaxLen, c.Seed = specs[0], longest, seed
	if c.Fuse == "cross" {
		c.Reader, c.Cross = specs[1], specs[2]
	}
	m, err := fusion.New(c)
	return m, strings.Join(specs, "+"), err
}

// Fit trains one model and scores it on the test part.
func (x *fuser) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	d, err := load(&f)
	if err != nil {
		return system.Result{}, err
	}
	training, test := d.part(x.o.Test)
	if len(training) == 0 || len(test) == 0 {
		return system.Result{}, fmt.Errorf("data set %s: %d pairs to train on and %d to test on: want the whole set", pairsSet, len(training), len(test))
	}
	k := newBatches(x, training, test, f.Seed)
	tested, most := x.longest(k, d)
	m, variant, err := x.model(f.Mech, most, f.Seed)
	if err != nil {
		return system.Result{}, err
	}
	origin, err := start(m, string(x.o.Init))
	if err != nil {
		return system.Result{}, fmt.Errorf("option init: %w", err)
	}
	k.info = task.Info{Name: x.info.Name, Metrics: x.info.Metrics, Data: fmt.Sprintf("%d/%d pairs", len(training), len(test))}
	steps := f.Steps
	if steps == 0 {
		steps = x.info.Steps
	}
	r, err := train.Run(ctx, train.Config{
		Settings: train.Settings{Steps: steps, Batch: x.o.Batch, Rate: x.o.Rate, Warmup: steps / 10, Decay: decay, Clip: 1, Beta2: 0.98},
		Model:    &trained{Model: m, k: k}, Task: k, Seed: f.Seed, Recipe: fmt.Sprintf("%.8x", sha256.Sum256([]byte(x.info.Recipe))), Variant: variant + origin,
		Progress: f.Progress, Checkpoint: f.Checkpoint, CheckpointEvery: 100,
	})
	if err != nil {
		return system.Result{}, err
	}
	if r.Diverged {
		return system.Result{}, fmt.Errorf("the training diverged: %s", r.Reason)
	}
	return system.Result{
		Values: append(r.Metrics, task.Value{Unit: unitTokens, Value: float64(tested), Count: 1}),
		Params: nn.Count(m.Params()), Steps: r.Steps, Seconds: r.Seconds,
	}, nil
}

// start gives m the tensors of a checkpoint, unless path is empty, and returns what a run that begins there differs in from others.
func start(m *fusion.Model, path string) (origin string, err error) {
	if path == "" {
		return "", nil
	}
	c, err := train.ReadCheckpoint(path)
	if err != nil {
		return "", err
	}
	if err := c.Restore(m.Params()); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.New()
	for _, b := range m.Buffers() {
		data, err := c.Tensor(b.Name, []int{len(b.Data)})
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		copy(b.Data, data)
		fmt.Fprint(sum, b.Data)
	}
	for _, p := range m.Params() {
		fmt.Fprint(sum, p.Data)
	}
	return fmt.Sprintf(" from %.8x", sum.Sum(nil)), nil
}

// longest returns the tokens of the longest example of the test, and a bound on those of any.
func (x *fuser) longest(k *batches, d *data) (tested, bound int) {
	c := x.config()
	for g := range k.groups {
		for i := range k.groups[g].count {
			n := 0
			for _, it := range k.plan(g, i).items {
				n += x.tokens(&it, &c, 1)
			}
			tested = max(tested, n)
		}
	}
	for _, p := range slices.Concat(d.train, d.valid, d.test) {
		n := 0
		for _, it := range both(&p, &p, condition{}, 0, false) {
			n += x.tokens(&it, &c, 1/(1-speeds))
		}
		bound = max(bound, n)
	}
	if x.form.name == "recall" {
		return tested, x.o.Items * (bound + 2)
	}
	return tested, bound + len(doTheyMatch)
}

// tokens returns how many tokens an item has, at most, when its sound is stretched.
func (x *fuser) tokens(it *item, c *fusion.Config, stretch float64) int {
	switch {
	case it.kind == fusion.Text:
		return len(it.words)
	case it.state == missing:
		return 0
	case it.kind == fusion.Image && c.Image:
		return c.Patches
	case it.kind == fusion.Sound && c.Sound:
		return x.render.mel.Count(int(math.Ceil(stretch * float64(len(it.from.samples)))))
	}
	return 0
}
