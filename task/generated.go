package task

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/internal/options"
)

// generated is a task whose rows are drawn one by one, each from a random stream of its own, and labelled where they ask for something. The file of a task
// gives the rule of a row; the rest is here.
type generated struct {
	info    Info
	answers int // how many labels there are to choose from: what chance is

	train   []setting
	weights []float64 // of drawing each setting of train; nil means equal
	epoch   int       // steps in which the settings of train come in order, each by its weight; 0 draws one a step
	test    []setting // nil means train
	rows    int       // of each setting in the test set

	examples int // training rows repeat after so many; 0 for fresh rows for ever

	// fixed, unless nil, writes a row of an evaluation set that is not drawn, of as many as counts says for each.
	fixed  func(split Split, row int, tokens, labels []int32)
	counts [2]int

	// size, unless nil, tells by what accuracy is given beside the mean: a number of the label at position i. sizes are the smallest numbers of the
	// classes, ascending; nil means powers of two up to the length.
	size   func(tokens, labels []int32, i int) int
	sizes  []int
	sizeOf string // what the number is: "tokens in the expression"

	blind    bool      // the tokens near a label are its answer, which a model must not see: baselines have no context
	readings []reading // further baselines

	extra    []Metric                  // of more, after the usual ones
	newExtra func(g *generated) extras // nil for none
}

// setting is one difficulty of a task: rows of one length, drawn by one rule.
type setting struct {
	length int
	draw   func(rng *rand.Rand, tokens, labels []int32) // tokens come as 0, labels as -1
}

// extras are a score's metrics of one task alone, in the order of generated.extra.
type extras interface {
	add(tokens, labels, predicted []int32)
	values() []Value
}

// newGenerated fills in what follows from the rest.
func newGenerated(g generated) (Task, error) {
	if g.fixed == nil && g.rows < 1 {
		return nil, options.Error("eval", g.rows, "an integer of at least 1")
	}
	if g.test == nil {
		g.test = g.train
	}
	for _, s := range slices.Concat(g.train, g.test) {
		g.info.Length = max(g.info.Length, s.length)
	}
	if g.size != nil && g.sizes == nil {
		for n := 1; n <= g.info.Length; n *= 2 {
			g.sizes = append(g.sizes, n)
		}
	}
	if g.info.Data == "" {
		g.info.Data = "generated, revision 1"
	}
	chance := 1 / float64(g.answers)
	accuracy := Metric{Unit: "accuracy", Better: "higher", Chance: chance, Help: "of all labels, the share that is the most probable token"}
	list := []Metric{
		accuracy,
		{Unit: "row-accuracy", Better: "higher", Chance: chance, Help: "mean over rows of the share of its labels that are right"},
		{Unit: "nats/query", Better: "lower", Chance: math.Log(float64(g.answers)), Help: "mean loss of the labels in nats"},
	}
	list = append(list, g.extra...)
	for _, n := range g.sizes {
		m := accuracy
		m.Unit, m.Help = fmt.Sprintf("accuracy@%d", n), fmt.Sprintf("of labels by %s, from %d", g.sizeOf, n)
		list = append(list, m)
	}
	g.info.Metrics = list
	return &g, nil
}

func (g *generated) Info() Info { return g.info }

// pick returns the setting that a training step draws its rows from.
func (g *generated) pick(seed uint64, step int) setting {
	if len(g.train) == 1 {
		return g.train[0]
	}
	w := g.weights
	if w == nil {
		w = make([]float64, len(g.train))
		for i := range w {
			w[i] = 1
		}
	}
	if g.epoch == 0 {
		return g.train[draw(stream(seed, trainSteps, step), w)]
	}
	sum, at := 0.0, (float64(step%g.epoch)+0.5)/float64(g.epoch)
	for _, x := range w {
		sum += x
	}
	for i, x := range w {
		if at -= x / sum; at < 0 {
			return g.train[i]
		}
	}
	return g.train[len(g.train)-1]
}

