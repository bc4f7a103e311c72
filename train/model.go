// Package train fits models to tasks: AdamW, learning-rate schedules, clipping, gradient accumulation,
// checkpoints, and the loop that ties them together.
//
// Training is deterministic: the same configuration and seed give the same bits at any GOMAXPROCS, and
// a run that was stopped and resumed ends as one that was not. A loss that is not finite is a result, not a crash.
package train

import (
	"context"
	"fmt"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
	"attnbench/task"
)

// Model is what the loop trains. Tokens and labels are [rows, length]; a label of -1 counts nowhere.
type Model interface {
	// Params returns the learned tensors, always in the same order. One that is used twice may
	// be listed twice.
	Params() []*autograd.Param
	// Loss returns the mean over labelled tokens of -ln p(label), in nats.
	Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error)
	// LossPerToken writes -ln p(label) and the most probable token of each position, [rows, length]. What it
	// writes where the label is -1 is not read.
	LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nats []float32, predicted []int32) error
}

// updater is a model with buffers that no gradient reaches: checkpoints hold them, and it changes them once a step,
// after the backward pass.
type updater interface {
	Buffers() []nn.Buffer
	Update(ws *attn.Workspace) error
}

// Evaluate scores a model on an evaluation set, at most rows rows at a time, until ctx ends.
func Evaluate(ctx context.Context, ws *attn.Workspace, m Model, k task.Task, split task.Split, rows int) ([]task.Value, error) {
	t := autograd.NewTape(ws)
	t.NoGrad = true
	score := k.NewScore()
	var nats []float32
	var predicted []int32
	for b := range k.Eval(split, rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := b.Rows * b.Length
		if cap(nats) < n {
			nats, predicted = make([]float32, n), make([]int32, n)
		}
		nats, predicted = nats[:n], predicted[:n]
		t.Reset()
		if err := m.LossPerToken(t, b.Tokens, b.Labels, b.Rows, b.Length, nats, predicted); err != nil {
			return nil, fmt.Errorf("evaluation on %v: %w", split, err)
		}
		if err := score.Add(b, nats, predicted); err != nil {
			return nil, fmt.Errorf("evaluation on %v: %w", split, err)
		}
	}
	return score.Values(), nil
}

// accumulate adds to the gradients those of the mean loss over all labelled tokens of the pieces, and returns that loss and
// the number of tokens. Each piece counts by its own labelled tokens; one without any counts nothing.
func accumulate(t *autograd.Tape, m Model, pieces []task.Batch) (loss float64, tokens int, err error) {
	for _, b := range pieces {
		tokens += b.Scored()
	}
	for _, b := range pieces {
		n := b.Scored()
		if n == 0 {
			continue
		}
		share := float64(n) / float64(tokens)
		t.Reset()
		l, err := m.Loss(t, b.Tokens, b.Labels, b.Rows, b.Length)
		if err != nil {
			return 0, tokens, err
		}
		loss += share * float64(t.Scalar(l))
		g := t.SeedGrad(l)
		if g == nil {
			continue // the loss depends on no parameter
		}
		g[0] += float32(share)
		if err := t.BackwardAll(); err != nil {
			return 0, tokens, err
		}
	}
	return loss, tokens, nil
}

// pieces cuts a batch into micro-batches of at most rows rows; 0 leaves it whole.
func pieces(b task.Batch, rows int) []task.Batch {
	if rows <= 0 {
		rows = b.Rows
	}
	var list []task.Batch
	for i := 0; i < b.Rows; i += rows {
		list = append(list, b.Slice(i, min(i+rows, b.Rows)))
	}
	return list
}
