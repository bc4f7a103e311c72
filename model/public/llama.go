package public

import (
	"encoding/json"
	"errors"
	"fmt"

	"attnbench/model"
)

// llama is the family of Touvron et al. 2023 (arXiv:2302.13971), with grouped queries: RMSNorm, SwiGLU, rotary positions. Its
// published files mean the rotary layout of halves.
var llama = architecture{
	read: readLlama, write: writeLlama, tensors: llamaTensors,
	naming: naming{unused: []string{".rotary_emb.inv_freq"}, twins: map[string]string{"lm_head.weight": "model.embed_tokens.weight"}},
}

type llamaConfig struct {
	Architectures []string        `json:"architectures,omitempty"`
	ModelType     string          `json:"model_type"`
	Act           string          `json:"hidden_act"`
	Dim           int             `json:"hidden_size"`
	Width         int             `json:"intermediate_size"`
	Layers        int             `json:"num_hidden_layers"`
	Heads         int             `json:"num_attention_heads"`
	KVHeads       int             `json:"num_key_value_heads,omitempty"`
	HeadDim       int             `json:"head_dim,omitempty"`
	Vocab         int             `json:"vocab_size"`
	MaxLen        int             `json:"max_position_embeddings"`
	Eps           float64         `json:"rms_norm_eps"`
	RopeBase      float64         `json:"rope_theta,omitempty"`
	RopeScaling   json.RawMessage `json:"rope_scaling,omitempty"`
	Rope          *llamaRope      `json:"rope_parameters,omitempty"`
	Tied          bool            `json:"tie_word_embeddings"`
	AttentionBias bool            `json:"attention_bias"`
	MLPBias       bool            `json:"mlp_bias"`
	Window        json.RawMessage `json:"sliding_window,omitempty"`
	Begin         json.RawMessage `json:"bos_token_id,omitempty"`
	DType         string          `json:"torch_dtype,omitempty"`
}

// llamaRope is where newer files keep the rotation's settings.
type llamaRope struct {
	Type string  `json:"rope_type"`
	Base float64 `json:"rope_theta"`
}

func readLlama(text []byte) (model.Config, int, error) {
	c := llamaConfig{Act: "silu", Eps: 1e-6, MaxLen: 2048} // the defaults of the format
	if err := json.Unmarshal(text, &c); err != nil {
		return model.Config{}, 0, err
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Dim / c.Heads
	}
	if c.Rope != nil {
		c.RopeBase = c.Rope.Base
		if err := must("rope_type", c.Rope.Type, "", "default"); err != nil {
			return model.Config{}, 0, err
		}
	}
	if c.RopeBase == 0 {
		c.RopeBase = 10000
	}
	err := errors.Join(
		checkSizes(size{"hidden_size", c.Dim}, size{"intermediate_size", c.Width}, size{"num_hidden_layers", c.Layers}, size{"num_attention_heads", c.Heads},
			size{"num_key_value_heads", c.KVHeads}, size{"head_dim", c.HeadDim}, size{"vocab_size", c.Vocab}, size{"max_position_embeddings", c.MaxLen}),
		must("hidden_act", c.Act, "silu"), must("mlp_bias", c.MLPBias, false),
		none("rope_scaling", c.RopeScaling), none("sliding_window", c.Window),
		checkPositive("rms_norm_eps", c.Eps), checkPositive("rope_theta", c.RopeBase))
	return model.Config{
		Vocab: c.Vocab, Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, KVHeads: c.KVHeads, KeyDim: c.HeadDim, ValueDim: c.HeadDim,
		MLP: "swiglu", MLPWidth: c.Width, Positions: "rope", Tied: c.Tied, MaxLen: c.MaxLen, NormEps: c.Eps, Bias: c.AttentionBias, RopeBase: c.RopeBase,
	}, token(c.Begin), err
}

func checkPositive(field string, x float64) error {
	if !(x > 0) {
		return fmt.Errorf("%s is %v: want more than 0", field, x)
	}
	return nil
}

