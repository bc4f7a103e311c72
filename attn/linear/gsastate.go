package linear

import (
	"encoding/binary"
	"errors"
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// gsaState is the decoding state of gated slot attention: the slots' keys and values.
type gsaState struct {
	name  string
	shape attn.Shape
	parts [2]*tile.RecurState
}

func (m gsa) NewState(s attn.Shape) (attn.State, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", m.info.Name, err)
	}
	keys, err := m.keys.NewState(m.info.Name, m.inner(s, 0))
	if err != nil {
		return nil, err
	}
	values, err := m.values.NewState(m.info.Name, m.inner(s, 1))
	if err != nil {
		return nil, err
	}
	return &gsaState{m.info.Name, s, [2]*tile.RecurState{keys, values}}, nil
}

func (m gsa) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	s, err := stateFor[*gsaState](m.info.Name, state)
	if err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	w, n := m.begin(ws, c), m.slots(c.Shape)
	w.weights(ws.Floats(c.Batch*c.QueryLen*c.Heads*n), n)
	for i := range w.calls {
		w.calls[i].Initial, w.calls[i].Final = c.Initial, c.Final
	}
	if err := errors.Join(s.parts[0].Admits(&m.keys, &w.calls[0]), s.parts[1].Admits(&m.values, &w.calls[1])); err != nil {
		return err
	}
	r, at := m.leg(ws, c.Shape, attn.PassDecode, m.keys, 0, attn.PassDecode)
	if err := r.Extend(ws, s.parts[0], &w.calls[0]); err != nil {
		return err
	}
	ws.Release(at)
	w.softmax(ws)
	r, at = m.leg(ws, c.Shape, attn.PassDecode, m.values, 1, attn.PassDecode)
	err = r.Extend(ws, s.parts[1], &w.calls[1])
	ws.Release(at)
	*w = gsaWork{}
	return err
}

func (s *gsaState) Len(row int) int  { return s.parts[0].Len(row) }
func (s *gsaState) Bytes() int64     { return s.parts[0].Bytes() + s.parts[1].Bytes() }
func (s *gsaState) ReadBytes() int64 { return s.Bytes() }

func (s *gsaState) Reset(row int) {
	s.parts[0].Reset(row)
	s.parts[1].Reset(row)
}

func (s *gsaState) Reorder(from []int) error {
	if err := s.parts[0].Reorder(from); err != nil {
		return err
	}
	return s.parts[1].Reorder(from)
}

// MarshalBinary writes the states of both, the first after its length.
func (s *gsaState) MarshalBinary() ([]byte, error) {
	keys, err := s.parts[0].MarshalBinary()
	if err != nil {
		return nil, err
	}
	values, err := s.parts[1].MarshalBinary()
	if err != nil {
		return nil, err
	}
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(keys)))
	return append(append(data, keys...), values...), nil
}

func (s *gsaState) UnmarshalBinary(data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("%s: state: %d bytes: want a length first", s.name, len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if data = data[8:]; n > uint64(len(data)) {
		return fmt.Errorf("%s: state: keys of %d bytes in %d", s.name, n, len(data))
	}
	old, err := s.parts[0].MarshalBinary()
	if err != nil {
		return err
	}
	if err := s.parts[0].UnmarshalBinary(data[:n]); err != nil {
		return err
	}
	if err := s.parts[1].UnmarshalBinary(data[n:]); err != nil {
		return errors.Join(err, s.parts[0].UnmarshalBinary(old))
	}
	return nil
}
