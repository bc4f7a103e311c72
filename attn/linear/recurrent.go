package linear

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// recurrent is a mechanism that is a Recurrence with a name.
type recurrent struct {
	rec  tile.Recurrence
	info *attn.Info
}

// describe completes the description with what the recurrence knows.
func (m *recurrent) describe(info attn.Info) {
	info.Family = "linear"
	info.Decode = attn.DecodeAlways
	info.Carry = m.rec.Carry
	info.Cost = m.rec.Cost
	m.info = &info
}

func (m recurrent) Info() attn.Info { return *m.info }

func (m recurrent) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	m.rec.Forward(ws, c)
	return nil
}

func (m recurrent) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.rec.Backward(ws, c, g)
	return nil
}

func (m recurrent) NewState(s attn.Shape) (attn.State, error) {
	state, err := m.rec.NewState(m.info.Name, s)
	if err != nil {
		return nil, err // not a nil *RecurState in a State
	}
	return state, nil
}

func (m recurrent) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	return m.rec.Extend(ws, s, c)
}

// state64 is the state of one key/value head in a definition.
type state64 struct{ s, z []float64 }

// newState64 returns the state in which the segment of h starts.
func newState64(h attn.Head64, normalised bool) state64 {
	n := h.Call.KeyDim * h.Call.ValueDim
	size := n
	if normalised {
		size += h.Call.KeyDim
	}
	x := state64At(h, size, h.KV, h.Call.KVHeads)
	return state64{x[:n], x[n:]}
}

// store writes the state in which the segment of h ends to the call's Final.
func (s state64) store(h attn.Head64) { store64At(h, s.s[:len(s.s)+len(s.z)], h.KV, h.Call.KVHeads) }

// state64At returns the state, of size numbers, of one of heads that have one, in which the segment of h starts.
func state64At(h attn.Head64, size, head, heads int) []float64 {
	x := make([]float64, size)
	if h.Call.Initial != nil {
		copy(x, h.Call.Initial[(h.Index*heads+head)*size:])
	}
	return x
}

// store64At writes such a state to the call's Final.
func store64At(h attn.Head64, x []float64, head, heads int) {
	if h.Call.Final != nil {
		copy(h.Call.Final[(h.Index*heads+head)*len(x):], x)
	}
}

// outputGate is the option gate of those whose published gate is a SiLU.
func outputGate(gate string) (attn.Activation, error) {
	switch a := attn.Activation(gate); a {
	case attn.SiLU, attn.Sigmoid:
		return a, nil
	}
	return "", attn.OptionError("gate", gate, "silu or sigmoid")
}
