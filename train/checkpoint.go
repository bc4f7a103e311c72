package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"attnbench/autograd"
	"attnbench/internal/wholefile"
	"attnbench/safetensors"
)

// Checkpoint is the state of a training run after a step: enough to go on to the same bits. Files are safetensors, float32
// throughout. The header's metadata hold a SHA-256 of the whole file with the digits of the sum taken as zeros.
type Checkpoint struct {
	Tensors []Tensor          // in the file's order
	Meta    map[string]string // of the run: step, recipe, seed and the like
}

// Tensor is a named tensor of a checkpoint.
type Tensor = safetensors.Tensor

// Tensor returns the tensor with this name and shape.
func (c *Checkpoint) Tensor(name string, shape []int) ([]float32, error) {
	for _, t := range c.Tensors {
		if t.Name != name {
			continue
		}
		if !slices.Equal(t.Shape, shape) {
			return nil, fmt.Errorf("tensor %s: shape %v: want %v", name, t.Shape, shape)
		}
		return t.Data, nil
	}
	return nil, fmt.Errorf("tensor %s: missing: want one of shape %v", name, shape)
}

// Restore copies the checkpoint's tensors to the parameters of the same names. On error it changes none.
func (c *Checkpoint) Restore(params []*autograd.Param) error {
	data := make([][]float32, len(params))
	for i, p := range params {
		x, err := c.Tensor(p.Name, p.Shape)
		if err != nil {
			return err
		}
		data[i] = x
	}
	for i, p := range params {
		copy(p.Data, data[i])
	}
	return nil
}

const (
	format = "attnbench checkpoint 1"
	noSum  = "0000000000000000000000000000000000000000000000000000000000000000"
)

// WriteCheckpoint writes c to path; whatever happens, the file holds its old content or the new one, whole.
func WriteCheckpoint(path string, c *Checkpoint) error {
	header, err := c.header()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	h := sha256.New()
	if err := c.write(h, header); err != nil {
		return err
	}
	header = bytes.Replace(header, []byte(noSum), hex.AppendEncode(nil, h.Sum(nil)), 1)
	return wholefile.Write(path, func(w io.Writer) error { return c.write(w, header) })
}

func (c *Checkpoint) header() ([]byte, error) {
	meta := maps.Clone(c.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta["format"], meta["SHA-256"] = format, noSum // capitals sort first: the sum is what Replace finds
	return safetensors.Header(c.Tensors, meta)
}

func (c *Checkpoint) write(w io.Writer, header []byte) error {
	if _, err := w.Write(header); err != nil {
		return err
	}
	return safetensors.WriteData(w, c.Tensors)
}

// ReadCheckpoint reads a file that WriteCheckpoint wrote, and refuses one with any byte changed or missing.
func ReadCheckpoint(path string) (*Checkpoint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a device may never end
		return nil, fmt.Errorf("checkpoint %s: not a regular file: want one", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseCheckpoint(data)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return c, nil
}

func parseCheckpoint(data []byte) (*Checkpoint, error) {
	f, err := safetensors.New(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Meta: f.Meta}
	if c.Meta["format"] != format {
		return nil, fmt.Errorf("metadata: want the format %q", format)
	}
	header := data[8 : 8+binary.LittleEndian.Uint64(data)]
	if err := checkSum(data, header, c.Meta["SHA-256"]); err != nil {
		return nil, err
	}
	delete(c.Meta, "format")
	delete(c.Meta, "SHA-256")
	for _, t := range f.Tensors {
		if t.DType != safetensors.F32 {
			return nil, fmt.Errorf("tensor %s: dtype %q: want F32", t.Name, t.DType)
		}
		x := make([]float32, t.Len())
		if err := f.Floats(t.Name, x); err != nil {
			return nil, err
		}
		c.Tensors = append(c.Tensors, Tensor{Name: t.Name, Shape: t.Shape, Data: x})
	}
	return c, nil
}

func checkSum(data, header []byte, sum string) error {
	at := bytes.Index(header, []byte(sum))
	if len(sum) != len(noSum) || at < 0 {
		return fmt.Errorf("metadata: SHA-256 %q: want %d digits", sum, len(noSum))
	}
	h := sha256.New()
	h.Write(data[:8+at])
	io.WriteString(h, noSum)
	h.Write(data[8+at+len(sum):])
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("its SHA-256 is %.12s…: the file says %.12s…: want them equal: it is damaged", got, sum)
	}
	return nil
}
