package public

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// Encoder is BERT (Devlin et al. 2019, arXiv:1810.04805) with its masked-language head: post-norm layers, learned positions, token types. It
// serves one goroutine.
type Encoder struct {
	Attention string // registry spelling, or a layer pattern

	config                      bertConfig
	params                      []*autograd.Param
	tokens, positions, segments nn.Embedding
	norm, headNorm              nn.Norm
	layers                      []encoderLayer
	dense                       nn.Linear
	bias                        *autograd.Param // [vocab]
	act                         autograd.Activation
	pass                        nn.Pass
}

type encoderLayer struct {
	attention    *nn.Attention
	mlp          nn.MLP
	norm1, norm2 nn.Norm
}

type bertConfig struct {
	Architectures []string `json:"architectures,omitempty"`
	ModelType     string   `json:"model_type"`
	Act           string   `json:"hidden_act"`
	Dim           int      `json:"hidden_size"`
	Width         int      `json:"intermediate_size"`
	Layers        int      `json:"num_hidden_layers"`
	Heads         int      `json:"num_attention_heads"`
	Vocab         int      `json:"vocab_size"`
	MaxLen        int      `json:"max_position_embeddings"`
	Types         int      `json:"type_vocab_size"`
	Eps           float64  `json:"layer_norm_eps"`
	Positions     string   `json:"position_embedding_type"`
	DType         string   `json:"torch_dtype,omitempty"`
}

// bertNaming knows the names of older files, and the heads and buffers that the masked-language model does without.
var bertNaming = naming{
	rename: strings.NewReplacer("LayerNorm.gamma", "LayerNorm.weight", "LayerNorm.beta", "LayerNorm.bias"),
	unused: []string{
		"bert.embeddings.position_ids", "bert.pooler.dense.weight", "bert.pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias",
	},
	twins: map[string]string{
		"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.bias": "cls.predictions.bias",
	},
}

// LoadEncoder loads a BERT from a folder, with an attention mechanism or a layer pattern in place of its own.
func LoadEncoder(dir, attention string) (*Encoder, error) {
	e, err := loadEncoder(dir, attention)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return e, nil
}

func loadEncoder(dir, attention string) (*Encoder, error) {
	text, modelType, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	if modelType != "bert" {
		return nil, fmt.Errorf("config.json: model_type %q: want bert", modelType)
	}
	c, err := readBERT(text)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	src, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if c.Layers > len(src.list()) {
		return nil, fmt.Errorf("%d layers in %d tensors: want at least one tensor a layer", c.Layers, len(src.list()))
	}
	plan := bertTensors(&c)
	names, err := match(src, plan, bertNaming)
	if err != nil {
		return nil, err
	}
	e, err := newEncoder(c, attention)
	if err != nil {
		return nil, err
	}
	return e, fill(src, plan, names, e.params)
}

func readBERT(text []byte) (bertConfig, error) {
	c := bertConfig{Act: "gelu", Types: 2, Eps: 1e-12, Positions: "absolute"} // the defaults of the format
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	err := errors.Join(
		checkSizes(size{"hidden_size", c.Dim}, size{"intermediate_size", c.Width}, size{"num_hidden_layers", c.Layers}, size{"num_attention_heads", c.Heads},
			size{"vocab_size", c.Vocab}, size{"max_position_embeddings", c.MaxLen}, size{"type_vocab_size", c.Types}),
		must("hidden_act", c.Act, "gelu", "gelu_new", "gelu_pytorch_tanh"), must("position_embedding_type", c.Positions, "absolute"),
		checkPositive("layer_norm_eps", c.Eps))
	if err == nil && c.Dim%c.Heads != 0 {
		err = fmt.Errorf("hidden_size %d over %d heads: want a multiple", c.Dim, c.Heads)
	}
	return c, err
}

