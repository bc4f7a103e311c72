package public

import (
	"encoding/json"
	"errors"
	"fmt"

	"attnbench/model"
)

// gpt2 is the family of Radford et al. 2019: learned positions, LayerNorm, GELU, biases, q, k and v in one projection whose
// weights lie [in, out].
var gpt2 = architecture{
	read: readGPT2, write: writeGPT2, tensors: gpt2Tensors,
	naming: naming{
		prefix: "transformer.", unused: []string{".attn.bias", ".attn.masked_bias"}, twins: map[string]string{"lm_head.weight": "wte.weight"},
	},
}

type gpt2Config struct {
	Architectures []string        `json:"architectures,omitempty"`
	ModelType     string          `json:"model_type"`
	Act           string          `json:"activation_function"`
	Dim           int             `json:"n_embd"`
	Width         int             `json:"n_inner,omitempty"`
	Layers        int             `json:"n_layer"`
	Heads         int             `json:"n_head"`
	Vocab         int             `json:"vocab_size"`
	MaxLen        int             `json:"n_positions"`
	Eps           float64         `json:"layer_norm_epsilon"`
	Tied          bool            `json:"tie_word_embeddings"`
	Scale         bool            `json:"scale_attn_weights"`
	ScaleByLayer  bool            `json:"scale_attn_by_inverse_layer_idx"`
	Begin         json.RawMessage `json:"bos_token_id,omitempty"`
	DType         string          `json:"torch_dtype,omitempty"`
}

// gelu are the names of the activations, and what the model calls them.
var gelu = map[string]string{"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu": "gelu-erf"}

func readGPT2(text []byte) (model.Config, int, error) {
	c := gpt2Config{Act: "gelu_new", Eps: 1e-5, Tied: true, Scale: true} // the defaults of the format
	if err := json.Unmarshal(text, &c); err != nil {
		return model.Config{}, 0, err
	}
	if c.Width == 0 {
		c.Width = 4 * c.Dim
	}
	err := errors.Join(
		checkSizes(size{"n_embd", c.Dim}, size{"n_inner", c.Width}, size{"n_layer", c.Layers}, size{"n_head", c.Heads}, size{"vocab_size", c.Vocab},
			size{"n_positions", c.MaxLen}),
		must("activation_function", c.Act, "gelu_new", "gelu_pytorch_tanh", "gelu"),
		must("scale_attn_weights", c.Scale, true), must("scale_attn_by_inverse_layer_idx", c.ScaleByLayer, false), checkPositive("layer_norm_epsilon", c.Eps))
	return model.Config{
		Vocab: c.Vocab, Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, MLP: gelu[c.Act], MLPWidth: c.Width, Positions: "learned", Tied: c.Tied, MaxLen: c.MaxLen,
		Norm: "layer", NormEps: c.Eps, Bias: true,
	}, token(c.Begin), err
}

func writeGPT2(c *model.Config, begin int) (any, error) {
	act := map[string]string{"gelu": "gelu_new", "gelu-erf": "gelu"}[c.MLP]
	if c.Norm != "layer" || act == "" || c.Positions != "learned" || !c.Bias || c.ShortConv != 0 || c.NormEps == 0 ||
		c.KVHeads != c.Heads || c.KeyDim*c.Heads != c.Dim || c.ValueDim != c.KeyDim {
		return nil, errors.New("no GPT-2: want LayerNorm of a stated epsilon, GELU, biases, learned positions and heads that make up the width")
	}
	out := gpt2Config{
		Architectures: []string{"GPT2LMHeadModel"}, ModelType: "gpt2", Act: act, Dim: c.Dim, Width: c.MLPWidth, Layers: c.Layers, Heads: c.Heads,
		Vocab: c.Vocab, MaxLen: c.MaxLen, Eps: c.NormEps, Tied: c.Tied, Scale: true, DType: "float32",
	}
	out.Begin, _ = json.Marshal(begins(begin))
	return out, nil
}

func gpt2Tensors(c *model.Config) []tensor {
	var p plan
	d := c.Dim
	norm := func(from, to string) {
		p.vector(from+".weight", to+".gain", d)
		p.vector(from+".bias", to+".bias", d)
	}
	linear := func(from, to string, in, out int) {
		p.same(from+".weight", to+".weight", in, out)
		p.vector(from+".bias", to+".bias", out)
	}
	p.same("wte.weight", "embedding.weight", c.Vocab, d)
	p.same("wpe.weight", "positions.weight", c.MaxLen, d)
	for i := range c.Layers {
		from, to := fmt.Sprintf("h.%d.", i), fmt.Sprintf("layers.%d.", i)
		norm(from+"ln_1", to+"norm1")
		var weights, biases []part
		for j, x := range []string{"q", "k", "v"} {
			weights = append(weights, part{param: to + "attention." + x + ".weight", col: j * d, rows: d, cols: d})
			biases = append(biases, part{param: to + "attention." + x + ".bias", col: j * d, rows: 1, cols: d})
		}
		p.add(from+"attn.c_attn.weight", []int{d, 3 * d}, weights...)
		p.add(from+"attn.c_attn.bias", []int{3 * d}, biases...)
		linear(from+"attn.c_proj", to+"attention.out", d, d)
		norm(from+"ln_2", to+"norm2")
		linear(from+"mlp.c_fc", to+"mlp.up", d, c.MLPWidth)
		linear(from+"mlp.c_proj", to+"mlp.down", c.MLPWidth, d)
	}
	norm("ln_f", "norm")
	if !c.Tied {
		p.linear("lm_head.weight", "head.weight", d, c.Vocab)
	}
	return p.list
}
