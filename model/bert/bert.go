// Package bert holds bidirectional encoders that are trained to fill in masked tokens and then fine-tuned to classify texts or to label their
// tokens (Devlin et al. 2019, arXiv:1810.04805), over any mechanism of the registry.
package bert

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// Config describes an encoder.
type Config struct {
	Vocab     int     // tokens are 0 to Vocab-1
	Dim       int     // width of the residual stream
	Layers    int     // of attention and MLP
	Heads     int     // a divisor of Dim
	MLPWidth  int     // inner width of the GELU MLPs
	Attention string  // registry spelling, or a layer pattern a|b
	Norm      string  // pre: x + f(norm(x)) and a last norm (Xiong et al. 2020, arXiv:2002.04745); post: norm(x + f(x)), as in the paper
	Positions string  // none, rope or learned
	MaxLen    int     // longest sequence, a bound only under learned positions
	Dropout   float64 // of embeddings, of what each sublayer adds and of what a head reads, in training
	Seed      uint64  // of the initialisation
}

func (c *Config) check() error {
	for _, d := range []struct {
		name string
		got  int
	}{{"vocab", c.Vocab}, {"dim", c.Dim}, {"layers", c.Layers}, {"heads", c.Heads}, {"mlp width", c.MLPWidth}, {"max length", c.MaxLen}} {
		if d.got < 1 {
			return fmt.Errorf("%s is %d: want at least 1", d.name, d.got)
		}
	}
	switch {
	case c.Dim%c.Heads != 0:
		return fmt.Errorf("dim %d over %d heads: want a multiple", c.Dim, c.Heads)
	case !slices.Contains([]string{"pre", "post"}, c.Norm):
		return fmt.Errorf("norm %q: want pre or post", c.Norm)
	case !slices.Contains([]string{"none", "rope", "learned"}, c.Positions):
		return fmt.Errorf("positions %q: want none, rope or learned", c.Positions)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("dropout %v: want 0 to below 1", c.Dropout)
	}
	return nil
}

// Encoder turns tokens into one vector each, which depends on all tokens of its sequence. It serves one goroutine.
type Encoder struct {
	Config Config

	builder   nn.Builder
	embedding nn.Embedding
	positions *nn.Embedding // learned
	first     nn.Norm       // of embeddings, post-norm
	layers    []layer
	last      nn.Norm // pre-norm
	pass      nn.Pass
	segments  []attn.Segment // of the last batch
	drop      nn.Dropper
}

type layer struct {
	norm1, norm2 nn.Norm
	attention    *nn.Attention
	mlp          nn.MLP
}

