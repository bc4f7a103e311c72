package sparse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const keptMagic = "attnkp01"

// header returns the sizes that two states must share to read each other's bytes.
func (s *kept) header() [6]int {
	h := s.shape
	return [6]int{h.Batch, h.Heads, h.KVHeads, h.KeyDim, h.ValueDim, h.Layer}
}

// MarshalBinary returns the whole state, little-endian: name, sizes, what is known of each row, and what it keeps, head by head.
func (s *kept) MarshalBinary() ([]byte, error) {
	b := append([]byte(keptMagic), byte(len(s.name)>>8), byte(len(s.name)))
	b = append(b, s.name...)
	for _, n := range s.header() {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for row := range s.seen {
		ended := uint64(0)
		if s.ended[row] {
			ended = 1
		}
		for _, n := range []uint64{uint64(s.seen[row]), uint64(s.held[row]), ended} {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
	}
	s.eachPiece(func(x []float32) {
		for _, f := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
		}
	})
	return b, nil
}

// eachPiece calls f for what is kept, in the order of the format.
func (s *kept) eachPiece(f func(x []float32)) {
	for row, n := range s.held {
		for kv := range s.shape.KVHeads {
			at := (row*s.shape.KVHeads + kv) * s.capacity
			f(s.k[at*s.shape.KeyDim:][:n*s.shape.KeyDim])
			f(s.v[at*s.shape.ValueDim:][:n*s.shape.ValueDim])
			if s.policy.accumulate {
				f(s.weight[at:][:n])
			}
		}
	}
}

// UnmarshalBinary reads a state of the same mechanism and shape; on error the state stays as it was.
func (s *kept) UnmarshalBinary(data []byte) error {
	if err := s.unmarshal(data); err != nil {
		return fmt.Errorf("%s: state: %w", s.name, err)
	}
	return nil
}

var errCut = errors.New("cut short: want the bytes of MarshalBinary")

func (s *kept) unmarshal(data []byte) error {
	head := append([]byte(keptMagic), byte(len(s.name)>>8), byte(len(s.name)))
	head = append(head, s.name...)
	if len(data) < len(head) || string(data[:len(head)]) != string(head) {
		return fmt.Errorf("unknown format, or of another mechanism: want the bytes of MarshalBinary of %s", s.name)
	}
	data = data[len(head):]
	sizes, names := s.header(), [...]string{"batch", "heads", "key/value heads", "key dim", "value dim", "layer"}
	if len(data)/8 < len(sizes)+3*s.shape.Batch {
		return errCut
	}
	for i, want := range sizes {
		if got := binary.LittleEndian.Uint64(data[8*i:]); got != uint64(want) {
			return fmt.Errorf("%s is %d: want %d", names[i], got, want)
		}
	}
	data = data[8*len(sizes):]
	seen, held, ended := make([]int, s.shape.Batch), make([]int, s.shape.Batch), make([]bool, s.shape.Batch)
	token := uint64(4 * s.shape.KVHeads * s.policy.tokenFloats(s.shape))
	total, most := uint64(0), 0
	for row := range seen {
		x, n, e := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:])
		data = data[24:]
		if x > math.MaxInt64/4 || n > x || e > 1 || e == 0 && n != x {
			return fmt.Errorf("row %d: %d of %d tokens kept, ended %d: want no more than there were, and all before the end", row, n, x, e)
		}
		if p := s.policy; e == 1 && p.steady && n > uint64(p.budget) {
			return fmt.Errorf("row %d: %d tokens kept: want at most %d", row, n, p.budget)
		}
		seen[row], held[row], ended[row] = int(x), int(n), e == 1
		if total += n; n > math.MaxInt64/4/token || total > math.MaxInt64/4/token {
			return errCut
		}
		most = max(most, int(n))
	}
	if uint64(len(data)) != total*token {
		return fmt.Errorf("%d bytes of tokens: want %d", len(data), total*token)
	}
	s.grow(most)
	s.seen, s.held, s.ended = seen, held, ended
	s.eachPiece(func(x []float32) {
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		data = data[4*len(x):]
	})
	return nil
}
