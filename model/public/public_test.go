package public

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/model"
)

func inference() *autograd.Tape {
	t := autograd.NewTape(attn.NewWorkspace())
	t.NoGrad = true
	return t
}

// logits are those of a decoder at every position.
func logits(t *testing.T, d *Decoder, tokens []int32) []float32 {
	t.Helper()
	tape := inference()
	v, err := d.Logits(tape, tokens, 1, len(tokens))
	if err != nil {
		t.Fatal(err)
	}
	return tape.Value(v)
}

// reference is what PyTorch computed; see testdata/reference.py.
type reference struct {
	Tokens, Types []int32
	Lengths       []int
	Logits        [][]float64
}

func readReference(t *testing.T, folder string) reference {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", folder, "logits.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// differ returns the largest difference between logits and the reference.
func differ(t *testing.T, got []float32, want [][]float64) float64 {
	t.Helper()
	worst := 0.0
	for i, row := range want {
		for j, x := range row {
			d := math.Abs(float64(got[i*len(row)+j]) - x)
			if !(d <= worst) {
				worst = d
			}
		}
	}
	return worst
}

var decoders = []struct{ path, folder string }{
	{"testdata/gpt2", "gpt2"}, {"testdata/llama", "llama"}, {"testdata/llama2c/model.bin", "llama2c"},
}

// TestParity holds each architecture against logits that PyTorch computed in float64.
func TestParity(t *testing.T) {
	for _, c := range decoders {
		r := readReference(t, c.folder)
		for _, mech := range []string{"full", "naive"} {
			d, err := LoadDecoder(c.path, mech)
			if err != nil {
				t.Fatal(err)
			}
			if worst := differ(t, logits(t, d, r.Tokens), r.Logits); !(worst < 1e-4) {
				t.Errorf("%s: %s: logits differ by %v: want less than 1e-4", c.folder, mech, worst)
			}
		}
	}
	r := readReference(t, "bert")
	segments := attn.Lengths(r.Lengths, r.Lengths)
	e, err := LoadEncoder("testdata/bert", "full")
	if err != nil {
		t.Fatal(err)
	}
	length := len(r.Tokens) / 2
	tape := inference()
	v, err := e.Logits(tape, r.Tokens, r.Types, 2, length, segments)
	if err != nil {
		t.Fatal(err)
	}
	got := tape.Value(v)
	if worst := differ(t, got, r.Logits[:length+r.Lengths[1]]); !(worst < 1e-4) {
		t.Errorf("bert: logits differ by %v: want less than 1e-4", worst)
	}
	// Another mechanism in its place.
	if e, err = LoadEncoder("testdata/bert", "sliding:window=2"); err != nil {
		t.Fatal(err)
	}
	tape = inference()
	if v, err = e.Logits(tape, r.Tokens, r.Types, 2, length, segments); err != nil {
		t.Fatal(err)
	}
	if worst := differ(t, tape.Value(v), r.Logits[:length+r.Lengths[1]]); worst < 1e-2 {
		t.Errorf("bert: under a window of 2 logits differ by %v only", worst)
	}
	for _, f := range []struct {
		tokens, types []int32
		length        int
	}{{[]int32{37}, nil, 1}, {[]int32{-1}, nil, 1}, {[]int32{1}, []int32{2}, 1}, {[]int32{1, 2}, nil, 1}, {make([]int32, 21), nil, 21}} {
		if _, err := e.Logits(inference(), f.tokens, f.types, 1, f.length, nil); err == nil {
			t.Errorf("no error for tokens %v, types %v, length %d", f.tokens, f.types, f.length)
		}
	}
}

// TestRoundTrip: what is loaded, written and loaded again has the same bits, and writing it again gives the same file.
func TestRoundTrip(t *testing.T) {
	for _, c := range append(slices.Clone(decoders), struct{ path, folder string }{"testdata/stories260k", "stories260k"}) {
		d, err := LoadDecoder(c.path, "full")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		one, two := filepath.Join(dir, "one"), filepath.Join(dir, "deep", "two")
		if err := SaveDecoder(one, d); err != nil {
			t.Fatal(err)
		}
		again, err := LoadDecoder(one, "full")
		if err != nil {
			t.Fatal(err)
		}
		if err := SaveDecoder(two, again); err != nil {
			t.Fatal(err)
		}
		sameFiles(t, one, two)
		if again.Begin != d.Begin {
			t.Errorf("%s: begins with %d: want %d", c.folder, again.Begin, d.Begin)
		}
		if d.Config.RopePairs == "neighbours" { // written in halves: other rows, the same function
			tokens := []int32{1, 5, 9, 30, 2, 6}
			a, b := logits(t, d, tokens), logits(t, again, tokens)
			for i := range a {
				if !(math.Abs(float64(a[i]-b[i])) < 1e-5) {
					t.Fatalf("%s: logit %v: want %v", c.folder, b[i], a[i])
				}
			}
			continue
		}
		sameParams(t, c.folder, again.Params(), d.Params())
	}
	e, err := LoadEncoder("testdata/bert", "full")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := e.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := LoadEncoder(dir, "full")
	if err != nil {
		t.Fatal(err)
	}
	sameParams(t, "bert", again.params, e.params)
}

// TestOwnFormat: models of no published family keep their configuration and bits.
func TestOwnFormat(t *testing.T) {
	for _, c := range []model.Config{
		{Vocab: 19, Dim: 16, Layers: 2, Heads: 4, KVHeads: 2, MLP: "gelu", MLPWidth: 24, Positions: "rope", Tied: true, MaxLen: 64, Seed: 7},
		{Vocab: 19, Dim: 16, Layers: 2, Heads: 2, KeyDim: 6, ValueDim: 10, MLP: "none", Positions: "learned", MaxLen: 64, ShortConv: 3, Bias: true, Norm: "layer"},
		{Vocab: 19, Dim: 16, Layers: 1, Heads: 2, MLP: "swiglu", MLPWidth: 8, MaxLen: 64, Tied: true},
	} {
		c.Attention = "full"
		m, err := model.New(c)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := SaveDecoder(dir, &Decoder{m, -1}); err != nil {
			t.Fatal(err)
		}
		got, err := LoadDecoder(dir, "full")
		if err != nil {
			t.Fatal(err)
		}
		if got.Config != m.Config || got.Begin != -1 {
			t.Errorf("configuration %+v, begin %d: want %+v", got.Config, got.Begin, m.Config)
		}
		sameParams(t, c.MLP, got.Params(), m.Params())
	}
}

func sameParams(t *testing.T, name string, got, want []*autograd.Param) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d tensors: want %d", name, len(got), len(want))
	}
	for i, p := range want {
		for j, x := range p.Data {
			if math.Float32bits(got[i].Data[j]) != math.Float32bits(x) {
				t.Fatalf("%s: %s: element %d is %v: want %v", name, p.Name, j, got[i].Data[j], x)
			}
		}
	}
}

