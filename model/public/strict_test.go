package public

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"attnbench/safetensors"
)

// contents reads all tensors of a fixture that are float32 when read.
func contents(t *testing.T, folder string) (config map[string]any, tensors []safetensors.Tensor) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join("testdata", folder, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range f.Tensors {
		if x.DType != safetensors.F32 && x.DType != safetensors.F16 && x.DType != safetensors.BF16 {
			continue
		}
		data := make([]float32, x.Len())
		if err := f.Floats(x.Name, data); err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, safetensors.Tensor{Name: x.Name, DType: x.DType, Shape: x.Shape, Data: data})
	}
	return config, tensors
}

// change is a fixture with something changed, and the error that it gives; none for a checkpoint that is as good.
type change struct {
	folder string
	change func(config map[string]any, tensors *[]safetensors.Tensor)
	want   string
}

func set(key string, value any) func(map[string]any, *[]safetensors.Tensor) {
	return func(c map[string]any, _ *[]safetensors.Tensor) { c[key] = value }
}

func drop(name string) func(map[string]any, *[]safetensors.Tensor) {
	return func(_ map[string]any, x *[]safetensors.Tensor) {
		*x = slices.DeleteFunc(*x, func(t safetensors.Tensor) bool { return t.Name == name })
	}
}

func more(name string, like string, by float32) func(map[string]any, *[]safetensors.Tensor) {
	return func(_ map[string]any, x *[]safetensors.Tensor) {
		for _, t := range *x {
			if t.Name == like {
				t.Name, t.Data = name, slices.Clone(t.Data)
				t.Data[0] += by
				*x = append(*x, t)
				return
			}
		}
		panic(like)
	}
}

func reshape(name string, shape ...int) func(map[string]any, *[]safetensors.Tensor) {
	return func(_ map[string]any, x *[]safetensors.Tensor) {
		for i := range *x {
			if t := &(*x)[i]; t.Name == name {
				t.Shape, t.Data = shape, make([]float32, elements(shape))
			}
		}
	}
}

func rename(from, to string) func(map[string]any, *[]safetensors.Tensor) {
	return func(_ map[string]any, x *[]safetensors.Tensor) {
		for i := range *x {
			if strings.HasPrefix((*x)[i].Name, from) {
				(*x)[i].Name = to + strings.TrimPrefix((*x)[i].Name, from)
			}
		}
	}
}

