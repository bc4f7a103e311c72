package model

import (
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

// BenchmarkStep is a training step without the optimiser, of a model as small as the main job's.
func BenchmarkStep(b *testing.B) {
	c := Config{
		Vocab: 256, Dim: 128, Layers: 4, Heads: 4, MLP: "swiglu", MLPWidth: 344,
		Attention: "full", Positions: "rope", Tied: true, MaxLen: 256, Seed: 1,
	}
	m, err := New(c)
	if err != nil {
		b.Fatal(err)
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	const rows, length = 8, 256
	tokens, labels := batch(c, rows, length)
	for b.Loop() {
		tape.Reset()
		loss, err := m.Loss(tape, tokens, labels, rows, length)
		if err != nil {
			b.Fatal(err)
		}
		if err := tape.Backward(loss); err != nil {
			b.Fatal(err)
		}
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(rows*length/seconds, "tok/s")
	b.ReportMetric(rows*float64(m.StepFLOPs(length))/seconds, "FLOP/s")
	b.ReportMetric(float64(tape.Bytes()), "step-B")
}
