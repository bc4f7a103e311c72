package seq2seq

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// Config describes a Transformer. Source and target share one vocabulary and one embedding.
type Config struct {
	Words     int     // size of the vocabulary
	Dim       int     // width of the residual stream
	Encoder   int     // layers
	Decoder   int     // layers
	Heads     int     // a divisor of Dim
	MLPWidth  int     // inner width of the GELU MLPs
	Norm      string  // pre: x + f(norm(x)) and a last norm (Xiong et al. 2020, arXiv:2002.04745); post: norm(x + f(x)), as in the paper
	Positions string  // sinusoidal, learned or rotary
	Tied      bool    // the output projection is the embedding (Press and Wolf 2017, arXiv:1608.05859)
	Dropout   float64 // of embeddings and of what each sublayer adds, in training
	MaxLen    int     // longest sequence, a bound only under learned positions
	Seed      uint64  // of the initialisation

	EncoderSelf, DecoderSelf, Cross string // registry spellings or layer patterns a|b
}

func (c *Config) check() error {
	for _, d := range []struct {
		name string
		got  int
	}{{"words", c.Words}, {"dim", c.Dim}, {"encoder layers", c.Encoder}, {"decoder layers", c.Decoder}, {"heads", c.Heads}, {"mlp width", c.MLPWidth}, {"max length", c.MaxLen}} {
		if d.got < 1 {
			return fmt.Errorf("%s is %d: want at least 1", d.name, d.got)
		}
	}
	switch {
	case c.Dim%c.Heads != 0:
		return fmt.Errorf("dim %d over %d heads: want a multiple", c.Dim, c.Heads)
	case !slices.Contains([]string{"pre", "post"}, c.Norm):
		return fmt.Errorf("norm %q: want pre or post", c.Norm)
	case !slices.Contains([]string{"sinusoidal", "learned", "rotary"}, c.Positions):
		return fmt.Errorf("positions %q: want sinusoidal, learned or rotary", c.Positions)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("dropout %v: want 0 to below 1", c.Dropout)
	}
	return nil
}

// Transformer is an encoder-decoder of attention layers.
type Transformer struct {
	Config Config

	params             []*autograd.Param
	embedding          nn.Embedding
	positions          *nn.Embedding // learned
	waves              []float32     // sinusoidal, [positions, dim]
	head               nn.Linear     // unless tied
	encoder            []encoderLayer
	decoder            []decoderLayer
	lastEncoder, last  nn.Norm // of pre-norm
	source, self, read nn.Pass // of encoder self-, decoder self- and cross-attention
	drop               nn.Dropper
}

type encoderLayer struct {
	norm1, norm2 nn.Norm
	attention    *nn.Attention
	mlp          nn.MLP
}

type decoderLayer struct {
	norm1, norm2, norm3 nn.Norm
	self, cross         *nn.Attention
	mlp                 nn.MLP
}

// NewTransformer builds the model that c describes. Weights start from a normal distribution of nn.Std of their width; under pre-norm those of
// projections onto the residual stream are divided by the root of the sublayers' number.
func NewTransformer(c Config) (*Transformer, error) {
	m, err := buildTransformer(c)
	if err != nil {
		return nil, fmt.Errorf("seq2seq: %w", err)
	}
	return m, nil
}

