package bert

import (
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"

	"attnbench/autograd"
	"attnbench/model/bert"
	"attnbench/task"
)

// example is a sequence of pieces with its labels, -1 where there is none.
type example struct{ pieces, labels []int32 }

// unlabelled returns an example of pieces without labels.
func unlabelled(pieces []int32) example {
	return example{pieces, slices.Repeat([]int32{autograd.Ignored}, len(pieces))}
}

// header is what a row of a task.Batch begins with: the step, the number of the example and its length. The padded pieces follow.
const header = 3

// batches is a task as the training loop sees it. Every epoch has every example once, in batches of like lengths.
type batches struct {
	info   task.Info
	pad    int32
	tokens int                                 // that a batch holds, padding included
	epoch  func(n int, r *rand.Rand) []example // examples to train on; r is a stream of the seed's and the epoch's own
	test   []example
	score  func() task.Score

	mu    sync.Mutex
	seed  uint64
	ends  []int // steps done after each epoch that was planned
	last  int   // the epoch that plan is of
	plan  [][]int
	drawn []example // of that epoch
}

// Info describes the task.
func (k *batches) Info() task.Info { return k.info }

// NewScore returns an empty score.
func (k *batches) NewScore() task.Score { return k.score() }

// Train returns the batch of a step, of as many rows as its tokens allow.
func (k *batches) Train(seed uint64, step, _ int) task.Batch {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ends == nil || seed != k.seed {
		k.seed, k.ends, k.last = seed, nil, -1
	}
	n := 0
	for n < len(k.ends) && step >= k.ends[n] {
		n++
	}
	for ; n == len(k.ends); n++ {
		k.begin(n)
		before := 0
		if n > 0 {
			before = k.ends[n-1]
		}
		k.ends = append(k.ends, before+len(k.plan))
		if step < k.ends[n] {
			break
		}
	}
	if n != k.last {
		k.begin(n)
	}
	if n > 0 {
		return k.pack(k.drawn, k.plan[step-k.ends[n-1]], step)
	}
	return k.pack(k.drawn, k.plan[step], step)
}

// begin plans epoch n.
func (k *batches) begin(n int) {
	r := rand.New(rand.NewPCG(k.seed, uint64(n)))
	k.drawn = k.epoch(n, r)
	k.plan, k.last = k.cut(k.drawn, r), n
}

// cut sorts examples by length, equal ones at random, and cuts them into batches, in random order.
func (k *batches) cut(list []example, r *rand.Rand) [][]int {
	order := r.Perm(len(list))
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(list[a].pieces), len(list[b].pieces)) })
	var all [][]int
	var now []int
	for _, i := range order {
		if len(now) > 0 && (len(now)+1)*len(list[i].pieces) > k.tokens {
			all, now = append(all, now), nil
		}
		now = append(now, i)
	}
	if len(now) > 0 {
		all = append(all, now)
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// Eval yields the test set, whose batches the tokens bound, not rows.
func (k *batches) Eval(_ task.Split, _ int) iter.Seq[task.Batch] {
	return func(yield func(task.Batch) bool) {
		for _, which := range k.cut(k.test, rand.New(rand.NewPCG(0, 0))) {
			if !yield(k.pack(k.test, which, 0)) {
				return
			}
		}
	}
}

// pack lays a batch out for the training loop, whose rows are a model's own affair.
func (k *batches) pack(list []example, which []int, step int) task.Batch {
	b := task.Batch{Rows: len(which)}
	for _, i := range which {
		b.Length = max(b.Length, header+len(list[i].pieces))
	}
	for row, i := range which {
		x := list[i]
		b.Tokens = append(append(b.Tokens, int32(step), int32(i), int32(len(x.pieces))), x.pieces...)
		b.Labels = append(append(b.Labels, autograd.Ignored, autograd.Ignored, autograd.Ignored), x.labels...)
		for len(b.Tokens) < (row+1)*b.Length {
			b.Tokens, b.Labels = append(b.Tokens, k.pad), append(b.Labels, autograd.Ignored)
		}
	}
	return b
}

// unpack is pack's inverse.
func unpack(tokens, labels []int32, rows, length int) (b *bert.Batch, own []int32, step int) {
	b = &bert.Batch{Rows: rows, Length: length - header}
	for row := range rows {
		x := tokens[row*length : (row+1)*length]
		b.Lengths = append(b.Lengths, int(x[2]))
		b.Tokens = append(b.Tokens, x[header:]...)
		own = append(own, labels[row*length+header:(row+1)*length]...)
	}
	return b, own, int(tokens[0])
}

// trained is a model as the training loop sees it. What is random in a step is a function of seed and step.
type trained struct {
	*bert.Model
	seed uint64
}

// Loss is that of a packed batch.
func (m *trained) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	b, own, step := unpack(tokens, labels, rows, length)
	return m.Model.Loss(t, b, own, m.seed+uint64(step)<<48)
}

// LossPerToken is that of a packed batch.
func (m *trained) LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nats []float32, predicted []int32) error {
	b, own, _ := unpack(tokens, labels, rows, length)
	nll, best := make([]float32, len(own)), make([]int32, len(own))
	if err := m.Predict(t, b, own, nll, best); err != nil {
		return err
	}
	for row := range rows {
		copy(nats[row*length+header:(row+1)*length], nll[row*b.Length:])
		copy(predicted[row*length+header:(row+1)*length], best[row*b.Length:])
	}
	return nil
}

// meanLoss is a mean over labels in order, a part of all scores.
type meanLoss struct {
	sum   float64
	right int
	count int
}

// add counts the labels of a packed batch and hands each to see, with the number of its example.
func (s *meanLoss) add(b task.Batch, nats []float32, predicted []int32, see func(example int, label, guess int32)) error {
	if len(nats) != len(b.Labels) || len(predicted) != len(b.Labels) {
		return fmt.Errorf("score: %d losses and %d predictions: want %d", len(nats), len(predicted), len(b.Labels))
	}
	for i, l := range b.Labels {
		if l == autograd.Ignored {
			continue
		}
		s.sum += float64(nats[i])
		s.count++
		if predicted[i] == l {
			s.right++
		}
		if see != nil {
			see(int(b.Tokens[i/b.Length*b.Length+1]), l, predicted[i])
		}
	}
	return nil
}

func (s *meanLoss) values(unit string) []task.Value {
	if s.count == 0 {
		return nil
	}
	return []task.Value{{Unit: unit, Value: s.sum / float64(s.count), Count: s.count}}
}
