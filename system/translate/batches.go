package translate

import (
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model/seq2seq"
	"attnbench/nn"
	"attnbench/task"
)

// header is what a row of a task.Batch begins with: the step, the padded length of the source, and the lengths of source and target. The padded
// source and the decoder's input follow.
const header = 4

// pack lays a batch out for the training loop, whose rows are a model's own affair.
func pack(b *seq2seq.Batch, step int) task.Batch {
	n := header + b.SourceLen + b.TargetLen
	out := task.Batch{Rows: b.Rows, Length: n}
	for row := range b.Rows {
		out.Tokens = append(out.Tokens, int32(step), int32(b.SourceLen), int32(b.Sources[row]), int32(b.Targets[row]))
		out.Tokens = append(out.Tokens, b.Source[row*b.SourceLen:(row+1)*b.SourceLen]...)
		out.Tokens = append(out.Tokens, b.Target[row*b.TargetLen:(row+1)*b.TargetLen]...)
		out.Labels = append(out.Labels, slices.Repeat([]int32{autograd.Ignored}, header+b.SourceLen)...)
		out.Labels = append(out.Labels, b.Labels[row*b.TargetLen:(row+1)*b.TargetLen]...)
	}
	return out
}

// unpack is pack's inverse.
func unpack(tokens, labels []int32, rows, length int) (b *seq2seq.Batch, step int) {
	b = &seq2seq.Batch{Rows: rows, SourceLen: int(tokens[1])}
	b.TargetLen = length - header - b.SourceLen
	for row := range rows {
		x := tokens[row*length : (row+1)*length]
		b.Sources, b.Targets = append(b.Sources, int(x[2])), append(b.Targets, int(x[3]))
		b.Source = append(b.Source, x[header:header+b.SourceLen]...)
		b.Target = append(b.Target, x[header+b.SourceLen:]...)
		b.Labels = append(b.Labels, labels[row*length+header+b.SourceLen:(row+1)*length]...)
	}
	return b, int(tokens[0])
}

// batches is the task of translating as the training loop sees it.
type batches struct {
	info    task.Info
	data    *data
	long    bool
	tokens  int // of a side, padding included, that a batch holds
	special seq2seq.Special

	mu    sync.Mutex
	seed  uint64
	ends  []int // steps done after each epoch that was planned
	epoch int   // that plan is of
	plan  [][]pair
}

// Info describes the task.
func (k *batches) Info() task.Info { return k.info }

// Train returns the batch of a step, by tokens whatever the rows: batches of like lengths, in an order that each epoch of each seed has for its own.
func (k *batches) Train(seed uint64, step, _ int) task.Batch {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ends == nil || seed != k.seed {
		k.seed, k.ends, k.epoch = seed, nil, -1
	}
	epoch := 0
	for {
		if epoch == len(k.ends) {
			k.plan, k.epoch = k.batchesOf(seed, epoch), epoch
			k.ends = append(k.ends, len(k.plan))
			if epoch > 0 {
				k.ends[epoch] += k.ends[epoch-1]
			}
		}
		if step < k.ends[epoch] {
			break
		}
		epoch++
	}
	if epoch != k.epoch {
		k.plan, k.epoch = k.batchesOf(seed, epoch), epoch
	}
	if epoch > 0 {
		return k.batch(k.plan[step-k.ends[epoch-1]], step)
	}
	return k.batch(k.plan[step], step)
}

func (k *batches) batch(pairs []pair, step int) task.Batch {
	var in, out [][]int32
	for _, p := range pairs {
		in, out = append(in, p.in), append(out, p.out)
	}
	return pack(seq2seq.NewBatch(in, out, k.special), step)
}

