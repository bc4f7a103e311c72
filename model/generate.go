package model

import (
	"fmt"
	"math/rand/v2"

	"attnbench/autograd"
)

// promptChunk is how many tokens of a prompt are read at a time.
const promptChunk = 512

// Generate reads a prompt of at least one token and writes n further ones by the sampler, each given to emit as soon as it is known. The tape must
// be without gradients. No token is read twice. An error of emit ends it and is returned.
func (m *LM) Generate(t *autograd.Tape, prompt []int32, n int, s *Sampler, r *rand.Rand, emit func(token int32) error) error {
	if err := s.Check(); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if len(prompt) == 0 {
		return fmt.Errorf("model: generate after no prompt: want at least one token")
	}
	state, err := m.NewState(1)
	if err != nil {
		return err
	}
	var logits []float32
	for at := 0; at < len(prompt); at += promptChunk {
		part := prompt[at:min(at+promptChunk, len(prompt))]
		if logits, err = m.Extend(t, state, part, len(part), nil); err != nil {
			return err
		}
	}
	for i := range n {
		token := s.Next(logits, r)
		if err := emit(token); err != nil {
			return err
		}
		if i+1 == n {
			break
		}
		if logits, err = m.Extend(t, state, []int32{token}, 1, nil); err != nil {
			return err
		}
	}
	return nil
}

// Spec returns the model's description, which a checkpoint holds so that the model can be built again.
func (m *LM) Spec() Config { return m.Config }

// SetStep tells the model the training step, which seeds what is random within one.
func (m *LM) SetStep(n uint64) { m.Step, m.pieces = n, 0 }
