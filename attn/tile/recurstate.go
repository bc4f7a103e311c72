package tile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// recurStep is the number of new tokens of a row from which on Extend works by chunks, not token
// by token.
const recurStep = 16

// RecurState is the decoding state of a Recurrence: constant in size, whatever the length.
type RecurState struct {
	r     *Recurrence
	name  string
	shape attn.Shape
	lens  []int
	x     []float32 // [batch, Carry]
}

// NewState returns an empty state for shape.Batch sequences of the mechanism name.
func (r *Recurrence) NewState(name string, shape attn.Shape) (*RecurState, error) {
	if err := shape.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if shape.Mask == attn.Bidirectional || r.Decay != NoDecay && shape.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: decoding with mask %v: want causal%s", name, shape.Mask, map[bool]string{false: " or cross"}[r.Decay != NoDecay])
	}
	return &RecurState{
		r: r, name: name, shape: shape,
		lens: make([]int, shape.Batch), x: make([]float32, shape.Batch*r.Carry(shape)),
	}, nil
}

func (s *RecurState) Len(row int) int { return s.lens[row] }

// Bytes counts the numbers of the states, not the lengths.
func (s *RecurState) Bytes() int64 { return 4 * int64(len(s.x)) }

func (s *RecurState) ReadBytes() int64 { return s.Bytes() }

func (s *RecurState) row(i int) []float32 {
	n := s.r.Carry(s.shape)
	return s.x[i*n : (i+1)*n]
}

func (s *RecurState) Reset(row int) {
	s.lens[row] = 0
	clear(s.row(row))
}

func (s *RecurState) Reorder(from []int) error {
	if len(from) != len(s.lens) {
		return fmt.Errorf("%s: reorder of %d rows: want %d", s.name, len(from), len(s.lens))
	}
	for i, f := range from {
		if f < 0 || f >= len(s.lens) {
			return fmt.Errorf("%s: reorder: row %d from %d: want 0 to %d", s.name, i, f, len(s.lens)-1)
		}
	}
	x := append([]float32(nil), s.x...)
	lens := append([]int(nil), s.lens...)
	n := s.r.Carry(s.shape)
	for i, f := range from {
		copy(s.row(i), x[f*n:][:n])
		s.lens[i] = lens[f]
	}
	return nil
}

// recurMagic begins a serialised state.
const recurMagic = "attnbench recurrent state 1\n"

// MarshalBinary writes the mechanism's name, the shape, the lengths and the numbers, little endian.
func (s *RecurState) MarshalBinary() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(recurMagic)
	b.WriteString(s.name + "\n")
	for _, n := range s.sizes() {
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	for _, n := range s.lens {
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	for _, x := range s.x {
		b.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)))
	}
	return b.Bytes(), nil
}

func (s *RecurState) sizes() []int {
	return []int{s.shape.Batch, s.shape.KVHeads, s.shape.KeyDim, s.shape.ValueDim}
}

func (s *RecurState) UnmarshalBinary(data []byte) error {
	if err := s.unmarshal(data); err != nil {
		return fmt.Errorf("%s: state: %w", s.name, err)
	}
	return nil
}

