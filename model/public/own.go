package public

import (
	"bytes"
	"encoding/json"
	"fmt"

	"attnbench/model"
)

// own is this project's format, for models of no published family: config.json holds the model's configuration, the tensors go
// by their own names.
var own = architecture{read: readOwn, write: writeOwn, tensors: ownTensors}

type ownConfig struct {
	ModelType string       `json:"model_type"`
	Begin     any          `json:"bos_token_id,omitempty"`
	Model     model.Config `json:"model"`
}

func readOwn(text []byte) (model.Config, int, error) {
	var begin json.RawMessage
	c := ownConfig{Begin: &begin}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a setting of a later version would change the model
	if err := d.Decode(&c); err != nil {
		return model.Config{}, 0, err
	}
	m := &c.Model
	err := checkSizes(size{"Vocab", m.Vocab}, size{"Dim", m.Dim}, size{"Layers", m.Layers}, size{"Heads", m.Heads}, size{"KVHeads", m.KVHeads},
		size{"KeyDim", m.KeyDim}, size{"ValueDim", m.ValueDim}, size{"MLPWidth", max(m.MLPWidth, 1)}, size{"MaxLen", m.MaxLen})
	return *m, token(begin), err
}

func writeOwn(c *model.Config, begin int) (any, error) {
	return ownConfig{"attnbench", begins(begin), *c}, nil
}

// ownTensors are those of a model whose mechanism learns nothing of its own.
func ownTensors(c *model.Config) []tensor {
	var p plan
	same := func(name string, rows, cols int) { p.same(name, name, rows, cols) }
	bias := func(name string, n int) { p.vector(name, name, n) }
	norm := func(name string) {
		bias(name+".gain", c.Dim)
		if c.Norm == "layer" {
			bias(name+".bias", c.Dim)
		}
	}
	same("embedding.weight", c.Vocab, c.Dim)
	if c.Positions == "learned" {
		same("positions.weight", c.MaxLen, c.Dim)
	}
	for i := range c.Layers {
		to := fmt.Sprintf("layers.%d.", i)
		norm(to + "norm1")
		for _, x := range []size{{"q", c.Heads * c.KeyDim}, {"k", c.KVHeads * c.KeyDim}, {"v", c.KVHeads * c.ValueDim}} {
			name := to + "attention." + x.field
			same(name+".weight", c.Dim, x.value)
			if c.Bias {
				bias(name+".bias", x.value)
			}
			if c.ShortConv > 0 {
				same(name+".conv.weight", c.ShortConv, x.value)
			}
		}
		same(to+"attention.out.weight", c.Heads*c.ValueDim, c.Dim)
		if c.Bias {
			bias(to+"attention.out.bias", c.Dim)
		}
		switch c.MLP {
		case "none":
			continue
		case "swiglu":
			same(to+"mlp.up.weight", c.Dim, 2*c.MLPWidth)
		default:
			same(to+"mlp.up.weight", c.Dim, c.MLPWidth)
			bias(to+"mlp.up.bias", c.MLPWidth)
			bias(to+"mlp.down.bias", c.Dim)
		}
		norm(to + "norm2")
		same(to+"mlp.down.weight", c.MLPWidth, c.Dim)
	}
	norm("norm")
	if !c.Tied {
		same("head.weight", c.Dim, c.Vocab)
	}
	return p.list
}
