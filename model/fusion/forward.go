package fusion

import (
	"fmt"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// Loss returns the mean cross-entropy in nats over the labels of b, plus the mechanisms' auxiliary losses. seed is that of everything random in the step. b must not
// change until the tape's Reset.
func (m *Model) Loss(t *autograd.Tape, b *Batch, seed uint64) (autograd.Var, error) {
	scores, err := m.scores(t, b, seed)
	if err != nil {
		return autograd.None, err
	}
	loss := t.CrossEntropy(scores, b.labels, 0)
	if m.pass.Aux != autograd.None {
		loss = t.Add(loss, m.pass.Aux)
	}
	return loss, nil
}

// Predict returns of each label of b, in order, its negative log likelihood in nats, and the most likely answer. It computes without
// gradients and resets the tape.
func (m *Model) Predict(t *autograd.Tape, b *Batch) (nll []float32, best []int32, err error) {
	before := t.NoGrad
	t.NoGrad = true
	defer func() { t.NoGrad = before }()
	t.Reset()
	scores, err := m.scores(t, b, 0)
	if err != nil {
		return nil, nil, err
	}
	nll, best = make([]float32, len(b.labels)), make([]int32, len(b.labels))
	t.RowLosses(scores, b.labels, nll, best)
	t.Reset()
	return nll, best, nil
}

// scores returns the scores of all answers at the labelled words, [labels, classes].
func (m *Model) scores(t *autograd.Tape, b *Batch, seed uint64) (autograd.Var, error) {
	if len(b.labels) == 0 {
		return autograd.None, fmt.Errorf("fusion: no labels: want one at least")
	}
	aux := autograd.None
	if !t.NoGrad {
		aux = t.Zeros(1, 1)
	}
	for i, p := range []*nn.Pass{&m.pass, &m.read} {
		p.Tape, p.Train, p.Seed, p.Aux = t, !t.NoGrad, seed+uint64(i)<<32, aux
	}
	m.drop = dropper{float32(m.Config.Dropout), seed}
	tokens, words := m.embed(t, b)
	var asked, memory autograd.Var
	for i := range m.encoders {
		s := &b.streams[i]
		x, err := m.run(&m.encoders[i], t.Gather(tokens, s.from), autograd.None, s.segments, nil, 0)
		if err != nil {
			return autograd.None, fmt.Errorf("fusion: %w", err)
		}
		if m.reader != nil {
			memory = under(t, memory, x)
			continue
		}
		x = t.Gather(x, s.at)
		if i > 0 {
			x = t.ConcatCols(asked, x)
		}
		asked = x
	}
	if m.reader != nil {
		s := &b.reader
		order, segments := b.memory(t)
		x, err := m.run(m.reader, m.drop.apply(t, words), t.Gather(memory, order), s.segments, segments, len(order))
		if err != nil {
			return autograd.None, fmt.Errorf("fusion: %w", err)
		}
		asked = t.Gather(x, s.at)
	}
	h := m.hidden.Forward(t, asked, autograd.None, autograd.GELU)
	return m.out.Forward(t, m.drop.apply(t, h), autograd.None, autograd.Identity), nil
}

// under returns b below a, which may be None.
func under(t *autograd.Tape, a, b autograd.Var) autograd.Var {
	if a == autograd.None {
		return b
	}
	return t.ConcatRows(a, b)
}

// embed returns the embeddings of all patches, frames and words, one kind below the other, and those of words alone.
func (m *Model) embed(t *autograd.Tape, b *Batch) (all, words autograd.Var) {
	c := &m.Config
	if n := len(b.places); n > 0 {
		all = m.pixels.forward(t, t.Const(b.pixels, n, c.PatchWidth), m.places.Forward(t, b.places))
	}
	if n := len(b.frames); n > 0 {
		all = under(t, all, m.frame.forward(t, t.Const(b.frames, n/c.FrameWidth, c.FrameWidth), autograd.None))
	}
	words = t.Add(m.words.Forward(t, b.words), m.questions.Forward(t, b.asks))
	return m.drop.apply(t, under(t, all, words)), words
}

// memory returns the order in which the streams' tokens lie example by example, and for each example what its words read.
func (b *Batch) memory(t *autograd.Tape) (order []int32, segments []attn.Segment) {
	n := 0
	for i := range b.streams {
		n += len(b.streams[i].from)
	}
	order = t.Ints(n)[:0]
	for e, words := range b.reader.segments {
		g := attn.Segment{Query0: words.Query0, Queries: words.Queries, Key0: len(order)}
		base := 0
		for i := range b.streams {
			s := &b.streams[i]
			for j := range s.segments[e].Keys {
				order = append(order, int32(base+s.segments[e].Key0+j))
			}
			base += len(s.from)
		}
		g.Keys = len(order) - g.Key0
		segments = append(segments, g)
	}
	return order, segments
}

// run walks x [tokens, dim] through a stack; a reader's layers attend to memory [keys, dim].
func (m *Model) run(e *encoder, x, memory autograd.Var, self, cross []attn.Segment, keys int) (autograd.Var, error) {
	t := m.pass.Tape
	n, _ := t.Dims(x)
	m.pass.Begin(nn.Layout{Batch: 1, QueryLen: n, KeyLen: n, Segments: self})
	if memory != autograd.None {
		m.read.Begin(nn.Layout{Batch: 1, QueryLen: n, KeyLen: keys, Segments: cross})
	}
	keep := false // inputs of the first layer are wanted later
	for i := range e.layers {
		for _, a := range e.layers[i].attentions() {
			keep = keep || a.UsesFirst()
		}
	}
	for i := range e.layers {
		l, mark := &e.layers[i], t.Mark()
		y, err := m.sublayer(l.norm, x, func(h, add autograd.Var) (autograd.Var, error) { return l.self.Forward(&m.pass, h, autograd.None, add) })
		if err == nil && l.cross != nil {
			y, err = m.sublayer(l.normCross, y, func(h, add autograd.Var) (autograd.Var, error) { return l.cross.Forward(&m.read, h, memory, add) })
		}
		if err == nil {
			y, err = m.sublayer(l.normMLP, y, func(h, add autograd.Var) (autograd.Var, error) { return l.mlp.Forward(t, h, add), nil })
		}
		if err != nil {
			return autograd.None, fmt.Errorf("layer %d: %w", i, err)
		}
		if keep && i == 0 {
			x = y
			continue
		}
		x = t.Release(mark, x, y)
	}
	return e.last.Forward(t, x), nil
}

// sublayer returns x with f of its norm added. f adds its result to what it is given as add.
func (m *Model) sublayer(n nn.Norm, x autograd.Var, f func(h, add autograd.Var) (autograd.Var, error)) (autograd.Var, error) {
	t := m.pass.Tape
	h := n.Forward(t, x)
	if !m.drop.on(t) {
		return f(h, x)
	}
	y, err := f(h, autograd.None)
	if err != nil {
		return autograd.None, err
	}
	return t.Add(x, m.drop.apply(t, y)), nil
}

// dropper leaves out elements in training, each time others.
type dropper struct {
	p    float32
	seed uint64
}

func (d *dropper) on(t *autograd.Tape) bool { return d.p > 0 && !t.NoGrad }

func (d *dropper) apply(t *autograd.Tape, x autograd.Var) autograd.Var {
	if !d.on(t) {
		return x
	}
	d.seed += 1 << 40 // beyond the indices of elements
	return t.Dropout(x, d.p, d.seed)
}