func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	for _, name := range []string{"config.json", "model.safetensors"} {
		x, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(b, name))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x, y) {
			t.Errorf("%s: %s is not that of %s", b, name, a)
		}
	}
}

// TestEveryElementHasOnePlace: the tensors of each architecture cover each parameter exactly once, and each element of a file.
func TestEveryElementHasOnePlace(t *testing.T) {
	for _, c := range []struct {
		name string
		c    model.Config
		of   func(*model.Config) []tensor
	}{
		{"gpt2", model.Config{Vocab: 5, Dim: 6, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 7, Positions: "learned", MaxLen: 4, Norm: "layer", Bias: true}, gpt2Tensors},
		{"llama", model.Config{Vocab: 5, Dim: 6, Layers: 2, Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 8, MLP: "swiglu", MLPWidth: 7, Positions: "rope", MaxLen: 4, Bias: true}, llamaTensors},
		{"turned", model.Config{Vocab: 5, Dim: 6, Layers: 2, Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 8, MLP: "swiglu", MLPWidth: 7, Positions: "rope", MaxLen: 4, Tied: true, Bias: true, RopePairs: "neighbours"}, llamaTensors},
		{"own", model.Config{Vocab: 5, Dim: 6, Layers: 2, Heads: 4, KVHeads: 2, KeyDim: 3, ValueDim: 5, MLP: "gelu-erf", MLPWidth: 7, Positions: "learned", MaxLen: 4, ShortConv: 2, Bias: true}, ownTensors},
	} {
		c.c.Attention = "full"
		m, err := model.New(c.c)
		if err != nil {
			t.Fatal(err)
		}
		hits, next := map[string][]int{}, float32(0)
		for _, p := range m.Params() {
			hits[p.Name] = make([]int, len(p.Data))
			for i := range p.Data {
				next++
				p.Data[i] = next
			}
		}
		tensors, err := gather(c.of(&m.Config), m.Params())
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		seen := map[float32]bool{}
		for _, x := range tensors {
			for i, v := range x.Data {
				if v == 0 || seen[v] {
					t.Fatalf("%s: %s: element %d of shape %v is element %v of the model, or of none", c.name, x.Name, i, x.Shape, v)
				}
				seen[v] = true
			}
		}
		if len(seen) != int(next) {
			t.Errorf("%s: %d elements: want %v", c.name, len(seen), next)
		}
	}
}

func Example() {
	d, err := LoadDecoder("testdata/stories260k", "sliding:window=256,sinks=4")
	if err != nil {
		fmt.Println(err)
		return
	}
	t := autograd.NewTape(attn.NewWorkspace())
	t.NoGrad = true
	fmt.Println(d.Greedy(t, []int32{int32(d.Begin)}, 8))
	// Output: [403 407 261 378 432 383 286 261] <nil>
}
