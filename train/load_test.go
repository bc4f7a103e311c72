package train

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/task"
)

// TestLoadLM: what a training left in its checkpoint is the model that it scored, with the mean of the weights or without.
func TestLoadLM(t *testing.T) {
	k, err := task.New("opticks:length=32,eval=512")
	if err != nil {
		t.Fatal(err)
	}
	recipe := Recipe{Task: "opticks:length=32,eval=512", Model: model.Config{Dim: 16, Layers: 1, Heads: 2, MLP: "gelu", MLPWidth: 32, Positions: "learned", Tied: true}}
	for _, average := range []float64{0, 0.5} {
		m, err := recipe.NewModel(k, "full", 3)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "m.ckpt")
		_, err = Run(t.Context(), Config{Settings: Settings{Steps: 3, Batch: 2, Rate: 0.01, Average: average}, Model: m, Task: k, Seed: 3, Checkpoint: file})
		if err != nil {
			t.Fatal(err)
		}
		tokens := []int32{84, 104, 101, 32, 82, 97, 121, 115}
		logits := func(m *model.LM) []float32 {
			t.Helper()
			tape := autograd.NewTape(attn.NewWorkspace())
			tape.NoGrad = true
			s, err := m.NewState(1)
			if err != nil {
				t.Fatal(err)
			}
			x, err := m.Extend(tape, s, tokens, len(tokens), nil)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Clone(x)
		}
		loaded, err := LoadLM(file, "")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(logits(loaded), logits(m)) {
			t.Errorf("mean %v: the loaded model is not the one that was scored", average)
		}
		narrow, err := LoadLM(file, "sliding:window=2")
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(logits(narrow), logits(m)) {
			t.Errorf("mean %v: another mechanism computes the same", average)
		}
		if _, err := LoadLM(file, "gla"); err == nil || !strings.Contains(err.Error(), "m.ckpt: tensor layers.0.attention.") {
			t.Errorf("a mechanism with other tensors: %v", err)
		}
		refuses(t, file)
	}
}

// refuses checks that a description that does not fit the file's tensors is an error, whatever sizes it asks for.
func refuses(t *testing.T, file string) {
	t.Helper()
	for _, c := range []struct {
		change func(c *Checkpoint, m *model.Config)
		want   string
	}{
		{func(c *Checkpoint, _ *model.Config) { delete(c.Meta, "model") }, "it does not describe its model"},
		{func(_ *Checkpoint, m *model.Config) { m.Dim = 1 << 40 }, "has sizes of [256 1099511627776]"},
		{func(_ *Checkpoint, m *model.Config) { m.Layers = -1 }, "has a size of -1"},
		{func(_ *Checkpoint, m *model.Config) { m.MLPWidth = 5000 }, "has sizes of [1 16 5000]"},
		{func(_ *Checkpoint, m *model.Config) { m.MaxLen = 1 << 40 }, "1099511627776 positions"},
		{func(_ *Checkpoint, m *model.Config) { m.Vocab = 255 }, "embedding.weight: shape [256 16]: want [255 16]"},
		{func(_ *Checkpoint, m *model.Config) { m.Attention = "nothing" }, `unknown mechanism "nothing"`},
		{func(c *Checkpoint, _ *model.Config) { c.Tensors = c.Tensors[1:] }, "embedding.weight: missing"},
	} {
		x, err := ReadCheckpoint(file)
		if err != nil {
			t.Fatal(err)
		}
		var m model.Config
		if err := json.Unmarshal([]byte(x.Meta["model"]), &m); err != nil {
			t.Fatal(err)
		}
		spec := x.Meta["model"]
		c.change(x, &m)
		if changed, _ := json.Marshal(m); string(changed) != spec {
			x.Meta["model"] = string(changed)
		}
		bad := filepath.Join(t.TempDir(), "bad.ckpt")
		if err := WriteCheckpoint(bad, x); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadLM(bad, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
}
