package seq2seq

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// embed returns the embeddings of tokens, times √dim (Vaswani et al. 2017 §3.4), with what the model adds for their positions pos.
func (m *Transformer) embed(t *autograd.Tape, tokens, pos []int32) (autograd.Var, error) {
	d := m.Config.Dim
	x := t.Scale(m.embedding.Forward(t, tokens), float32(math.Sqrt(float64(d))))
	most := int32(-1)
	for _, p := range pos {
		most = max(most, p)
	}
	switch m.Config.Positions {
	case "learned":
		if int(most) >= m.Config.MaxLen {
			return autograd.None, fmt.Errorf("seq2seq: position %d under learned positions: want less than max length %d", most, m.Config.MaxLen)
		}
		x = t.Add(x, t.Scale(m.positions.Forward(t, pos), float32(math.Sqrt(float64(d)))))
	case "sinusoidal":
		for p := len(m.waves) / d; p <= int(most); p++ {
			m.waves = append(m.waves, wave(p, d)...)
		}
		x = t.Add(x, t.Gather(t.Const(m.waves, len(m.waves)/d, d), pos))
	}
	return m.drop.Apply(t, x), nil
}

// wave is the sinusoidal position p: sin and cos of p/10000^(2i/d) (Vaswani et al. 2017 §3.5).
func wave(p, d int) []float32 {
	x := make([]float32, d)
	for i := range x {
		angle := float64(p) / math.Pow(10000, float64(i/2*2)/float64(d))
		if i%2 == 0 {
			x[i] = float32(math.Sin(angle))
		} else {
			x[i] = float32(math.Cos(angle))
		}
	}
	return x
}

// sublayer returns x with f added, before or behind the norm.
func (m *Transformer) sublayer(t *autograd.Tape, n nn.Norm, x autograd.Var, f func(h, add autograd.Var) (autograd.Var, error)) (autograd.Var, error) {
	return nn.Residual{Post: m.Config.Norm == "post"}.Join(t, n, x, &m.drop, f)
}

func mlp(t *autograd.Tape, l nn.MLP) func(h, add autograd.Var) (autograd.Var, error) {
	return func(h, add autograd.Var) (autograd.Var, error) { return l.Forward(t, h, add), nil }
}

// begin prepares the three passes for a walk.
func (m *Transformer) begin(t *autograd.Tape, seed uint64) {
	m.drop = nn.Dropper{P: float32(m.Config.Dropout), Seed: seed}
	aux := autograd.None
	if !t.NoGrad {
		aux = t.Zeros(1, 1)
	}
	for i, p := range []*nn.Pass{&m.source, &m.self, &m.read} {
		p.Tape, p.Train, p.Seed, p.Aux = t, !t.NoGrad, seed+uint64(i)<<32, aux
	}
}

// encode returns the memory [rows·length, dim] of tokens [rows, length].
func (m *Transformer) encode(t *autograd.Tape, tokens []int32, rows, length int, segments []attn.Segment) (autograd.Var, error) {
	p := &m.source
	p.Begin(nn.Layout{Batch: rows, QueryLen: length, KeyLen: length, Segments: segments})
	x, err := m.embed(t, tokens, p.Positions())
	if err != nil {
		return autograd.None, err
	}
	for i := range m.encoder {
		l := &m.encoder[i]
		x, err = m.sublayer(t, l.norm1, x, func(h, add autograd.Var) (autograd.Var, error) {
			return l.attention.Forward(p, h, autograd.None, add)
		})
		if err != nil {
			return autograd.None, fmt.Errorf("seq2seq: encoder layer %d: %w", i, err)
		}
		if x, err = m.sublayer(t, l.norm2, x, mlp(t, l.mlp)); err != nil {
			return autograd.None, err
		}
	}
	if m.Config.Norm == "pre" {
		x = m.lastEncoder.Forward(t, x)
	}
	return x, nil
}

// decode walks the decoder over tokens, whose passes have begun; with a state it extends that and reads its memory.
func (m *Transformer) decode(t *autograd.Tape, tokens []int32, memory autograd.Var, s *state) (autograd.Var, error) {
	x, err := m.embed(t, tokens, m.self.Positions())
	if err != nil {
		return autograd.None, err
	}
	for i := range m.decoder {
		l := &m.decoder[i]
		x, err = m.sublayer(t, l.norm1, x, func(h, add autograd.Var) (autograd.Var, error) {
			if s != nil {
				return l.self.Extend(&m.self, s.self[i], h, add)
			}
			return l.self.Forward(&m.self, h, autograd.None, add)
		})
		if err == nil {
			x, err = m.sublayer(t, l.norm2, x, func(h, add autograd.Var) (autograd.Var, error) {
				if s != nil {
					return l.cross.Extend(&m.read, s.cross[i], h, add)
				}
				return l.cross.Forward(&m.read, h, memory, add)
			})
		}
		if err == nil {
			x, err = m.sublayer(t, l.norm3, x, mlp(t, l.mlp))
		}
		if err != nil {
			return autograd.None, fmt.Errorf("seq2seq: decoder layer %d: %w", i, err)
		}
	}
	if m.Config.Norm == "pre" {
		x = m.last.Forward(t, x)
	}
	return x, nil
}

// project turns hidden rows into logits.
func (m *Transformer) project(t *autograd.Tape, h autograd.Var) autograd.Var {
	if m.Config.Tied {
		return t.MatMulT(h, t.Param(m.embedding.Table))
	}
	return m.head.Forward(t, h, autograd.None, autograd.Identity)
}

