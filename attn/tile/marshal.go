package tile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const cacheMagic = "attnkv02"

// header returns the sizes that two caches must share to read each other's bytes.
func (s *Cache) header() [8]int {
	h := s.shape
	return [8]int{h.Batch, h.Heads, h.KVHeads, h.KeyDim, h.ValueDim, h.Layer, s.softmax.Window, s.softmax.Sinks}
}

// MarshalBinary returns the whole state: a header, the length of each row, and the tokens held,
// in little-endian order.
func (s *Cache) MarshalBinary() ([]byte, error) {
	b := append([]byte(cacheMagic), byte(len(s.name)>>8), byte(len(s.name)))
	b = append(b, s.name...)
	for _, n := range s.header() {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, n := range s.length {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, x := range s.views() {
		for row := range x.Batch {
			for h := range x.Heads {
				for j := range s.softmax.held(s.length[row]) {
					b = appendFloats(b, x.Row(row, j, h))
				}
			}
		}
	}
	return b, nil
}

func appendFloats(b []byte, x []float32) []byte {
	for _, f := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// UnmarshalBinary reads a state of the same mechanism and shape; on error the state stays as it was.
func (s *Cache) UnmarshalBinary(data []byte) error {
	if err := s.unmarshal(data); err != nil {
		return fmt.Errorf("%s: state: %w", s.name, err)
	}
	return nil
}

var errShort = errors.New("cut short: want the bytes of MarshalBinary")

func (s *Cache) unmarshal(data []byte) error {
	n := len(cacheMagic)
	if len(data) < n+2 || string(data[:n]) != cacheMagic {
		return errors.New("unknown format: want the bytes of MarshalBinary")
	}
	size := int(data[n])<<8 | int(data[n+1])
	data = data[n+2:]
	if len(data) < size {
		return errShort
	}
	if name := string(data[:size]); name != s.name {
		return fmt.Errorf("written by %q: want %q", name, s.name)
	}
	data = data[size:]
	if len(data)/8 < len(s.header())+s.shape.Batch {
		return errShort
	}
	for i, want := range s.header() {
		if got := binary.LittleEndian.Uint64(data[8*i:]); got != uint64(want) {
			what := [...]string{"batch", "heads", "key/value heads", "key dim", "value dim", "layer", "window", "sinks"}[i]
			return fmt.Errorf("%s is %d: want %d", what, got, want)
		}
	}
	data = data[8*len(s.header()):]
	length, most := make([]int, s.shape.Batch), 0
	room := uint64(len(data)-8*len(length)) / uint64(s.tokenBytes())
	total := uint64(0)
	for i := range length {
		n := binary.LittleEndian.Uint64(data[8*i:])
		if n > math.MaxInt64/4 {
			return fmt.Errorf("length of row %d is %d: want what fits in memory", i, n)
		}
		length[i] = int(n)
		held := s.softmax.held(length[i])
		most = max(most, held)
		if total += uint64(held); total > room {
			return errShort
		}
	}
	data = data[8*len(length):]
	if want := total * uint64(s.tokenBytes()); uint64(len(data)) != want {
		return fmt.Errorf("%d bytes of tokens: want %d", len(data), want)
	}
	s.grow(most)
	for _, x := range s.views() {
		for row := range x.Batch {
			for h := range x.Heads {
				for j := range s.softmax.held(length[row]) {
					data = readFloats(x.Row(row, j, h), data)
				}
			}
		}
	}
	copy(s.length, length)
	for row, n := range length {
		for h := range s.shape.KVHeads {
			s.summarise(row, h, 0, n)
		}
	}
	return nil
}

func readFloats(x []float32, b []byte) []byte {
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return b[4*len(x):]
}
