package safetensors

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// file is a file with this header and n bytes of data.
func file(header string, n int) []byte {
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func open(data []byte) (*File, error) { return New(bytes.NewReader(data), int64(len(data))) }

// TestReadsTheFormat: a file written by hand, as the format's description says.
func TestReadsTheFormat(t *testing.T) {
	header := `{"w":{"dtype":"F16","shape":[2,2],"data_offsets":[4,12]},"__metadata__":{"format":"pt"},"none":{"shape":[3,0],"dtype":"F32","data_offsets":[4,4]},` +
		`"s":{"dtype":"BF16","shape":[],"data_offsets":[12,14]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[14,22]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  `
	data := file(header, 0)
	data = binary.LittleEndian.AppendUint32(data, math.Float32bits(-1.5))
	for _, h := range []uint16{0x3c00, 0xc000, 0x7bff, 0x0001} { // 1, -2, 65504, 2^-24
		data = binary.LittleEndian.AppendUint16(data, h)
	}
	data = binary.LittleEndian.AppendUint16(data, 0x4049) // 3.140625
	data = binary.LittleEndian.AppendUint64(data, 7)
	f, err := open(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f.Meta, map[string]string{"format": "pt"}) {
		t.Errorf("metadata %q", f.Meta)
	}
	var names []string
	for _, x := range f.Tensors {
		names = append(names, x.Name)
	}
	if want := []string{"b", "none", "w", "s", "ids"}; !slices.Equal(names, want) {
		t.Errorf("tensors %q: want %q", names, want)
	}
	for name, want := range map[string][]float32{"b": {-1.5}, "none": {}, "w": {1, -2, 65504, 1.0 / (1 << 24)}, "s": {3.140625}} {
		got := make([]float32, len(want))
		if err := f.Floats(name, got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v: want %v", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"ids": `tensor ids: dtype "I64": want F32, F16 or BF16`, "x": "tensor x: the file has none", "b": "room for 2"} {
		if err := f.Floats(name, make([]float32, 2)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v: want %q", err, want)
		}
	}
	r, err := f.Raw("ids")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(r); err != nil || !bytes.Equal(raw, data[len(data)-8:]) {
		t.Errorf("raw bytes %v, %v", raw, err)
	}
}

// TestStrict: what is not the format is refused, with the tensor's name.
func TestStrict(t *testing.T) {
	one := `{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	for _, c := range []struct {
		header string
		bytes  int
		want   string
	}{
		{`{"a":` + one + `,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12, "tensor b: bytes 4 to 12 overlap those of a"},
		{`{"a":` + one + `,"b":` + one + `}`, 8, "tensor b: bytes 0 to 8 overlap"},
		{`{"a":` + one + `,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16, "tensor b: bytes 12 to 16 leave a hole from 8"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8, "tensor a: bytes 4 to 8 leave a hole from 0"},
		{`{"a":` + one + `}`, 9, "1 bytes after the last tensor"},
		{`{"a":` + one + `}`, 7, "tensor a: bytes 0 to 8 of 7"},
		{`{}`, 1, "1 bytes after"},
		{`{"a":{"dtype":"F32","shape":[1000,1000],"data_offsets":[0,4]}}`, 4, "tensor a: shape [1000 1000] of F32 over 4 bytes: want 4000000"},
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8, "tensor a: bytes 8 to 0"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]}}`, 4, "tensor a: bytes 0 to 9223372036854775807 of 4"},
		{`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0, "tensor a: shape [4294967296 4294967296] of F32: its bytes overflow"},
		{`{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0, "tensor a: shape [4611686018427387904] of F32: its bytes overflow"},
		{`{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}`, 0, "its bytes overflow"},
		{`{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}}`, 0, "tensor a: shape: 9223372036854775808"},
		{`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4, "tensor a: shape: -1: want whole numbers"},
		{`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, 4, "tensor a: shape: 1.5"},
		{`{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}`, 4, "tensor a: shape: 1e0"},
		{`{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}`, 4, "tensor a: shape: 1: want whole numbers"},
		{`{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}`, 4, "tensor a: <nil>: want shape as an array"},
		{`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,3]}}`, 3, "tensor a: shape [] of F32 over 3 bytes: want 4"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}`, 4, "tensor a: data_offsets of 1 numbers"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}`, 4, "tensor a: data_offsets of 3 numbers"},
		{`{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, 4, `tensor a: dtype "F33": want one of [BF16`},
		{`{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}`, 4, "tensor a: 7: want a string"},
		{`{"a":{"shape":[1],"data_offsets":[0,4]}}`, 4, "tensor a: a field is missing"},
		{`{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}`, 4, `tensor a: "shape": given twice`},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}`, 4, `tensor a: field "more"`},
		{`{"a":7}`, 0, "tensor a: 7: want an object"},
		{`{"a":` + one + `,"a":` + one + `}`, 8, `"a": given twice`},
		{`{"__metadata__":{"a":1}}`, 0, "__metadata__: 1: want a string"},
		{`{"__metadata__":{"a":"1","a":"1"}}`, 0, `__metadata__: "a": given twice`},
		{`{"__metadata__":{},"__metadata__":{}}`, 0, "given twice"},
		{`{} {}`, 0, "more than one JSON value"},
		{`{}x`, 0, "more than one JSON value"},
		{` {}`, 0, "begins with {"},
		{`[]`, 0, "begins with {"},
		{``, 0, "begins with {"},
		{`{"a":`, 0, "unexpected EOF"},
		{`{"a` + "\xff" + `":` + one + `}`, 8, "not UTF-8"},
	} {
		if f, err := open(file(c.header, c.bytes)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s and %d bytes: %+v, error %v: want %q", c.header, c.bytes, f, err, c.want)
		}
	}
	for _, n := range []uint64{1 << 63, math.MaxUint64, math.MaxUint64 - 7, 9, maxHeader + 1} {
		data := append(binary.LittleEndian.AppendUint64(nil, n), "{}      "...)
		if _, err := open(data); err == nil || !strings.Contains(err.Error(), "header of") {
			t.Errorf("header length %d: error %v", n, err)
		}
	}
	if _, err := open(make([]byte, 7)); err == nil || !strings.Contains(err.Error(), "7 bytes") {
		t.Errorf("7 bytes: error %v", err)
	}
}

// TestLazy: a header is read and not the tensors; a file that has become shorter is an error, not a crash.
func TestLazy(t *testing.T) {
	data := file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)
	r := &counting{r: bytes.NewReader(data)}
	f, err := New(r, int64(len(data)))
	if err != nil || r.n != len(data)-8 {
		t.Fatalf("%d bytes read, %v: want all but the tensor's 8 of %d", r.n, err, len(data))
	}
	r.r = bytes.NewReader(data[:len(data)-1])
	if err := f.Floats("a", make([]float32, 2)); err == nil || !strings.Contains(err.Error(), "tensor a: unexpected EOF") {
		t.Errorf("a file that became shorter: error %v", err)
	}
	// What a header claims is never allocated.
	huge := file(`{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}`, 8)
	if n := testing.AllocsPerRun(1, func() { open(huge) }); n > 100 {
		t.Errorf("%v allocations", n)
	}
	if _, err := Open(os.DevNull); err == nil {
		t.Error("a device is opened")
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder is opened")
	}
}

type counting struct {
	r io.ReaderAt
	n int
}

func (c *counting) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.r.ReadAt(p, at)
	c.n += n
	return n, err
}

