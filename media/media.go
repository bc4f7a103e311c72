// Package media reads images and sounds, and turns sounds into spectra: IDX (the format of MNIST), PNG, WAV, and log-mel frames.
//
// Readers are strict: a file that its header does not describe to the byte is an error that names what is wrong, and what is allocated is bounded by the
// file's own size, or, of a compressed image, by a stated number of pixels.
package media

import (
	"bytes"
	"fmt"
	"io"
)

// Image is a grey image, row by row.
type Image struct {
	Width, Height int
	Pix           []float32 // [height, width], 0 black to 1 white
}

// Sound is one channel of sound.
type Sound struct {
	Rate    int       // samples a second
	Samples []float32 // -1 to below 1
}

// readAll reads a file whole. A compressed one is named as such, since its first bytes could pass for data.
func readAll(format string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", format, err)
	}
	for _, c := range []struct{ magic, name string }{{"\x1f\x8b", "gzip"}, {"BZh", "bzip2"}, {"PK\x03\x04", "zip"}, {"\xfd7zXZ\x00", "xz"}} {
		if bytes.HasPrefix(data, []byte(c.magic)) {
			return nil, fmt.Errorf("%s: compressed by %s: want it unpacked", format, c.name)
		}
	}
	return data, nil
}