// TestStrict: what is missing, unexpected or of another shape is named, and no setting that is not built is passed over.
func TestStrict(t *testing.T) {
	for _, c := range []change{
		{"llama", func(map[string]any, *[]safetensors.Tensor) {}, ""},
		{"llama", drop("model.layers.1.mlp.up_proj.weight"), "tensor model.layers.1.mlp.up_proj.weight: missing: want one of shape [36 24]"},
		{"llama", drop("model.layers.1.self_attn.k_proj.bias"), "tensor model.layers.1.self_attn.k_proj.bias: missing: want one of shape [20]"},
		{"llama", drop("lm_head.weight"), "tensor lm_head.weight: missing"},
		{"llama", more("model.layers.2.input_layernorm.weight", "model.norm.weight", 0), "tensor model.layers.2.input_layernorm.weight: the model has no place for it"},
		{"llama", more("model.layers.0.self_attn.rotary_emb.inv_freq", "model.norm.weight", 0), ""},
		{"llama", reshape("model.norm.weight", 25), "tensor model.norm.weight: shape [25]: want [24]"},
		{"llama", reshape("model.layers.0.self_attn.q_proj.weight", 24, 40), "tensor model.layers.0.self_attn.q_proj.weight: shape [24 40]: want [40 24]"},
		{"llama", set("num_key_value_heads", 4), "tensor model.layers.0.self_attn.k_proj.weight: shape [20 24]: want [40 24]"},
		{"llama", set("tie_word_embeddings", true), "tensor lm_head.weight: it differs from model.embed_tokens.weight"},
		{"llama", set("attention_bias", false), "tensor model.layers.0.self_attn.q_proj.bias: the model has no place"},
		{"llama", set("model_type", "mamba"), `config.json: model_type "mamba": want a decoder of llama, gpt2, attnbench`},
		{"llama", set("hidden_act", "relu"), "config.json: hidden_act is relu: want one of [silu]"},
		{"llama", set("rope_scaling", map[string]any{"type": "linear"}), `config.json: rope_scaling is {"type":"linear"}: want none`},
		{"llama", set("rope_parameters", map[string]any{"rope_type": "llama3"}), "rope_type is llama3"},
		{"llama", set("rope_parameters", map[string]any{"rope_type": "default", "rope_theta": 500}), ""},
		{"llama", set("sliding_window", 4096), "sliding_window is 4096: want none"},
		{"llama", set("mlp_bias", true), "mlp_bias is true"},
		{"llama", set("rms_norm_eps", -1), "rms_norm_eps is -1"},
		{"llama", set("hidden_size", 0), "hidden_size is 0: want 1 to 2^31-1"},
		{"llama", set("hidden_size", 1<<40), "hidden_size is 1099511627776"},
		{"llama", set("num_hidden_layers", 1<<30), "1073741824 layers in"},
		{"llama", set("num_attention_heads", 3), "want [30 24]"},
		{"llama", set("vocab_size", "37"), "config.json: json: cannot unmarshal string"},
		{"gpt2", func(map[string]any, *[]safetensors.Tensor) {}, ""},
		{"gpt2", rename("", "transformer."), ""},
		{"gpt2", more("lm_head.weight", "wte.weight", 0), ""},
		{"gpt2", more("lm_head.weight", "wte.weight", 1), "tensor lm_head.weight: it differs from wte.weight"},
		{"gpt2", func(_ map[string]any, x *[]safetensors.Tensor) { more("lm_head.weight", "wpe.weight", 0)(nil, x) }, "tensor lm_head.weight: shape [20 24]: want [37 24], that of wte.weight"},
		{"gpt2", more("transformer.wte.weight", "wte.weight", 0), "tensors wte.weight and transformer.wte.weight: want one of them"},
		{"gpt2", drop("h.1.attn.c_attn.bias"), "tensor h.1.attn.c_attn.bias: missing: want one of shape [72]"},
		{"gpt2", set("activation_function", "relu"), "activation_function is relu"},
		{"gpt2", set("scale_attn_by_inverse_layer_idx", true), "scale_attn_by_inverse_layer_idx is true"},
		{"gpt2", set("n_head", 5), "model: dim 24 over 5 heads"},
		{"gpt2", set("tie_word_embeddings", false), "tensor lm_head.weight: missing"},
		{"bert", func(map[string]any, *[]safetensors.Tensor) {}, ""},
		{"bert", more("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight", 0), ""},
		{"bert", more("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight", 1), "tensor cls.predictions.decoder.weight: it differs"},
		{"bert", drop("bert.encoder.layer.0.output.LayerNorm.gamma"), "tensor bert.encoder.layer.0.output.LayerNorm.weight: missing"},
		{"bert", set("num_attention_heads", 5), "hidden_size 24 over 5 heads"},
		{"bert", set("position_embedding_type", "relative_key"), "position_embedding_type is relative_key"},
		{"bert", set("hidden_act", "tanh"), "hidden_act is tanh"},
		{"bert", set("model_type", "roberta"), `model_type "roberta": want bert`},
	} {
		config, tensors := contents(t, c.folder)
		c.change(config, &tensors)
		dir := t.TempDir()
		if err := save(dir, config, tensors); err != nil {
			t.Fatal(err)
		}
		var err error
		if c.folder == "bert" {
			_, err = LoadEncoder(dir, "full")
		} else {
			_, err = LoadDecoder(dir, "full")
		}
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "checkpoint "+dir+": ")) {
			t.Errorf("%s: error %v: want %q", c.folder, err, c.want)
		}
	}
}

