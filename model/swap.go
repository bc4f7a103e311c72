package model

import (
	"fmt"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
)

// With returns a model of the same learned tensors, which the two share, with another attention: a trained model under a mechanism that it was not
// trained with. A mechanism that learns tensors which m does not have, or has none for one of m's, is an error that names the first.
func (m *LM) With(attention string) (*LM, error) {
	c := m.Config
	c.Attention = attention
	to, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := share(to.params, m.params); err != nil {
		return nil, fmt.Errorf("model: %s in place of %s: %w", attention, m.Config.Attention, err)
	}
	to.Step = m.Step
	return to, nil
}

// share gives the tensors of to the memory of those of from, which have the same names and shapes.
func share(to, from []*autograd.Param) error {
	have := map[string]*autograd.Param{}
	for _, p := range from {
		have[p.Name] = p
	}
	for _, p := range to {
		old := have[p.Name]
		if old == nil {
			return fmt.Errorf("tensor %s: the model has none: want a mechanism that learns only what the model has", p.Name)
		}
		if !slices.Equal(p.Shape, old.Shape) {
			return fmt.Errorf("tensor %s: shape %v: want the model's %v", p.Name, p.Shape, old.Shape)
		}
		p.Data, p.Grad = old.Data, old.Grad
		delete(have, p.Name)
	}
	for _, p := range from {
		if have[p.Name] != nil {
			return fmt.Errorf("tensor %s: nothing takes it: want a mechanism that learns all that the model has", p.Name)
		}
	}
	return nil
}

// Logits returns the logits at every position, [rows·length, vocab], for tokens [rows, length], which must not change until
// the tape's Reset.
func (m *LM) Logits(t *autograd.Tape, tokens []int32, rows, length int) (autograd.Var, error) {
	h, err := m.Hidden(t, tokens, rows, length, nil)
	if err != nil {
		return autograd.None, err
	}
	return m.logits(t, h), nil
}

// Greedy returns the n tokens that follow the prompt when each is the most likely one, the lowest of equals. It decodes with a
// state. The tape must be without gradients.
func (m *LM) Greedy(t *autograd.Tape, prompt []int32, n int) ([]int32, error) {
	if len(prompt) == 0 || n < 0 {
		return nil, fmt.Errorf("model: %d tokens after a prompt of %d: want at least 0, and a prompt", n, len(prompt))
	}
	s, err := m.NewState(1)
	if err != nil {
		return nil, err
	}
	s.EndPrompt()
	out := make([]int32, 0, n)
	for next := prompt; len(out) < n; next = out[len(out)-1:] {
		logits, err := m.Extend(t, s, next, len(next), nil)
		if err != nil {
			return nil, err
		}
		best := 0
		for i, x := range logits {
			if x > logits[best] || logits[best] != logits[best] {
				best = i
			}
		}
		out = append(out, int32(best))
	}
	return out, nil
}

// StateBytes returns the bytes that a state of n tokens retains and those that one more token reads of it, by the mechanisms' closed forms; ok is
// false when a layer's mechanism has none or does not decode.
func (m *LM) StateBytes(n int) (state, read int64, ok bool) {
	for _, l := range m.layers {
		if _, ok := l.attention.Mech.(attn.Incremental); !ok || l.attention.Info.Cost == nil {
			return 0, 0, false
		}
		s := l.attention.Shape()
		s.Batch, s.QueryLen, s.KeyLen = 1, 1, n
		c := l.attention.Info.Cost(s, attn.PassDecode)
		state, read = state+c.State, read+c.Read
	}
	return state, read, true
}
