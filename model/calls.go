package model

import (
	"fmt"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
)

// Mechanism returns the attention mechanism of layer i.
func (m *LM) Mechanism(i int) attn.Mechanism { return m.layers[i].attention.Mech }

// Calls returns the attention call of every layer in one pass over a sequence, its inputs, tensors and outputs copied: q and k as the
// mechanism gets them, rotated unless it rotates inside. The tape must be without gradients; Calls resets it.
func (m *LM) Calls(t *autograd.Tape, tokens []int32) ([]*attn.Call, error) {
	if !t.NoGrad {
		return nil, fmt.Errorf("model: calls: want a tape without gradients")
	}
	list := []*attn.Call{}
	m.calls = &list
	defer func() { m.calls = nil }()
	t.Reset()
	_, err := m.Hidden(t, tokens, 1, len(tokens), nil)
	t.Reset()
	return list, err
}

// keep copies the attention call that was made last.
func (m *LM) keep(t *autograd.Tape) {
	c := *t.LastCall(t.Calls() - 1)
	for _, v := range []*attn.View{&c.Q, &c.K, &c.V, &c.Out} {
		v.Data = slices.Clone(v.Data)
	}
	c.Extra = slices.Clone(c.Extra)
	for i := range c.Extra {
		c.Extra[i].Data = slices.Clone(c.Extra[i].Data)
	}
	for _, list := range []*[][]float32{&c.Learned, &c.Buffers} {
		*list = slices.Clone(*list)
		for i, x := range *list {
			(*list)[i] = slices.Clone(x)
		}
	}
	c.Aux = nil
	*m.calls = append(*m.calls, &c)
}