func (s *RecurState) unmarshal(data []byte) error {
	data, ok := bytes.CutPrefix(data, []byte(recurMagic))
	if !ok {
		return errors.New("not a recurrent state of this version")
	}
	name, data, ok := bytes.Cut(data, []byte("\n"))
	if !ok || string(name) != s.name {
		return fmt.Errorf("of mechanism %.80q: want %q", name, s.name)
	}
	if want := 8*(4+len(s.lens)) + 4*len(s.x); len(data) != want {
		return fmt.Errorf("%d bytes: want %d", len(data), want)
	}
	next := func() uint64 {
		n := binary.LittleEndian.Uint64(data)
		data = data[8:]
		return n
	}
	for i, want := range s.sizes() {
		if got := next(); got != uint64(want) {
			return fmt.Errorf("%s is %d: want %d", [...]string{"batch", "key/value heads", "key dim", "value dim"}[i], got, want)
		}
	}
	lens := make([]int, len(s.lens))
	for i := range lens {
		n := next()
		if n > math.MaxInt64 {
			return fmt.Errorf("row %d: a length out of range: want at least 0", i)
		}
		lens[i] = int(n)
	}
	for i := range s.x {
		s.x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	copy(s.lens, lens)
	return nil
}

// Extend appends the call's tokens to the state and computes c.Out, for a call that has passed
// Check.
func (r *Recurrence) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*RecurState)
	if !ok {
		return fmt.Errorf("state of type %T: want one that NewState made", state)
	}
	if err := s.Admits(r, c); err != nil {
		return err
	}
	c.ZeroPadding()
	a := r.args(c)
	a.initial, a.final, a.lens, a.byRow = s.x, s.x, s.lens, true
	chunked := 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if c.Mask != attn.Causal || g.Keys >= recurStep {
			chunked++
		}
		if c.Mask == attn.Causal && g.Offset() < 0 {
			zeroQueries(c, g)
			a.readBefore(ws, i)
		}
	}
	switch chunked {
	case c.NumSegments():
		r.forward(ws, a)
	case 0:
		attn.Parallel(ws, c.NumSegments()*c.KVHeads, r.reserve(r.stepFloats(c.Shape)), a, stepTask)
	default: // the same bits for each row as if it were alone
		a.plan(ws)
		attn.Parallel(ws, c.NumSegments()*c.KVHeads, r.reserve(max(r.stepFloats(c.Shape), r.forwardFloats(c.Shape))), a,
			func(s *attn.Scratch, a *recurArgs, task int) {
				if a.c.Segment(task/a.c.KVHeads).Keys >= recurStep {
					a.segment(s, task/a.c.KVHeads, task%a.c.KVHeads, task%a.c.KVHeads+1, 0, a.c.ValueDim)
				} else {
					stepTask(s, a, task)
				}
			})
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		s.lens[g.Row] += g.Keys
	}
	return nil
}

func (r *Recurrence) stepFloats(s attn.Shape) int {
	return attn.ScratchFloats(s.KeyDim, s.KeyDim, s.KeyDim)
}

// stepTask takes the tokens of one head of one row one at a time.
func stepTask(s *attn.Scratch, a *recurArgs, task int) {
	c := a.c
	i, kv := task/c.KVHeads, task%c.KVHeads
	g := c.Segment(i)
	dk, dv, group := c.KeyDim, c.ValueDim, c.Heads/c.KVHeads
	x, decay, own := s.Floats(dk), s.Floats(dk), s.Floats(dk)
	state := a.state(a.final, i, kv)
	m := kernel.Rows(state, dv)
	read := func(q int) {
		for h := kv * group; h < (kv+1)*group && q >= 0; h++ {
			a.read(c.Out.Row(g.Row, g.Query0+q, h), x, c.Q.Row(g.Row, g.Query0+q, h*c.Q.Heads/c.Heads), state)
			if a.Own != OwnNothing {
				a.addOwn(own, g, kv, h, q, 0, dv)
			}
		}
	}
	for j := range g.Keys {
		if a.Before {
			read(j - g.Offset())
		}
		a.feature(kernel.Rows(x, dk), kernel.Rows(c.K.Row(g.Row, g.Key0+j, kv*c.K.Heads/c.KVHeads), dk), 1, dk)
		if a.Write {
			kernel.Scale(c.Extra[1].Row(g.Row, g.Key0+j, kv)[0], x)
		}
		v := c.V.Row(g.Row, g.Key0+j, kv)
		if a.Decay != NoDecay {
			decays(decay, c.Extra[0].Row(g.Row, g.Key0+j, kv), m, dv)
			kernel.Update(m, decay, x, v)
			a.flush(state, a.lens[g.Row]+j, 1)
		} else {
			kernel.Update(m, nil, x, v)
		}
		if a.Normalize {
			kernel.Axpy(1, x, state[dk*dv:])
		}
		if !a.Before {
			read(j - g.Offset())
		}
	}
}

