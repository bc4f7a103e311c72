// Package rnn holds recurrent language models, the ones that came before attention: Elman networks, GRU and LSTM.
package rnn

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/autograd"
	"attnbench/model"
	"attnbench/nn"
)

// Config describes a recurrent language model.
type Config struct {
	Cell   string // one of Cells
	Vocab  int    // tokens are 0 to Vocab-1
	Dim    int    // width of the embedding and of the states
	Layers int
	Cut    int    // truncated back-propagation through time: gradients flow back to the last multiple of so many steps; 0 to the start
	Seed   uint64 // of the initialisation
}

// Cells are the names of the cells.
var Cells = []string{"elman", "gru", "lstm"}

func cell(name string) autograd.Cell {
	return [...]autograd.Cell{autograd.Elman, autograd.GRU, autograd.LSTM}[slices.Index(Cells, name)]
}

func (c *Config) check() error {
	if !slices.Contains(Cells, c.Cell) {
		return fmt.Errorf("cell %q: want one of %s", c.Cell, strings.Join(Cells, ", "))
	}
	for _, d := range []struct {
		name     string
		got, min int
	}{{"vocab", c.Vocab, 1}, {"dim", c.Dim, 1}, {"layers", c.Layers, 1}, {"cut", c.Cut, 0}} {
		if d.got < d.min {
			return fmt.Errorf("%s is %d: want at least %d", d.name, d.got, d.min)
		}
	}
	return nil
}

// LM is a recurrent language model: layers of a cell over an embedding, which is also the output projection. Each layer but the
// first is added to what it reads. It serves one goroutine.
type LM struct {
	Config Config

	params    []*autograd.Param
	embedding nn.Embedding
	layers    []layer
	norm      nn.Norm
	watch     []float32
}

type layer struct {
	norm nn.Norm
	in   nn.Linear       // [dim, gates·dim]
	u    *autograd.Param // [dim, gates·dim]
}

// New builds the model that c describes. Weights start as in model.New; the bias of LSTM's forget gate starts at 1 (Gers et al. 2000; Jozefowicz et
// al. 2015), others at 0.
func New(c Config) (*LM, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("rnn: %w", err)
	}
	m := &LM{Config: c}
	b := &nn.Builder{Seed: c.Seed}
	m.embedding = nn.NewEmbedding(b, "embedding", c.Vocab, c.Dim, 1)
	gates := cell(c.Cell).Gates() * c.Dim
	for i := range c.Layers {
		name := fmt.Sprintf("layers.%d", i)
		l := layer{norm: nn.NewRMSNorm(b, name+".norm", c.Dim), in: nn.NewLinear(b, name+".in", c.Dim, gates, true, 1)}
		l.u = b.Param(name+".state.weight", true, nn.Normal(nn.Std(c.Dim)), c.Dim, gates)
		if cell(c.Cell) == autograd.LSTM {
			for j := c.Dim; j < 2*c.Dim; j++ {
				l.in.B.Data[j] = 1
			}
		}
		m.layers = append(m.layers, l)
	}
	m.norm = nn.NewRMSNorm(b, "norm", c.Dim)
	m.params = b.Params
	return m, nil
}

// Params returns the learned tensors, in a fixed order.
func (m *LM) Params() []*autograd.Param { return m.params }

// WatchInputs makes Backward add the gradient of the embedded tokens, [rows·length, dim], to grad, in place of that of the embedding; nil ends it.
func (m *LM) WatchInputs(grad []float32) { m.watch = grad }

// hidden returns the normalised states of the last layer, [rows·length, dim]; a state is where the walk starts, and is moved to where it ends.
func (m *LM) hidden(t *autograd.Tape, tokens []int32, rows, length int, s *State) (autograd.Var, error) {
	if err := model.CheckTokens(tokens, rows, length, m.Config.Vocab); err != nil {
		return autograd.None, err
	}
	x := m.embedding.Forward(t, tokens)
	if m.watch != nil {
		x = t.Input(t.Value(x), m.watch, rows*length, m.Config.Dim)
	}
	for i, l := range m.layers {
		r := autograd.Recurrence{Cell: cell(m.Config.Cell), Batch: rows, Steps: length, Cut: m.Config.Cut, U: t.Param(l.u)}
		r.X = l.in.Forward(t, l.norm.Forward(t, x), autograd.None, autograd.Identity)
		if s != nil {
			r.H0 = t.Const(s.h[i], rows, m.Config.Dim)
			if s.c != nil {
				r.C0 = t.Const(s.c[i], rows, m.Config.Dim)
			}
		}
		h, cells := t.Recur(r)
		if s != nil {
			s.move(i, t.Value(h), cells, length)
		}
		if i > 0 {
			h = t.Add(h, x)
		}
		x = h
	}
	return m.norm.Forward(t, x), nil
}

func (m *LM) logits(t *autograd.Tape, h autograd.Var) autograd.Var {
	return t.MatMulT(h, t.Param(m.embedding.Table))
}

// Loss returns the mean cross-entropy in nats over the labelled positions of tokens [rows, length], -1 for none. Neither slice may change until the tape's
// Reset.
func (m *LM) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	if err := model.CheckLabels(tokens, labels, m.Config.Vocab); err != nil {
		return autograd.None, err
	}
	h, err := m.hidden(t, tokens, rows, length, nil)
	if err != nil {
		return autograd.None, err
	}
	h, targets := model.Labelled(t, h, labels)
	return t.CrossEntropy(m.logits(t, h), targets, 0), nil
}

// LossPerToken evaluates, as model.LM's does.
func (m *LM) LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nll []float32, best []int32) error {
	if err := model.CheckLabels(tokens, labels, m.Config.Vocab); err != nil {
		return err
	}
	if len(nll) != len(tokens) || best != nil && len(best) != len(tokens) {
		return fmt.Errorf("rnn: results for %d positions: want one a token, %d", len(nll), len(tokens))
	}
	before := t.NoGrad
	t.NoGrad = true
	defer func() { t.NoGrad = before }()
	t.Reset()
	h, err := m.hidden(t, tokens, rows, length, nil)
	if err != nil {
		return err
	}
	h, targets := model.Labelled(t, h, labels)
	model.PerToken(t, m.logits(t, h), targets, labels, nll, best)
	t.Reset()
	return nil
}

// FLOPs returns the floating-point operations of the products of one forward pass over a token, 2 a multiply-add.
func (m *LM) FLOPs() int64 {
	n := int64(len(m.embedding.Table.Data))
	for _, l := range m.layers {
		n += int64(len(l.in.W.Data) + len(l.u.Data))
	}
	return 2 * n
}

// Dim returns the width at which a model of c's kind has the number of parameters closest to the given one.
func Dim(c Config, params int) int {
	best, least := 0, math.MaxInt
	for d := 1; ; d++ {
		g := cell(c.Cell).Gates()
		n := c.Vocab*d + c.Layers*(2*g*d*d+g*d+d) + d
		if off := max(n-params, params-n); off < least {
			best, least = d, off
		} else if n > params {
			return best
		}
	}
}
