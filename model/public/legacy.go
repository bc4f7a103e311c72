package public

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"

	"attnbench/model"
	"attnbench/safetensors"
)

// A file of llama2.c in its legacy format (version 0, github.com/karpathy/llama2.c, export.py) is 7 numbers of 32 bits, all
// little-endian: width, inner width, layers, heads, key/value heads, vocabulary, context; and then float32: embedding; attention norms; wq, wk, wv, wo;
// MLP norms; w1 (gate), w2 (down), w3 (up), each of all layers; last norm; cosines and sines of the rotation; and, where the vocabulary is
// written negative, the output projection. Projections are [out, in]; rotary pairs are neighbours.

// laterMagic begins the files of later versions.
const laterMagic = 0x616b3432

// legacy is an open file, whose tensors go by Llama's names.
type legacy struct {
	io.Closer
	r    io.ReaderAt
	all  []safetensors.Info
	at   map[string]int64
	conf model.Config
}

func (l *legacy) list() []safetensors.Info { return l.all }

func (l *legacy) Floats(name string, dst []float32) error {
	if err := binary.Read(io.NewSectionReader(l.r, l.at[name], 4*int64(len(dst))), binary.LittleEndian, dst); err != nil {
		return fmt.Errorf("tensor %s: %w", name, err)
	}
	return nil
}

func loadLegacy(path, attention string) (*Decoder, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("neither a folder nor a regular file: want one of them")
	}
	l, err := openLegacy(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("legacy file of llama2.c: %w", err)
	}
	names := func(c *model.Config) []tensor { return llamaNames(c, false) } // the file's layout is the model's
	m, err := newDecoder(l.conf, attention, l, names, naming{})
	return &Decoder{m, 1}, err
}

// openLegacy reads the header of a file of size bytes and finds its tensors, which must fill it.
func openLegacy(r io.ReaderAt, size int64) (*legacy, error) {
	var h [7]int32
	if err := binary.Read(io.NewSectionReader(r, 0, min(size, 28)), binary.LittleEndian, &h); err != nil {
		return nil, fmt.Errorf("header: %w: want 7 numbers", err)
	}
	if h[0] == laterMagic {
		return nil, errors.New("a file of version 1 or later: want version 0, the legacy one")
	}
	tied := h[5] > 0
	if !tied && h[5] != -1<<31 {
		h[5] = -h[5]
	}
	for i, name := range []string{"width", "inner width", "layers", "heads", "key/value heads", "vocabulary", "context"} {
		if h[i] < 1 {
			return nil, fmt.Errorf("%s is %d: want at least 1", name, h[i])
		}
	}
	dim, inner, layers, heads, kv, vocab, context := int(h[0]), int(h[1]), int(h[2]), int(h[3]), int(h[4]), int(h[5]), int(h[6])
	if dim%heads != 0 || heads%kv != 0 {
		return nil, fmt.Errorf("width %d, %d heads, %d key/value heads: want each a multiple of the next", dim, heads, kv)
	}
	width := dim / heads
	l := &legacy{r: r, at: map[string]int64{}, conf: model.Config{
		Vocab: vocab, Dim: dim, Layers: layers, Heads: heads, KVHeads: kv, KeyDim: width, ValueDim: width, MLP: "swiglu", MLPWidth: inner,
		Positions: "rope", RopePairs: "neighbours", Tied: tied, MaxLen: context, NormEps: 1e-5,
	}}
	at := int64(28)
	take := func(name string, shape ...int) error {
		n := uint64(4)
		for _, d := range shape {
			hi, lo := bits.Mul64(n, uint64(d))
			if hi != 0 || lo > uint64(size-at) {
				return fmt.Errorf("%s of shape %v from byte %d on: want it within the file's %d", name, shape, at, size)
			}
			n = lo
		}
		l.all = append(l.all, safetensors.Info{Name: name, DType: safetensors.F32, Shape: shape, Begin: at, End: at + int64(n)})
		l.at[name] = at
		at += int64(n)
		return nil
	}
	each := func(name string, shape ...int) error {
		for i := range layers {
			if err := take(fmt.Sprintf("model.layers.%d.%s.weight", i, name), shape...); err != nil {
				return err
			}
		}
		return nil
	}
	tables := func() error { // of the rotation: known without them
		for _, name := range []string{"cosines", "sines"} {
			if err := take(name, context, width/2); err != nil {
				return err
			}
			l.all = l.all[:len(l.all)-1]
		}
		return nil
	}
	for _, step := range []func() error{
		func() error { return take("model.embed_tokens.weight", vocab, dim) },
		func() error { return each("input_layernorm", dim) },
		func() error { return each("self_attn.q_proj", dim, dim) },
		func() error { return each("self_attn.k_proj", kv*width, dim) },
		func() error { return each("self_attn.v_proj", kv*width, dim) },
		func() error { return each("self_attn.o_proj", dim, dim) },
		func() error { return each("post_attention_layernorm", dim) },
		func() error { return each("mlp.gate_proj", inner, dim) },
		func() error { return each("mlp.down_proj", dim, inner) },
		func() error { return each("mlp.up_proj", inner, dim) },
		func() error { return take("model.norm.weight", dim) },
		tables,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if !tied {
		if err := take("lm_head.weight", vocab, dim); err != nil {
			return nil, err
		}
	}
	if at != size {
		return nil, fmt.Errorf("%d bytes after the last tensor: want none", size-at)
	}
	return l, nil
}
