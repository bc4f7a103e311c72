// Package model holds the models that attention mechanisms are compared in. A model sees a mechanism only through the
// registry's spelling of it.
package model

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// LM is a decoder language model: pre-norm layers of attention and MLP over an embedding. With LayerNorm, biases, GELU and learned positions it
// is GPT-2 (Radford et al. 2019), with RMSNorm, SwiGLU and rotary ones Llama (Touvron et al. 2023, arXiv:2302.13971).
// It serves one goroutine.
type LM struct {
	Config Config // filled in
	Step   uint64 // the training step, which the training loop sets: it seeds what is random within one

	params    []*autograd.Param
	embedding nn.Embedding
	positions *nn.Embedding
	layers    []layer
	norm      nn.Norm
	head      nn.Linear   // unless tied
	decoder   *bottleneck // nil for none
	pass      nn.Pass
	segments  []attn.Segment // of the last Extend
	watch     []float32
	drop      nn.Dropper
	pieces    uint64        // training passes of the step
	calls     *[]*attn.Call // where Calls wants them
}

type layer struct {
	attnNorm, mlpNorm nn.Norm
	attention         *nn.Attention
	mlp               *nn.MLP // nil for none
}

// New builds the model that c describes. Weights start from a normal distribution of nn.Std of their width, those of projections onto the residual stream
// divided by √(2·layers), learned positions by 4.
func New(c Config) (*LM, error) {
	m, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return m, nil
}

