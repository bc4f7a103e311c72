// Package public reads and writes models in the formats in which they are published: folders with a config.json and
// safetensors under the parameter names of GPT-2, BERT and Llama, and llama2.c's legacy files.
//
// Loading is strict: a tensor that is missing, of another shape, or that the model has no place for is an error with its name, and
// a setting that would change the model's function and is not known is one too. Nothing is allocated above what the files hold.
package public

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"attnbench/internal/wholefile"
	"attnbench/model"
	"attnbench/safetensors"
)

// Decoder is a decoder language model from a checkpoint.
type Decoder struct {
	*model.LM
	Begin int // the token that a text begins with; -1 for none
}

// architecture is how a family of decoders is published.
type architecture struct {
	read    func(text []byte) (model.Config, int, error)  // from config.json, with the token of the beginning
	write   func(c *model.Config, begin int) (any, error) // what config.json holds, or why c is no model of this family
	tensors func(c *model.Config) []tensor
	naming  naming
}

// architectures are known by their model_type; a model is written as the first that it is of.
var architectures = []struct {
	modelType string
	architecture
}{{"llama", llama}, {"gpt2", gpt2}, {"attnbench", own}}

// LoadDecoder loads a decoder with an attention mechanism, or a layer pattern, in place of the exact one that the checkpoint was trained with.
// path is a folder with config.json and model.safetensors, or shards of it with their index, or a file of llama2.c.
func LoadDecoder(path, attention string) (*Decoder, error) {
	d, err := loadDecoder(path, attention)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return d, nil
}

func loadDecoder(path, attention string) (*Decoder, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if isTensors(path) {
			return nil, fmt.Errorf("a file of tensors alone: want the folder that holds it and config.json")
		}
		return loadLegacy(path, attention)
	}
	text, modelType, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range architectures {
		if a.modelType != modelType {
			names = append(names, a.modelType)
			continue
		}
		c, begin, err := a.read(text)
		if err != nil {
			return nil, fmt.Errorf("config.json: %w", err)
		}
		src, err := openFolder(path)
		if err != nil {
			return nil, err
		}
		defer src.Close()
		m, err := newDecoder(c, attention, src, a.tensors, a.naming)
		return &Decoder{m, begin}, err
	}
	return nil, fmt.Errorf("config.json: model_type %q: want a decoder of %s", modelType, strings.Join(names, ", "))
}

// isTensors reports whether a file is one of safetensors, by what it begins with: the length of its header, and that.
func isTensors(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [9]byte
	_, err = io.ReadFull(f, head[:])
	return err == nil && head[8] == '{' && binary.LittleEndian.Uint32(head[4:]) == 0 || strings.HasSuffix(path, ".safetensors")
}

// newDecoder builds the model that c describes from the tensors of src.
func newDecoder(c model.Config, attention string, src source, tensors func(*model.Config) []tensor, n naming) (*model.LM, error) {
	c.Attention = attention
	if c.Layers > len(src.list()) {
		return nil, fmt.Errorf("%d layers in %d tensors: want at least one tensor a layer", c.Layers, len(src.list()))
	}
	plan := tensors(&c)
	names, err := match(src, plan, n)
	if err != nil {
		return nil, err
	}
	m, err := model.New(c)
	if err != nil {
		return nil, err
	}
	return m, fill(src, plan, names, m.Params())
}

// SaveDecoder writes config.json and model.safetensors into a folder, which it makes: in the format of the published family
// that the model is of, or in this project's own. The published ones do not say which mechanism a model has.
func SaveDecoder(dir string, d *Decoder) error {
	if err := saveDecoder(dir, d); err != nil {
		return fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return nil
}

func saveDecoder(dir string, d *Decoder) error {
	config, list, err := describe(d)
	if err != nil {
		return err
	}
	tensors, err := gather(list, d.Params())
	if err != nil {
		return err
	}
	return save(dir, config, tensors)
}

// CanSave reports why SaveDecoder would refuse a model, such as a mechanism that learns tensors of its own.
func CanSave(d *Decoder) error {
	_, list, err := describe(d)
	if err == nil {
		_, err = places(list, d.Params())
	}
	return err
}

// describe returns the config.json and the tensors of the first family that the model is of.
func describe(d *Decoder) (config any, list []tensor, err error) {
	for _, a := range architectures {
		if config, err = a.write(&d.Config, d.Begin); err == nil {
			return config, a.tensors(&d.Config), nil
		}
	}
	return nil, nil, err
}

// save writes the tensors first: a folder with config.json is whole.
func save(dir string, config any, tensors []safetensors.Tensor) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), tensors, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Write(filepath.Join(dir, "config.json"), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}
