package public

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// legacyFile writes stories260k in llama2.c's format by its description alone, from the tensors of the folder: rows of q and k go
// back next to one another.
func legacyFile(t *testing.T) []byte {
	t.Helper()
	_, tensors := contents(t, "stories260k")
	byName := map[string][]float32{}
	for _, x := range tensors {
		byName[x.Name] = x.Data
	}
	const dim, hidden, layers, heads, kv, vocab, context, width = 64, 172, 5, 8, 4, 512, 512, 8
	var b bytes.Buffer
	put := func(x any) { binary.Write(&b, binary.LittleEndian, x) }
	put([]int32{dim, hidden, layers, heads, kv, vocab, context})
	put(byName["model.embed_tokens.weight"])
	for _, name := range []string{"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
		"post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"} {
		for i := range layers {
			x := byName[fmt.Sprintf("model.layers.%d.%s.weight", i, name)]
			if strings.Contains(name, "q_proj") || strings.Contains(name, "k_proj") {
				y := make([]float32, 0, len(x))
				for h := range len(x) / dim / width {
					for p := range width / 2 {
						for _, r := range []int{p, p + width/2} {
							y = append(y, x[(h*width+r)*dim:][:dim]...)
						}
					}
				}
				x = y
			}
			put(x)
		}
	}
	put(byName["model.norm.weight"])
	for _, f := range []func(float64) float64{math.Cos, math.Sin} {
		for pos := range context {
			for p := range width / 2 {
				put(float32(f(float64(pos) * math.Pow(10000, -float64(2*p)/width))))
			}
		}
	}
	return b.Bytes()
}

// TestLegacy: the file that was published, to the byte but for the rotary tables, loads to the same model; and writing what was
// loaded gives the tensors of the folder, to the bit.
func TestLegacy(t *testing.T) {
	data := legacyFile(t)
	const tables = 2 * 512 * 4 * 4
	const sum = "340685034718160b936c5502a60a6da5c636afa1c53db33cefd0476ba3731205"
	if got := fmt.Sprintf("%x", sha256.Sum256(data[:len(data)-tables])); got != sum {
		t.Fatalf("the file before its tables has SHA-256 %s: want %s, that of stories260K.bin", got, sum)
	}
	path := filepath.Join(t.TempDir(), "stories260K.bin")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	checkStories(t, path)
	d, err := LoadDecoder(path, "full")
	if err != nil {
		t.Fatal(err)
	}
	if d.Config.RopePairs != "neighbours" {
		t.Errorf("rotary pairs %q: want neighbours", d.Config.RopePairs)
	}
	dir := t.TempDir()
	if err := SaveDecoder(dir, d); err != nil {
		t.Fatal(err)
	}
	got, err := LoadDecoder(dir, "full")
	if err != nil {
		t.Fatal(err)
	}
	want, err := LoadDecoder("testdata/stories260k", "full")
	if err != nil {
		t.Fatal(err)
	}
	sameParams(t, "converted", got.Params(), want.Params())
	if got.Config != want.Config {
		t.Errorf("configuration %+v: want %+v", got.Config, want.Config)
	}
}

func TestBadLegacy(t *testing.T) {
	good, err := os.ReadFile("testdata/llama2c/model.bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at    int // of the seven numbers; -1 for none
		value int32
		cut   int
		want  string
	}{
		{-1, 0, 1, "within the file's"}, {-1, 0, -1, "1 bytes after the last tensor"}, {-1, 0, len(good) - 27, "header: unexpected EOF"}, {-1, 0, len(good), "header: EOF"},
		{0, laterMagic, 0, "version 1 or later"}, {0, 0, 0, "width is 0"}, {0, -24, 0, "width is -24"}, {0, 25, 0, "width 25, 3 heads"},
		{1, math.MaxInt32, 0, "within the file's"}, {2, math.MaxInt32, 0, "within the file's"}, {3, 0, 0, "heads is 0"}, {4, 2, 0, "3 heads, 2 key/value heads"},
		{5, 0, 0, "vocabulary is 0"}, {5, math.MinInt32, 0, "vocabulary is -2147483648"}, {5, 37, 0, "bytes after the last tensor"}, {5, math.MaxInt32, 0, "within the file's"},
		{6, math.MaxInt32, 0, "within the file's"}, {6, 0, 0, "context is 0"},
	} {
		data := slices.Clone(good)
		if c.at >= 0 {
			binary.LittleEndian.PutUint32(data[4*c.at:], uint32(c.value))
		}
		if c.cut < 0 {
			data = append(data, 0)
		} else {
			data = data[:len(data)-c.cut]
		}
		if _, err := openLegacy(bytes.NewReader(data), int64(len(data))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("number %d is %d, %d bytes cut: error %v: want %q", c.at, c.value, c.cut, err, c.want)
		}
	}
}

func FuzzLegacy(f *testing.F) {
	good, err := os.ReadFile("testdata/llama2c/model.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:28])
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := openLegacy(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		total := int64(0)
		for _, x := range l.list() {
			total += x.End - x.Begin
		}
		if total > int64(len(data)) {
			t.Fatalf("%d bytes of tensors in a file of %d", total, len(data))
		}
	})
}