// writeLlama describes a model of either rotary layout: llamaTensors gives the rows of q and k their places in that of halves.
func writeLlama(c *model.Config, begin int) (any, error) {
	if c.Norm == "layer" || c.MLP != "swiglu" || c.Positions != "rope" || c.ShortConv != 0 || c.KeyDim != c.ValueDim || c.KeyDim%2 != 0 || c.NormEps == 0 {
		return nil, errors.New("no Llama: want RMSNorm of a stated epsilon, SwiGLU, rotary positions and heads of one even width")
	}
	base := c.RopeBase
	if base == 0 {
		base = 10000
	}
	out := llamaConfig{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", Act: "silu", Dim: c.Dim, Width: c.MLPWidth, Layers: c.Layers, Heads: c.Heads,
		KVHeads: c.KVHeads, HeadDim: c.KeyDim, Vocab: c.Vocab, MaxLen: c.MaxLen, Eps: c.NormEps, RopeBase: base, Tied: c.Tied, AttentionBias: c.Bias,
		DType: "float32",
	}
	out.Begin, _ = json.Marshal(begins(begin))
	return out, nil
}

// llamaTensors are those of a published file, whose rotary layout is that of halves, in a model of c's layout.
func llamaTensors(c *model.Config) []tensor { return llamaNames(c, c.RopePairs == "neighbours") }

// llamaNames are the tensors under Llama's names; turn puts the rows of q and k, in the file in halves, next to one another in the model.
func llamaNames(c *model.Config, turn bool) []tensor {
	var p plan
	p.same("model.embed_tokens.weight", "embedding.weight", c.Vocab, c.Dim)
	for i := range c.Layers {
		from, to := fmt.Sprintf("model.layers.%d.", i), fmt.Sprintf("layers.%d.", i)
		p.vector(from+"input_layernorm.weight", to+"norm1.gain", c.Dim)
		for _, x := range []struct {
			name  string
			heads int
			turn  bool
		}{{"q", c.Heads, turn}, {"k", c.KVHeads, turn}, {"v", c.KVHeads, false}} {
			name, param := from+"self_attn."+x.name+"_proj.", to+"attention."+x.name+"."
			p.add(name+"weight", []int{x.heads * c.KeyDim, c.Dim}, rotaryRows(part{param: param + "weight", cols: c.Dim, turned: true}, x.heads, c.KeyDim, x.turn)...)
			if c.Bias {
				p.add(name+"bias", []int{x.heads * c.KeyDim}, rotaryColumns(part{param: param + "bias", rows: 1}, x.heads, c.KeyDim, x.turn)...)
			}
		}
		p.linear(from+"self_attn.o_proj.weight", to+"attention.out.weight", c.Heads*c.ValueDim, c.Dim)
		if c.Bias {
			p.vector(from+"self_attn.o_proj.bias", to+"attention.out.bias", c.Dim)
		}
		p.vector(from+"post_attention_layernorm.weight", to+"norm2.gain", c.Dim)
		up := part{param: to + "mlp.up.weight", rows: c.MLPWidth, cols: c.Dim, turned: true}
		p.add(from+"mlp.gate_proj.weight", []int{c.MLPWidth, c.Dim}, up)
		up.toCol = c.MLPWidth
		p.add(from+"mlp.up_proj.weight", []int{c.MLPWidth, c.Dim}, up)
		p.linear(from+"mlp.down_proj.weight", to+"mlp.down.weight", c.MLPWidth, c.Dim)
	}
	p.vector("model.norm.weight", "norm.gain", c.Dim)
	if !c.Tied {
		p.linear("lm_head.weight", "head.weight", c.Dim, c.Vocab)
	}
	return p.list
}

// halves calls f for each row of heads of a width: row p of a head's first half stands for element 2p, of its second for 2p+1.
func halves(heads, width int, f func(file, model int)) {
	for h := range heads {
		for i := range width {
			f(h*width+i, h*width+2*(i%(width/2))+i/(width/2))
		}
	}
}

// rotaryRows cuts the rows of a projection of q or k, [heads·width, in] in the file, into parts.
func rotaryRows(x part, heads, width int, turn bool) []part {
	x.rows = heads * width
	if !turn {
		return []part{x}
	}
	var list []part
	x.rows = 1
	halves(heads, width, func(file, model int) {
		x.row, x.toCol = file, model
		list = append(list, x)
	})
	return list
}

// rotaryColumns does the same with a bias.
func rotaryColumns(x part, heads, width int, turn bool) []part {
	x.cols = heads * width
	if !turn {
		return []part{x}
	}
	var list []part
	x.cols = 1
	halves(heads, width, func(file, model int) {
		x.col, x.toCol = file, model
		list = append(list, x)
	})
	return list
}
