package harness

import (
	"slices"

	"attnbench/autograd"
	"attnbench/model"
	"attnbench/model/rnn"
	"attnbench/train"
)

// Recurrent reports whether mech names a recurrent network: those that came before attention, elman, gru and lstm, stand in
// the same table under the names of their cells.
func Recurrent(mech string) bool { return slices.Contains(rnn.Cells, mech) }

// newRecurrent returns a recurrent network with as many layers as the recipe's model, and about as many learned numbers as it has with
// projections to queries, keys, values and outputs alone.
func (r Recipe) newRecurrent(cell string, vocab int, seed uint64) (*rnn.LM, error) {
	params := r.Params
	if params == 0 {
		params = plainSize(&r.Model, vocab)
	}
	c := rnn.Config{Cell: cell, Vocab: vocab, Layers: r.Model.Layers, Seed: seed}
	c.Dim = max(4, (rnn.Dim(c, params)+2)/4*4) // what vectors like
	return rnn.New(c)
}

// plainSize is the number of weights of the model with attention that has no others than its four projections.
func plainSize(c *model.Config, vocab int) int {
	matrices := map[string]int{"gelu": 2, "gelu-erf": 2, "swiglu": 3}[c.MLP]
	n := c.Layers*(4*c.Dim*c.Dim+matrices*c.Dim*c.MLPWidth) + c.Dim*vocab
	if !c.Tied {
		n += c.Dim * vocab
	}
	return n
}

// watchedRNN is watched for a recurrent network.
type watchedRNN struct {
	*rnn.LM
	tape *autograd.Tape
}

func (w *watchedRNN) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	w.tape = t
	return w.LM.Loss(t, tokens, labels, rows, length)
}

// trainee is a run's model, as training and the table see it.
type trainee struct {
	train.Model
	tape  func() *autograd.Tape // of the last training step, nil before it
	state int64                 // bytes of the decoding state at the task's length, -1 where they are not known
	flops int64                 // of a forward pass over a token
}

// build makes the model of a run, before training. That of a mechanism is kept as x.model.
func (x *run) build() (trainee, error) {
	info := x.task.Info()
	if Recurrent(x.mech) {
		m, err := x.recipe.newRecurrent(x.mech, info.Vocab, x.seed)
		if err != nil {
			return trainee{}, err
		}
		s, err := m.NewState(1)
		if err != nil {
			return trainee{}, err
		}
		w := &watchedRNN{LM: m}
		return trainee{w, func() *autograd.Tape { return w.tape }, s.Bytes(), m.FLOPs()}, nil
	}
	m, err := x.recipe.train().NewModel(x.task, x.mech, x.seed)
	if err != nil {
		return trainee{}, err
	}
	x.model = m
	w := &watched{LM: m}
	state, _, ok := m.StateBytes(info.Length)
	if !ok {
		state = -1
	}
	return trainee{w, func() *autograd.Tape { return w.tape }, state, m.FLOPs(info.Length)}, nil
}
