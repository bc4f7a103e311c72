// Package safetensors reads and writes files of named tensors in the format of that name
// (github.com/huggingface/safetensors): 8 bytes with the length of a header, the header, a JSON object that gives type,
// shape and place of each tensor, and the tensors, which fill the rest without holes.
//
// Reading is strict: a file whose header is not the only possible reading of its bytes is refused, with the tensor's
// name. Nothing that a header claims is believed before it is held against the file's size, and
// tensors are read when they are asked for.
package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"slices"
)

// maxHeader bounds a header, as the format's own implementation does.
const maxHeader = 100_000_000

// Info says what and where a tensor is.
type Info struct {
	Name       string
	DType      DType
	Shape      []int
	Begin, End int64 // its bytes, counted from the end of the header
}

// Len returns the number of elements.
func (t *Info) Len() int { return int(t.End-t.Begin) / sizes[t.DType] }

// File is an open file. It is safe for concurrent use.
type File struct {
	Tensors []Info            // in the order of their bytes
	Meta    map[string]string // __metadata__; nil for none

	r      io.ReaderAt
	data   int64 // where the tensors begin
	byName map[string]int
	closer io.Closer
}

// Open opens the file at path and reads its header.
func Open(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := r.Stat()
	if err == nil && !info.Mode().IsRegular() { // a device may never end
		err = fmt.Errorf("%s: not a regular file: want one", path)
	}
	var f *File
	if err == nil {
		if f, err = New(r, info.Size()); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	f.closer = r
	return f, nil
}

// New reads the header of a file of size bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	if size < 8 {
		return nil, fmt.Errorf("%d bytes: want at least the 8 of the header's length", size)
	}
	var prefix [8]byte
	if err := readAt(r, prefix[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader || n > uint64(size-8) {
		return nil, fmt.Errorf("header of %d bytes in a file of %d: want it within the file and at most %d", n, size, maxHeader)
	}
	text := make([]byte, n)
	if err := readAt(r, text, 8); err != nil {
		return nil, err
	}
	f := &File{r: r, data: 8 + int64(n)}
	if err := f.parse(text); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return f, f.place(size - f.data)
}

// readAt fills p; a file that became shorter is an error.
func readAt(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// place orders the tensors by their bytes and checks that they fill the data, size bytes, without overlap or hole.
func (f *File) place(size int64) error {
	slices.SortFunc(f.Tensors, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End), cmp.Compare(a.Name, b.Name))
	})
	at, before := int64(0), ""
	f.byName = map[string]int{}
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if err := t.check(size); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		switch {
		case t.Begin < at:
			return fmt.Errorf("tensor %s: bytes %d to %d overlap those of %s, which end at %d: want them to follow", t.Name, t.Begin, t.End, before, at)
		case t.Begin > at:
			return fmt.Errorf("tensor %s: bytes %d to %d leave a hole from %d on: want them to follow", t.Name, t.Begin, t.End, at)
		}
		at, before = t.End, t.Name
		f.byName[t.Name] = i
	}
	if at != size {
		return fmt.Errorf("%d bytes after the last tensor: want none", size-at)
	}
	return nil
}

// check compares a tensor's type, shape and bytes with one another and with the size of the data.
func (t *Info) check(size int64) error {
	if err := t.DType.check(); err != nil {
		return err
	}
	if t.Begin < 0 || t.End < t.Begin || t.End > size {
		return fmt.Errorf("bytes %d to %d of %d: want an ascending range within the data", t.Begin, t.End, size)
	}
	n, empty := uint64(sizes[t.DType]), false
	for _, d := range t.Shape {
		if d < 0 {
			return fmt.Errorf("shape %v: want dimensions of at least 0", t.Shape)
		}
		if d == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt64 {
			return fmt.Errorf("shape %v of %s: its bytes overflow: want at most 2^63-1", t.Shape, t.DType)
		}
		n = lo
	}
	if empty {
		n = 0
	}
	if int64(n) != t.End-t.Begin {
		return fmt.Errorf("shape %v of %s over %d bytes: want %d", t.Shape, t.DType, t.End-t.Begin, n)
	}
	return nil
}

// Lookup returns the tensor of that name.
func (f *File) Lookup(name string) (Info, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Info{}, false
	}
	return f.Tensors[i], true
}

// Floats reads a tensor of type F32, F16 or BF16, row by row, into dst, which has its length.
func (f *File) Floats(name string, dst []float32) error {
	t, ok := f.Lookup(name)
	if !ok {
		return fmt.Errorf("tensor %s: the file has none of this name", name)
	}
	err := t.DType.checkFloat()
	if err == nil && len(dst) != t.Len() {
		err = fmt.Errorf("%d elements of shape %v: room for %d: want as many", t.Len(), t.Shape, len(dst))
	}
	if err == nil {
		err = t.DType.read(f.r, f.data+t.Begin, dst)
	}
	if err != nil {
		return fmt.Errorf("tensor %s: %w", name, err)
	}
	return nil
}

// chunk is how many elements are converted at a time.
const chunk = 1 << 14

func (d DType) read(r io.ReaderAt, at int64, dst []float32) error {
	size := sizes[d]
	buf := make([]byte, min(chunk, len(dst))*size)
	for part := range slices.Chunk(dst, chunk) {
		b := buf[:len(part)*size]
		if err := readAt(r, b, at); err != nil {
			return err
		}
		d.decode(part, b)
		at += int64(len(b))
	}
	return nil
}

// Raw returns the bytes of a tensor of any type.
func (f *File) Raw(name string) (*io.SectionReader, error) {
	t, ok := f.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("tensor %s: the file has none of this name", name)
	}
	return io.NewSectionReader(f.r, f.data+t.Begin, t.End-t.Begin), nil
}

// Close closes a file that Open opened.
func (f *File) Close() error {
	if f.closer == nil {
		return errors.New("safetensors: Close of a file that was not opened by Open")
	}
	return f.closer.Close()
}