// decays writes e^g to decay. A decay so weak that float32 would round much of it off is applied to its
// row of the state here, as s + s·(e^g-1), and 1 is written.
func decays(decay, g []float32, state kernel.Mat, dv int) {
	for i := range decay {
		decay[i] = g[min(i, len(g)-1)]
	}
	kernel.Exp(decay)
	for i := range decay {
		if g := g[min(i, len(g)-1)]; g > -1.0/1024 && g < 0 {
			row := state.Data[i*state.Row:][:dv]
			kernel.Axpy(float32(math.Expm1(float64(g))), row, row)
			decay[i] = 1
		}
	}
}

// read computes one output from a state; x is scratch for φ(q).
func (r *Recurrence) read(out, x, q, state []float32) {
	dk, dv := len(q), len(out)
	if r.Dual {
		kernel.Dots(out, q, kernel.Rows(state, dk), dv)
		kernel.Scale(r.Scale, out)
		return
	}
	r.feature(kernel.Rows(x, dk), kernel.Rows(q, dk), 1, dk)
	clear(out)
	kernel.Combine(out, x, kernel.Rows(state, dv))
	f := r.Scale
	if r.Normalize {
		f = r.factor(kernel.Dot(x, state[dk*dv:]))
	}
	kernel.Scale(f, out)
}

// Admits reports a call by which Extend would not extend the state, as an error.
func (s *RecurState) Admits(r *Recurrence, c *attn.Call) error {
	if err := s.admits(*r, c); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

func (s *RecurState) admits(r Recurrence, c *attn.Call) error {
	if r.Reserve = s.r.Reserve; *s.r != r {
		return errors.New("state of other options: want one that this mechanism's NewState made")
	}
	a, b := s.shape, c.Shape
	if a.Batch != b.Batch || a.Heads != b.Heads || a.KVHeads != b.KVHeads || a.KeyDim != b.KeyDim || a.ValueDim != b.ValueDim || a.Mask != b.Mask {
		return fmt.Errorf("state of batch %d, heads %d/%d, dims %d/%d, mask %v: the call has %d, %d/%d, %d/%d, %v",
			a.Batch, a.Heads, a.KVHeads, a.KeyDim, a.ValueDim, a.Mask, b.Batch, b.Heads, b.KVHeads, b.KeyDim, b.ValueDim, b.Mask)
	}
	if c.Saved != nil || c.Initial != nil || c.Final != nil {
		return errors.New("extend with saved, initial or final: want none of them")
	}
	row := -1
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row == row {
			return fmt.Errorf("segment %d: row %d twice: want one segment a row", i, row)
		}
		row = g.Row
		if (r.Before || r.Own != OwnNothing) && g.Offset() < 0 && s.lens[row] > 0 {
			return fmt.Errorf("segment %d: %d queries for %d new keys: a recurrent state cannot look back, want no more queries than keys", i, g.Queries, g.Keys)
		}
		if c.Mask == attn.Causal && g.Offset() < -1 && s.lens[row] > 1 {
			return fmt.Errorf("segment %d: %d queries for %d new keys: a recurrent state cannot look back, want at most one more", i, g.Queries, g.Keys)
		}
	}
	return nil
}

// readBefore computes the output of the query of segment i that sees the state as it is before the
// call's keys, if there is one.
func (a *recurArgs) readBefore(ws *attn.Workspace, i int) {
	c, g := a.c, a.c.Segment(i)
	q := -1 - g.Offset()
	if q >= g.Queries || a.lens[g.Row] == 0 {
		return
	}
	mark := ws.Mark()
	x := ws.Floats(c.KeyDim)
	for h := range c.Heads {
		a.read(c.Out.Row(g.Row, g.Query0+q, h), x, c.Q.Row(g.Row, g.Query0+q, h*c.Q.Heads/c.Heads), a.state(a.initial, i, c.KVHead(h)))
	}
	ws.Release(mark)
}

// Numbers returns the states of all rows, [batch, Carry], in the layout of Call.Initial. They are not to be changed.
func (s *RecurState) Numbers() []float32 { return s.x }

// Holds reports whether row is one that has seen tokens.
func (s *RecurState) Holds(row int) bool { return row >= 0 && row < len(s.lens) && s.lens[row] > 0 }
