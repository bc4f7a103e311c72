package autograd

import (
	"fmt"

	"attnbench/attn"
)

// AttentionCall says what Attention computes: a mechanism on values of the tape.
type AttentionCall struct {
	Mech  attn.Mechanism
	Info  *attn.Info
	Shape attn.Shape
	// Inputs are in the order of Info.Inputs, [batch·time, heads·width] each; None for one that is left out.
	Inputs   []Var
	Learned  []Var
	Buffers  [][]float32
	Segments []attn.Segment
	Pos0     int
	Rope     *attn.Rope
	Train    bool
	Seed     uint64
	Aux      Var // [1, 1]: receives the auxiliary loss; may be None

	EndOfPrompt bool // of Extend: the last token ends the prompt
}

// call is the record of one Attention, used again from step to step.
type call struct {
	mech   attn.Mechanism
	call   attn.Call
	grads  attn.Grads
	saved  *attn.Saved
	inputs []Var // as declared
	info   *attn.Info
	learn  []Var
	aux    Var
	out    Var
}

// Attention runs a mechanism on views straight onto the inputs and returns its output [batch·queries, heads·value dim].
// What the mechanism saves for its backward pass lies in the tape's arena.
func (t *Tape) Attention(a *AttentionCall) (Var, error) {
	if len(a.Inputs) != len(a.Info.Inputs) {
		return None, fmt.Errorf("%s: %d inputs: want %d", a.Info.Name, len(a.Inputs), len(a.Info.Inputs))
	}
	need := t.attentionNeeds(a)
	if _, ok := a.Mech.(attn.Differentiable); need && !ok {
		return None, fmt.Errorf("%s: no backward pass: want a mechanism that can be trained", a.Info.Name)
	}
	r := t.fill(a, need)
	c, out := &r.call, r.out
	if need {
		if r.saved == nil {
			r.saved = attn.NewSaved(t.arena)
		}
		r.saved.Reset()
		c.Saved = r.saved
		t.ops = append(t.ops, op{code: opAttention, out: out, i: t.ncall - 1})
	}
	if err := a.Mech.Forward(t.ws, c); err != nil {
		return None, err
	}
	return out, nil
}

// Extend is Attention at inference for tokens that follow those that the mechanism's state s has seen.
func (t *Tape) Extend(a *AttentionCall, s attn.State) (Var, error) {
	m, ok := a.Mech.(attn.Incremental)
	if !ok {
		return None, fmt.Errorf("%s: decode: want a mechanism that decodes", a.Info.Name)
	}
	if len(a.Inputs) != len(a.Info.Inputs) {
		return None, fmt.Errorf("%s: %d inputs: want %d", a.Info.Name, len(a.Inputs), len(a.Info.Inputs))
	}
	r := t.fill(a, false)
	if err := m.Extend(t.ws, s, &r.call); err != nil {
		return None, err
	}
	return r.out, nil
}

// fill makes the record of a call and the value of its output.
func (t *Tape) fill(a *AttentionCall, need bool) *call {
	s := a.Shape
	r := t.nextCall()
	r.mech, r.info, r.aux = a.Mech, a.Info, a.Aux
	r.inputs = append(r.inputs[:0], a.Inputs...)
	r.learn = append(r.learn[:0], a.Learned...)
	c := &r.call
	*c = attn.Call{
		Shape: s, Extra: c.Extra[:0], Learned: c.Learned[:0], Buffers: append(c.Buffers[:0], a.Buffers...),
		Segments: a.Segments, Pos0: a.Pos0, Rope: a.Rope, Train: a.Train, Seed: a.Seed, EndOfPrompt: a.EndOfPrompt,
	}
	for i, v := range a.Inputs {
		c.SetInput(a.Info, i, t.inputView(r, i, t.nodes[v].data))
	}
	for _, v := range a.Learned {
		c.Learned = append(c.Learned, t.nodes[v].data)
	}
	if a.Aux != None {
		c.Aux = &t.nodes[a.Aux].data[0]
	}
	rows, cols := s.Batch*s.QueryLen, s.Heads*s.ValueDim
	out := t.push(node{data: t.arena.Floats(rows * cols), rows: rows, cols: cols, need: need})
	c.Out = attn.ViewAs(t.nodes[out].data, s.Batch, s.QueryLen, s.Heads, s.ValueDim)
	r.out = out
	return r
}

func (t *Tape) attentionNeeds(a *AttentionCall) bool {
	if t.NoGrad {
		return false
	}
	for _, v := range a.Inputs {
		if t.need(v) {
			return true
		}
	}
	for _, v := range a.Learned {
		if t.need(v) {
			return true
		}
	}
	return false
}

func (t *Tape) nextCall() *call {
	if t.ncall == len(t.calls) {
		t.calls = append(t.calls, new(call))
	}
	t.ncall++
	return t.calls[t.ncall-1]
}

// inputView is the view of declared input i onto data, a value's elements or its gradient.
func (t *Tape) inputView(r *call, i int, data []float32) attn.View {
	if r.inputs[i] == None {
		return attn.View{}
	}
	in, s := &r.info.Inputs[i], r.call.Shape
	heads, width := in.Size(s)
	time := s.QueryLen
	if in.From != attn.QuerySide {
		time = s.KeyLen
	}
	return attn.ViewAs(data, s.Batch, time, heads, width)
}

func (t *Tape) backAttention(o *op, g []float32) error {
	r := t.calls[o.i]
	c, gr := &r.call, &r.grads
	s := c.Shape
	*gr = attn.Grads{Extra: gr.Extra[:0], Learned: gr.Learned[:0]}
	gr.Out = attn.ViewAs(g, s.Batch, s.QueryLen, s.Heads, s.ValueDim)
	// A mechanism adds to the gradient of every input, asked for or not.
	sum := func(v Var) []float32 {
		if v == None {
			return nil
		}
		if !t.need(v) {
			return t.arena.Zeros(len(t.nodes[v].data))
		}
		return t.gradSum(v)
	}
	for i, v := range r.inputs {
		gr.SetInput(r.info, i, t.inputView(r, i, sum(v)))
	}
	for _, v := range r.learn {
		gr.Learned = append(gr.Learned, sum(v))
	}
	if r.aux != None {
		if ag := t.nodes[r.aux].grad; ag != nil {
			gr.Aux = ag[0]
		}
	}
	return r.mech.(attn.Differentiable).Backward(t.ws, c, gr)
}

// LastCall returns the attention call that Attention computed as number i since the Reset, for an attn.Updater; nil for none.
// It is valid until the next Reset.
func (t *Tape) LastCall(i int) *attn.Call {
	if i < 0 || i >= t.ncall {
		return nil
	}
	return &t.calls[i].call
}

// Calls returns how many attention calls were made since the Reset.
func (t *Tape) Calls() int { return t.ncall }
