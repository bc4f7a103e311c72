package sparse

import (
	"encoding/binary"
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// dsaState is a cache with the indexer's keys.
type dsaState struct {
	*tile.Cache
	name  string
	rows  int
	dim   int
	room  int       // tokens that each row has room for
	index []float32 // [rows, room, dim]
	extra [3]attn.View
}

// NewState returns an empty cache of all keys and values, and of the indexer's keys.
func (m dsa) NewState(s attn.Shape) (attn.State, error) {
	c, err := m.Softmax.NewState(m.info.Name, s)
	if err != nil {
		return nil, err
	}
	if s.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: state for mask %v: want causal", m.info.Name, s.Mask)
	}
	return &dsaState{Cache: c.(*tile.Cache), name: m.info.Name, rows: s.Batch, dim: m.o.Dim}, nil
}

// Bytes returns the bytes of all tokens held.
func (s *dsaState) Bytes() int64 {
	n := s.Cache.Bytes()
	for row := range s.rows {
		n += 4 * int64(s.Len(row)) * int64(s.dim)
	}
	return n
}

// grow makes room for n tokens a row.
func (s *dsaState) grow(n int) {
	if n <= s.room {
		return
	}
	room := max(n, 2*s.room, 16)
	x := make([]float32, s.rows*room*s.dim)
	for row := range s.rows {
		copy(x[row*room*s.dim:], s.index[row*s.room*s.dim:(row+1)*s.room*s.dim])
	}
	s.index, s.room = x, room
}

func (s *dsaState) row(row int) []float32 { return s.index[row*s.room*s.dim:][:s.room*s.dim] }

// Reorder makes row i a copy of what row from[i] was.
func (s *dsaState) Reorder(from []int) error {
	if err := s.Cache.Reorder(from); err != nil {
		return err
	}
	s.index = picked(s.index, from)
	return nil
}

// MarshalBinary returns the indexer's keys of each row, behind the cache and its length.
func (s *dsaState) MarshalBinary() ([]byte, error) {
	c, err := s.Cache.MarshalBinary()
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(c))), c...)
	for row := range s.rows {
		for _, x := range s.row(row)[:s.Len(row)*s.dim] {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b, err
}

// UnmarshalBinary reads a state of the same mechanism and shape; on error the state stays as it was.
func (s *dsaState) UnmarshalBinary(data []byte) error {
	if len(data) < 8 || binary.LittleEndian.Uint64(data) > uint64(len(data)-8) {
		return fmt.Errorf("%s: state: %w", s.name, errCut)
	}
	n := 8 + int(binary.LittleEndian.Uint64(data))
	cache, index := data[8:n], data[n:]
	old, err := s.Cache.MarshalBinary()
	if err != nil {
		return err
	}
	if err := s.Cache.UnmarshalBinary(cache); err != nil {
		return err
	}
	tokens, most := 0, 0
	for row := range s.rows {
		tokens, most = tokens+s.Len(row), max(most, s.Len(row))
	}
	if len(index) != 4*tokens*s.dim {
		if err := s.Cache.UnmarshalBinary(old); err != nil {
			return err
		}
		return fmt.Errorf("%s: state: %d bytes of the indexer's keys: want %d", s.name, len(index), 4*tokens*s.dim)
	}
	s.grow(most)
	for row := range s.rows {
		x := s.row(row)[:s.Len(row)*s.dim]
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(index[4*i:]))
		}
		index = index[4*len(x):]
	}
	return nil
}

// Extend appends the call's keys and values and computes its queries.
func (m dsa) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*dsaState)
	if !ok || s == nil {
		return fmt.Errorf("%s: %w: %T", m.info.Name, errState, state)
	}
	call, err := tile.Append(ws, m.info, s.Cache, c)
	if err != nil {
		return err
	}
	s.grow(call.KeyLen)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		at := s.row(g.Row)[(s.Len(g.Row)-g.Keys)*s.dim:]
		for t := range g.Keys {
			copy(at[t*s.dim:], c.Extra[indexK].Row(g.Row, g.Key0+t, 0))
		}
	}
	s.extra = [3]attn.View{c.Extra[indexQ], attn.ViewAs(s.index, s.rows, s.room, 1, s.dim), c.Extra[indexW]}
	call.Extra, call.Saved, call.Aux = s.extra[:], nil, nil
	m.forward(ws, &call)
	return nil
}
