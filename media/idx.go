package media

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// IDX is an array of bytes of any number of dimensions.
type IDX struct {
	Dims []int
	Data []byte // row by row, the last dimension side by side
}

// ReadIDX reads the IDX format of unsigned bytes (LeCun, Cortes and Burges, "The MNIST database"): two zero bytes, the type 0x08, the number of
// dimensions, each dimension as a big-endian uint32, and the data.
func ReadIDX(r io.Reader) (*IDX, error) {
	data, err := readAll("idx", r)
	if err != nil {
		return nil, err
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("idx: header: %d bytes: want at least 4", len(data))
	}
	if data[0] != 0 || data[1] != 0 {
		return nil, fmt.Errorf("idx: magic number 0x%08x: want 0x000008 and the number of dimensions", binary.BigEndian.Uint32(data))
	}
	if data[2] != 8 {
		return nil, fmt.Errorf("idx: element type 0x%02x: want 0x08, unsigned bytes", data[2])
	}
	n := int(data[3])
	if n == 0 {
		return nil, fmt.Errorf("idx: 0 dimensions: want at least 1")
	}
	header := 4 + 4*n
	if len(data) < header {
		return nil, fmt.Errorf("idx: header of %d dimensions: cut after %d bytes: want %d", n, len(data), header)
	}
	x := &IDX{Data: data[header:]}
	for i := range n {
		x.Dims = append(x.Dims, int(binary.BigEndian.Uint32(data[4+4*i:])))
	}
	size := 1
	if slices.Contains(x.Dims, 0) {
		size = 0
	}
	for _, d := range x.Dims {
		if size > 0 && size > len(x.Data)/d { // before the product can overflow
			return nil, fmt.Errorf("idx: dimensions %v: %d bytes of data: want more", x.Dims, len(x.Data))
		}
		size *= d
	}
	if size != len(x.Data) {
		return nil, fmt.Errorf("idx: dimensions %v: %d bytes of data: want %d", x.Dims, len(x.Data), size)
	}
	return x, nil
}
