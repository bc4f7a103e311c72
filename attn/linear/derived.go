package linear

import (
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// derived is a mechanism that is a Recurrence over a call that it computes from its own: decays from gates, and the like.
type derived struct {
	recurrent
	// shape is that of the derived call; nil means the mechanism's own.
	shape func(s attn.Shape) attn.Shape
	// prepare sets what differs in d.call; what it takes from ws lives until the recurrence is done.
	prepare func(ws *attn.Workspace, c *attn.Call, d *derivation)
	// differentiate sets what differs in d.grads, before the recurrence's Backward; nil means nothing.
	differentiate func(ws *attn.Workspace, c *attn.Call, d *derivation)
	// finish adds to g what the recurrence's Backward left in d.grads.
	finish func(ws *attn.Workspace, c *attn.Call, g *attn.Grads, d *derivation)
	// floats are what prepare and differentiate take.
	floats func(s attn.Shape) (prepare, differentiate int)
}

// derivation is a derived call and its gradients.
type derivation struct {
	call                  attn.Call
	grads                 attn.Grads
	inputs, inputGrads    [3]attn.View
	learned, learnedGrads [1][]float32
	numbers, more         []float32 // of the mechanism's own
}

func (m *derived) describe(info attn.Info) {
	m.recurrent.describe(info)
	m.info.Cost = m.cost
	m.info.Carry = func(s attn.Shape) int { return m.rec.Carry(m.inner(s)) }
}

func (m *derived) inner(s attn.Shape) attn.Shape {
	if m.shape != nil {
		s = m.shape(s)
	}
	return s
}

// derive returns the derived call of c. The caller releases it with its scratch.
func (m *derived) derive(ws *attn.Workspace, c *attn.Call) *derivation {
	d := attn.Reused[derivation](ws)
	d.call = *c
	d.call.Shape = m.inner(c.Shape)
	d.call.Extra, d.call.Learned = nil, nil
	m.prepare(ws, c, d)
	return d
}

func (m derived) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	mark := ws.Mark()
	d := m.derive(ws, c)
	m.rec.Forward(ws, &d.call)
	*d = derivation{}
	ws.Release(mark)
	return nil
}

func (m derived) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	d := m.derive(ws, c)
	d.grads = *g
	if m.differentiate != nil {
		m.differentiate(ws, c, d)
	}
	m.rec.Backward(ws, &d.call, &d.grads)
	if m.finish != nil {
		m.finish(ws, c, g, d)
	}
	*d = derivation{}
	ws.Release(mark)
	return nil
}

func (m derived) NewState(s attn.Shape) (attn.State, error) {
	if err := s.Check(); err != nil {
		return m.recurrent.NewState(s) // with its error
	}
	state, err := m.rec.NewState(m.info.Name, m.inner(s))
	if err != nil {
		return nil, err
	}
	return &derivedState{state, s.KVHeads}, nil
}

// derivedState is the state of the derived call, for calls of so many key/value heads.
type derivedState struct {
	*tile.RecurState
	kvHeads int
}

func (m derived) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	state, err := stateFor[*derivedState](m.info.Name, s)
	if err != nil {
		return err
	}
	if err := sameGroups(m.info.Name, state.kvHeads, c); err != nil {
		return err
	}
	mark := ws.Mark()
	d := m.derive(ws, c)
	err = m.rec.Extend(ws, state.RecurState, &d.call)
	*d = derivation{}
	ws.Release(mark)
	return err
}

// stateFor returns a state as the type that the mechanism's NewState makes.
func stateFor[S attn.State](name string, s attn.State) (S, error) {
	x, ok := s.(S)
	if !ok {
		return x, fmt.Errorf("%s: state of type %T: want one that NewState made", name, s)
	}
	return x, nil
}

// sameGroups reports a call with other key/value heads than the state's.
func sameGroups(name string, kvHeads int, c *attn.Call) error {
	if kvHeads != c.KVHeads {
		return fmt.Errorf("%s: state of %d key/value heads: the call has %d", name, kvHeads, c.KVHeads)
	}
	return nil
}

func (m *derived) cost(s attn.Shape, p attn.Pass) attn.Cost {
	cost := m.rec.Cost(m.inner(s), p)
	if p == attn.PassDecode {
		s.KeyLen = s.QueryLen
	}
	prepare, differentiate := m.floats(s)
	cost.Shared += 4 * int64(prepare)
	cost.Bytes = movedBytes(m.info, s) // the mechanism's inputs, not those that are derived from them
	switch p {
	case attn.PassBackward:
		cost.Bytes *= 2
		cost.Shared += 4 * int64(differentiate)
	case attn.PassDecode:
		cost.Bytes += 2 * cost.State
	}
	return cost
}

// movedBytes are those of the declared inputs and the output.
func movedBytes(info *attn.Info, s attn.Shape) int64 {
	n := int64(s.QueryLen * s.Heads * s.ValueDim)
	for i := range info.Inputs {
		heads, width := info.Inputs[i].Size(s)
		if info.Inputs[i].From == attn.QuerySide {
			n += int64(s.QueryLen * heads * width)
		} else {
			n += int64(s.KeyLen * heads * width)
		}
	}
	return 4 * int64(s.Batch) * n
}

// viewOf returns numbers of the workspace as a view for every token of the memory.
func viewOf(ws *attn.Workspace, c *attn.Call, heads, dim int) attn.View {
	return attn.ViewAs(ws.Floats(c.Batch*c.KeyLen*heads*dim), c.Batch, c.KeyLen, heads, dim)
}

// byHeads returns data as a view in which the tokens of a head lie together: an engine goes through them head by head, and with a few heads of a
// power of two numbers their rows would share the sets of a cache.
func byHeads(data []float32, batch, time, heads, dim int) attn.View {
	v := attn.ViewAs(data, batch, time, heads, dim)
	v.HeadStride, v.TimeStride = time*dim, dim
	return v
}

// defineDecayed is the definition of a recurrence of one state a key/value head: at each token of a segment, step takes the state [key
// dim, value dim] to the next, and read adds the token's query, if it has one, to its output; with before, read comes first.
func defineDecayed(c *attn.Call64, before bool, step func(h attn.Head64, s []float64, j int), read func(h attn.Head64, s []float64, i, j int)) {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s := newState64(h, false)
		for i := range h.Queries {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			i := j - h.Offset()
			if i >= 0 && before {
				read(h, s.s, i, j)
			}
			step(h, s.s, j)
			if i >= 0 && !before {
				read(h, s.s, i, j)
			}
		}
		s.store(h)
	})
}

// write64 computes s = decay·s + k vᵀ, with one decay a row of s or one for all.
func write64(s, decay, k, v []float64) {
	for a := range k {
		g, row := decay[min(a, len(decay)-1)], s[a*len(v):]
		for b := range v {
			row[b] = g*row[b] + k[a]*v[b]
		}
	}
}

// read64 adds scale·sᵀq to out.
func read64(out, s, q []float64, scale float64) {
	for a, q := range q {
		attn.Axpy(scale*q, s[a*len(out):][:len(out)], out)
	}
}
