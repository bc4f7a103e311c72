package attntest

import (
	"encoding/binary"
	"fmt"
	"math"

	"attnbench/attn"
)

// softState keeps the last keys and values of each row in a ring.
type softState struct {
	m     soft
	shape attn.Shape
	rows  []softRow
}

type softRow struct {
	seen int
	data []float32 // [held, kv heads, key dim + value dim], a ring when there is a window
}

func (m soft) NewState(s attn.Shape) (attn.State, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if m.Window > 0 && s.Mask != attn.Causal {
		return nil, fmt.Errorf("soft: mask is %v: want causal", s.Mask)
	}
	return &softState{m, s, make([]softRow, s.Batch)}, nil
}

func (s *softState) width() int { return s.shape.KVHeads * (s.shape.KeyDim + s.shape.ValueDim) }

func (s *softState) append(row int, c *attn.Call, t int) {
	r, w := &s.rows[row], s.width()
	at := r.seen
	if s.m.Window > 0 {
		at %= s.m.Window
		if s.m.fault == "ring wrong when it first fills" && r.seen >= s.m.Window {
			at = (at + 1) % s.m.Window
		}
	}
	if at*w == len(r.data) {
		if len(r.data)+w > cap(r.data) {
			bigger := make([]float32, len(r.data), 2*len(r.data)+8*w)
			copy(bigger, r.data)
			r.data = bigger
		}
		r.data = r.data[:len(r.data)+w]
	}
	x := r.data[at*w:][:w]
	for kv := range c.KVHeads {
		n := copy(x, c.K.Row(row, t, kv))
		n += copy(x[n:], c.V.Row(row, t, kv))
		x = x[n:]
	}
	r.seen++
}

func (m soft) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := m.check(m.info, c); err != nil {
		return err
	}
	s, ok := state.(*softState)
	if !ok || s == nil || s.shape.Batch != c.Batch || s.shape.KVHeads != c.KVHeads || s.shape.KeyDim != c.KeyDim || s.shape.ValueDim != c.ValueDim {
		return fmt.Errorf("soft: state does not fit the call: want one of NewState with its shape")
	}
	c.ZeroPadding()
	most := 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		most = max(most, m.held(s.rows[g.Row].seen+g.Keys))
		if c.Mask == attn.Causal && g.Queries > g.Keys {
			return fmt.Errorf("soft: segment %d: %d queries for %d keys: want no more of them", i, g.Queries, g.Keys)
		}
	}
	mark := ws.Mark()
	scratch := ws.Floats(most)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for t := range g.Keys {
			s.append(g.Row, c, g.Key0+t)
			if q := t - g.Offset(); c.Mask == attn.Causal && q >= 0 {
				s.ask(scratch, c, g, q)
			}
		}
		if c.Mask != attn.Causal {
			for q := range g.Queries {
				s.ask(scratch, c, g, q)
			}
		}
	}
	ws.Release(mark)
	return nil
}

// ask computes query i over the tokens of its row.
func (s *softState) ask(scratch []float32, c *attn.Call, g attn.Segment, i int) {
	r, w := &s.rows[g.Row], s.width()
	held := len(r.data) / w
	p := scratch[:held]
	root, d := float32(math.Sqrt(float64(c.KeyDim))), c.KeyDim+c.ValueDim
	from := 0
	if s.m.fault == "window one key short at decode" && s.m.Window > 0 && r.seen >= s.m.Window {
		from = 1
	}
	oldest := 0 // where the ring starts
	if s.m.Window > 0 && r.seen >= s.m.Window {
		oldest = r.seen % s.m.Window
	}
	for h := range c.Heads {
		kv := c.KVHead(h)
		for j := range p {
			k := r.data[(oldest+j)%held*w+kv*d:][:d]
			p[j] = dot(c.Q.Row(g.Row, g.Query0+i, h), k[:c.KeyDim]) / root
			if j < from {
				p[j] = float32(math.Inf(-1))
			}
		}
		keepTop(p, s.m.Top, false)
		softmax(p)
		out := c.Out.Row(g.Row, g.Query0+i, h)
		clear(out)
		for j, x := range p {
			if x < 0 {
				continue
			}
			for n, v := range r.data[(oldest+j)%held*w+kv*d+c.KeyDim:][:c.ValueDim] {
				out[n] += x * v
			}
		}
	}
}

func (s *softState) Len(row int) int { return s.rows[row].seen }
func (s *softState) Bytes() (n int64) {
	for _, r := range s.rows {
		n += 4 * int64(len(r.data))
	}
	return n
}
func (s *softState) ReadBytes() int64 { return s.Bytes() }
func (s *softState) Reset(row int) {
	if s.m.fault != "state not reset" {
		s.rows[row].seen, s.rows[row].data = 0, s.rows[row].data[:0]
		return
	}
	s.rows[row].seen = 0
}

func (s *softState) Reorder(from []int) error {
	if len(from) != len(s.rows) {
		return fmt.Errorf("soft: reorder of %d rows: want %d", len(from), len(s.rows))
	}
	rows := make([]softRow, len(from))
	for i, f := range from {
		if f < 0 || f >= len(rows) {
			return fmt.Errorf("soft: reorder from row %d: want 0 to %d", f, len(rows)-1)
		}
		rows[i] = softRow{s.rows[f].seen, append([]float32(nil), s.rows[f].data...)}
		if s.m.fault == "reorder shares rows" {
			rows[i] = s.rows[f]
			if f == 0 {
				rows[i].data = append([]float32(nil), s.rows[1].data...)[:len(s.rows[f].data)]
			}
		}
	}
	s.rows = rows
	return nil
}

func (s *softState) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(nil, uint64(len(s.rows)))
	for _, r := range s.rows {
		b = binary.AppendUvarint(b, uint64(r.seen))
		b = binary.AppendUvarint(b, uint64(len(r.data)))
		for _, x := range r.data {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b, nil
}

func (s *softState) UnmarshalBinary(b []byte) error {
	next := func() int {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > 1<<30 {
			b = nil
			return -1
		}
		b = b[size:]
		return int(n)
	}
	bad := fmt.Errorf("soft: state data is cut or of another shape")
	if next() != len(s.rows) {
		return bad
	}
	rows := make([]softRow, len(s.rows))
	for i := range rows {
		seen, n := next(), next()
		if seen < 0 || n != s.m.held(seen)*s.width() || len(b) < 4*n {
			return bad
		}
		rows[i] = softRow{seen, make([]float32, n)}
		for j := range n {
			rows[i].data[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
		}
		b = b[4*n:]
	}
	if len(b) > 0 && s.m.fault != "trailing bytes accepted" {
		return bad
	}
	s.rows = rows
	return nil
}
