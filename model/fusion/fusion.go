// Package fusion holds models that answer questions about images, sounds and words together, over any mechanism of the registry. The three are fused
//
//   - early: one sequence of all tokens, in order, goes through one encoder, as in VisualBERT (Li et al. 2019, arXiv:1908.03557);
//   - by cross-attention: an encoder each for images and for sounds, words among them, whose tokens a reader of the words attends to, as in
//     Flamingo (Alayrac et al. 2022, arXiv:2204.14198);
//   - late: such encoders, of which only the vectors at the question are put side by side.
//
// Images enter as patches of pixels (Dosovitskiy et al. 2020, arXiv:2010.11929), a pixel each if need be; sounds as frames of spectra or of samples.
package fusion

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// Fusions are the ways to fuse.
var Fusions = []string{"early", "cross", "late"}

// Config describes a model.
type Config struct {
	Image, Sound bool // which of the two it is given
	Patches      int  // of an image
	PatchWidth   int  // pixels of a patch
	FrameWidth   int  // numbers of a frame of sound
	Words        int  // of the vocabulary: 0 to Words-1
	Classes      int  // answers are 0 to Classes-1

	Fuse     string // one of Fusions; without images or sounds early and late are one
	Dim      int    // width of the residual stream
	Layers   int    // of each encoder
	Readers  int    // layers of the reader
	Heads    int    // a divisor of Dim
	MLPWidth int    // inner width of the GELU MLPs
	Causal   bool   // encoders and reader see what came before alone
	MaxLen   int    // tokens of an example, at most
	Dropout  float64
	Seed     uint64 // of the initialisation

	Encoder, Reader, Cross string // registry spellings or layer patterns a|b; the last two of cross alone
}

func (c *Config) check() error {
	type size struct {
		name     string
		got, min int
	}
	for _, d := range []size{
		{"words", c.Words, 1}, {"classes", c.Classes, 1}, {"dim", c.Dim, 1}, {"layers", c.Layers, 1}, {"heads", c.Heads, 1}, {"mlp width", c.MLPWidth, 1}, {"max length", c.MaxLen, 1},
		{"patches", c.Patches, least(c.Image)}, {"patch width", c.PatchWidth, least(c.Image)}, {"frame width", c.FrameWidth, least(c.Sound)}, {"readers", c.Readers, least(c.Fuse == "cross")},
	} {
		if d.got < d.min {
			return fmt.Errorf("%s is %d: want at least %d", d.name, d.got, d.min)
		}
	}
	switch {
	case !c.Image && !c.Sound:
		return fmt.Errorf("neither images nor sounds: want one at least")
	case !slices.Contains(Fusions, c.Fuse):
		return fmt.Errorf("fusion %q: want %s", c.Fuse, strings.Join(Fusions, ", "))
	case c.Dim%c.Heads != 0:
		return fmt.Errorf("dim %d over %d heads: want a multiple", c.Dim, c.Heads)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("dropout %v: want 0 to below 1", c.Dropout)
	}
	return nil
}

func least(wanted bool) int {
	if wanted {
		return 1
	}
	return 0
}

// streams are the kinds of tokens that each encoder sees, words besides.
func (c *Config) streams() [][]Kind {
	switch {
	case !c.Sound:
		return [][]Kind{{Image}}
	case !c.Image:
		return [][]Kind{{Sound}}
	case c.Fuse == "early":
		return [][]Kind{{Image, Sound}}
	}
	return [][]Kind{{Image}, {Sound}}
}

// Model answers questions about sequences of images, sounds and words. It serves one goroutine.
type Model struct {
	Config Config

	builder   nn.Builder
	pixels    front        // of a patch
	places    nn.Embedding // of a patch in its image
	frame     front        // of a sound
	words     nn.Embedding
	questions nn.Embedding // what is added to words: a row for those of a text, one for those of a question
	encoders  []encoder
	reader    *encoder
	hidden    nn.Linear
	out       nn.Linear
	pass      nn.Pass // of self-attention
	read      nn.Pass // of cross-attention
	drop      dropper
}

// front makes a token of numbers: out(gelu(in(x))).
type front struct{ in, out nn.Linear }

func newFront(b *nn.Builder, name string, width, dim int) front {
	return front{nn.NewLinear(b, name+".in", width, dim, true, 1), nn.NewLinear(b, name+".out", dim, dim, true, 1)}
}

// forward returns add + the tokens of x; add may be None.
func (f *front) forward(t *autograd.Tape, x, add autograd.Var) autograd.Var {
	return f.out.Forward(t, f.in.Forward(t, x, autograd.None, autograd.GELU), add, autograd.Identity)
}

// encoder is one stack of layers over the tokens of some kinds.
type encoder struct {
	kinds  []Kind
	layers []layer
	last   nn.Norm
}

// layer is x + attention(norm x), x + cross(norm x, memory) if it reads one, x + mlp(norm x) (Xiong et al. 2020, arXiv:2002.04745).
type layer struct {
	norm, normCross, normMLP nn.Norm
	self, cross              *nn.Attention
	mlp                      nn.MLP
}

