package task

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"attnbench/internal/options"
)

func init() {
	Register("mqar-mix", MQARMix{
		Vocab: 8192, Train: "64x4x5-128x8-256x16-256x32-256x64", Test: "64x4-64x8-64x16-128x32-256x64-512x128-1024x256",
		Power: 0.01, Random: true, Eval: 1000,
	}, MQARMix.New)
}

// MQARMix holds the options of multi-query associative recall over several settings, spelled LENGTHxPAIRS or LENGTHxPAIRSxWEIGHT with a minus between
// two. A training step draws its rows from one of the settings of train, by their weights; the test set has Eval rows of each setting of
// test, of which some are longer, or have more pairs, than any that was trained.
//
// Arora et al. 2024, Based (arXiv:2402.18668) §4 and figure 2; parameters of zoology's arxiv24_based_figure2: 100,000 examples of (64, 4) and
// 20,000 of each other setting. Different from there, beside what MQAR says: the public loader does not shuffle, and so goes through the settings
// from easy to hard in each epoch. That order is Epoch > 0 here; by default a step's setting is drawn.
type MQARMix struct {
	Vocab  int     `opt:"vocab"` // more than any length
	Train  string  `opt:"train"`
	Test   string  `opt:"test"`
	Power  float64 `opt:"power"`  // as of mqar
	Random bool    `opt:"random"` // as of mqar
	Epoch  int     `opt:"epoch"`  // steps in which training goes through its settings in order; 0 draws them
	Eval   int     `opt:"eval"`   // rows of each setting of the test set
}

// mix is one setting.
type mix struct{ length, pairs, weight int }

func parseMix(option, text string, weights bool) ([]mix, error) {
	bad := options.Error(option, text, "settings such as 64x4, 256x16 between minus signs, of different lengths or pairs")
	if weights {
		bad = options.Error(option, text, "settings such as 64x4 or 64x4x5, length, pairs and weight, between minus signs, of different lengths or pairs")
	}
	var list []mix
	for part := range strings.SplitSeq(text, "-") {
		var n [3]int
		fields := strings.Split(part, "x")
		if len(fields) < 2 || len(fields) > 3 || len(fields) == 3 && !weights {
			return nil, bad
		}
		n[2] = 1
		for i, f := range fields {
			var err error
			if n[i], err = strconv.Atoi(f); err != nil || n[i] < 1 || n[i] > 1<<24 {
				return nil, bad
			}
		}
		m := mix{n[0], n[1], n[2]}
		if slices.ContainsFunc(list, func(x mix) bool { return x.length == m.length && x.pairs == m.pairs }) {
			return nil, bad
		}
		list = append(list, m)
	}
	return list, nil
}

// New returns the task with the options o.
func (o MQARMix) New() (Task, error) {
	trained, err := parseMix("train", o.Train, true)
	if err != nil {
		return nil, err
	}
	tested, err := parseMix("test", o.Test, false)
	if err != nil {
		return nil, err
	}
	if err := within(limit{"epoch", o.Epoch, 0, 1 << 40}); err != nil {
		return nil, err
	}
	g := generated{
		info: Info{
			Name: Spell("mqar-mix", o), Title: "multi-query associative recall, mixed settings", Paper: "Arora et al. 2024, Based (arXiv:2402.18668)",
			Vocab: o.Vocab,
		},
		answers: o.Vocab - o.Vocab/2, epoch: o.Epoch, rows: o.Eval,
		sizeOf: "the pairs of the row", size: func(_, labels []int32, _ int) int { return scored(labels) },
	}
	settingOf := func(m mix) (setting, error) {
		t, err := MQAR{Vocab: o.Vocab, Length: m.length, Pairs: m.pairs, Power: o.Power, Random: o.Random, Eval: max(1, o.Eval)}.New()
		if err != nil {
			return setting{}, fmt.Errorf("setting %dx%d: %w", m.length, m.pairs, err)
		}
		return setting{m.length, t.(*mqar).fill}, nil
	}
	for _, m := range trained {
		s, err := settingOf(m)
		if err != nil {
			return nil, err
		}
		g.train, g.weights = append(g.train, s), append(g.weights, float64(m.weight))
	}
	longest, most := 0, 0
	for _, m := range trained {
		longest, most = max(longest, m.length), max(most, m.pairs)
	}
	for _, m := range tested {
		s, err := settingOf(m)
		if err != nil {
			return nil, err
		}
		g.test = append(g.test, s)
		if slices.Contains(g.sizes, m.pairs) {
			return nil, options.Error("test", o.Test, "settings that differ in their pairs")
		}
		g.sizes = append(g.sizes, m.pairs)
	}
	slices.Sort(g.sizes)
	beyond := Metric{Better: "higher", Chance: 1 / float64(g.answers)}
	inside := beyond
	inside.Unit, inside.Help = "inside-accuracy", fmt.Sprintf("of queries in rows of at most %d tokens and %d pairs, which training had", longest, most)
	beyond.Unit, beyond.Help = "beyond-accuracy", "of queries in rows that are longer or have more pairs than those of training"
	g.extra = []Metric{inside, beyond}
	g.newExtra = func(*generated) extras { return &extrapolation{longest: longest, most: most} }
	return newGenerated(g)
}

// scored returns how many labels count.
func scored(labels []int32) int { return Batch{Labels: labels}.Scored() }

// extrapolation is accuracy inside and beyond what was trained.
type extrapolation struct {
	longest, most  int
	inside, beyond mean
}

func (e *extrapolation) add(tokens, labels, predicted []int32) {
	m := &e.inside
	if len(tokens) > e.longest || scored(labels) > e.most {
		m = &e.beyond
	}
	for i, l := range labels {
		if l < 0 {
			continue
		}
		right := 0.0
		if predicted[i] == l {
			right = 1
		}
		m.add(right)
	}
}

func (e *extrapolation) values() []Value {
	return e.beyond.appendTo(e.inside.appendTo(nil, "inside-accuracy", 1), "beyond-accuracy", 1)
}
