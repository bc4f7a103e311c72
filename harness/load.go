package harness

import (
	"os"
	"slices"

	"attnbench/attn"
	"attnbench/model"
	"attnbench/model/public"
	"attnbench/train"
)

// ExactFirst puts the exact mechanism that the main job measures, with which models are trained, before the others.
func ExactFirst(names []string) []string {
	i := slices.IndexFunc(names, func(name string) bool {
		m, err := attn.New(name)
		if err != nil {
			return false
		}
		info := m.Info()
		return info.Quick && !info.Approximates && info.Masks == attn.Causal|attn.Bidirectional|attn.Cross
	})
	if i > 0 {
		name := names[i]
		names = slices.Insert(slices.Delete(names, i, i+1), 0, name)
	}
	return names
}

// Exact names the mechanism with which others are compared unless something else is said: exact softmax attention.
func Exact() string { return ExactFirst(attn.Names())[0] }

// LoadLM loads a trained language model from whatever holds one: a checkpoint that a training wrote (train.LoadLM), or a folder or file in a
// published format (public.LoadDecoder). mech, unless empty, takes the place of its attention. begin is the token that a text begins
// with, -1 for none.
func LoadLM(path, mech string) (m *model.LM, begin int, err error) {
	if isCheckpoint(path) {
		m, err = train.LoadLM(path, mech)
		return m, -1, err
	}
	if mech == "" {
		mech = Exact()
	}
	d, err := public.LoadDecoder(path, mech)
	if err != nil {
		return nil, -1, err
	}
	return d.LM, d.Begin, nil
}

// isCheckpoint reports whether path is a regular file that begins as safetensors do: eight bytes of a length, and a brace.
func isCheckpoint(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [9]byte
	n, _ := f.Read(head[:])
	return n == len(head) && head[8] == '{'
}