// TestHalves: all 65,536 halves and brain floats become a float32 and the same bits again; rounding is to the nearest.
func TestHalves(t *testing.T) {
	for h := range 1 << 16 {
		h := uint16(h)
		if x := fromHalf(h); toHalf(x) != h {
			t.Fatalf("half %04x is %v, which is %04x", h, x, toHalf(x))
		}
		if x := math.Float32frombits(uint32(h) << 16); toBrain(x) != h {
			t.Fatalf("brain float %04x is %v, which is %04x", h, x, toBrain(x))
		}
	}
	values := func(from func(uint16) float32) []float32 {
		var list []float32
		for h := range 1 << 16 {
			if x := from(uint16(h)); x == x && !math.IsInf(float64(x), 0) {
				list = append(list, x)
			}
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	for _, c := range []struct {
		name string
		to   func(float32) uint16
		from func(uint16) float32
	}{{"half", toHalf, fromHalf}, {"brain float", toBrain, func(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }}} {
		list := values(c.from)
		rapid.Check(t, func(t *rapid.T) {
			i := rapid.IntRange(0, len(list)-2).Draw(t, "i")
			lo, hi := float64(list[i]), float64(list[i+1])
			x := float32(lo + (hi-lo)*rapid.Float64Range(0, 1).Draw(t, "part"))
			got := float64(c.from(c.to(x)))
			if d := math.Abs(got - float64(x)); d > math.Abs(lo-float64(x)) || d > math.Abs(hi-float64(x)) {
				t.Fatalf("%s of %v is %v: want the nearer of %v and %v", c.name, x, got, lo, hi)
			}
		})
		for i := range list[:len(list)-1] { // ties: float32 holds the middle of two halves
			lo, hi := list[i], list[i+1]
			mid := float32((float64(lo) + float64(hi)) / 2)
			if float64(mid) != (float64(lo)+float64(hi))/2 {
				continue
			}
			if h := c.to(mid); h&1 != 0 {
				t.Fatalf("%s of %v, between %v and %v, is %04x: want the even one", c.name, mid, lo, hi, h)
			}
		}
	}
	for _, c := range []struct {
		x    float32
		want uint16
	}{{65519, 0x7bff}, {65520, 0x7c00}, {1e10, 0x7c00}, {-1e10, 0xfc00}, {1e-30, 0}, {float32(math.Ldexp(1, -25)), 0}, {float32(math.Ldexp(1.5, -25)), 1}} {
		if got := toHalf(c.x); got != c.want {
			t.Errorf("half of %v is %04x: want %04x", c.x, got, c.want)
		}
	}
}

// TestRoundTrip: what is written is read back, to the bit; equal tensors give equal files.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tensors []Tensor
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z<"\\é日 .]{0,8}`), 0, 4, rapid.ID).Draw(t, "names")
		for _, name := range names {
			x := Tensor{Name: name, DType: rapid.SampledFrom([]DType{F32, F16, BF16, ""}).Draw(t, "dtype"), Shape: rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")}
			n := 1
			for _, d := range x.Shape {
				n *= d
			}
			x.Data = make([]float32, n)
			for i := range x.Data {
				x.Data[i] = float32(rapid.IntRange(-64, 64).Draw(t, "value")) / 8 // each type holds it
			}
			tensors = append(tensors, x)
		}
		meta := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "meta")
		var a, b bytes.Buffer
		if err := Write(&a, tensors, meta); err != nil {
			t.Fatal(err)
		}
		Write(&b, tensors, meta)
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Fatal("two files of the same tensors differ")
		}
		f, err := open(a.Bytes())
		if err != nil {
			t.Fatalf("%q: %v", a.Bytes(), err)
		}
		if (f.data)%8 != 0 || len(f.Tensors) != len(tensors) || !reflect.DeepEqual(f.Meta, meta) {
			t.Fatalf("data from byte %d on, %d tensors, metadata %q: want %d, %q", f.data, len(f.Tensors), f.Meta, len(tensors), meta)
		}
		for _, x := range tensors {
			got := make([]float32, len(x.Data))
			if err := f.Floats(x.Name, got); err != nil || !slices.Equal(got, x.Data) {
				t.Fatalf("%s: %v, %v: want %v", x.Name, got, err, x.Data)
			}
			if i, _ := f.Lookup(x.Name); i.DType != x.dtype() || !slices.Equal(i.Shape, x.Shape) {
				t.Fatalf("%s: %+v: want %+v", x.Name, i, x)
			}
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		tensors []Tensor
		want    string
	}{
		{[]Tensor{{Name: "a", Shape: []int{2}, Data: make([]float32, 3)}}, "tensor a: shape [2] of F32 over 12 bytes"},
		{[]Tensor{{Name: "a", Shape: []int{-1}}}, "tensor a: shape [-1]"},
		{[]Tensor{{Name: "a", Shape: []int{1}, DType: "I64", Data: make([]float32, 1)}}, `tensor a: dtype "I64"`},
		{[]Tensor{{Name: "a", Shape: []int{0}}, {Name: "a", Shape: []int{0}}}, `tensor "a": the name is taken`},
		{[]Tensor{{Name: "__metadata__", Shape: []int{0}}}, "the name is taken"},
		{[]Tensor{{Name: "\xff", Shape: []int{0}}}, "not UTF-8"},
	} {
		path := filepath.Join(t.TempDir(), "x")
		if err := WriteFile(path, c.tensors, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file is left", c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "x")
	if err := WriteFile(path, []Tensor{{Name: "a", Shape: []int{1}, Data: []float32{2}}}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil || f.Meta != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]float32, 1)
	if err := f.Floats("a", got); err != nil || got[0] != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// FuzzOpen: no file makes reading panic, or allocate more than in proportion to it; what is read can be written, and reads the same.
func FuzzOpen(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1,0],"data_offsets":[8,8]}}`, 8))
	f.Add(file(`{"__metadata__":{"k":"v"},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}   `, 2))
	f.Add(file(`{"a":{"dtype":"I64","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0))
	f.Add(binary.LittleEndian.AppendUint64(nil, math.MaxUint64))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := open(data)
		if err != nil {
			return
		}
		var tensors []Tensor
		total := int64(0)
		for _, i := range x.Tensors {
			total += i.End - i.Begin
			if i.DType.checkFloat() != nil {
				return
			}
			d := make([]float32, i.Len())
			if err := x.Floats(i.Name, d); err != nil {
				t.Fatal(err)
			}
			tensors = append(tensors, Tensor{i.Name, i.DType, i.Shape, d})
		}
		if total+x.data != int64(len(data)) {
			t.Fatalf("%d bytes of tensors from byte %d on of %d", total, x.data, len(data))
		}
		var b bytes.Buffer
		if err := Write(&b, tensors, x.Meta); err != nil {
			t.Fatal(err)
		}
		if got, want := b.Bytes()[b.Len()-int(total):], data[x.data:]; !bytes.Equal(got, want) {
			t.Fatalf("bytes %x: want %x", got, want)
		}
	})
}
