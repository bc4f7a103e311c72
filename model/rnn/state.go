package rnn

import (
	"fmt"

	"attnbench/autograd"
)

// State is what a model keeps of the tokens it has seen, for a batch of sequences: its size does not grow with them.
type State struct {
	h, c [][]float32 // by layer [batch, dim]; c of LSTM alone
	rows int
}

// NewState returns the state before any token of batch sequences.
func (m *LM) NewState(batch int) (*State, error) {
	if batch < 1 {
		return nil, fmt.Errorf("rnn: state of %d sequences: want at least 1", batch)
	}
	s := &State{rows: batch}
	for range m.layers {
		s.h = append(s.h, make([]float32, batch*m.Config.Dim))
		if cell(m.Config.Cell) == autograd.LSTM {
			s.c = append(s.c, make([]float32, batch*m.Config.Dim))
		}
	}
	return s, nil
}

// Bytes returns the bytes that the state retains.
func (s *State) Bytes() int64 {
	n := 0
	for _, x := range append(append([][]float32(nil), s.h...), s.c...) {
		n += 4 * len(x)
	}
	return int64(n)
}

// move takes over the last of so many steps of layer i.
func (s *State) move(i int, h, c []float32, steps int) {
	d := len(s.h[i]) / s.rows
	for b := range s.rows {
		at := ((b+1)*steps - 1) * d
		copy(s.h[i][b*d:(b+1)*d], h[at:])
		if c != nil {
			copy(s.c[i][b*d:(b+1)*d], c[at:])
		}
	}
}

// Extend appends tokens [rows, length] to the state and returns the logits after the last token of every row, [rows, vocab], in the tape's memory. The tape
// must be without gradients; Extend resets it.
func (m *LM) Extend(t *autograd.Tape, s *State, tokens []int32, length int) ([]float32, error) {
	if length < 1 || !t.NoGrad {
		return nil, fmt.Errorf("rnn: extend by %d tokens, gradients %v: want at least 1, and a tape without gradients", length, !t.NoGrad)
	}
	t.Reset()
	h, err := m.hidden(t, tokens, s.rows, length, s)
	if err != nil {
		return nil, err
	}
	last := t.Ints(s.rows)
	for b := range last {
		last[b] = int32((b+1)*length - 1)
	}
	return t.Value(m.logits(t, t.Gather(h, last))), nil
}
