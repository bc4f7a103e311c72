package nn

import (
	"fmt"

	"attnbench/attn"
	"attnbench/autograd"
)

// AttentionState is what an attention layer keeps of the tokens it has seen: the mechanism's state, and what its short convolutions
// and shifts read of the last tokens, which are their raw inputs.
type AttentionState struct {
	State  attn.State
	layer  *Attention
	batch  int
	tails  [][]float32 // of each input with a convolution, [batch, width-1, channels]
	source []float32   // the last token of the layer's input, [batch, width], when an input is shifted
}

// NewState returns an empty state for batch sequences.
func (a *Attention) NewState(batch int) (*AttentionState, error) {
	m, ok := a.Mech.(attn.Incremental)
	if !ok {
		return nil, fmt.Errorf("%s: decode: want a mechanism that decodes", a.Info.Name)
	}
	shape := a.cfg.Shape
	switch shape.Mask {
	case attn.Causal:
	case attn.Cross:
		for i := range a.inputs {
			if in := &a.inputs[i]; in.From == attn.QuerySide && (in.conv != nil || in.shift != nil) {
				return nil, fmt.Errorf("%s: decode under mask %v: input %s reads the queries before: want one that does not", a.Info.Name, shape.Mask, in.Name)
			}
		}
	default:
		return nil, fmt.Errorf("%s: decode under mask %v: want causal or cross", a.Info.Name, shape.Mask)
	}
	shape.Batch = batch
	state, err := m.NewState(shape)
	if err != nil {
		return nil, err
	}
	s := &AttentionState{State: state, layer: a, batch: batch, tails: make([][]float32, len(a.inputs))}
	if shape.Mask == attn.Cross {
		return s, nil // the memory comes at once: nothing goes on from its end
	}
	for i := range a.inputs {
		in := &a.inputs[i]
		if in.conv != nil {
			s.tails[i] = make([]float32, batch*(in.Conv-1)*in.heads*in.width)
		}
		if in.shift != nil && s.source == nil {
			s.source = make([]float32, batch*a.cfg.Dim)
		}
	}
	return s, nil
}

// Bytes returns the bytes that the state retains now, convolution tails included.
func (s *AttentionState) Bytes() int64 { return s.State.Bytes() + s.tailBytes() }

// ReadBytes returns the bytes of state that one more token of every row reads.
func (s *AttentionState) ReadBytes() int64 { return s.State.ReadBytes() + s.tailBytes() }

func (s *AttentionState) tailBytes() int64 {
	n := len(s.source)
	for _, x := range s.tails {
		n += len(x)
	}
	return 4 * int64(n)
}

// Reset empties a row.
func (s *AttentionState) Reset(row int) { s.State.Reset(row) }

// Reorder makes row i a copy of what row from[i] was.
func (s *AttentionState) Reorder(from []int) error {
	if err := s.State.Reorder(from); err != nil {
		return err
	}
	for _, x := range append([][]float32{s.source}, s.tails...) {
		old, n := append([]float32(nil), x...), len(x)/s.batch
		for i, f := range from {
			copy(x[i*n:(i+1)*n], old[f*n:])
		}
	}
	return nil
}

// Remember gives a cross-attention layer's empty state the memory [batch·keys, width] that all later queries of Extend read, so
// that its keys and values are computed once. p is laid out with that many keys and no queries; p.Segments, unless nil,
// say how many keys each row has.
func (a *Attention) Remember(p *Pass, s *AttentionState, memory autograd.Var) error {
	if a.cfg.Shape.Mask != attn.Cross {
		return fmt.Errorf("%s: memory under mask %v: want cross", a.Info.Name, a.cfg.Shape.Mask)
	}
	for row := range s.batch {
		if n := s.State.Len(row); n > 0 {
			return fmt.Errorf("%s: row %d remembers %d tokens: want an empty state", a.Info.Name, row, n)
		}
	}
	_, err := a.extend(p, s, p.Tape.Zeros(0, a.cfg.Dim), memory, nil)
	return err
}

