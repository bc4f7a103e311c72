package seq2seq

import (
	"fmt"
	"math"

	"attnbench/autograd"
	"attnbench/nn"
)

// LSTMConfig describes the recurrent encoder-decoder: one bidirectional layer reads, one layer with additive attention writes. Source and target share
// one vocabulary and one embedding, which is also the output projection.
type LSTMConfig struct {
	Words   int     // size of the vocabulary
	Dim     int     // width of the embedding and of the output layer
	Hidden  int     // width of each recurrent layer, and of the attention's inner layer
	Dropout float64 // of embeddings and of the output layer, in training
	Seed    uint64  // of the initialisation
}

// Count returns the number of learned numbers of the model that c describes.
func (c *LSTMConfig) Count() int {
	d, h := c.Dim, c.Hidden
	cells := 3 * (4*h*(d+h) + 4*h)
	attention := h*h + 2*h*h + h + h + 2*h*4*h
	return c.Words*d + cells + h*h + h + attention + 3*h*d + d
}

// LSTM is the encoder-decoder of Bahdanau et al. 2014 (arXiv:1409.0473) with LSTM cells in place of gated units and a tanh output layer in place
// of maxout:
//
//	m_j = (h→_j, h←_j),  s_0 = tanh(h←_1·W_s)
//	s_t, r_t = LSTM(y_{t-1}, r_t; s_{t-1}) with r_t read from m by s_{t-1}
//	p(y_t) = softmax(E·tanh((s_t, r_t)·W_o + b))
//
// so that the state that predicts y_t has read y_{t-1} and r_t.
type LSTM struct {
	Config LSTMConfig

	params            []*autograd.Param
	embedding         nn.Embedding
	forward, backward cell
	decoder           cell
	start, query      nn.Linear // of s_0; of the attention
	keys, read        nn.Linear // U·m; r's part of the gates
	v                 *autograd.Param
	out               nn.Linear
	drop              nn.Dropper
}

// cell is the weights of a recurrent layer: of its input, with the bias, and of its state.
type cell struct{ in, state nn.Linear }

func newCell(b *nn.Builder, name string, in, hidden int) cell {
	c := cell{nn.NewLinear(b, name+".in", in, 4*hidden, true, 1), nn.NewLinear(b, name+".state", hidden, 4*hidden, false, 1)}
	for i := range hidden { // the forget gate starts open (Jozefowicz et al. 2015)
		c.in.B.Data[hidden+i] = 1
	}
	return c
}

// NewLSTM builds the model that c describes.
func NewLSTM(c LSTMConfig) (*LSTM, error) {
	for _, d := range []struct {
		name string
		got  int
	}{{"words", c.Words}, {"dim", c.Dim}, {"hidden", c.Hidden}} {
		if d.got < 1 {
			return nil, fmt.Errorf("seq2seq: lstm: %s is %d: want at least 1", d.name, d.got)
		}
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		return nil, fmt.Errorf("seq2seq: lstm: dropout %v: want 0 to below 1", c.Dropout)
	}
	m, h := &LSTM{Config: c}, c.Hidden
	b := &nn.Builder{Seed: c.Seed}
	m.embedding = nn.NewEmbedding(b, "embedding", c.Words, c.Dim, 1)
	m.forward, m.backward = newCell(b, "encoder.forward", c.Dim, h), newCell(b, "encoder.backward", c.Dim, h)
	m.start = nn.NewLinear(b, "decoder.start", h, h, true, 1)
	m.decoder = newCell(b, "decoder", c.Dim, h)
	m.query = nn.NewLinear(b, "decoder.attention.query", h, h, false, 1)
	m.keys = nn.NewLinear(b, "decoder.attention.keys", 2*h, h, true, 1)
	m.v = b.Param("decoder.attention.v", true, nn.Normal(1/math.Sqrt(float64(h))), 1, h)
	m.read = nn.NewLinear(b, "decoder.read", 2*h, 4*h, false, 1)
	m.out = nn.NewLinear(b, "out", 3*h, c.Dim, true, 1)
	m.params = b.Params
	return m, nil
}