// TestMechanismOfItsOwn: a mechanism that learns more than a checkpoint holds is refused, with the first such tensor.
func TestMechanismOfItsOwn(t *testing.T) {
	for _, load := range []func(mech string) error{
		func(mech string) error { _, err := LoadDecoder("testdata/stories260k", mech); return err },
		func(mech string) error { _, err := LoadDecoder("testdata/gpt2", mech); return err },
	} {
		if err := load("full|gla"); err == nil || !strings.Contains(err.Error(), "the model's tensor layers.1.attention.") {
			t.Errorf("error %v: want the tensor named", err)
		}
		if err := load("sliding:window=0"); err == nil || !strings.Contains(err.Error(), "window=0") {
			t.Errorf("error %v: want the option named", err)
		}
	}
	if _, err := LoadEncoder("testdata/bert", "fixed"); err == nil || !strings.Contains(err.Error(), "mask is bidirectional") {
		t.Errorf("error %v: want the mask named", err)
	}
}

// TestShards: a checkpoint in pieces is the same one; an index that does not fit its files is refused.
func TestShards(t *testing.T) {
	config, tensors := contents(t, "llama")
	write := func(change func(where map[string]string)) string {
		dir := t.TempDir()
		if err := save(dir, config, tensors[:9]); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "a.safetensors")); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.WriteFile(filepath.Join(dir, "b.safetensors"), tensors[9:], nil); err != nil {
			t.Fatal(err)
		}
		where := map[string]string{}
		for i, x := range tensors {
			where[x.Name] = "a.safetensors"
			if i >= 9 {
				where[x.Name] = "b.safetensors"
			}
		}
		change(where)
		text, _ := json.Marshal(map[string]any{"weight_map": where, "metadata": map[string]any{"total_size": 1}})
		if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), text, 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	d, err := LoadDecoder(write(func(map[string]string) {}), "full")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := LoadDecoder("testdata/llama", "full")
	if err != nil {
		t.Fatal(err)
	}
	sameParams(t, "shards", d.Params(), whole.Params())
	last := tensors[len(tensors)-1].Name
	for _, c := range []struct {
		change func(where map[string]string)
		want   string
	}{
		{func(w map[string]string) { delete(w, last) }, "tensor " + last + " is in b.safetensors: want it listed there"},
		{func(w map[string]string) { w[last] = "a.safetensors" }, "tensor " + last + " is in b.safetensors"},
		{func(w map[string]string) { w["more"] = "a.safetensors" }, "tensor more: not in a.safetensors"},
		{func(w map[string]string) { w[last] = "../b.safetensors" }, `file "../b.safetensors": want the name of one in the same folder`},
		{func(w map[string]string) { w["more"] = "c.safetensors" }, "no such file"},
	} {
		if _, err := LoadDecoder(write(c.change), "full"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
}

func TestNoCheckpoint(t *testing.T) {
	empty := t.TempDir()
	half := t.TempDir()
	text, _ := os.ReadFile("testdata/llama/config.json")
	os.WriteFile(filepath.Join(half, "config.json"), text, 0o666)
	for path, want := range map[string]string{
		empty: "config.json: no such file", half: "neither model.safetensors nor model.safetensors.index.json", filepath.Join(empty, "x"): "no such file",
		"testdata/llama/model.safetensors": "want the folder", os.DevNull: "neither a folder nor a regular file", "testdata/reference.py": "legacy file of llama2.c",
	} {
		if _, err := LoadDecoder(path, "full"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v: want %q", path, err, want)
		}
	}
}

// FuzzConfig: no config.json makes a reader panic, and one that is taken gives a model that could be built.
func FuzzConfig(f *testing.F) {
	for _, folder := range []string{"llama", "gpt2", "bert", "stories260k"} {
		text, err := os.ReadFile(filepath.Join("testdata", folder, "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, a := range architectures {
			if c, begin, err := a.read(text); err == nil && (c.Vocab < 1 || c.Layers < 1 || c.Dim < 1 || begin < -1) {
				t.Fatalf("configuration %+v, begin %d", c, begin)
			}
		}
		if c, err := readBERT(text); err == nil && (c.Heads < 1 || c.Dim%c.Heads != 0) {
			t.Fatalf("configuration %+v", c)
		}
	})
}
