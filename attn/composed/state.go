package composed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"attnbench/attn"
)

// cache is the decoding state: the memory-side inputs of all tokens so far, head-major.
type cache struct {
	mech     *mechanism
	shape    attn.Shape // of the state; lengths 0
	length   []int      // tokens, by row
	capacity int        // tokens that every row has room for
	parts    []part
	segments []attn.Segment // of the call that Extend makes
	extra    []attn.View
}

// part holds one input, [batch, heads, capacity, width].
type part struct {
	input        int // in Info.Inputs
	heads, width int
	data         []float32
}

// NewState returns an empty state for s.Batch sequences.
func (m *mechanism) NewState(s attn.Shape) (attn.State, error) {
	s.QueryLen, s.KeyLen = 0, 0
	err := s.Check()
	if err == nil && m.info.CheckShape != nil {
		err = m.info.CheckShape(s)
	}
	if err == nil && (s.Mask == attn.Bidirectional || m.info.Masks&s.Mask == 0) {
		err = fmt.Errorf("state for mask %v: want %v", s.Mask, m.info.Masks&^attn.Bidirectional)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.info.Name, err)
	}
	c := &cache{mech: m, shape: s, length: make([]int, s.Batch)}
	for i := range m.info.Inputs {
		if in := &m.info.Inputs[i]; in.From != attn.QuerySide {
			heads, width := in.Size(s)
			c.parts = append(c.parts, part{input: i, heads: heads, width: width})
		}
	}
	return c, nil
}

// Len returns the number of tokens that row has seen.
func (c *cache) Len(row int) int { return c.length[row] }

// Bytes returns the bytes of all tokens held; room for tokens to come is not counted.
func (c *cache) Bytes() int64 {
	n := int64(0)
	for _, l := range c.length {
		n += int64(l)
	}
	return n * c.tokenBytes()
}

// ReadBytes is Bytes: the author's function sees every token.
func (c *cache) ReadBytes() int64 { return c.Bytes() }

func (c *cache) tokenBytes() int64 {
	n := 0
	for _, p := range c.parts {
		n += p.heads * p.width
	}
	return 4 * int64(n)
}

// Reset empties a row.
func (c *cache) Reset(row int) { c.length[row] = 0 }

// Reorder makes row i a copy of what row from[i] was.
func (c *cache) Reorder(from []int) error {
	if len(from) != c.shape.Batch {
		return fmt.Errorf("%s: reorder of %d rows: want %d", c.mech.info.Name, len(from), c.shape.Batch)
	}
	for _, f := range from {
		if f < 0 || f >= c.shape.Batch {
			return fmt.Errorf("%s: reorder from row %d: want 0 to %d", c.mech.info.Name, f, c.shape.Batch-1)
		}
	}
	length := make([]int, len(from))
	for i, f := range from {
		length[i] = c.length[f]
	}
	for k := range c.parts {
		p := &c.parts[k]
		data, row := make([]float32, len(p.data)), p.heads*c.capacity*p.width
		for i, f := range from {
			copy(data[i*row:(i+1)*row], p.data[f*row:])
		}
		p.data = data
	}
	c.length = length
	return nil
}

// grow makes room for n tokens a row.
func (c *cache) grow(n int) {
	if n <= c.capacity {
		return
	}
	room := max(n, 2*c.capacity, 16)
	if most := c.shape.MaxLen; n <= most {
		room = most // as announced: no growth, no garbage on the way
	}
	for k := range c.parts {
		p := &c.parts[k]
		data := make([]float32, c.shape.Batch*p.heads*room*p.width)
		for i := range c.shape.Batch * p.heads {
			copy(data[i*room*p.width:], p.data[i*c.capacity*p.width:(i+1)*c.capacity*p.width])
		}
		p.data = data
	}
	c.capacity = room
}

func (c *cache) view(p *part) attn.View {
	return attn.View{
		Data: p.data, Batch: c.shape.Batch, Time: c.capacity, Heads: p.heads, Dim: p.width,
		BatchStride: p.heads * c.capacity * p.width, TimeStride: p.width, HeadStride: c.capacity * p.width,
	}
}

// fits reports why the call cannot extend the state.
func (c *cache) fits(call *attn.Call) error {
	for _, d := range []struct {
		what      string
		got, want int
	}{
		{"batch", call.Batch, c.shape.Batch}, {"heads", call.Heads, c.shape.Heads}, {"key/value heads", call.KVHeads, c.shape.KVHeads},
		{"key dim", call.KeyDim, c.shape.KeyDim}, {"value dim", call.ValueDim, c.shape.ValueDim}, {"layer", call.Layer, c.shape.Layer},
	} {
		if d.got != d.want {
			return fmt.Errorf("%s is %d: the state wants %d", d.what, d.got, d.want)
		}
	}
	if call.Mask == attn.Bidirectional {
		return errors.New("mask is bidirectional: decoding wants causal or cross")
	}
	for i := 1; i < len(call.Segments); i++ {
		if call.Segments[i].Row == call.Segments[i-1].Row {
			return fmt.Errorf("segment %d: second of row %d: want one a row when decoding", i, call.Segments[i].Row)
		}
	}
	return nil
}