// Params returns the learned tensors, in a fixed order.
func (m *LSTM) Params() []*autograd.Param { return m.params }

// Vocab returns the size of the vocabulary.
func (m *LSTM) Vocab() int { return m.Config.Words }

// embed scales by √dim, as the Transformer does, so that inputs are of size 1 and the tied output of useful size.
func (m *LSTM) embed(t *autograd.Tape, tokens []int32) autograd.Var {
	return m.drop.Apply(t, t.Scale(m.embedding.Forward(t, tokens), float32(math.Sqrt(float64(m.Config.Dim)))))
}

// encode returns the memory [rows·length, 2·hidden] of padded tokens, and the decoder's first state [rows, hidden].
func (m *LSTM) encode(t *autograd.Tape, tokens []int32, rows, length int, lengths []int) (memory, first autograd.Var) {
	x := m.embed(t, tokens)
	turned := t.Ints(rows * length) // each row's tokens the other way round, padding where it was: its own inverse
	for row, n := range lengths {
		for j := range length {
			at := j
			if j < n {
				at = n - 1 - j
			}
			turned[row*length+j] = int32(row*length + at)
		}
	}
	run := func(c cell, x autograd.Var) autograd.Var {
		h, _ := t.LSTM(autograd.AttentiveLSTM{Batch: rows, Steps: length, X: c.in.Forward(t, x, autograd.None, autograd.Identity), Wh: t.Param(c.state.W)})
		return h
	}
	ahead := run(m.forward, x)
	behind := t.Gather(run(m.backward, t.Gather(x, turned)), turned)
	begin := t.Ints(rows)
	for row := range begin {
		begin[row] = int32(row * length)
	}
	first = m.start.Forward(t, t.Gather(behind, begin), autograd.None, autograd.Tanh)
	return t.ConcatCols(ahead, behind), first
}

// lengths32 are lengths as the operation takes them.
func lengths32(t *autograd.Tape, lengths []int) []int32 {
	x := t.Ints(len(lengths))
	for i, n := range lengths {
		x[i] = int32(n)
	}
	return x
}

// decode walks the decoder.
func (m *LSTM) decode(t *autograd.Tape, l autograd.AttentiveLSTM, tokens []int32) (hidden autograd.Var, out autograd.Var, cells []float32) {
	l.X = m.decoder.in.Forward(t, m.embed(t, tokens), autograd.None, autograd.Identity)
	l.Wh, l.Wq, l.V, l.Wr = t.Param(m.decoder.state.W), t.Param(m.query.W), t.Param(m.v), t.Param(m.read.W)
	s, cells := t.LSTM(l)
	h := m.drop.Apply(t, m.out.Forward(t, s, autograd.None, autograd.Tanh))
	return h, s, cells
}

func (m *LSTM) hidden(t *autograd.Tape, b *Batch, seed uint64) (autograd.Var, error) {
	if err := b.check(m.Config.Words); err != nil {
		return autograd.None, err
	}
	m.drop = nn.Dropper{P: float32(m.Config.Dropout), Seed: seed}
	memory, first := m.encode(t, b.Source, b.Rows, b.SourceLen, b.Sources)
	h, _, _ := m.decode(t, autograd.AttentiveLSTM{Batch: b.Rows, Steps: b.TargetLen, H0: first, Memory: memory,
		Keys: m.keys.Forward(t, memory, autograd.None, autograd.Identity), Lengths: lengths32(t, b.Sources)}, b.Target)
	return h, nil
}

func (m *LSTM) project(t *autograd.Tape, h autograd.Var) autograd.Var {
	return t.MatMulT(h, t.Param(m.embedding.Table))
}

// Loss returns the mean cross-entropy over the labels of b.
func (m *LSTM) Loss(t *autograd.Tape, b *Batch, smoothing float32, seed uint64) (autograd.Var, error) {
	h, err := m.hidden(t, b, seed)
	if err != nil {
		return autograd.None, err
	}
	h, labels := labelled(t, h, b.Labels)
	return t.CrossEntropy(m.project(t, h), labels, smoothing), nil
}