// New builds the model that c describes.
func New(c Config) (*Model, error) {
	m, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("fusion: %w", err)
	}
	return m, nil
}

func build(c Config) (*Model, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	m := &Model{Config: c, builder: nn.Builder{Seed: c.Seed}}
	b := &m.builder
	if c.Image {
		m.pixels = newFront(b, "image.pixels", c.PatchWidth, c.Dim)
		m.places = nn.NewEmbedding(b, "image.places", c.Patches, c.Dim, 0.5/nn.Std(c.Dim)) // of the size of what stands there
	}
	if c.Sound {
		m.frame = newFront(b, "sound.frame", c.FrameWidth, c.Dim)
	}
	m.words = nn.NewEmbedding(b, "words", c.Words, c.Dim, 1)
	m.questions = nn.NewEmbedding(b, "questions", 2, c.Dim, 1)
	streams := c.streams()
	for _, kinds := range streams {
		name := "encoder"
		if len(streams) > 1 {
			name += "." + kinds[0].String()
		}
		e, err := m.encoder(name, c.Layers, false)
		if err != nil {
			return nil, err
		}
		e.kinds = kinds
		m.encoders = append(m.encoders, *e)
	}
	width := c.Dim * len(streams)
	if c.Fuse == "cross" {
		var err error
		if m.reader, err = m.encoder("reader", c.Readers, true); err != nil {
			return nil, err
		}
		width = c.Dim
	}
	m.hidden = nn.NewLinear(b, "hidden", width, c.Dim, true, 1)
	m.out = nn.NewLinear(b, "out", c.Dim, c.Classes, true, 1)
	return m, nil
}

// encoder makes a stack; a reader's layers attend to a memory too.
func (m *Model) encoder(name string, layers int, reads bool) (*encoder, error) {
	c, b := &m.Config, &m.builder
	sublayers, spec, mask := 2, c.Encoder, attn.Bidirectional
	if reads {
		sublayers, spec = 3, c.Reader
	}
	if c.Causal {
		mask = attn.Causal
	}
	out := 1 / math.Sqrt(float64(sublayers*layers))
	rotary := nn.NewRotary(attn.Rope{})
	attention := func(name, spec string, i int, mask attn.Mask) (*nn.Attention, error) {
		mechs, err := attn.Layers(spec, layers)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		cfg := nn.AttentionConfig{Dim: c.Dim, OutScale: out, Shape: attn.Shape{
			Heads: c.Heads, KVHeads: c.Heads, KeyDim: c.Dim / c.Heads, ValueDim: c.Dim / c.Heads, Mask: mask, Layer: i, Layers: layers, MaxLen: c.MaxLen}}
		if mask != attn.Cross { // positions of words and of what they read are unrelated
			cfg.Rotary = rotary
		}
		a, err := nn.NewAttention(b, name, mechs[i], cfg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return a, nil
	}
	e := &encoder{last: nn.NewLayerNorm(b, name+".norm", c.Dim)}
	for i := range layers {
		name := fmt.Sprintf("%s.%d", name, i)
		l := layer{norm: nn.NewLayerNorm(b, name+".norm1", c.Dim), normMLP: nn.NewLayerNorm(b, name+".norm2", c.Dim), mlp: nn.NewGELU(b, name+".mlp", c.Dim, c.MLPWidth, out)}
		var err error
		if l.self, err = attention(name+".self", spec, i, mask); err != nil {
			return nil, err
		}
		if reads {
			l.normCross = nn.NewLayerNorm(b, name+".norm3", c.Dim)
			if l.cross, err = attention(name+".cross", c.Cross, i, attn.Cross); err != nil {
				return nil, err
			}
		}
		e.layers = append(e.layers, l)
		for _, a := range l.attentions() {
			first := e.layers[0].self
			if a == l.cross {
				first = e.layers[0].cross
			}
			if err := a.CheckFirst(first); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return e, nil
}

func (l *layer) attentions() []*nn.Attention {
	if l.cross != nil {
		return []*nn.Attention{l.self, l.cross}
	}
	return []*nn.Attention{l.self}
}

// Params returns the learned tensors, in a fixed order.
func (m *Model) Params() []*autograd.Param { return m.builder.Params }

func (m *Model) attentions() []*nn.Attention {
	var all []*nn.Attention
	stacks := m.encoders
	if m.reader != nil {
		stacks = append(slices.Clip(stacks), *m.reader)
	}
	for _, e := range stacks {
		for i := range e.layers {
			all = append(all, e.layers[i].attentions()...)
		}
	}
	return all
}

// Buffers returns the mechanisms' tensors that no gradient reaches; checkpoints hold them.
func (m *Model) Buffers() []nn.Buffer {
	var all []nn.Buffer
	for _, a := range m.attentions() {
		all = append(all, a.Buffers...)
	}
	return all
}

// Update lets the mechanisms change their buffers, once an optimiser step, after the backward pass and before the tape's Reset.
func (m *Model) Update(ws *attn.Workspace) error {
	for _, a := range m.attentions() {
		if err := a.Update(ws); err != nil {
			return err
		}
	}
	return nil
}
