package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
)

// AttentionConfig sizes an attention layer.
type AttentionConfig struct {
	Dim    int        // width of the layer's input and output
	Memory int        // width of the memory side; 0 means Dim
	Shape  attn.Shape // heads, widths, mask, depth and MaxLen; batch and lengths are ignored
	Rotary *Rotary    // nil for none
	Conv   int        // short convolution of those of q, k and v that declare none; 0 for none
	OutStd float64    // of the projection back onto the residual stream; 0 means Std
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

// input is one declared input, built.
type input struct {
	attn.Input
	heads, width int
	tied         int             // the input whose values it has; -1 for none
	shift        *autograd.Param // [source width]
	low          *autograd.Param // [source width, rank], nil when projected directly
	lowGain      *autograd.Param // [rank]
	proj         Linear
	conv         *ShortConv
	gain         *autograd.Param // of the norm per head
	table        *autograd.RopeTable
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
	if cfg.OutStd == 0 {
		cfg.OutStd = Std
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
		l := NewLinear(b, name+".gate", cfg.Dim, width, false, Std)
		a.gate = &l
	}
	a.out = NewLinear(b, name+".out", width, cfg.Dim, false, cfg.OutStd)
	if cfg.Rotary != nil && a.Info.RotatesInside {
		a.rope = &cfg.Rotary.Rope
	}
	for _, act := range []attn.Activation{out.Gate} {
		if _, err := activation(act); err != nil {
			return err
		}
	}
	return checkNorm(out.Norm)
}

// normGroup returns how many numbers the output norm takes together.
func (a *Attention) normGroup() int {
	heads := 1
	if f := a.Info.Output.NormHeads; f != nil {
		heads = f(a.cfg.Shape)
	}
	return heads * a.cfg.Shape.ValueDim
}

func bind(init attn.Init, s attn.Shape) Init {
	if init == nil {
		return nil
	}
	return func(x []float32, r *rand.Rand) { init(s, x, r) }
}

func (a *Attention) buildInput(b *Builder, name string, i int, s attn.Shape) (input, error) {
	in := input{Input: a.Info.Inputs[i], tied: -1}
	in.heads, in.width = in.Size(s)
	if in.From == attn.FirstLayer && in.Tied == "" {
		return in, fmt.Errorf("from the first layer: want Tied to name which input of it")
	}
	if in.Tied != "" {
		if in.From != attn.FirstLayer || s.Layer == 0 {
			in.tied = slices.IndexFunc(a.inputs, func(o input) bool { return o.Name == in.Tied })
			if in.tied < 0 {
				return in, fmt.Errorf("tied to %q: want an input declared before it", in.Tied)
			}
			if o := &a.inputs[in.tied]; o.heads != in.heads || o.width != in.width {
				return in, fmt.Errorf("tied to %s of %d×%d: want %d×%d", in.Tied, o.heads, o.width, in.heads, in.width)
			}
		}
		return in, nil
	}
	act, err := activation(in.Act)
	if err == nil {
		_, err = activation(in.RankAct)
	}
	if err == nil {
		err = checkNorm(in.Norm)
	}
	if err == nil {
		err = checkNorm(in.RankNorm)
	}
	if err != nil {
		return in, err
	}
	_ = act
	source := a.cfg.Memory
	if in.From == attn.QuerySide {
		source = a.cfg.Dim
	}
	cols := in.heads * in.width
	if in.Shift {
		in.shift = b.Param(name+".shift", false, Const(0.5), source)
	}
	std := float64(Std)
	if in.Rank > 0 { // the two together vary as one direct projection would
		in.low = b.Param(name+".low.weight", true, Normal(1/math.Sqrt(float64(source))), source, in.Rank)
		std *= math.Sqrt(float64(source) / float64(in.Rank))
		if in.RankNorm == attn.RMSNorm {
			in.lowGain = b.Param(name+".low.gain", false, Const(1), in.Rank)
		}
		source = in.Rank
	}
	in.proj.W = b.Param(name+".weight", true, Normal(std), source, cols)
	if in.Bias {
		in.proj.B = b.Param(name+".bias", false, bind(in.Init, s), cols)
	}
	if in.Conv == 0 && (in.Name == "q" || in.Name == "k" || in.Name == "v") {
		in.Conv = a.cfg.Conv
	}
	if in.Conv > 0 {
		c := NewShortConv(b, name+".conv", in.Conv, cols, in.ConvBias)
		in.conv = &c
	}
	if in.Norm == attn.RMSNorm {
		in.gain = b.Param(name+".gain", false, Const(1), in.width)
	}
	if in.Rotary && a.cfg.Rotary != nil && !a.Info.RotatesInside {
		in.table = a.cfg.Rotary.table(in.width)
	}
	return in, nil
}

func activation(a attn.Activation) (autograd.Activation, error) {
	switch a {
	case "":
		return autograd.Identity, nil
	case attn.SiLU:
		return autograd.SiLU, nil
	case attn.Sigmoid:
		return autograd.Sigmoid, nil
	case attn.LogSigmoid:
		return autograd.LogSigmoid, nil
	case attn.Softplus:
		return autograd.Softplus, nil
	case attn.Tanh:
		return autograd.Tanh, nil
	case attn.ReLU:
		return autograd.ReLU, nil
	}
	return 0, fmt.Errorf("activation %q: want silu, sigmoid, logsigmoid, softplus, tanh or relu", string(a))
}

func checkNorm(n attn.Norm) error {
	switch n {
	case "", attn.RMSNorm, attn.L2Norm:
		return nil
	}
	return fmt.Errorf("norm %q: want rms or l2", string(n))
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
		Segments: p.Segments, Pos0: p.Pos0, Rope: a.rope, Train: p.Train, Seed: p.Seed + uint64(s.Layer), Aux: p.Aux,
	}
	return &p.call
}

