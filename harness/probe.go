package harness

import (
	"fmt"

	"attnbench/attn"
	"attnbench/results"
)

// chunk is how many tokens at a time fill a decoding state before it is measured.
const chunk = 512

// A probe is one case of one kind, ready to run.
type probe struct {
	m      attn.Mechanism
	info   attn.Info
	call   *attn.Call
	ws     *attn.Workspace
	flops  int64 // of a step, in closed form
	bytes  int64 // that a step must move
	tokens int   // that a step computes

	step func() error // what is timed
	// A step that changes what the next one meets can be run round times, then rewind makes the
	// beginning again, untimed. round is 0 when every step is alike.
	round  int
	rewind func() error
	exact  []results.Value // bytes of memory, known after prepare
}

// prepare makes the inputs, runs the first step, which may allocate, and reads the exact figures.
// A probe that is prepared once runs no further step: it keeps no copy to rewind to.
func prepare(c Case, k Kind, seed uint64, once bool) (*probe, error) {
	m, s, err := c.open()
	if err != nil {
		return nil, err
	}
	p := &probe{m: m, info: m.Info(), ws: attn.NewWorkspace()}
	p.call = newCall(&p.info, s, seed)
	switch k {
	case Prefill:
		err = p.prefill()
	case Train:
		err = p.train(seed)
	case Decode:
		err = p.decode(once)
	default:
		err = fmt.Errorf("kind %v: want one attention call", k)
	}
	return p, err
}

func (p *probe) exactly(unit string, bytes int64) {
	p.exact = append(p.exact, results.Value{Value: float64(bytes), Unit: unit})
}

func (p *probe) prefill() error {
	c := cost(&p.info, p.call.Shape, attn.PassForward)
	p.flops, p.bytes = c.FLOPs, c.Bytes
	p.tokens = p.call.Batch * p.call.QueryLen
	p.step = func() error { return p.m.Forward(p.ws, p.call) }
	if err := p.step(); err != nil {
		return err
	}
	p.exactly("scratch-B", p.ws.Peak())
	return nil
}

// train measures one pass forward with everything saved, and one backward. What a step writes to the
// gradients is added to what they hold, as the contract says; the sums stay finite for billions of steps.
func (p *probe) train(seed uint64) error {
	d, ok := p.m.(attn.Differentiable)
	if !ok {
		return unsupported("%s: it has no backward pass: want a mechanism that can be trained", p.info.Name)
	}
	f, b := cost(&p.info, p.call.Shape, attn.PassForward), cost(&p.info, p.call.Shape, attn.PassBackward)
	p.flops, p.bytes = f.FLOPs+b.FLOPs, f.Bytes+b.Bytes
	p.tokens = p.call.Batch * p.call.QueryLen
	p.call.Train = true
	var arena attn.Arena // of saved tensors, apart from scratch
	p.call.Saved = attn.NewSaved(&arena)
	g := newGrads(&p.info, p.call, seed)
	p.step = func() error {
		p.call.Saved.Reset()
		arena.Reset()
		if err := d.Forward(p.ws, p.call); err != nil {
			return err
		}
		return d.Backward(p.ws, p.call, g)
	}
	if err := p.step(); err != nil {
		return err
	}
	p.exactly("scratch-B", p.ws.Peak())
	p.exactly("saved-B", p.call.Saved.Bytes())
	return nil
}

// decode measures Extend by one token. The state grows with every token, so that a round of tokens
// runs from half a round below the context of N to half a round above it, and the state is then read
// back from a copy.
func (p *probe) decode(once bool) error {
	inc, ok := p.m.(attn.Incremental)
	if !ok {
		return unsupported("%s: it cannot decode: want a mechanism with a state", p.info.Name)
	}
	if p.call.Mask != attn.Causal {
		return unsupported("%s: decoding under mask %v: want %v", p.info.Name, p.call.Mask, attn.Causal)
	}
	n := p.call.KeyLen
	p.round = min(n, 64, max(16, n/16))
	s := p.call.Shape
	s.MaxLen = n + p.round
	state, err := inc.NewState(s)
	if err != nil {
		return err
	}
	one := s
	one.QueryLen = 1
	c := cost(&p.info, one, attn.PassDecode)
	p.flops, p.bytes = c.FLOPs, c.Bytes
	p.tokens = s.Batch

	begin := n - p.round/2
	if err := fill(p.ws, inc, state, p.call, begin, s.MaxLen); err != nil {
		return err
	}
	p.rewind = func() error { return nil }
	if !once {
		saved, err := state.MarshalBinary()
		if err != nil {
			return err
		}
		p.rewind = func() error { return state.UnmarshalBinary(saved) }
	}

	// The inputs of the round are made before it: a step does nothing but Extend.
	var tokens []*attn.Call
	for i := range p.round {
		t := (begin + i) % n
		w := window(&p.info, p.call, t, t, t+1)
		w.MaxLen = s.MaxLen
		tokens = append(tokens, w)
	}
	at := 0
	p.step = func() error {
		err := inc.Extend(p.ws, state, tokens[at%p.round])
		at++
		return err
	}
	p.ws.ResetPeak()
	for range p.round { // also makes the state grow to its full size
		if state.Len(0) == n {
			p.exactly("state-B", state.Bytes())
			p.exactly("read-B", state.ReadBytes())
		}
		if err := p.step(); err != nil {
			return err
		}
	}
	p.exactly("scratch-B", p.ws.Peak())
	return p.rewind()
}

// fill extends an empty state by the first tokens of a call, a prompt of that length. A call of one chunk may be shorter: its tokens come again.
func fill(ws *attn.Workspace, m attn.Incremental, state attn.State, c *attn.Call, tokens, maxLen int) error {
	info := m.Info()
	for t := 0; t < tokens; t += chunk {
		end := min(t+chunk, tokens)
		from := t % c.KeyLen
		to := from + end - t
		asks := from
		if !info.Inference {
			asks = to // nothing of the state hangs on queries, and all of them would cost as much as a prefill
		}
		w := window(&info, c, asks, from, to)
		w.MaxLen = maxLen
		w.EndOfPrompt = end == tokens
		if err := m.Extend(ws, state, w); err != nil {
			return err
		}
	}
	return nil
}

// StateBytes fills a state with N tokens and returns what it retains then, and what of it decoding one more token will read, as the state itself
// says. The error is an Unsupported for a mechanism that does not decode.
func (c Case) StateBytes() (retained, read int64, err error) {
	m, s, err := c.open()
	if err != nil {
		return 0, 0, err
	}
	inc, ok := m.(attn.Incremental)
	if !ok || s.Mask != attn.Causal {
		return 0, 0, unsupported("%s: it cannot decode under mask %v: want a mechanism with a state, and %v", c.Mech, s.Mask, attn.Causal)
	}
	info := m.Info()
	s.MaxLen = c.N + 1
	state, err := inc.NewState(s)
	s.QueryLen, s.KeyLen = min(c.N, chunk), min(c.N, chunk)
	if err == nil {
		err = fill(attn.NewWorkspace(), inc, state, newCall(&info, s, 1), c.N, s.MaxLen)
	}
	if err != nil {
		return 0, 0, err
	}
	return state.Bytes(), state.ReadBytes(), nil
}
