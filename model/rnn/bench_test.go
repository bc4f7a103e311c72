package rnn

import (
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

// BenchmarkStep is a training step without the optimiser, of a model as large as those of the prose system.
func BenchmarkStep(b *testing.B) {
	for _, cell := range Cells {
		b.Run(cell, func(b *testing.B) {
			const rows, length = 8, 512
			c := Config{Cell: cell, Vocab: 256, Layers: 2, Seed: 1}
			c.Dim = (Dim(c, 420000) + 2) / 4 * 4
			m, err := New(c)
			if err != nil {
				b.Fatal(err)
			}
			tokens := make([]int32, rows*length)
			for i := range tokens {
				tokens[i] = int32(i * i % 256)
			}
			tape := autograd.NewTape(attn.NewWorkspace())
			for b.Loop() {
				tape.Reset()
				loss, err := m.Loss(tape, tokens, tokens, rows, length)
				if err != nil {
					b.Fatal(err)
				}
				if err := tape.Backward(loss); err != nil {
					b.Fatal(err)
				}
			}
			seconds := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(rows*length/seconds, "tok/s")
			b.ReportMetric(3*rows*length*float64(m.FLOPs())/seconds, "FLOP/s")
		})
	}
}
