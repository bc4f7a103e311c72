package tile

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// NewState returns an empty decoding state for shape.Batch sequences of the mechanism name.
func (d *Delta) NewState(name string, shape attn.Shape) (*RecurState, error) {
	r := d.recurrence()
	s, err := r.NewState(name, shape)
	if err == nil && shape.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: decoding with mask %v: want causal", name, shape.Mask)
	}
	return s, err
}

// Extend appends the call's tokens to the state and computes c.Out, for a call that has passed Check.
func (d *Delta) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*RecurState)
	if !ok {
		return fmt.Errorf("state of type %T: want one that NewState made", state)
	}
	r := d.recurrence()
	if err := s.admits(r, c); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	c.ZeroPadding()
	a := d.args(c)
	a.initial, a.final, a.lens, a.byRow = s.x, s.x, s.lens, true
	chunked := 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Keys >= recurStep {
			chunked++
		}
		if g.Offset() < 0 {
			zeroQueries(c, g)
			a.readBefore(ws, i)
		}
	}
	if n := c.NumSegments(); chunked == n {
		d.forward(ws, a)
	} else {
		mark, floats := ws.Mark(), d.stepFloats(c.Shape)
		if chunked > 0 { // the same bits for each row as if it were alone
			a.plan(ws)
			floats = max(floats, d.forwardFloats(c.Shape))
		}
		attn.Parallel(ws, n*c.KVHeads, floats, a, func(s *attn.Scratch, a *ruleArgs, task int) {
			if seg, kv := task/a.c.KVHeads, task%a.c.KVHeads; a.c.Segment(seg).Keys >= recurStep {
				a.segment(s, seg, kv, kv+1, 0, a.c.ValueDim)
			} else {
				a.step(s, seg, kv)
			}
		})
		ws.Release(mark)
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		s.lens[g.Row] += g.Keys
	}
	return nil
}

func (d *Delta) stepFloats(s attn.Shape) int {
	return attn.ScratchFloats(s.KeyDim, s.KeyDim, s.ValueDim, s.ValueDim)
}

// step takes the tokens of one head of one row one at a time.
func (a *ruleArgs) step(s *attn.Scratch, seg, kv int) {
	c, g := a.c, a.c.Segment(seg)
	dk, dv, group := c.KeyDim, c.ValueDim, c.Heads/c.KVHeads
	x, decay, read, w := s.Floats(dk), s.Floats(dk), s.Floats(dv), s.Floats(dv)
	state := a.state(a.final, seg, kv)
	m, b, by := kernel.Rows(state, dv), beta(c.Extra), &c.K
	if a.erase {
		by = erasers(c.Extra)
	}
	for j := range g.Keys {
		k, v := c.K.Row(g.Row, g.Key0+j, kv), c.V.Row(g.Row, g.Key0+j, kv)
		copy(x, by.Row(g.Row, g.Key0+j, kv))
		if a.Decay != NoDecay {
			decays(decay, c.Extra[0].Row(g.Row, g.Key0+j, kv), m, dv)
			kernel.Times(x, decay)
		}
		clear(read)
		kernel.Combine(read, x, m)
		if a.erase {
			clear(w)
			kernel.Axpy(-1, read, w)
			kernel.Update(m, decay, b.Row(g.Row, g.Key0+j, kv), w)
			kernel.Update(m, nil, k, v)
		} else {
			copy(w, v)
			kernel.Axpy(-1, read, w)
			kernel.Scale(b.Row(g.Row, g.Key0+j, kv)[0], w)
			if a.Decay == NoDecay {
				kernel.Update(m, nil, k, w)
			} else {
				kernel.Update(m, decay, k, w)
			}
		}
		a.flush(state, a.lens[g.Row]+j, 1)
		if q := j - g.Offset(); q >= 0 {
			for h := kv * group; h < (kv+1)*group; h++ {
				a.read(c.Out.Row(g.Row, g.Query0+q, h), x, c.Q.Row(g.Row, g.Query0+q, h), state)
			}
		}
	}
}