func build(c Config) (*LM, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	mechs, err := attn.Layers(c.Attention, c.Layers)
	if err != nil {
		return nil, err
	}
	m := &LM{Config: c}
	b := &nn.Builder{Seed: c.Seed}
	outScale := 1 / math.Sqrt(2*float64(c.Layers))
	m.embedding = nn.NewEmbedding(b, "embedding", c.Vocab, c.Dim, 1)
	var rotary *nn.Rotary
	switch c.Positions {
	case "rope":
		rotary = nn.NewRotary(c.rope())
	case "learned":
		e := nn.NewEmbedding(b, "positions", c.MaxLen, c.Dim, 0.25) // below the tokens, as in GPT-2
		m.positions = &e
	}
	for i, mech := range mechs {
		name := fmt.Sprintf("layers.%d", i)
		l := layer{attnNorm: c.norm(b, name+".norm1")}
		l.attention, err = nn.NewAttention(b, name+".attention", mech, nn.AttentionConfig{
			Dim: c.Dim, Rotary: rotary, Conv: c.ShortConv, Bias: c.Bias, OutScale: outScale,
			Shape: attn.Shape{
				Heads: c.Heads, KVHeads: c.KVHeads, KeyDim: c.KeyDim, ValueDim: c.ValueDim,
				Mask: attn.Causal, Layer: i, Layers: c.Layers, MaxLen: c.MaxLen,
			},
		})
		if err == nil && i > 0 {
			err = l.attention.CheckFirst(m.layers[0].attention)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		if c.MLP != "none" {
			l.mlpNorm = c.norm(b, name+".norm2")
			mlp := c.mlp(b, name+".mlp", outScale)
			l.mlp = &mlp
		}
		m.layers = append(m.layers, l)
	}
	for i := range m.layers {
		a := m.layers[i].attention
		if _, ok := a.Mech.(attn.Updater); c.Recompute && (ok || a.UsesFirst()) {
			return nil, fmt.Errorf("layer %d: recompute with %s, which reads other passes or layers: want it off", i, a.Info.Name)
		}
	}
	m.norm = c.norm(b, "norm")
	if !c.Tied {
		m.head = nn.NewLinear(b, "head", c.Dim, c.Vocab, false, 1)
	}
	if c.Bottleneck {
		m.decoder = newBottleneck(b, c)
	}
	m.params = b.Params
	return m, nil
}

// Params returns the learned tensors, in a fixed order; a tied one appears once.
func (m *LM) Params() []*autograd.Param { return m.params }

// Buffers returns the mechanisms' tensors that no gradient reaches; checkpoints hold them.
func (m *LM) Buffers() []nn.Buffer {
	var all []nn.Buffer
	for _, l := range m.layers {
		all = append(all, l.attention.Buffers...)
	}
	return all
}

// WatchInputs makes Backward add the gradient of the embedded tokens, [rows·length, dim], to grad, in place of that of the embedding; nil ends it.
func (m *LM) WatchInputs(grad []float32) { m.watch = grad }

// Update lets the mechanisms change their buffers, once an optimiser step, after Backward and before the tape's Reset.
func (m *LM) Update(ws *attn.Workspace) error {
	for _, l := range m.layers {
		if err := l.attention.Update(ws); err != nil {
			return err
		}
	}
	return nil
}

// checkTokens compares a batch with the model.
func (m *LM) checkTokens(tokens []int32, rows, length int) error {
	return CheckTokens(tokens, rows, length, m.Config.Vocab)
}

// Hidden returns the normalised output of the last layer, [rows·length, dim], for tokens [rows, length]. segments cut rows of packed or
// padded text; nil means one sequence a row. tokens must not change until the tape's Reset.
func (m *LM) Hidden(t *autograd.Tape, tokens []int32, rows, length int, segments []attn.Segment) (autograd.Var, error) {
	if err := m.checkTokens(tokens, rows, length); err != nil {
		return autograd.None, err
	}
	return m.hidden(t, tokens, nn.Layout{Batch: rows, QueryLen: length, KeyLen: length, Segments: segments}, nil)
}

// hidden walks the layers; with a state it extends it.
func (m *LM) hidden(t *autograd.Tape, tokens []int32, l nn.Layout, s *State) (autograd.Var, error) {
	p := &m.pass
	p.Tape, p.Train, p.Seed, p.Aux = t, !t.NoGrad, m.Step<<16, autograd.None
	if p.Train {
		p.Aux = t.Zeros(1, 1)
	}
	p.Begin(l)
	x := m.embedding.Forward(t, tokens)
	if m.watch != nil {
		rows, cols := t.Dims(x)
		x = t.Input(t.Value(x), m.watch, rows, cols)
	}
	if m.positions != nil {
		for _, pos := range p.Positions() {
			if int(pos) >= m.Config.MaxLen {
				return autograd.None, fmt.Errorf("model: position %d under learned positions: want less than max length %d", pos, m.Config.MaxLen)
			}
		}
		x = t.Add(x, m.positions.Forward(t, p.Positions()))
	}
	m.drop = nn.Dropper{P: float32(m.Config.Dropout), Seed: p.Seed}
	if p.Train {
		m.drop.Seed += m.pieces << 8 // a micro-batch draws other elements than the next
		m.pieces++
	}
	x = m.drop.Apply(t, x)
	for i := range m.layers {
		mark := t.Mark()
		y, err := m.layer(p, x, s, i)
		if err != nil {
			return autograd.None, err
		}
		if i == 0 && m.usesFirst() {
			x = y // its inputs are wanted later
			continue
		}
		x = t.Release(mark, x, y)
	}
	return m.norm.Forward(t, x), nil
}

// layer walks one layer, or has the tape do so twice.
func (m *LM) layer(p *nn.Pass, x autograd.Var, s *State, i int) (autograd.Var, error) {
	if !m.Config.Recompute || p.Tape.NoGrad {
		return m.sublayers(p, x, s, i)
	}
	seed := m.drop.Seed
	return p.Tape.Recompute(x, func(x autograd.Var) (autograd.Var, error) {
		m.drop.Seed = seed
		return m.sublayers(p, x, nil, i)
	})
}

func (m *LM) sublayers(p *nn.Pass, x autograd.Var, s *State, i int) (autograd.Var, error) {
	t, l := p.Tape, &m.layers[i]
	r := nn.Residual{Skip: float32(m.Config.Skip * float64(i+1) / float64(len(m.layers)))}
	x, err := r.Join(t, l.attnNorm, x, &m.drop, func(h, add autograd.Var) (autograd.Var, error) {
		if s != nil {
			return l.attention.Extend(p, s.layers[i], h, add)
		}
		return l.attention.Forward(p, h, autograd.None, add)
	})
	if err == nil && m.calls != nil {
		m.keep(t)
	}
	if err != nil || l.mlp == nil {
		return x, err
	}
	return r.Join(t, l.mlpNorm, x, &m.drop, func(h, add autograd.Var) (autograd.Var, error) { return l.mlp.Forward(t, h, add), nil })
}

func (m *LM) usesFirst() bool {
	return slices.ContainsFunc(m.layers, func(l layer) bool { return l.attention.UsesFirst() })
}

// logits projects hidden rows onto the vocabulary.
func (m *LM) logits(t *autograd.Tape, h autograd.Var) autograd.Var {
	if m.Config.Tied {
		return t.MatMulT(h, t.Param(m.embedding.Table))
	}
	return m.head.Forward(t, h, autograd.None, autograd.Identity)
}

// Loss returns the mean cross-entropy in nats over the labelled positions of tokens [rows, length], plus the mechanisms' auxiliary
// losses. labels has one label a token, -1 for none; logits are computed only at labelled positions. Neither slice may
// change until the tape's Reset.
func (m *LM) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	return m.LossSmoothed(t, tokens, labels, rows, length, nil, float32(m.Config.Smoothing))
}