// Extend appends the call's keys to the state and computes its queries over all tokens held.
func (m *mechanism) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	s, ok := state.(*cache)
	if !ok || s == nil || s.mech.info.Name != m.info.Name {
		return fmt.Errorf("%s: state is a %T: want one of its own", m.info.Name, state)
	}
	if err := s.fits(c); err != nil {
		return fmt.Errorf("%s: %w", m.info.Name, err)
	}
	most := s.capacity
	for i := range c.NumSegments() {
		g := c.Segment(i)
		most = max(most, s.length[g.Row]+g.Keys)
	}
	s.grow(most)
	c.ZeroPadding()
	all := *c // the same queries over the keys of the state
	s.segments = s.segments[:0]
	for i := range c.NumSegments() {
		g := c.Segment(i)
		s.append(c, g)
		g.Key0, g.Keys = 0, s.length[g.Row]
		s.segments = append(s.segments, g)
	}
	all.Segments, all.KeyLen, s.extra = s.segments, s.capacity, append(s.extra[:0], c.Extra...)
	all.Extra = s.extra
	for k := range s.parts {
		p := &s.parts[k]
		view := s.view(p)
		if c.Input(m.info, p.input).Empty() {
			view = attn.View{}
		}
		all.SetInput(m.info, p.input, view)
	}
	r := m.take(ws)
	defer m.put(r)
	for _, g := range s.segments {
		for h := range c.Heads {
			mark := ws.Mark()
			r.tape.Attach(ws)
			m.headForward(r, &all, g, h)
			ws.Release(mark)
		}
	}
	s.extra = s.extra[:0]
	return nil
}

// append copies the keys of segment g of the call to the end of its row.
func (c *cache) append(call *attn.Call, g attn.Segment) {
	at := c.length[g.Row]
	for k := range c.parts {
		p := &c.parts[k]
		src, dst := call.Input(c.mech.info, p.input), c.view(p)
		if src.Empty() {
			continue
		}
		for h := range p.heads {
			for j := range g.Keys {
				copy(dst.Row(g.Row, at+j, h), src.Row(g.Row, g.Key0+j, h))
			}
		}
	}
	c.length[g.Row] = at + g.Keys
}

const magic = "attncomp1"

// header returns what two states must share to read each other's bytes.
func (c *cache) header() [6]int {
	s := c.shape
	return [6]int{s.Batch, s.Heads, s.KVHeads, s.KeyDim, s.ValueDim, s.Layer}
}

// MarshalBinary returns the whole state, little-endian: name, sizes, lengths, and each input's tokens by row and head.
func (c *cache) MarshalBinary() ([]byte, error) {
	name := c.mech.info.Name
	b := append([]byte(magic), byte(len(name)>>8), byte(len(name)))
	b = append(b, name...)
	for _, n := range c.header() {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, n := range c.length {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for k := range c.parts {
		v := c.view(&c.parts[k])
		for row, n := range c.length {
			for h := range v.Heads {
				for j := range n {
					for _, x := range v.Row(row, j, h) {
						b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
					}
				}
			}
		}
	}
	return b, nil
}

// UnmarshalBinary reads a state of the same mechanism and shape; on error the state stays as it was.
func (c *cache) UnmarshalBinary(data []byte) error {
	if err := c.unmarshal(data); err != nil {
		return fmt.Errorf("%s: state: %w", c.mech.info.Name, err)
	}
	return nil
}

func (c *cache) unmarshal(data []byte) error {
	name := c.mech.info.Name
	head := append([]byte(magic), byte(len(name)>>8), byte(len(name)))
	head = append(head, name...)
	if len(data) < len(head) || string(data[:len(head)]) != string(head) {
		return fmt.Errorf("unknown format, or of another mechanism: want the bytes of MarshalBinary of %s", name)
	}
	data = data[len(head):]
	sizes := c.header()
	if len(data)/8 < len(sizes)+c.shape.Batch {
		return errors.New("cut short: want the bytes of MarshalBinary")
	}
	for i, want := range sizes {
		if got := binary.LittleEndian.Uint64(data[8*i:]); got != uint64(want) {
			return fmt.Errorf("%s is %d: want %d", [...]string{"batch", "heads", "key/value heads", "key dim", "value dim", "layer"}[i], got, want)
		}
	}
	data = data[8*len(sizes):]
	length, most, total := make([]int, c.shape.Batch), 0, uint64(0)
	room := uint64(len(data) - 8*len(length)) // every token takes at least a byte of it, or none has any
	for i := range length {
		n := binary.LittleEndian.Uint64(data[8*i:])
		if total += n; n > room || total > room {
			return fmt.Errorf("length of row %d is %d: more than the bytes hold", i, n)
		}
		length[i] = int(n)
		most = max(most, int(n))
	}
	data = data[8*len(length):]
	if want := total * uint64(c.tokenBytes()); uint64(len(data)) != want {
		return fmt.Errorf("%d bytes of tokens: want %d", len(data), want)
	}
	c.grow(most)
	for k := range c.parts {
		v := c.view(&c.parts[k])
		for row, n := range length {
			for h := range v.Heads {
				for j := range n {
					x := v.Row(row, j, h)
					for e := range x {
						x[e] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*e:]))
					}
					data = data[4*len(x):]
				}
			}
		}
	}
	copy(c.length, length)
	return nil
}