// Extend is Forward for the tokens of x [batch·n, width] that follow those that s has seen. p.Start holds the lengths of
// the rows in s; p.Segments, unless nil, says how many tokens each row brings, from its start on. In cross-attention x asks the
// memory that Remember took, and p is laid out with n queries and no keys.
func (a *Attention) Extend(p *Pass, s *AttentionState, x, add autograd.Var) (autograd.Var, error) {
	memory, going := x, s
	if a.cfg.Shape.Mask == attn.Cross {
		memory, going = p.Tape.Zeros(0, a.cfg.Memory), nil
	}
	o, err := a.extend(p, s, x, memory, going)
	if err != nil {
		return autograd.None, err
	}
	s.keepSource(p, x)
	return a.finish(p.Tape, x, o, add), nil
}

// extend extends the mechanism's state by memory and returns its output for x. Convolutions and shifts go on from going, unless nil.
func (a *Attention) extend(p *Pass, s *AttentionState, x, memory autograd.Var, going *AttentionState) (autograd.Var, error) {
	t := p.Tape
	if !t.NoGrad {
		return autograd.None, fmt.Errorf("%s: decode: want a tape without gradients", a.Info.Name)
	}
	if s.layer != a {
		return autograd.None, fmt.Errorf("%s: decode: want a state of this layer", a.Info.Name)
	}
	if err := a.project(p, x, memory, going); err != nil {
		return autograd.None, err
	}
	return t.Extend(a.call(p), s.State)
}

// eachRow calls f for every row that brings tokens: the index of its first, their number, and how many came before.
func (s *AttentionState) eachRow(p *Pass, f func(row, first, n, before int)) {
	if p.Segments == nil {
		for row := range p.Batch {
			f(row, row*p.KeyLen, p.KeyLen, p.Start[row])
		}
		return
	}
	for _, g := range p.Segments {
		f(g.Row, g.Row*p.KeyLen+g.Key0, g.Keys, p.Start[g.Row])
	}
}

// convolve is the short convolution of input i of raw, which goes on from the tail and leaves its last tokens there.
func (s *AttentionState) convolve(p *Pass, i int, in *input, raw autograd.Var) autograd.Var {
	t := p.Tape
	rows, c := t.Dims(raw)
	out := t.Zeros(rows, c)
	x, y, w, tail := t.Value(raw), t.Value(out), in.conv.W.Data, s.tails[i]
	var bias []float32
	if in.conv.B != nil {
		bias = in.conv.B.Data
	}
	keep := in.Conv - 1
	s.eachRow(p, func(row, first, n, before int) {
		tail := tail[row*keep*c : (row+1)*keep*c] // token -1 is its last row
		at := func(j int) []float32 {             // token j of this call, or one before it
			if j >= 0 {
				return x[(first+j)*c : (first+j+1)*c]
			}
			return tail[(keep+j)*c : (keep+j+1)*c]
		}
		for j := range n {
			row := y[(first+j)*c : (first+j+1)*c]
			autograd.ConvTap(row, bias, nil, nil)
			for k := range min(in.Conv, before+j+1) {
				autograd.ConvTap(row, nil, w[k*c:(k+1)*c], at(j-k))
			}
		}
		for j := range keep { // oldest first: what is read lies at or behind what is written
			copy(tail[j*c:(j+1)*c], at(n-keep+j))
		}
	})
	return out
}

// shift is the token shift of source, which goes on from the last token of the call before.
func (s *AttentionState) shift(p *Pass, in *input, source autograd.Var) autograd.Var {
	t := p.Tape
	rows, c := t.Dims(source)
	out := t.Zeros(rows, c)
	x, y := t.Value(source), t.Value(out)
	s.eachRow(p, func(row, first, n, before int) {
		for j := range n {
			var prev []float32
			switch {
			case j > 0:
				prev = x[(first+j-1)*c : (first+j)*c]
			case before > 0:
				prev = s.source[row*c : (row+1)*c]
			}
			autograd.ShiftToken(y[(first+j)*c:(first+j+1)*c], x[(first+j)*c:(first+j+1)*c], prev, in.shift.Data)
		}
	})
	return out
}

func (s *AttentionState) keepSource(p *Pass, x autograd.Var) {
	if s.source == nil {
		return
	}
	_, c := p.Tape.Dims(x)
	v := p.Tape.Value(x)
	s.eachRow(p, func(row, first, n, _ int) {
		if n > 0 {
			copy(s.source[row*c:(row+1)*c], v[(first+n-1)*c:(first+n)*c])
		}
	})
}
