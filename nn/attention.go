package nn

import (
	"errors"
	"fmt"

	"attnbench/attn"
	"attnbench/autograd"
)

// AttentionConfig sizes an attention layer.
type AttentionConfig struct {
	Dim      int        // width of the layer's input and output
	Memory   int        // width of the memory side; 0 means Dim
	Shape    attn.Shape // heads, widths, mask, depth and MaxLen; batch and lengths are ignored
	Rotary   *Rotary    // nil for none
	Conv     int        // short convolution of those of q, k and v that declare none; 0 for none
	Bias     bool       // on the projections of q, k and v, and on the output's
	OutScale float64    // of the projection back onto the residual stream, times its Std; 0 means 1
}

// Attention is an attention layer. It is built from Info.Inputs, Learned, Buffers and Output alone and knows no mechanism.
type Attention struct {
	Mech    attn.Mechanism
	Info    attn.Info
	Buffers []Buffer

	cfg     AttentionConfig
	inputs  []input
	learned []*autograd.Param
	buffers [][]float32
	gain    *autograd.Param // of the output norm
	gate    *Linear
	out     Linear
	rope    *attn.Rope // passed to a mechanism that rotates inside
	last    *attn.Call // of training, for Update
}

// Buffer is a mechanism's tensor that no gradient reaches; checkpoints hold it.
type Buffer struct {
	Name string
	Data []float32
}

// NewAttention builds a layer around m; the parameters' names start with name. It refuses a mask that m does not declare.
func NewAttention(b *Builder, name string, m attn.Mechanism, cfg AttentionConfig) (*Attention, error) {
	a := &Attention{Mech: m, Info: m.Info(), cfg: cfg}
	if err := a.build(b, name); err != nil {
		return nil, fmt.Errorf("%s: attention layer: %w", a.Info.Name, err)
	}
	return a, nil
}

func (a *Attention) build(b *Builder, name string) error {
	cfg, info := &a.cfg, &a.Info
	s := cfg.Shape
	s.Batch, s.QueryLen, s.KeyLen = 1, max(s.MaxLen, 1), max(s.MaxLen, 1)
	if err := s.Check(); err != nil {
		return err
	}
	if info.Masks&s.Mask == 0 {
		return fmt.Errorf("mask is %v: want %v", s.Mask, info.Masks)
	}
	if info.CheckShape != nil {
		if err := info.CheckShape(s); err != nil {
			return err
		}
	}
	if cfg.Dim < 1 {
		return fmt.Errorf("width is %d: want at least 1", cfg.Dim)
	}
	if cfg.Memory == 0 {
		cfg.Memory = cfg.Dim
	}
	if cfg.OutScale == 0 {
		cfg.OutScale = 1
	}
	if s.Mask != attn.Cross && cfg.Memory != cfg.Dim {
		return fmt.Errorf("memory is %d wide under mask %v: want the layer's own %d", cfg.Memory, s.Mask, cfg.Dim)
	}
	for i := range info.Inputs {
		in, err := a.buildInput(b, name+"."+info.Inputs[i].Name, i, s)
		if err != nil {
			return fmt.Errorf("input %s: %w", info.Inputs[i].Name, err)
		}
		a.inputs = append(a.inputs, in)
	}
	for _, x := range info.Learned {
		if x.Shared {
			a.learned = append(a.learned, b.Shared(info.Name+"."+x.Name, x.Decay, bind(x.Init, s), x.Shape(s)...))
			continue
		}
		a.learned = append(a.learned, b.Param(name+"."+x.Name, x.Decay, bind(x.Init, s), x.Shape(s)...))
	}
	for _, x := range info.Buffers {
		data := make([]float32, x.Len(s))
		if x.Init != nil {
			x.Init(s, data, b.Rand(name+"."+x.Name))
		}
		a.Buffers = append(a.Buffers, Buffer{name + "." + x.Name, data})
		a.buffers = append(a.buffers, data)
	}
	return a.buildOutput(b, name, s)
}