// LossSmoothed is Loss of packed or padded rows, with label smoothing.
func (m *LM) LossSmoothed(t *autograd.Tape, tokens, labels []int32, rows, length int, segments []attn.Segment, smoothing float32) (autograd.Var, error) {
	h, targets, err := m.labelled(t, tokens, labels, rows, length, segments)
	if err != nil {
		return autograd.None, err
	}
	loss := t.CrossEntropy(m.logits(t, h), targets, smoothing)
	if m.pass.Aux != autograd.None {
		loss = t.Add(loss, m.pass.Aux)
	}
	return loss, nil
}

// labelled returns the hidden rows at labelled positions, and their labels.
func (m *LM) labelled(t *autograd.Tape, tokens, labels []int32, rows, length int, segments []attn.Segment) (autograd.Var, []int32, error) {
	if err := CheckLabels(tokens, labels, m.Config.Vocab); err != nil {
		return autograd.None, nil, err
	}
	h, err := m.Hidden(t, tokens, rows, length, segments)
	if err != nil {
		return autograd.None, nil, err
	}
	if m.decoder != nil {
		if length > m.Config.MaxLen {
			return autograd.None, nil, fmt.Errorf("model: %d tokens before a bottleneck: want at most max length %d", length, m.Config.MaxLen)
		}
		h, targets := m.decoder.forward(t, h, labels, length)
		return h, targets, nil
	}
	h, targets := Labelled(t, h, labels)
	return h, targets, nil
}

// LossPerToken evaluates: it writes to nll [rows·length] the negative log likelihood in nats of the label at each position, NaN where
// there is none, and to best, unless nil, the most likely token there, -1 where there is no label. It computes without gradients and
// resets the tape.
func (m *LM) LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nll []float32, best []int32) error {
	if len(nll) != len(tokens) || best != nil && len(best) != len(tokens) {
		return fmt.Errorf("model: results for %d positions: want one a token, %d", len(nll), len(tokens))
	}
	before := t.NoGrad
	t.NoGrad = true
	defer func() { t.NoGrad = before }()
	t.Reset()
	h, targets, err := m.labelled(t, tokens, labels, rows, length, nil)
	if err != nil {
		return err
	}
	PerToken(t, m.logits(t, h), targets, labels, nll, best)
	t.Reset()
	return nil
}

// FLOPs returns the floating-point operations of the products of one forward pass over a sequence of length tokens, logits at every
// position: 2 a multiply-add, masked pairs excluded.
func (m *LM) FLOPs(length int) int64 {
	return 2*m.weights()*int64(length) + m.attention(length, attn.PassForward)
}

// StepFLOPs returns those of a training step on one such sequence: a weight matrix takes one product forward and two backward, for
// its own gradient and its input's; attention takes what the mechanism declares. The optimiser has no products.
func (m *LM) StepFLOPs(length int) int64 {
	return 6*m.weights()*int64(length) + m.attention(length, attn.PassForward) + m.attention(length, attn.PassBackward)
}

// weights returns the multiply-adds a token of all products with weights.
func (m *LM) weights() int64 {
	n := int64(m.Config.Dim) * int64(m.Config.Vocab)
	if m.decoder != nil {
		n += 2 * int64(m.Config.Dim) * int64(m.Config.Dim)
	}
	for _, l := range m.layers {
		n += l.attention.Weights()
		if l.mlp != nil {
			n += l.mlp.Weights()
		}
	}
	return n
}

// attention returns what the mechanisms declare for a pass over one sequence.
func (m *LM) attention(length int, p attn.Pass) (flops int64) {
	for _, l := range m.layers {
		if cost := l.attention.Info.Cost; cost != nil {
			s := l.attention.Shape()
			s.Batch, s.QueryLen, s.KeyLen = 1, length, length
			flops += cost(s, p).FLOPs
		}
	}
	return flops
}