func newEncoder(c bertConfig, attention string) (*Encoder, error) {
	mechs, err := attn.Layers(attention, c.Layers)
	if err != nil {
		return nil, err
	}
	e := &Encoder{Attention: attention, config: c, act: autograd.GELUErf}
	if gelu[c.Act] == "gelu" {
		e.act = autograd.GELU
	}
	b := &nn.Builder{}
	norm := func(name string) nn.Norm {
		n := nn.NewLayerNorm(b, name, c.Dim)
		n.Eps = float32(c.Eps)
		return n
	}
	e.tokens = nn.NewEmbedding(b, "embedding", c.Vocab, c.Dim, 1)
	e.positions = nn.NewEmbedding(b, "positions", c.MaxLen, c.Dim, 1)
	e.segments = nn.NewEmbedding(b, "types", c.Types, c.Dim, 1)
	e.norm = norm("norm")
	for i, mech := range mechs {
		name := fmt.Sprintf("layers.%d", i)
		a, err := nn.NewAttention(b, name+".attention", mech, nn.AttentionConfig{Dim: c.Dim, Bias: true, Shape: attn.Shape{
			Heads: c.Heads, KVHeads: c.Heads, KeyDim: c.Dim / c.Heads, ValueDim: c.Dim / c.Heads,
			Mask: attn.Bidirectional, Layer: i, Layers: c.Layers, MaxLen: c.MaxLen,
		}})
		if err == nil && i > 0 {
			err = a.CheckFirst(e.layers[0].attention)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		e.layers = append(e.layers, encoderLayer{a, nn.NewMLP(b, name+".mlp", c.Dim, c.Width, e.act, 1), norm(name + ".norm1"), norm(name + ".norm2")})
	}
	e.dense = nn.NewLinear(b, "head.dense", c.Dim, c.Dim, true, 1)
	e.headNorm = norm("head.norm")
	e.bias = b.Param("head.bias", false, nil, c.Vocab)
	e.params = b.Params
	return e, nil
}

// Logits returns the masked-language logits at every position, [rows·length, vocab], for tokens and their types [rows, length]; nil types are
// 0. segments say what of a padded row counts; nil is all. The slices must not change until the tape's Reset.
func (e *Encoder) Logits(t *autograd.Tape, tokens, types []int32, rows, length int, segments []attn.Segment) (autograd.Var, error) {
	if types == nil {
		types = make([]int32, len(tokens))
	}
	if rows < 0 || length < 0 || len(tokens) != rows*length || len(types) != len(tokens) || length > e.config.MaxLen {
		return autograd.None, fmt.Errorf("bert: %d tokens of %d types: want %d rows of %d, at most %d", len(tokens), len(types), rows, length, e.config.MaxLen)
	}
	for i := range tokens {
		if x, y := int(tokens[i]), int(types[i]); x < 0 || x >= e.config.Vocab || y < 0 || y >= e.config.Types {
			return autograd.None, fmt.Errorf("bert: token %d is %d of type %d: want below %d and %d", i, x, y, e.config.Vocab, e.config.Types)
		}
	}
	p := &e.pass
	p.Tape, p.Train, p.Aux = t, !t.NoGrad, autograd.None
	p.Begin(nn.Layout{Batch: rows, QueryLen: length, KeyLen: length, Segments: segments})
	x := t.Add(e.tokens.Forward(t, tokens), e.positions.Forward(t, p.Positions()))
	x = e.norm.Forward(t, t.Add(x, e.segments.Forward(t, types)))
	for i := range e.layers {
		l := &e.layers[i]
		y, err := l.attention.Forward(p, x, autograd.None, x)
		if err != nil {
			return autograd.None, err
		}
		x = l.norm1.Forward(t, y)
		x = l.norm2.Forward(t, l.mlp.Forward(t, x, x))
	}
	h := e.headNorm.Forward(t, e.dense.Forward(t, x, autograd.None, e.act))
	return t.Add(t.MatMulT(h, t.Param(e.tokens.Table)), t.Reshape(t.Param(e.bias), 1, e.config.Vocab)), nil
}

// Save writes config.json and model.safetensors into a folder, which it makes.
func (e *Encoder) Save(dir string) error {
	tensors, err := gather(bertTensors(&e.config), e.params)
	if err == nil {
		c := e.config
		c.ModelType, c.Architectures, c.DType = "bert", []string{"BertForMaskedLM"}, "float32"
		err = save(dir, c, tensors)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return nil
}

func bertTensors(c *bertConfig) []tensor {
	var p plan
	norm := func(from, to string) {
		p.vector(from+".weight", to+".gain", c.Dim)
		p.vector(from+".bias", to+".bias", c.Dim)
	}
	linear := func(from, to string, in, out int) {
		p.linear(from+".weight", to+".weight", in, out)
		p.vector(from+".bias", to+".bias", out)
	}
	p.same("bert.embeddings.word_embeddings.weight", "embedding.weight", c.Vocab, c.Dim)
	p.same("bert.embeddings.position_embeddings.weight", "positions.weight", c.MaxLen, c.Dim)
	p.same("bert.embeddings.token_type_embeddings.weight", "types.weight", c.Types, c.Dim)
	norm("bert.embeddings.LayerNorm", "norm")
	for i := range c.Layers {
		from, to := fmt.Sprintf("bert.encoder.layer.%d.", i), fmt.Sprintf("layers.%d.", i)
		for _, x := range []struct{ name, param string }{{"query", "q"}, {"key", "k"}, {"value", "v"}} {
			linear(from+"attention.self."+x.name, to+"attention."+x.param, c.Dim, c.Dim)
		}
		linear(from+"attention.output.dense", to+"attention.out", c.Dim, c.Dim)
		norm(from+"attention.output.LayerNorm", to+"norm1")
		linear(from+"intermediate.dense", to+"mlp.up", c.Dim, c.Width)
		linear(from+"output.dense", to+"mlp.down", c.Width, c.Dim)
		norm(from+"output.LayerNorm", to+"norm2")
	}
	linear("cls.predictions.transform.dense", "head.dense", c.Dim, c.Dim)
	norm("cls.predictions.transform.LayerNorm", "head.norm")
	p.vector("cls.predictions.bias", "head.bias", c.Vocab)
	return p.list
}
