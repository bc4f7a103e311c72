package model_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/model"
)

// TestGenerate: greedy tokens are the most likely ones by full computation over all tokens so far, the prompt read in several chunks.
func TestGenerate(t *testing.T) {
	for _, mech := range []string{"full", "sliding:window=5", "linear", "gla"} {
		m, err := model.New(model.Config{Vocab: 31, Dim: 16, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 32, Attention: mech, Positions: "rope", MaxLen: 2048, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		tape := autograd.NewTape(attn.NewWorkspace())
		tape.NoGrad = true
		var prompt []int32
		for i := range 600 {
			prompt = append(prompt, int32(i*i%31))
		}
		var got []int32
		if err := m.Generate(tape, prompt, 12, &model.Sampler{}, nil, func(x int32) error { got = append(got, x); return nil }); err != nil {
			t.Fatal(err)
		}
		all := append(slices.Clone(prompt), got...)
		nats, best, labels := make([]float32, len(all)), make([]int32, len(all)), make([]int32, len(all))
		if err := m.LossPerToken(tape, all, labels, 1, len(all), nats, best); err != nil {
			t.Fatal(err)
		}
		if want := best[len(prompt)-1 : len(all)-1]; !slices.Equal(got, want) {
			t.Errorf("%s: %d: want %d", mech, got, want)
		}
		stop := errors.New("stop")
		if err := m.Generate(tape, prompt, 5, &model.Sampler{Temperature: 1}, rand.New(rand.NewPCG(1, 1)), func(int32) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%s: error %v: want that of emit", mech, err)
		}
		if err := m.Generate(tape, nil, 5, &model.Sampler{}, nil, nil); err == nil || !strings.Contains(err.Error(), "want at least one token") {
			t.Errorf("%s: no prompt: %v", mech, err)
		}
	}
}
