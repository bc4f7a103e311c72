package nn

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
)

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
	if err := errors.Join(checkActivation(in.Act), checkActivation(in.RankAct), checkNorm(in.Norm), checkNorm(in.RankNorm)); err != nil {
		return in, err
	}
	source := a.cfg.Memory
	if in.From == attn.QuerySide {
		source = a.cfg.Dim
	}
	cols := in.heads * in.width
	if in.Shift {
		in.shift = b.Param(name+".shift", false, Const(0.5), source)
	}
	std := Std(source)
	if in.Rank > 0 { // the two together vary as one direct projection would
		in.low = b.Param(name+".low.weight", true, Normal(1/math.Sqrt(float64(source))), source, in.Rank)
		std *= math.Sqrt(float64(source) / float64(in.Rank))
		if in.RankNorm == attn.RMSNorm {
			in.lowGain = b.Param(name+".low.gain", false, Const(1), in.Rank)
		}
		source = in.Rank
	}
	in.proj.W = b.Param(name+".weight", true, Normal(std), source, cols)
	usual := in.Name == "q" || in.Name == "k" || in.Name == "v"
	if in.Bias || usual && a.cfg.Bias {
		in.proj.B = b.Param(name+".bias", false, bind(in.Init, s), cols)
	}
	if in.Conv == 0 && usual {
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

// activations are those that a declaration may name.
var activations = map[attn.Activation]autograd.Activation{
	"": autograd.Identity, attn.SiLU: autograd.SiLU, attn.Sigmoid: autograd.Sigmoid, attn.LogSigmoid: autograd.LogSigmoid,
	attn.Softplus: autograd.Softplus, attn.Tanh: autograd.Tanh, attn.ReLU: autograd.ReLU,
}

func checkActivation(a attn.Activation) error {
	if _, ok := activations[a]; !ok {
		return fmt.Errorf("activation %q: want silu, sigmoid, logsigmoid, softplus, tanh or relu", string(a))
	}
	return nil
}

func checkNorm(n attn.Norm) error {
	switch n {
	case "", attn.RMSNorm, attn.L2Norm:
		return nil
	}
	return fmt.Errorf("norm %q: want rms or l2", string(n))
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
		source = t.Linear(source, t.Param(in.low), autograd.None, autograd.None, activations[in.RankAct])
		source = norm(t, in.RankNorm, source, in.lowGain, in.Rank)
	}
	act := activations[in.Act]
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
			return f.value, nil
		}
	}
	return autograd.None, fmt.Errorf("the first layer has no input %s", in.Tied)
}

// CheckFirst reports an input that the layer wants from the model's first layer and that first, that layer, does not have.
func (a *Attention) CheckFirst(first *Attention) error {
	for _, in := range a.inputs {
		if in.From != attn.FirstLayer || in.tied >= 0 {
			continue
		}
		i := slices.IndexFunc(first.inputs, func(o input) bool { return o.Name == in.Tied })
		if i < 0 {
			return fmt.Errorf("%s: input %s: the first layer, %s, has no %s", a.Info.Name, in.Name, first.Info.Name, in.Tied)
		}
		if o := &first.inputs[i]; o.heads*o.width != in.heads*in.width {
			return fmt.Errorf("%s: input %s: the first layer's %s is %d wide: want %d", a.Info.Name, in.Name, in.Tied, o.heads*o.width, in.heads*in.width)
		}
	}
	return nil
}

// UsesFirst reports whether the layer reads an input of the model's first layer.
func (a *Attention) UsesFirst() bool {
	return slices.ContainsFunc(a.inputs, func(in input) bool { return in.From == attn.FirstLayer && in.tied < 0 })
}