// Logits returns the logits of every position of the targets of b.
func (m *LSTM) Logits(t *autograd.Tape, b *Batch) (autograd.Var, error) {
	h, err := m.hidden(t, b, 0)
	if err != nil {
		return autograd.None, err
	}
	return m.project(t, h), nil
}

// lstmState is what an LSTM keeps: the memory of each source and its keys, and of each output the decoder's state.
type lstmState struct {
	memory, keys  []float32
	lengths       []int32
	width, hidden int
	h, c          []float32 // [outputs, hidden]
}

// Start encodes the sources; the attention's keys are computed here, once.
func (m *LSTM) Start(t *autograd.Tape, sources [][]int32, width int) (State, error) {
	tokens, length, _, err := padded(sources, m.Config.Words)
	if err != nil {
		return nil, err
	}
	if width < 1 {
		return nil, fmt.Errorf("seq2seq: %d outputs a source: want at least 1", width)
	}
	t.Reset()
	m.drop = nn.Dropper{}
	lengths := make([]int, len(sources))
	s := &lstmState{width: width, hidden: m.Config.Hidden}
	for i, src := range sources {
		lengths[i], s.lengths = len(src), append(s.lengths, int32(len(src)))
	}
	memory, first := m.encode(t, tokens, len(sources), length, lengths)
	keys := m.keys.Forward(t, memory, autograd.None, autograd.Identity)
	s.memory, s.keys = append(s.memory, t.Value(memory)...), append(s.keys, t.Value(keys)...)
	for i := range len(sources) * width {
		row := i / width * s.hidden
		s.h = append(s.h, t.Value(first)[row:row+s.hidden]...)
	}
	s.c = make([]float32, len(s.h))
	return s, nil
}

// Next extends every output by a token.
func (m *LSTM) Next(t *autograd.Tape, st State, tokens []int32) ([]float32, error) {
	s, ok := st.(*lstmState)
	if !ok || s.hidden != m.Config.Hidden {
		return nil, fmt.Errorf("seq2seq: state %T: want one of this model", st)
	}
	n := len(s.lengths) * s.width
	if len(tokens) != n {
		return nil, fmt.Errorf("seq2seq: %d tokens: want one for each of %d outputs", len(tokens), n)
	}
	if err := checkTokens(tokens, m.Config.Words); err != nil {
		return nil, err
	}
	t.Reset()
	h, out, cells := m.decode(t, autograd.AttentiveLSTM{Batch: n, Steps: 1, H0: t.Const(s.h, n, s.hidden), C0: t.Const(s.c, n, s.hidden),
		Memory: t.Const(s.memory, len(s.memory)/(2*s.hidden), 2*s.hidden), Keys: t.Const(s.keys, len(s.keys)/s.hidden, s.hidden),
		Lengths: s.lengths, Share: s.width}, tokens)
	_, cols := t.Dims(out)
	for i := range n {
		copy(s.h[i*s.hidden:(i+1)*s.hidden], t.Value(out)[i*cols:])
	}
	copy(s.c, cells)
	return t.Value(m.project(t, h)), nil
}

// Reorder makes output i go on from output from[i], one of the same source.
func (s *lstmState) Reorder(from []int) error {
	if err := checkOrder(from, len(s.lengths)*s.width, s.width); err != nil {
		return err
	}
	for _, x := range [][]float32{s.h, s.c} {
		old := append([]float32(nil), x...)
		for i, f := range from {
			copy(x[i*s.hidden:(i+1)*s.hidden], old[f*s.hidden:])
		}
	}
	return nil
}

// Bytes returns the bytes of memory, keys and states.
func (s *lstmState) Bytes() int64 {
	return 4 * int64(len(s.memory)+len(s.keys)+len(s.h)+len(s.c))
}
