package sliding

import (
	"encoding/binary"
	"fmt"
)

// MarshalBinary returns the length of the first part and both.
func (s *longState) MarshalBinary() ([]byte, error) {
	local, err := s.Cache.MarshalBinary()
	if err != nil {
		return nil, err
	}
	global, err := s.global.MarshalBinary()
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(local)))
	return append(append(b, local...), global...), err
}

// UnmarshalBinary reads a state of the same mechanism and shape; on error the state stays as it was.
func (s *longState) UnmarshalBinary(data []byte) error {
	if len(data) < 8 || binary.LittleEndian.Uint64(data) > uint64(len(data)-8) {
		return fmt.Errorf("%s: state: cut short: want the bytes of MarshalBinary", s.m.info.Name)
	}
	n := binary.LittleEndian.Uint64(data)
	fresh, err := s.m.NewState(s.shape)
	if err != nil {
		return err
	}
	f := fresh.(*longState)
	if err := f.Cache.UnmarshalBinary(data[8 : 8+n]); err != nil {
		return err
	}
	if err := f.global.UnmarshalBinary(data[8+n:]); err != nil {
		return err
	}
	for row := range s.shape.Batch {
		want := f.Len(row)
		if want >= s.m.o.Global {
			want = 0
		}
		if got := f.global.Len(row); got != want {
			return fmt.Errorf("%s: state: row %d holds %d global tokens: want %d", s.m.info.Name, row, got, want)
		}
	}
	s.Cache, s.global = f.Cache, f.global
	return nil
}
