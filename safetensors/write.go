package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"attnbench/internal/wholefile"
)

// Tensor is a tensor to be written.
type Tensor struct {
	Name  string
	DType DType // F32, F16 or BF16; empty means F32
	Shape []int
	Data  []float32
}

func (t *Tensor) dtype() DType {
	if t.DType == "" {
		return F32
	}
	return t.DType
}

// Write writes a file: the tensors in their order. Equal arguments give equal bytes.
func Write(w io.Writer, tensors []Tensor, meta map[string]string) error {
	head, err := Header(tensors, meta)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	return WriteData(w, tensors)
}

// WriteFile is Write to the file at path. Whatever happens, the path holds its old content or the new one, whole.
func WriteFile(path string, tensors []Tensor, meta map[string]string) error {
	return wholefile.Write(path, func(w io.Writer) error { return Write(w, tensors, meta) })
}

// Header returns what stands before the tensors' bytes: the length and the JSON, metadata first and in the order of
// their names, filled up with blanks to a multiple of 8.
func Header(tensors []Tensor, meta map[string]string) ([]byte, error) {
	head := append(make([]byte, 8), '{')
	comma := func() {
		if len(head) > 9 {
			head = append(head, ',')
		}
	}
	if meta != nil {
		head = append(head, quote(metadata)+":{"...)
		for i, k := range slices.Sorted(maps.Keys(meta)) {
			if i > 0 {
				head = append(head, ',')
			}
			head = append(head, quote(k)+":"+quote(meta[k])...)
		}
		head = append(head, '}')
	}
	at, seen := int64(0), map[string]bool{metadata: true}
	for i := range tensors {
		t := &tensors[i]
		if seen[t.Name] || !utf8.ValidString(t.Name) {
			return nil, fmt.Errorf("tensor %q: the name is taken or not UTF-8: want another", t.Name)
		}
		seen[t.Name] = true
		d := t.dtype()
		info := Info{Name: t.Name, DType: d, Shape: t.Shape, Begin: at, End: at + int64(len(t.Data)*sizes[d])}
		err := d.checkFloat()
		if err == nil {
			err = info.check(info.End)
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		text, err := json.Marshal(shape)
		if err != nil {
			return nil, err
		}
		comma()
		head = fmt.Appendf(head, `%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, quote(t.Name), d, text, info.Begin, info.End)
		at = info.End
	}
	head = append(head, '}')
	for len(head)%8 != 0 {
		head = append(head, ' ')
	}
	if n := len(head) - 8; n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes: want at most %d", n, maxHeader)
	}
	binary.LittleEndian.PutUint64(head, uint64(len(head)-8))
	return head, nil
}

// quote returns s as a JSON string, which leaves <, > and & as they are. Bytes that are not UTF-8 become U+FFFD.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string always encodes
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// WriteData writes the tensors' bytes, which follow the header.
func WriteData(w io.Writer, tensors []Tensor) error {
	var buf []byte
	for i := range tensors {
		for part := range slices.Chunk(tensors[i].Data, chunk) {
			buf = tensors[i].dtype().append(buf[:0], part)
			if _, err := w.Write(buf); err != nil {
				return err
			}
		}
	}
	return nil
}
