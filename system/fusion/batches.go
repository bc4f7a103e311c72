package fusion

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"

	"attnbench/autograd"
	"attnbench/model/fusion"
	"attnbench/task"
)

// header is what a row of a task.Batch begins with: the group of the test, or -1 in training, and the number of the example there. A column for each word follows.
const header = 2

// batches is a task as the training loop sees it. Its tokens name examples, which are planned again, and rendered, where they are wanted.
type batches struct {
	x           *fuser
	info        task.Info
	train, test []pair
	groups      []group
	seed        uint64

	epoch int // that order is of
	order []int
}

func newBatches(x *fuser, training, test []pair, seed uint64) *batches {
	return &batches{x: x, train: training, test: test, groups: x.form.groups(x, test), seed: seed, epoch: -1}
}

// Info describes the task.
func (k *batches) Info() task.Info { return k.info }

// plan returns an example of a group, or of training for group -1, which has every pair once an epoch.
func (k *batches) plan(g, i int) plan {
	if g >= 0 {
		return k.x.form.test(k.x, k.test, k.groups[g], i)
	}
	if e := i / len(k.train); e != k.epoch {
		k.epoch, k.order = e, rand.New(rand.NewPCG(k.seed, 1<<40+uint64(e))).Perm(len(k.train))
	}
	return k.x.form.training(k.x, k.train, k.order[i%len(k.train)], rand.New(rand.NewPCG(k.seed, uint64(i))))
}

// pack lays out the examples i to j of a group.
func (k *batches) pack(g, i, j int) task.Batch {
	var plans []plan
	b := task.Batch{Rows: j - i, Length: header}
	for n := i; n < j; n++ {
		p := k.plan(g, n)
		plans = append(plans, p)
		b.Length = max(b.Length, header+len(p.labels))
	}
	for row, p := range plans {
		b.Tokens = append(b.Tokens, int32(g), int32(i+row))
		b.Labels = append(append(b.Labels, never, never), p.labels...)
		b.Tokens = append(b.Tokens, make([]int32, (row+1)*b.Length-len(b.Tokens))...)
		b.Labels = append(b.Labels, slices.Repeat([]int32{never}, (row+1)*b.Length-len(b.Labels))...)
	}
	return b
}

// Train returns the batch of a step.
func (k *batches) Train(_ uint64, step, rows int) task.Batch {
	return k.pack(-1, step*rows, (step+1)*rows)
}

// Eval yields the test set, group by group.
func (k *batches) Eval(_ task.Split, rows int) iter.Seq[task.Batch] {
	return func(yield func(task.Batch) bool) {
		for g := range k.groups {
			for i := 0; i < k.groups[g].count; i += rows {
				if !yield(k.pack(g, i, min(i+rows, k.groups[g].count))) {
					return
				}
			}
		}
	}
}

// NewScore returns an empty score.
func (k *batches) NewScore() task.Score {
	return &score{groups: k.groups, tallies: make([]tally, len(k.groups))}
}

// trained is a model as the training loop sees it. What is random in a step is a function of seed and step.
type trained struct {
	*fusion.Model
	k        *batches
	batch    fusion.Batch
	examples []fusion.Example
	step     uint64
}

// SetStep tells the step that Loss is called in.
func (m *trained) SetStep(n uint64) { m.step = n }

// pack renders the examples of a packed batch.
func (m *trained) pack(tokens, labels []int32, rows, length int) error {
	var items [][]item
	for len(m.examples) < rows {
		m.examples = append(m.examples, fusion.Example{})
	}
	for row := range rows {
		at := row * length
		p := m.k.plan(int(tokens[at]), int(tokens[at+1]))
		items = append(items, p.items)
		m.examples[row].Labels = labels[at+header:][:len(p.labels)]
	}
	m.k.x.render.all(items, m.examples[:rows])
	return m.batch.Pack(&m.Config, m.examples[:rows])
}

// Loss is that of a packed batch.
func (m *trained) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	if err := m.pack(tokens, labels, rows, length); err != nil {
		return autograd.None, err
	}
	return m.Model.Loss(t, &m.batch, m.k.seed+m.step<<48)
}

// LossPerToken is that of a packed batch.
func (m *trained) LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nats []float32, predicted []int32) error {
	if err := m.pack(tokens, labels, rows, length); err != nil {
		return err
	}
	nll, best, err := m.Predict(t, &m.batch)
	if err != nil {
		return err
	}
	n := 0
	for i, l := range labels {
		if l != never {
			nats[i], predicted[i] = nll[n], best[n]
			n++
		}
	}
	return nil
}

type tally struct{ right, count int }

// score counts right answers, all and by group.
type score struct {
	groups  []group
	tallies []tally
	nats    float64
}

func (s *score) Add(b task.Batch, nats []float32, predicted []int32) error {
	if len(nats) != len(b.Labels) || len(predicted) != len(b.Labels) {
		return fmt.Errorf("score: %d losses and %d predictions: want %d", len(nats), len(predicted), len(b.Labels))
	}
	for i, l := range b.Labels {
		if l == never {
			continue
		}
		g := b.Tokens[i/b.Length*b.Length]
		if g < 0 || int(g) >= len(s.groups) {
			return fmt.Errorf("score: group %d: want 0 to %d", g, len(s.groups)-1)
		}
		s.tallies[g].count++
		if predicted[i] == l {
			s.tallies[g].right++
		}
		s.nats += float64(nats[i])
	}
	return nil
}

func (s *score) Values() (list []task.Value) {
	var all tally
	for _, t := range s.tallies {
		all.right += t.right
		all.count += t.count
	}
	if all.count == 0 {
		return nil
	}
	list = []task.Value{accuracy("accuracy", all)}
	for i, t := range s.tallies {
		if t.count > 0 {
			list = append(list, accuracy("accuracy@"+s.groups[i].name, t))
		}
	}
	return append(list, task.Value{Unit: "nats/query", Value: s.nats / float64(all.count), Count: all.count})
}

func accuracy(unit string, t tally) task.Value {
	return task.Value{Unit: unit, Value: float64(t.right) / float64(t.count), Count: t.count}
}
