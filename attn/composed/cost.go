package composed

import (
	"attnbench/attn"
	"attnbench/autograd"
)

// cost measures one head at full length, without computing it: heads and sequences come one after another, so that one is the
// peak of all.
func (m *mechanism) cost(s attn.Shape, p attn.Pass) attn.Cost {
	var c attn.Cost
	if m.given != nil {
		c = m.given(s, p)
	}
	c.Shared, c.PerWorker, c.Saved = 0, 0, 0
	if s.Batch > 0 && s.QueryLen > 0 {
		shared, flops := m.measure(s, p)
		c.Shared = shared
		if c.FLOPs == 0 {
			c.FLOPs = flops * int64(s.Batch) * int64(s.Heads)
		}
	}
	bytes, tokens := int64(0), int64(0)
	for i := range m.info.Inputs {
		in := &m.info.Inputs[i]
		heads, width := in.Size(s)
		time := s.QueryLen
		if in.From != attn.QuerySide {
			time = s.KeyLen
			tokens += int64(heads) * int64(width)
		}
		bytes += 4 * int64(s.Batch) * int64(time) * int64(heads) * int64(width)
	}
	out := 4 * int64(s.Batch) * int64(s.QueryLen) * int64(s.Heads) * int64(s.ValueDim)
	if c.Bytes == 0 {
		c.Bytes = bytes + out
		if p == attn.PassBackward {
			c.Bytes = 2*bytes + out
		}
	}
	c.State = 4 * int64(s.Batch) * int64(s.KeyLen) * tokens
	c.Read = c.State
	return c
}

func (m *mechanism) measure(s attn.Shape, p attn.Pass) (peak, flops int64) {
	r := &run{tape: autograd.NewTape(nil)}
	r.tape.Measure()
	c := &attn.Call{Shape: s, Learned: make([][]float32, len(m.info.Learned)), Extra: make([]attn.View, len(m.info.Inputs))}
	g := attn.Segment{Queries: s.QueryLen, Keys: s.KeyLen}
	if p == attn.PassBackward {
		m.headBackward(r, c, &attn.Grads{}, g, 0)
	} else {
		m.headForward(r, c, g, 0)
	}
	return r.tape.Peak(), r.tape.FLOPs()
}