func (a *Attention) buildOutput(b *Builder, name string, s attn.Shape) error {
	cfg, out := &a.cfg, &a.Info.Output
	width := s.Heads * s.ValueDim
	group := a.normGroup()
	if group < 1 || width%group != 0 {
		return fmt.Errorf("output norm over %d of %d numbers: want a divisor", group, width)
	}
	if out.Norm == attn.RMSNorm {
		a.gain = b.Param(name+".norm.gain", false, Const(1), group)
	}
	if out.Gate != "" {
		l := NewLinear(b, name+".gate", cfg.Dim, width, false, 1)
		a.gate = &l
	}
	a.out = NewLinear(b, name+".out", width, cfg.Dim, cfg.Bias, cfg.OutScale)
	if cfg.Rotary != nil && a.Info.RotatesInside {
		a.rope = &cfg.Rotary.Rope
	}
	return errors.Join(checkActivation(out.Act), checkActivation(out.Gate), checkNorm(out.Norm))
}

// normGroup returns how many numbers the output norm takes together.
func (a *Attention) normGroup() int {
	heads := 1
	if f := a.Info.Output.NormHeads; f != nil {
		heads = f(a.cfg.Shape)
	}
	return heads * a.cfg.Shape.ValueDim
}

// Forward returns add + the layer's output for x [batch·queries, width]; memory [batch·keys, width] is None in
// self-attention, and add may be None.
func (a *Attention) Forward(p *Pass, x, memory, add autograd.Var) (autograd.Var, error) {
	if memory == autograd.None {
		memory = x
	}
	if err := a.project(p, x, memory, nil); err != nil {
		return autograd.None, err
	}
	t := p.Tape
	c := a.call(p)
	o, err := t.Attention(c)
	if err != nil {
		return autograd.None, err
	}
	if p.Train {
		a.last = t.LastCall(t.Calls() - 1)
	}
	return a.finish(t, x, o, add), nil
}

// call describes the mechanism's call on p.values.
func (a *Attention) call(p *Pass) *autograd.AttentionCall {
	s := a.cfg.Shape
	s.Batch, s.QueryLen, s.KeyLen = p.Batch, p.QueryLen, p.KeyLen
	p.learn = p.learn[:0]
	for _, x := range a.learned {
		p.learn = append(p.learn, p.Tape.Param(x))
	}
	p.call = autograd.AttentionCall{
		Mech: a.Mech, Info: &a.Info, Shape: s, Inputs: p.values, Learned: p.learn, Buffers: a.buffers,
		Segments: p.Segments, Pos0: p.Pos0, Rope: a.rope, Train: p.Train, Seed: p.Seed + uint64(s.Layer), Aux: p.Aux, EndOfPrompt: p.EndOfPrompt,
	}
	return &p.call
}

// finish is what follows the mechanism: norm and gate as declared, and the projection onto the residual stream.
func (a *Attention) finish(t *autograd.Tape, x, o, add autograd.Var) autograd.Var {
	out := &a.Info.Output
	gate := func() {
		if a.gate != nil {
			o = t.Mul(o, a.gate.Forward(t, x, autograd.None, activations[out.Gate]))
		}
	}
	o = t.Activate(o, activations[out.Act])
	if out.GateFirst {
		gate()
	}
	o = norm(t, out.Norm, o, a.gain, a.normGroup())
	if !out.GateFirst {
		gate()
	}
	return a.out.Forward(t, o, add, autograd.Identity)
}

// Update lets a mechanism that is an attn.Updater change its buffers, once an optimiser step and before the tape's Reset, from the
// layer's last training call. Others do nothing.
func (a *Attention) Update(ws *attn.Workspace) error {
	u, ok := a.Mech.(attn.Updater)
	if !ok || a.last == nil {
		return nil
	}
	c := a.last
	a.last = nil
	return u.Update(ws, c)
}

// Shape returns the sizes that the layer was built with.
func (a *Attention) Shape() attn.Shape { return a.cfg.Shape }

// Weights returns the multiply-adds of the layer's projections a token, the mechanism's own products apart.
func (a *Attention) Weights() int64 {
	n := len(a.out.W.Data)
	for i := range a.inputs {
		if in := &a.inputs[i]; in.proj.W != nil {
			n += len(in.proj.W.Data)
			if in.low != nil {
				n += len(in.low.Data)
			}
		}
	}
	if a.gate != nil {
		n += len(a.gate.W.Data)
	}
	return int64(n)
}