func buildTransformer(c Config) (*Transformer, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	m := &Transformer{Config: c}
	b := &nn.Builder{Seed: c.Seed}
	m.embedding = nn.NewEmbedding(b, "embedding", c.Words, c.Dim, 1)
	var rotary *nn.Rotary
	switch c.Positions {
	case "learned":
		e := nn.NewEmbedding(b, "positions", c.MaxLen, c.Dim, 0.25) // below the tokens
		m.positions = &e
	case "rotary":
		rotary = nn.NewRotary(attn.Rope{})
	}
	attention := func(name, spec string, i, layers, sublayers int, mask attn.Mask) (*nn.Attention, error) {
		mechs, err := attn.Layers(spec, layers)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		cfg := nn.AttentionConfig{Dim: c.Dim, OutScale: m.outScale(sublayers), Shape: attn.Shape{
			Heads: c.Heads, KVHeads: c.Heads, KeyDim: c.Dim / c.Heads, ValueDim: c.Dim / c.Heads, Mask: mask, Layer: i, Layers: layers, MaxLen: c.MaxLen}}
		if mask != attn.Cross { // positions of two sequences are unrelated
			cfg.Rotary = rotary
		}
		return nn.NewAttention(b, name, mechs[i], cfg)
	}
	norm := func(name string) nn.Norm { return nn.NewLayerNorm(b, name, c.Dim) }
	mlp := func(name string, sublayers int) nn.MLP {
		return nn.NewGELU(b, name+".mlp", c.Dim, c.MLPWidth, m.outScale(sublayers))
	}
	for i := range c.Encoder {
		name, n := fmt.Sprintf("encoder.%d", i), 2*c.Encoder
		a, err := attention(name+".self", c.EncoderSelf, i, c.Encoder, n, attn.Bidirectional)
		if err != nil {
			return nil, err
		}
		m.encoder = append(m.encoder, encoderLayer{norm(name + ".norm1"), norm(name + ".norm2"), a, mlp(name, n)})
	}
	for i := range c.Decoder {
		name, n := fmt.Sprintf("decoder.%d", i), 3*c.Decoder
		self, err := attention(name+".self", c.DecoderSelf, i, c.Decoder, n, attn.Causal)
		if err != nil {
			return nil, err
		}
		cross, err := attention(name+".cross", c.Cross, i, c.Decoder, n, attn.Cross)
		if err != nil {
			return nil, err
		}
		m.decoder = append(m.decoder, decoderLayer{norm(name + ".norm1"), norm(name + ".norm2"), norm(name + ".norm3"), self, cross, mlp(name, n)})
	}
	if err := m.checkFirst(); err != nil {
		return nil, err
	}
	if c.Norm == "pre" {
		m.lastEncoder, m.last = norm("encoder.norm"), norm("decoder.norm")
	}
	if !c.Tied {
		m.head = nn.NewLinear(b, "head", c.Dim, c.Words, false, 1)
	}
	m.params = b.Params
	return m, nil
}

// checkFirst reports a layer that wants an input of its stack's first layer that this does not have.
func (m *Transformer) checkFirst() error {
	for _, l := range m.encoder {
		if err := l.attention.CheckFirst(m.encoder[0].attention); err != nil {
			return err
		}
	}
	for _, l := range m.decoder {
		if err := l.self.CheckFirst(m.decoder[0].self); err != nil {
			return err
		}
		if err := l.cross.CheckFirst(m.decoder[0].cross); err != nil {
			return err
		}
	}
	return nil
}

func (m *Transformer) outScale(sublayers int) float64 {
	if m.Config.Norm == "post" {
		return 1
	}
	return 1 / math.Sqrt(float64(sublayers))
}

// Params returns the learned tensors, in a fixed order; a tied one appears once.
func (m *Transformer) Params() []*autograd.Param { return m.params }

// Vocab returns the size of the vocabulary.
func (m *Transformer) Vocab() int { return m.Config.Words }

func (m *Transformer) attentions() []*nn.Attention {
	var all []*nn.Attention
	for _, l := range m.encoder {
		all = append(all, l.attention)
	}
	for _, l := range m.decoder {
		all = append(all, l.self, l.cross)
	}
	return all
}

// Buffers returns the mechanisms' tensors that no gradient reaches; checkpoints hold them.
func (m *Transformer) Buffers() []nn.Buffer {
	var all []nn.Buffer
	for _, a := range m.attentions() {
		all = append(all, a.Buffers...)
	}
	return all
}

// Update lets the mechanisms change their buffers, once an optimiser step, after the backward pass and before the tape's Reset.
func (m *Transformer) Update(ws *attn.Workspace) error {
	for _, a := range m.attentions() {
		if err := a.Update(ws); err != nil {
			return err
		}
	}
	return nil
}
