package media

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ReadWAV reads one channel of 16-bit PCM from a RIFF/WAVE file (Microsoft and IBM 1991, "Multimedia Programming Interface and Data
// Specifications 1.0"). Chunks are walked by their sizes, each padded to an even one; those other than fmt and data are skipped.
func ReadWAV(r io.Reader) (*Sound, error) {
	data, err := readAll("wav", r)
	if err != nil {
		return nil, err
	}
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return nil, fmt.Errorf("wav: header %q: want RIFF, a size and WAVE", data[:min(len(data), 12)])
	}
	if size := int64(binary.LittleEndian.Uint32(data[4:])); size != int64(len(data)-8) {
		return nil, fmt.Errorf("wav: RIFF size is %d: the file has %d bytes after it", size, len(data)-8)
	}
	var s *Sound
	var seen bool
	for at := 12; at < len(data); {
		if len(data)-at < 8 {
			return nil, fmt.Errorf("wav: %d bytes at offset %d: want a chunk's name and size", len(data)-at, at)
		}
		name, size := string(data[at:at+4]), int64(binary.LittleEndian.Uint32(data[at+4:]))
		at += 8
		if size > int64(len(data)-at) {
			return nil, fmt.Errorf("wav: chunk %q of %d bytes at offset %d: the file has %d left", name, size, at, len(data)-at)
		}
		body := data[at : at+int(size)]
		at += int(size)
		if size%2 == 1 {
			if at == len(data) {
				return nil, fmt.Errorf("wav: chunk %q of %d bytes ends the file: want a byte of padding", name, size)
			}
			at++
		}
		switch name {
		case "fmt ":
			if s != nil {
				return nil, fmt.Errorf("wav: a second chunk %q: want one", name)
			}
			if s, err = format(body); err != nil {
				return nil, err
			}
		case "data":
			switch {
			case s == nil:
				return nil, fmt.Errorf("wav: chunk %q before chunk %q: want it after", name, "fmt ")
			case seen:
				return nil, fmt.Errorf("wav: a second chunk %q: want one", name)
			case size%2 != 0:
				return nil, fmt.Errorf("wav: chunk %q of %d bytes: want a multiple of 2", name, size)
			}
			seen = true
			s.Samples = make([]float32, size/2)
			for i := range s.Samples {
				s.Samples[i] = float32(int16(binary.LittleEndian.Uint16(body[2*i:]))) / (1 << 15)
			}
		}
	}
	switch {
	case s == nil:
		return nil, fmt.Errorf("wav: no chunk %q: want one", "fmt ")
	case !seen:
		return nil, fmt.Errorf("wav: no chunk %q: want one", "data")
	}
	return s, nil
}

// format reads the chunk "fmt ".
func format(b []byte) (*Sound, error) {
	if len(b) < 16 {
		return nil, fmt.Errorf("wav: chunk %q of %d bytes: want at least 16", "fmt ", len(b))
	}
	u16 := func(i int) int { return int(binary.LittleEndian.Uint16(b[i:])) }
	u32 := func(i int) int64 { return int64(binary.LittleEndian.Uint32(b[i:])) }
	rate := u32(4)
	for _, c := range []struct {
		field     string
		got, want int64
	}{{"format", int64(u16(0)), 1}, {"channels", int64(u16(2)), 1}, {"bits a sample", int64(u16(14)), 16}, {"block alignment", int64(u16(12)), 2}, {"bytes a second", u32(8), 2 * rate}} {
		if c.got != c.want {
			return nil, fmt.Errorf("wav: %s %d: want %d (PCM, one channel of 16 bits)", c.field, c.got, c.want)
		}
	}
	if rate < 1 || rate > 1<<20 {
		return nil, fmt.Errorf("wav: %d samples a second: want 1 to %d", rate, 1<<20)
	}
	return &Sound{Rate: int(rate)}, nil
}