// hidden returns the decoder's output at every position of the targets of b.
func (m *Transformer) hidden(t *autograd.Tape, b *Batch, seed uint64) (autograd.Var, error) {
	if err := b.check(m.Config.Words); err != nil {
		return autograd.None, err
	}
	m.begin(t, seed)
	memory, err := m.encode(t, b.Source, b.Rows, b.SourceLen, attn.Lengths(b.Sources, b.Sources))
	if err != nil {
		return autograd.None, err
	}
	m.self.Begin(nn.Layout{Batch: b.Rows, QueryLen: b.TargetLen, KeyLen: b.TargetLen, Segments: attn.Lengths(b.Targets, b.Targets)})
	m.read.Begin(nn.Layout{Batch: b.Rows, QueryLen: b.TargetLen, KeyLen: b.SourceLen, Segments: attn.Lengths(b.Targets, b.Sources)})
	return m.decode(t, b.Target, memory, nil)
}

// Loss returns the mean cross-entropy over the labels of b, and the mechanisms' auxiliary losses.
func (m *Transformer) Loss(t *autograd.Tape, b *Batch, smoothing float32, seed uint64) (autograd.Var, error) {
	h, err := m.hidden(t, b, seed)
	if err != nil {
		return autograd.None, err
	}
	h, labels := labelled(t, h, b.Labels)
	loss := t.CrossEntropy(m.project(t, h), labels, smoothing)
	if m.source.Aux != autograd.None {
		loss = t.Add(loss, m.source.Aux)
	}
	return loss, nil
}

// Logits returns the logits of every position of the targets of b.
func (m *Transformer) Logits(t *autograd.Tape, b *Batch) (autograd.Var, error) {
	h, err := m.hidden(t, b, 0)
	if err != nil {
		return autograd.None, err
	}
	return m.project(t, h), nil
}

// state is what a Transformer keeps: of each output the decoder's self-attention, of each source the cross-attention's memory, whose
// width outputs read it as so many queries.
type state struct {
	self, cross []*nn.AttentionState
	length      []int // tokens of each output
	width       int
}

// Start encodes the sources; their keys and values in every decoder layer are computed here, once.
func (m *Transformer) Start(t *autograd.Tape, sources [][]int32, width int) (State, error) {
	tokens, length, segments, err := padded(sources, m.Config.Words)
	if err != nil {
		return nil, err
	}
	if width < 1 {
		return nil, fmt.Errorf("seq2seq: %d outputs a source: want at least 1", width)
	}
	t.Reset()
	m.begin(t, 0)
	rows := len(sources)
	memory, err := m.encode(t, tokens, rows, length, segments)
	if err != nil {
		return nil, err
	}
	s := &state{length: make([]int, rows*width), width: width}
	layout := nn.Layout{Batch: rows, KeyLen: length}
	for _, g := range segments {
		g.Queries = 0
		layout.Segments = append(layout.Segments, g)
	}
	m.read.Begin(layout)
	for i := range m.decoder {
		self, err := m.decoder[i].self.NewState(rows * width)
		if err != nil {
			return nil, fmt.Errorf("seq2seq: decoder layer %d: %w", i, err)
		}
		cross, err := m.decoder[i].cross.NewState(rows)
		if err == nil {
			err = m.decoder[i].cross.Remember(&m.read, cross, memory)
		}
		if err != nil {
			return nil, fmt.Errorf("seq2seq: decoder layer %d: %w", i, err)
		}
		s.self, s.cross = append(s.self, self), append(s.cross, cross)
	}
	return s, nil
}

// Next extends every output by a token.
func (m *Transformer) Next(t *autograd.Tape, st State, tokens []int32) ([]float32, error) {
	s, ok := st.(*state)
	if !ok || len(s.self) != len(m.decoder) {
		return nil, fmt.Errorf("seq2seq: state %T: want one of this model", st)
	}
	if len(tokens) != len(s.length) {
		return nil, fmt.Errorf("seq2seq: %d tokens: want one for each of %d outputs", len(tokens), len(s.length))
	}
	if err := checkTokens(tokens, m.Config.Words); err != nil {
		return nil, err
	}
	t.Reset()
	m.begin(t, 0)
	m.self.Begin(nn.Layout{Batch: len(tokens), QueryLen: 1, KeyLen: 1, Start: s.length})
	m.read.Begin(nn.Layout{Batch: len(tokens) / s.width, QueryLen: s.width})
	h, err := m.decode(t, tokens, autograd.None, s)
	if err != nil {
		return nil, err
	}
	for i := range s.length {
		s.length[i]++
	}
	return t.Value(m.project(t, h)), nil
}

// Reorder makes output i go on from output from[i], one of the same source, so that the memory stays where it is.
func (s *state) Reorder(from []int) error {
	if err := checkOrder(from, len(s.length), s.width); err != nil {
		return err
	}
	for _, l := range s.self {
		if err := l.Reorder(from); err != nil {
			return err
		}
	}
	old := append([]int(nil), s.length...)
	for i, f := range from {
		s.length[i] = old[f]
	}
	return nil
}

func checkOrder(from []int, outputs, width int) error {
	if len(from) != outputs {
		return fmt.Errorf("seq2seq: reorder of %d outputs: want %d", len(from), outputs)
	}
	for i, f := range from {
		if f < 0 || f/width != i/width {
			return fmt.Errorf("seq2seq: output %d from output %d: want one of the same source", i, f)
		}
	}
	return nil
}

// Bytes returns the bytes of all layers' states.
func (s *state) Bytes() int64 {
	n := int64(0)
	for i := range s.self {
		n += s.self[i].Bytes() + s.cross[i].Bytes()
	}
	return n
}
