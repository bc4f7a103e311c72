package model

import (
	"fmt"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// State is what a model keeps of the tokens it has seen, for a batch of sequences of independent lengths.
type State struct {
	layers []*nn.AttentionState
	length []int
	ends   bool // the next Extend ends the prompt
}

// NewState returns an empty state for batch sequences.
func (m *LM) NewState(batch int) (*State, error) {
	if batch < 1 {
		return nil, fmt.Errorf("model: state of %d sequences: want at least 1", batch)
	}
	if m.decoder != nil {
		return nil, errBottleneck
	}
	s := &State{length: make([]int, batch)}
	for i, l := range m.layers {
		a, err := l.attention.NewState(batch)
		if err != nil {
			return nil, fmt.Errorf("model: layer %d: %w", i, err)
		}
		s.layers = append(s.layers, a)
	}
	return s, nil
}

// EndPrompt says that the next Extend ends the prompt: mechanisms that evict then choose what they keep.
func (s *State) EndPrompt() { s.ends = true }

// Len returns the number of tokens that row has seen.
func (s *State) Len(row int) int { return s.length[row] }

// Layer returns the bytes that layer i's state retains and those that the next token of every row reads of it.
func (s *State) Layer(i int) (bytes, read int64) { return s.layers[i].Bytes(), s.layers[i].ReadBytes() }

// Bytes returns the bytes that the state retains now.
func (s *State) Bytes() int64 {
	n := int64(0)
	for _, l := range s.layers {
		n += l.Bytes()
	}
	return n
}

// ReadBytes returns the bytes of state that the next token of every row reads.
func (s *State) ReadBytes() int64 {
	n := int64(0)
	for _, l := range s.layers {
		n += l.ReadBytes()
	}
	return n
}

// Reset empties a row.
func (s *State) Reset(row int) {
	s.length[row] = 0
	for _, l := range s.layers {
		l.Reset(row)
	}
}

// Reorder makes row i a copy of what row from[i] was.
func (s *State) Reorder(from []int) error {
	for _, l := range s.layers {
		if err := l.Reorder(from); err != nil {
			return err
		}
	}
	old := append([]int(nil), s.length...)
	for i, f := range from {
		s.length[i] = old[f]
	}
	return nil
}

// Extend appends tokens [rows, length], a prompt, a chunk or one token each, to the state and returns the logits after the last token of
// every row, [rows, vocab], in the tape's memory. lengths, unless nil, says how many of its tokens each row brings, at least 1; the rest is padding.
// The tape must be without gradients; Extend resets it.
func (m *LM) Extend(t *autograd.Tape, s *State, tokens []int32, length int, lengths []int) ([]float32, error) {
	rows := len(s.length)
	if err := m.checkTokens(tokens, rows, length); err != nil {
		return nil, err
	}
	if length < 1 || lengths != nil && len(lengths) != rows {
		return nil, fmt.Errorf("model: extend by %d tokens: want at least 1, and a length for each of %d rows", length, rows)
	}
	if !t.NoGrad {
		return nil, fmt.Errorf("model: decode: want a tape without gradients")
	}
	t.Reset()
	last := t.Ints(rows)
	m.segments = m.segments[:0]
	layout := nn.Layout{Batch: rows, QueryLen: length, KeyLen: length, Start: s.length, EndOfPrompt: s.ends}
	for row := range rows {
		n := length
		if lengths != nil {
			n = lengths[row]
			if n < 1 || n > length {
				return nil, fmt.Errorf("model: length of row %d is %d: want 1 to %d", row, n, length)
			}
			m.segments = append(m.segments, attn.Segment{Row: row, Queries: n, Keys: n})
		}
		last[row] = int32(row*length + n - 1)
	}
	if lengths != nil {
		layout.Segments = m.segments
	}
	h, err := m.hidden(t, tokens, layout, s)
	if err != nil {
		return nil, err
	}
	s.ends = false
	for row := range rows {
		n := length
		if lengths != nil {
			n = lengths[row]
		}
		s.length[row] += n
	}
	return t.Value(m.logits(t, t.Gather(h, last))), nil
}