func (g *generated) Train(seed uint64, step, rows int) Batch {
	s := g.pick(seed, step)
	b := newBatch(rows, s.length)
	for r := range rows {
		tokens, labels := b.Row(r)
		row := step*rows + r
		if g.examples > 0 {
			row %= g.examples
		}
		s.fill(stream(seed, trainRows, row), tokens, labels)
	}
	return b
}

func (s setting) fill(rng *rand.Rand, tokens, labels []int32) {
	for i := range tokens {
		tokens[i], labels[i] = 0, -1
	}
	s.draw(rng, tokens, labels)
}

// Eval yields the settings one after another: all rows of a batch have one length.
func (g *generated) Eval(split Split, rows int) iter.Seq[Batch] {
	if g.fixed != nil {
		return inBatches(g.counts[split], rows, g.info.Length, func(r int, tokens, labels []int32) {
			setting{draw: func(_ *rand.Rand, tokens, labels []int32) { g.fixed(split, r, tokens, labels) }}.fill(nil, tokens, labels)
		})
	}
	n, kind := g.rows, testRows
	if split == Valid {
		n, kind = min(n, max(1, validation/len(g.test))), validRows
	}
	return func(yield func(Batch) bool) {
		for i, s := range g.test {
			for b := range inBatches(n, rows, s.length, func(r int, tokens, labels []int32) {
				s.fill(stream(0, kind, i<<32|r), tokens, labels)
			}) {
				if !yield(b) {
					return
				}
			}
		}
	}
}

// answerScore is the accuracy of the labels: of all, of rows, and by size.
type answerScore struct {
	g               *generated
	all, byRow, nat mean
	bySize          []mean
	extra           extras
}

func (g *generated) NewScore() Score {
	s := &answerScore{g: g, bySize: make([]mean, len(g.sizes))}
	if g.newExtra != nil {
		s.extra = g.newExtra(g)
	}
	return s
}

func (s *answerScore) Add(b Batch, nats []float32, predicted []int32) error {
	if err := checkSizes(b, nats, predicted, true); err != nil {
		return err
	}
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		row, answers := mean{}, predicted[r*b.Length:(r+1)*b.Length]
		for i, label := range labels {
			if label < 0 {
				continue
			}
			right := 0.0
			if answers[i] == label {
				right = 1
			}
			s.all.add(right)
			row.add(right)
			s.nat.add(float64(nats[r*b.Length+i]))
			if s.g.size != nil {
				at, found := slices.BinarySearch(s.g.sizes, s.g.size(tokens, labels, i))
				if !found {
					at-- // the class that it is in
				}
				if at < 0 {
					return fmt.Errorf("score: a label of size %d: want at least %d, as in a batch of this task", s.g.size(tokens, labels, i), s.g.sizes[0])
				}
				s.bySize[at].add(right)
			}
		}
		if row.n == 0 {
			continue
		}
		s.byRow.add(row.sum / float64(row.n))
		if s.extra != nil {
			s.extra.add(tokens, labels, answers)
		}
	}
	return nil
}

func (s *answerScore) Values() []Value {
	v := s.all.appendTo(nil, "accuracy", 1)
	v = s.byRow.appendTo(v, "row-accuracy", 1)
	v = s.nat.appendTo(v, "nats/query", 1)
	if s.extra != nil && s.all.n > 0 {
		v = append(v, s.extra.values()...)
	}
	for i, n := range s.g.sizes {
		v = s.bySize[i].appendTo(v, fmt.Sprintf("accuracy@%d", n), 1)
	}
	return v
}

// limit is what an integer option allows.
type limit struct {
	name          string
	got, min, max int
}

// within reports the first option that is outside its limits.
func within(list ...limit) error {
	for _, l := range list {
		if l.got < l.min || l.got > l.max {
			return options.Error(l.name, l.got, fmt.Sprintf("%d to %d", l.min, l.max))
		}
	}
	return nil
}

// lengthsTo returns the lengths longest/2^j that are at least shortest, ascending.
func lengthsTo(longest, shortest int) []int {
	var list []int
	for n := longest; n >= shortest; n /= 2 {
		list = append(list, n)
	}
	slices.Reverse(list)
	return list
}