// project computes the declared inputs into p.values. With a state, short convolutions and shifts go on where it stands.
func (a *Attention) project(p *Pass, x, memory autograd.Var, s *AttentionState) error {
	p.values = p.values[:0]
	for i := range a.inputs {
		v, err := a.projectInput(p, i, x, memory, s)
		if err != nil {
			return fmt.Errorf("%s: input %s: %w", a.Info.Name, a.inputs[i].Name, err)
		}
		p.values = append(p.values, v)
	}
	if a.cfg.Shape.Layer == 0 {
		for i := range a.inputs {
			p.first = append(p.first, named{a.inputs[i].Name, p.values[i]})
		}
	}
	return nil
}

// projectInput is the pipeline of one input: shift, projection (through the rank), short convolution, activation, scale, norm, rotation.
func (a *Attention) projectInput(p *Pass, i int, x, memory autograd.Var, s *AttentionState) (autograd.Var, error) {
	t, in := p.Tape, &a.inputs[i]
	if in.tied >= 0 {
		return p.values[in.tied], nil
	}
	if in.From == attn.FirstLayer {
		return a.fromFirst(p, in)
	}
	source, at := memory, p.keys
	if in.From == attn.QuerySide {
		source, at = x, p.queries
	}
	if in.shift != nil {
		if s != nil {
			source = s.shift(p, in, source)
		} else {
			source = t.TokenShift(source, t.Param(in.shift), at.back)
		}
	}
	if in.low != nil {
		act, _ := activation(in.RankAct)
		source = t.Linear(source, t.Param(in.low), autograd.None, autograd.None, act)
		source = norm(t, in.RankNorm, source, in.lowGain, in.Rank)
	}
	act, _ := activation(in.Act)
	early := act // fused into the projection, unless a convolution comes between
	if in.conv != nil {
		early = autograd.Identity
	}
	v := in.proj.Forward(t, source, autograd.None, early)
	if in.conv != nil {
		if s != nil {
			v = s.convolve(p, i, in, v)
		} else {
			v = in.conv.Forward(t, v, at.back)
		}
		v = t.Activate(v, act)
	}
	if in.Scale != 0 && in.Scale != 1 {
		v = t.Scale(v, float32(in.Scale))
	}
	v = norm(t, in.Norm, v, in.gain, in.width)
	if in.table != nil {
		v = t.Rope(v, in.table, at.pos)
	}
	return v, nil
}

func norm(t *autograd.Tape, kind attn.Norm, x autograd.Var, gain *autograd.Param, width int) autograd.Var {
	switch kind {
	case attn.RMSNorm:
		return t.RMSNorm(x, t.Param(gain), width, Eps)
	case attn.L2Norm:
		return t.L2Norm(x, width, Eps)
	}
	return x
}

// fromFirst returns what the input that in is tied to was in the model's first layer.
func (a *Attention) fromFirst(p *Pass, in *input) (autograd.Var, error) {
	for _, f := range p.first {
		if f.name == in.Tied {
			if _, cols := p.Tape.Dims(f.value); cols != in.heads*in.width {
				return autograd.None, fmt.Errorf("the first layer's %s is %d wide: want %d", in.Tied, cols, in.heads*in.width)
			}
			return f.value, nil
		}
	}
	return autograd.None, fmt.Errorf("the first layer has no input %s", in.Tied)
}

// UsesFirst reports whether the layer reads an input of the model's first layer.
func (a *Attention) UsesFirst() bool {
	return slices.ContainsFunc(a.inputs, func(in input) bool { return in.From == attn.FirstLayer && in.tied < 0 })
}

// finish is what follows the mechanism: norm and gate as declared, and the projection onto the residual stream.
func (a *Attention) finish(t *autograd.Tape, x, o, add autograd.Var) autograd.Var {
	out := &a.Info.Output
	gate := func() {
		if a.gate != nil {
			act, _ := activation(out.Gate)
			o = t.Mul(o, a.gate.Forward(t, x, autograd.None, act))
		}
	}
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
