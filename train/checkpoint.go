package train

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"

	"attnbench/autograd"
)

// Checkpoint is the state of a training run after a step: enough to go on to the same bits. Files have the layout of
// safetensors, float32 throughout: 8 bytes of header length, a JSON header, and the tensors one after another. The
// header's metadata hold a SHA-256 of the whole file with the digits of the sum taken as zeros.
type Checkpoint struct {
	Tensors []Tensor          // in the file's order
	Meta    map[string]string // of the run: step, recipe, seed and the like
}

// Tensor is a named tensor of a checkpoint.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

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
	format    = "attnbench checkpoint 1"
	noSum     = "0000000000000000000000000000000000000000000000000000000000000000"
	maxHeader = 1 << 26
)

type tensorHeader struct {
	Dtype   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

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
	return writeAtomic(path, func(w io.Writer) error { return c.write(w, header) })
}

func (c *Checkpoint) header() ([]byte, error) {
	meta := maps.Clone(c.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta["format"], meta["SHA-256"] = format, noSum // capitals sort first: the sum is what Replace finds
	all := map[string]any{"__metadata__": meta}
	at := int64(0)
	for _, t := range c.Tensors {
		end := at + 4*int64(len(t.Data))
		if all[t.Name] != nil {
			return nil, fmt.Errorf("two tensors %s: want one", t.Name)
		}
		all[t.Name] = tensorHeader{"F32", t.Shape, [2]int64{at, end}}
		at = end
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	return text, nil
}

func (c *Checkpoint) write(w io.Writer, header []byte) error {
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	var buf []byte
	for _, t := range c.Tensors {
		for part := range slices.Chunk(t.Data, 1<<14) {
			buf = buf[:0]
			for _, x := range part {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
			}
			if _, err := w.Write(buf); err != nil {
				return err
			}
		}
	}
	return nil
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
	if len(data) < 8 {
		return nil, fmt.Errorf("%d bytes: want at least 8", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader || n > uint64(len(data)-8) {
		return nil, fmt.Errorf("header of %d bytes in a file of %d: want it within the file", n, len(data))
	}
	header, body := data[8:8+n], data[8+n:]
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(header, &raw); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	c := new(Checkpoint)
	if err := json.Unmarshal(raw["__metadata__"], &c.Meta); err != nil || c.Meta["format"] != format {
		return nil, fmt.Errorf("metadata: want the format %q", format)
	}
	delete(raw, "__metadata__")
	if err := checkSum(data, header, c.Meta["SHA-256"]); err != nil {
		return nil, err
	}
	delete(c.Meta, "format")
	delete(c.Meta, "SHA-256")
	return c, c.parseTensors(raw, body)
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

func (c *Checkpoint) parseTensors(raw map[string]json.RawMessage, body []byte) error {
	headers := map[string]tensorHeader{}
	for name, text := range raw {
		var t tensorHeader
		if err := json.Unmarshal(text, &t); err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		headers[name] = t
	}
	names := slices.SortedFunc(maps.Keys(headers), func(a, b string) int {
		x, y := headers[a].Offsets, headers[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(a, b))
	})
	at := int64(0)
	for _, name := range names {
		t := headers[name]
		if t.Dtype != "F32" {
			return fmt.Errorf("tensor %s: dtype %q: want F32", name, t.Dtype)
		}
		lo, hi := t.Offsets[0], t.Offsets[1]
		if lo != at || hi < lo || hi > int64(len(body)) {
			return fmt.Errorf("tensor %s: bytes %d to %d of %d: want them to follow the tensor before, at %d", name, lo, hi, len(body), at)
		}
		left := (hi - lo) / 4 // elements that the shape must come to; dividing cannot overflow
		for _, d := range t.Shape {
			if d < 0 || d > 0 && left%int64(d) != 0 || d == 0 && left != 0 {
				return fmt.Errorf("tensor %s: shape %v over %d bytes: want them to agree", name, t.Shape, hi-lo)
			}
			if d > 0 {
				left /= int64(d)
			}
		}
		empty := slices.Contains(t.Shape, 0)
		if (hi-lo)%4 != 0 || !empty && left != 1 {
			return fmt.Errorf("tensor %s: shape %v over %d bytes: want them to agree", name, t.Shape, hi-lo)
		}
		x := make([]float32, (hi-lo)/4)
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[lo+4*int64(i):]))
		}
		c.Tensors = append(c.Tensors, Tensor{name, t.Shape, x})
		at = hi
	}
	if at != int64(len(body)) {
		return fmt.Errorf("%d bytes after the last tensor: want none", int64(len(body))-at)
	}
	return nil
}