// batchesOf plans an epoch. In the long form each chapter is cut into runs of 1, 2, 4, … or 64 verses, the number drawn anew each time, so that a model
// learns what translates what on short inputs and to find its way on long ones.
func (k *batches) batchesOf(seed uint64, epoch int) [][]pair {
	r := rand.New(rand.NewPCG(seed, uint64(epoch)))
	pairs := k.data.train
	if k.long {
		pairs = nil
		for _, c := range chapters(k.data.train) {
			n := 1 << r.IntN(7)
			for i := 0; i < len(c); i += n {
				if p := k.data.join(c[i:min(i+n, len(c))]); max(len(p.in), len(p.out)+1) <= k.tokens {
					pairs = append(pairs, p)
				}
			}
		}
	}
	return k.cut(pairs, r)
}

// cut sorts pairs by length, equal ones at random, and cuts them into batches, in random order.
func (k *batches) cut(pairs []pair, r *rand.Rand) [][]pair {
	order := r.Perm(len(pairs))
	size := func(i int) int { return max(len(pairs[i].in), len(pairs[i].out)+1) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(size(a), size(b)) })
	var all [][]pair
	var now []pair
	for _, i := range order {
		if len(now) > 0 && (len(now)+1)*size(i) > k.tokens {
			all, now = append(all, now), nil
		}
		now = append(now, pairs[i])
	}
	if len(now) > 0 {
		all = append(all, now)
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// Eval yields the test set, whose size the system's memory bounds, not rows.
func (k *batches) Eval(_ task.Split, _ int) iter.Seq[task.Batch] {
	return func(yield func(task.Batch) bool) {
		var pairs []pair
		for _, q := range k.data.questions(k.long) {
			pairs = append(pairs, pair{in: q.in, out: q.out})
		}
		for _, b := range k.cut(pairs, rand.New(rand.NewPCG(0, 0))) {
			if !yield(k.batch(b, 0)) {
				return
			}
		}
	}
}

// NewScore returns the score of losses; translations are scored apart.
func (k *batches) NewScore() task.Score { return new(meanLoss) }

type meanLoss struct {
	sum   float64
	count int
}

func (s *meanLoss) Add(b task.Batch, nats []float32, _ []int32) error {
	if len(nats) != len(b.Labels) {
		return fmt.Errorf("score: %d losses: want %d", len(nats), len(b.Labels))
	}
	for i, l := range b.Labels {
		if l != autograd.Ignored {
			s.sum += float64(nats[i])
			s.count++
		}
	}
	return nil
}

func (s *meanLoss) Values() []task.Value {
	if s.count == 0 {
		return nil
	}
	return []task.Value{{Unit: unitLoss, Value: s.sum / float64(s.count), Count: s.count}}
}

// trained is a model as the training loop sees it.
type trained struct {
	seq2seq.Model
	smoothing float32
	seed      uint64
}

// Loss is that of a packed batch; what is random in it is a function of seed and step.
func (m *trained) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	b, step := unpack(tokens, labels, rows, length)
	return m.Model.Loss(t, b, m.smoothing, m.seed+uint64(step)<<48)
}

// LossPerToken is that of a packed batch, without smoothing.
func (m *trained) LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nats []float32, predicted []int32) error {
	b, _ := unpack(tokens, labels, rows, length)
	v, err := m.Logits(t, b)
	if err != nil {
		return err
	}
	loss, best := make([]float32, len(b.Labels)), make([]int32, len(b.Labels))
	t.RowLosses(v, b.Labels, loss, best)
	for row := range rows {
		at := row*length + header + b.SourceLen
		copy(nats[at:], loss[row*b.TargetLen:(row+1)*b.TargetLen])
		copy(predicted[at:], best[row*b.TargetLen:(row+1)*b.TargetLen])
	}
	return nil
}

// Buffers and Update are the model's, if it has them.
func (m *trained) Buffers() []nn.Buffer {
	if x, ok := m.Model.(interface{ Buffers() []nn.Buffer }); ok {
		return x.Buffers()
	}
	return nil
}

func (m *trained) Update(ws *attn.Workspace) error {
	if x, ok := m.Model.(interface {
		Update(ws *attn.Workspace) error
	}); ok {
		return x.Update(ws)
	}
	return nil
}
