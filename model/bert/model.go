package bert

import (
	"fmt"
	"slices"

	"attnbench/autograd"
	"attnbench/nn"
)

// Model is an encoder with a head, which scores labels.
type Model struct {
	*Encoder
	Classes int // labels are 0 to Classes-1

	head    head
	encoder int // parameters that are the encoder's, the first ones
}

// head turns the vectors h of a batch into scores of labels at the tokens at, [len(at), classes].
type head interface {
	scores(t *autograd.Tape, e *Encoder, h autograd.Var, b *Batch, at []int32) autograd.Var
}

func newModel(c Config, classes int, build func(e *Encoder) (head, error)) (*Model, error) {
	if classes < 1 {
		return nil, fmt.Errorf("bert: %d classes: want at least 1", classes)
	}
	e, err := newEncoder(c)
	if err != nil {
		return nil, fmt.Errorf("bert: %w", err)
	}
	m := &Model{Encoder: e, Classes: classes, encoder: len(e.builder.Params)}
	if m.head, err = build(e); err != nil {
		return nil, fmt.Errorf("bert: %w", err)
	}
	return m, nil
}

// NewMaskedLM returns a model that scores what stands at a token: dense layer, GELU and norm, and the embedding with a bias a token (Devlin
// et al. 2019, their implementation).
func NewMaskedLM(c Config) (*Model, error) {
	return newModel(c, c.Vocab, func(e *Encoder) (head, error) {
		b := &e.builder
		return &maskedLM{
			dense: nn.NewLinear(b, "masked.dense", c.Dim, c.Dim, true, 1),
			norm:  nn.NewLayerNorm(b, "masked.norm", c.Dim),
			bias:  b.Param("masked.bias", false, nil, c.Vocab),
		}, nil
	})
}

// NewTagger returns a model that scores labels of single tokens.
func NewTagger(c Config, labels int) (*Model, error) {
	return newModel(c, labels, func(e *Encoder) (head, error) {
		return &tagger{nn.NewLinear(&e.builder, "tagger", c.Dim, labels, true, 1)}, nil
	})
}

// Pools are the ways to make one vector of a sequence: first, that of its first token; mean, the mean of all.
var Pools = []string{"first", "mean"}

// NewClassifier returns a model that scores labels of whole sequences, of a vector made by one of Pools. The label of a sequence stands at its first
// token.
func NewClassifier(c Config, labels int, pool string) (*Model, error) {
	return newModel(c, labels, func(e *Encoder) (head, error) {
		if !slices.Contains(Pools, pool) {
			return nil, fmt.Errorf("pool %q: want first or mean", pool)
		}
		return &classifier{out: nn.NewLinear(&e.builder, "classifier", c.Dim, labels, true, 1), mean: pool == "mean"}, nil
	})
}

// Params returns the learned tensors, in a fixed order.
func (m *Model) Params() []*autograd.Param { return m.builder.Params }

// EncoderParams returns those without the head's.
func (m *Model) EncoderParams() []*autograd.Param { return m.builder.Params[:m.encoder] }

// Loss returns the mean cross-entropy in nats over the labels of b [rows·length], -1 for none, plus the mechanisms' auxiliary losses; 0 where there are
// no labels. seed is that of everything random in the step. b and labels must not change until the tape's Reset.
func (m *Model) Loss(t *autograd.Tape, b *Batch, labels []int32, seed uint64) (autograd.Var, error) {
	scores, targets, err := m.labelled(t, b, labels, seed)
	if err != nil {
		return autograd.None, err
	}
	loss := t.CrossEntropy(scores, targets, 0)
	if m.pass.Aux != autograd.None {
		loss = t.Add(loss, m.pass.Aux)
	}
	return loss, nil
}

// labelled returns the scores at labelled tokens, and their labels.
func (m *Model) labelled(t *autograd.Tape, b *Batch, labels []int32, seed uint64) (autograd.Var, []int32, error) {
	count, err := b.checkLabels(labels, m.Classes)
	if err != nil {
		return autograd.None, nil, fmt.Errorf("bert: %w", err)
	}
	h, err := m.Hidden(t, b, seed)
	if err != nil {
		return autograd.None, nil, err
	}
	at, targets := t.Ints(count)[:0], t.Ints(count)[:0]
	for i, l := range labels {
		if l != autograd.Ignored {
			at, targets = append(at, int32(i)), append(targets, l)
		}
	}
	return m.head.scores(t, m.Encoder, h, b, at), targets, nil
}

// Predict writes to nll [rows·length] the negative log likelihood in nats of each label, and to best the most likely one. What it
// writes where there is no label means nothing. It computes without gradients and resets the tape.
func (m *Model) Predict(t *autograd.Tape, b *Batch, labels []int32, nll []float32, best []int32) error {
	if len(nll) != len(labels) || len(best) != len(labels) {
		return fmt.Errorf("bert: results for %d and %d tokens: want %d", len(nll), len(best), len(labels))
	}
	before := t.NoGrad
	t.NoGrad = true
	defer func() { t.NoGrad = before }()
	t.Reset()
	scores, targets, err := m.labelled(t, b, labels, 0)
	if err != nil {
		return err
	}
	n := len(targets)
	losses, choices := make([]float32, n), make([]int32, n)
	t.RowLosses(scores, targets, losses, choices)
	k := 0
	for i, l := range labels {
		if l != autograd.Ignored {
			nll[i], best[i] = losses[k], choices[k]
			k++
		}
	}
	t.Reset()
	return nil
}

type maskedLM struct {
	dense nn.Linear
	norm  nn.Norm
	bias  *autograd.Param
}

func (m *maskedLM) scores(t *autograd.Tape, e *Encoder, h autograd.Var, _ *Batch, at []int32) autograd.Var {
	x := m.norm.Forward(t, m.dense.Forward(t, t.Gather(h, at), autograd.None, autograd.GELU))
	return t.Add(t.MatMulT(x, t.Param(e.embedding.Table)), t.Param(m.bias))
}

type tagger struct{ out nn.Linear }

func (m *tagger) scores(t *autograd.Tape, e *Encoder, h autograd.Var, _ *Batch, at []int32) autograd.Var {
	return m.out.Forward(t, e.drop.Apply(t, t.Gather(h, at)), autograd.None, autograd.Identity)
}

type classifier struct {
	out     nn.Linear
	mean    bool
	weights []float32 // of the mean, [labels, rows·length], of the last batch
}

func (m *classifier) scores(t *autograd.Tape, e *Encoder, h autograd.Var, b *Batch, at []int32) autograd.Var {
	var x autograd.Var
	if m.mean {
		x = t.MatMul(t.Const(m.means(b, at), len(at), b.Rows*b.Length), h)
	} else {
		x = t.Gather(h, at)
	}
	return m.out.Forward(t, e.drop.Apply(t, x), autograd.None, autograd.Identity)
}

// means returns the matrix that takes the mean over the rows of the tokens at, padding left out.
func (m *classifier) means(b *Batch, at []int32) []float32 {
	all := b.Rows * b.Length
	m.weights = slices.Grow(m.weights[:0], len(at)*all)[:len(at)*all]
	clear(m.weights)
	for i, token := range at {
		row := int(token) / b.Length
		n := b.Length
		if b.Lengths != nil {
			n = b.Lengths[row]
		}
		for j := range n {
			m.weights[i*all+row*b.Length+j] = 1 / float32(n)
		}
	}
	return m.weights
}
