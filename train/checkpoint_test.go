package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"attnbench/autograd"
	"attnbench/internal/wholefile"
)

func sample() *Checkpoint {
	return &Checkpoint{
		Tensors: []Tensor{
			{Name: "w", Shape: []int{2, 3}, Data: []float32{1, -2, 3e38, float32(math.Copysign(0, -1)), 5, 1e-45}},
			{Name: "empty", Shape: []int{0}, Data: []float32{}},
			{Name: "scalar", Shape: []int{}, Data: []float32{7}},
		},
		Meta: map[string]string{"run": "a\nb=\"c\"", "progress": "{}"},
	}
}

func encode(t testing.TB, c *Checkpoint) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c")
	if err := WriteCheckpoint(path, c); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCheckpointReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	want := sample()
	for range 2 { // also over an old one
		if err := WriteCheckpoint(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Tensor{}
	for _, x := range got.Tensors {
		byName[x.Name] = x
	}
	for _, w := range want.Tensors {
		if g := byName[w.Name]; !reflect.DeepEqual(g, w) {
			t.Errorf("tensor %+v: want %+v", g, w)
		}
	}
	if len(got.Tensors) != 3 || !reflect.DeepEqual(got.Meta, want.Meta) {
		t.Errorf("%d tensors, meta %q: want 3, %q", len(got.Tensors), got.Meta, want.Meta)
	}
	if !bytes.Equal(encode(t, want), encode(t, want)) {
		t.Errorf("two files of one checkpoint differ")
	}
}

func TestRestore(t *testing.T) {
	p := param("w", true, 0, 0, 0, 0, 0, 0)
	p.Shape = []int{2, 3}
	q := param("scalar", true, 0, 0)
	if err := sample().Restore([]*autograd.Param{p, q}); err == nil || p.Data[0] != 0 {
		t.Errorf("a shape that differs is taken: %v, %v", err, p.Data)
	}
	if err := sample().Restore([]*autograd.Param{p}); err != nil || p.Data[1] != -2 {
		t.Errorf("restored %v, %v", p.Data, err)
	}
	q.Name = "absent"
	if err := sample().Restore([]*autograd.Param{q}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a tensor that is missing: error %v", err)
	}
}

// TestDamage: every single byte changed, and every length cut off, is found.
func TestDamage(t *testing.T) {
	data := encode(t, sample())
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x20
		if _, err := parseCheckpoint(bad); err == nil {
			t.Errorf("byte %d of %d changed (%q) and not found", i, len(data), data[max(0, i-5):min(len(data), i+5)])
		}
		if _, err := parseCheckpoint(data[:i]); err == nil {
			t.Errorf("cut at %d of %d and not found", i, len(data))
		}
	}
	if _, err := parseCheckpoint(append(bytes.Clone(data), 0)); err == nil {
		t.Errorf("a byte more is not found")
	}
}

func le(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// signed is a file with this header and body and the right sum.
func signed(header string, body []byte) []byte {
	sum := sha256.Sum256(append(append(le(uint64(len(header))), header...), body...))
	header = strings.Replace(header, noSum, hex.EncodeToString(sum[:]), 1)
	return append(append(le(uint64(len(header))), header...), body...)
}

// TestBadHeaders: files whose sum is right but whose header is not.
func TestBadHeaders(t *testing.T) {
	for _, c := range []struct{ tensors, want string }{
		{`"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}`, "tensor b: bytes 4 to 12"},
		{`"a":{"dtype":"F32","shape":[1000,1000],"data_offsets":[0,4]}`, "tensor a: shape [1000 1000] of F32 over 4 bytes"},
		{`"a":{"dtype":"F16","shape":[6],"data_offsets":[0,12]}`, `tensor a: dtype "F16"`},
		{`"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}`, "tensor a: shape: -1"},
		{`"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`, "tensor a: shape"},
		{`"a":{"dtype":"F32","shape":[3],"data_offsets":[0,10]}`, "tensor a: shape [3] of F32 over 10 bytes"},
		{`"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]}`, "tensor a: bytes"},
		{`"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}`, "tensor a: data_offsets: -4"},
		{`"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}`, "tensor a: "},
		{`"a":7`, "tensor a: "},
		{`"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, "8 bytes after the last tensor"},
	} {
		header := `{"__metadata__":{"SHA-256":"` + noSum + `","format":"` + format + `"},` + c.tensors + `}`
		if _, err := parseCheckpoint(signed(header, make([]byte, 12))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.tensors, err, c.want)
		}
	}
	for _, n := range []uint64{1 << 63, math.MaxUint64, 9, 100} {
		data := append(le(n), "{}      "...)
		if _, err := parseCheckpoint(data); err == nil || !strings.Contains(err.Error(), "header of") {
			t.Errorf("header length %d: error %v", n, err)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(encode(f, sample()))
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCheckpoint(data)
		if err != nil {
			return
		}
		total := 0
		for _, x := range c.Tensors {
			total += 4 * len(x.Data)
		}
		if total > len(data) {
			t.Fatalf("%d bytes of tensors from a file of %d", total, len(data))
		}
	})
}

var errDisk = errors.New("no space left")

// failing fails after n bytes.
type failing struct {
	w io.Writer
	n int
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.n {
		n, _ := f.w.Write(p[:f.n])
		f.n = 0
		return n, errDisk
	}
	f.n -= len(p)
	return f.w.Write(p)
}

// TestFullDisk: whenever the disk is full, the old file is whole.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c")
	old := sample()
	if err := WriteCheckpoint(path, old); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	next := sample()
	next.Meta["run"] = "z\nb=\"c\"" // as long
	header, err := next.header()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(before) {
		err := wholefile.Write(path, func(w io.Writer) error { return next.write(&failing{w, n}, header) })
		if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), path) {
			t.Fatalf("full after %d bytes: error %v: want one with the path", n, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Fatalf("full after %d bytes: the old file has changed", n)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("files left: %v", files)
	}
}