func newEncoder(c Config) (*Encoder, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	mechs, err := attn.Layers(c.Attention, c.Layers)
	if err != nil {
		return nil, err
	}
	e := &Encoder{Config: c, builder: nn.Builder{Seed: c.Seed}}
	b := &e.builder
	e.embedding = nn.NewEmbedding(b, "embedding", c.Vocab, c.Dim, 1)
	var rotary *nn.Rotary
	switch c.Positions {
	case "rope":
		rotary = nn.NewRotary(attn.Rope{})
	case "learned":
		p := nn.NewEmbedding(b, "positions", c.MaxLen, c.Dim, 0.25) // below the tokens
		e.positions = &p
	}
	if c.Norm == "post" {
		e.first = nn.NewLayerNorm(b, "norm", c.Dim)
	}
	outScale := 1 / math.Sqrt(2*float64(c.Layers))
	for i, mech := range mechs {
		name := fmt.Sprintf("layers.%d", i)
		l := layer{norm1: nn.NewLayerNorm(b, name+".norm1", c.Dim), norm2: nn.NewLayerNorm(b, name+".norm2", c.Dim)}
		l.attention, err = nn.NewAttention(b, name+".attention", mech, nn.AttentionConfig{
			Dim: c.Dim, Rotary: rotary, OutScale: outScale,
			Shape: attn.Shape{
				Heads: c.Heads, KVHeads: c.Heads, KeyDim: c.Dim / c.Heads, ValueDim: c.Dim / c.Heads,
				Mask: attn.Bidirectional, Layer: i, Layers: c.Layers, MaxLen: c.MaxLen,
			},
		})
		if err == nil && i > 0 {
			err = l.attention.CheckFirst(e.layers[0].attention)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		l.mlp = nn.NewGELU(b, name+".mlp", c.Dim, c.MLPWidth, outScale)
		e.layers = append(e.layers, l)
	}
	if c.Norm == "pre" {
		e.last = nn.NewLayerNorm(b, "norm", c.Dim)
	}
	return e, nil
}

// Buffers returns the mechanisms' tensors that no gradient reaches; checkpoints hold them.
func (e *Encoder) Buffers() []nn.Buffer {
	var all []nn.Buffer
	for _, l := range e.layers {
		all = append(all, l.attention.Buffers...)
	}
	return all
}

// Update lets the mechanisms change their buffers, once an optimiser step, after Backward and before the tape's Reset.
func (e *Encoder) Update(ws *attn.Workspace) error {
	for _, l := range e.layers {
		if err := l.attention.Update(ws); err != nil {
			return err
		}
	}
	return nil
}

// Hidden returns the vectors of the tokens of b, [rows·length, dim]; those of padding mean nothing. seed is that of everything random in a
// training step. b must not change until the tape's Reset.
func (e *Encoder) Hidden(t *autograd.Tape, b *Batch, seed uint64) (autograd.Var, error) {
	if err := b.check(e.Config.Vocab); err != nil {
		return autograd.None, fmt.Errorf("bert: %w", err)
	}
	layout := nn.Layout{Batch: b.Rows, QueryLen: b.Length, KeyLen: b.Length}
	if b.Lengths != nil {
		e.segments = e.segments[:0]
		for row, n := range b.Lengths {
			e.segments = append(e.segments, attn.Segment{Row: row, Queries: n, Keys: n})
		}
		layout.Segments = e.segments
	}
	p := &e.pass
	p.Tape, p.Train, p.Seed, p.Aux = t, !t.NoGrad, seed, autograd.None
	if p.Train {
		p.Aux = t.Zeros(1, 1)
	}
	p.Begin(layout)
	e.drop = nn.Dropper{P: float32(e.Config.Dropout), Seed: seed}
	x, err := e.embed(t, b.Tokens)
	if err != nil {
		return autograd.None, fmt.Errorf("bert: %w", err)
	}
	for i := range e.layers {
		mark := t.Mark()
		y, err := e.layer(&e.layers[i], x)
		if err != nil {
			return autograd.None, fmt.Errorf("bert: layer %d: %w", i, err)
		}
		if i == 0 && e.usesFirst() {
			x = y // its inputs are wanted later
			continue
		}
		x = t.Release(mark, x, y)
	}
	if e.Config.Norm == "pre" {
		x = e.last.Forward(t, x)
	}
	return x, nil
}

func (e *Encoder) embed(t *autograd.Tape, tokens []int32) (autograd.Var, error) {
	x := e.embedding.Forward(t, tokens)
	if e.positions != nil {
		for _, pos := range e.pass.Positions() {
			if int(pos) >= e.Config.MaxLen {
				return autograd.None, fmt.Errorf("position %d under learned positions: want less than max length %d", pos, e.Config.MaxLen)
			}
		}
		x = t.Add(x, e.positions.Forward(t, e.pass.Positions()))
	}
	if e.Config.Norm == "post" {
		x = e.first.Forward(t, x)
	}
	return e.drop.Apply(t, x), nil
}

func (e *Encoder) layer(l *layer, x autograd.Var) (autograd.Var, error) {
	t := e.pass.Tape
	x, err := e.sublayer(t, l.norm1, x, func(h, add autograd.Var) (autograd.Var, error) {
		return l.attention.Forward(&e.pass, h, autograd.None, add)
	})
	if err != nil {
		return autograd.None, err
	}
	return e.sublayer(t, l.norm2, x, func(h, add autograd.Var) (autograd.Var, error) { return l.mlp.Forward(t, h, add), nil })
}

// sublayer returns x with f added, before or behind the norm.
func (e *Encoder) sublayer(t *autograd.Tape, n nn.Norm, x autograd.Var, f func(h, add autograd.Var) (autograd.Var, error)) (autograd.Var, error) {
	return nn.Residual{Post: e.Config.Norm == "post"}.Join(t, n, x, &e.drop, f)
}

func (e *Encoder) usesFirst() bool {
	return slices.ContainsFunc(e.layers, func(l layer) bool { return l.attention.UsesFirst() })
}

// FLOPs returns the floating-point operations of the products of one forward pass over a sequence of length tokens, heads apart: 2 a
// multiply-add, pairs that the mechanism leaves out excluded.
func (e *Encoder) FLOPs(length int) int64 {
	n := int64(0)
	for _, l := range e.layers {
		n += 2 * (l.attention.Weights() + l.mlp.Weights()) * int64(length)
		if cost := l.attention.Info.Cost; cost != nil {
			s := l.attention.Shape()
			s.Batch, s.QueryLen, s.KeyLen = 1, length, length
			n += cost(s, attn.PassForward).FLOPs
		}
	}
	return n
}
