package bert_test

import (
	"math/rand/v2"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model/bert"
	"attnbench/train"
)

// BenchmarkStep is a training step of masked-language pre-training: 16 rows of 256 tokens, 4 layers of width 128, 4096 pieces.
func BenchmarkStep(b *testing.B) {
	for _, mech := range []string{"full", "sliding:window=64", "linear"} {
		b.Run("mech="+mech, func(b *testing.B) {
			c := bert.Config{Vocab: 4096, Dim: 128, Layers: 4, Heads: 4, MLPWidth: 512, Attention: mech, Norm: "pre", Positions: "rope", MaxLen: 256, Seed: 1}
			m := must(bert.NewMaskedLM(c))
			mask := must(bert.NewMasking(c.Vocab, []int32{0, 1, 2, 3}, 4, 0.15))
			r := rand.New(rand.NewPCG(1, 1))
			var lengths []int
			for range 16 {
				lengths = append(lengths, 256)
			}
			batch := bert.NewBatch(sequences(r, c.Vocab, lengths...), 0)
			labels := make([]int32, len(batch.Tokens))
			mask.Apply(batch.Tokens, labels, r)
			tape, opt := autograd.NewTape(attn.NewWorkspace()), must(train.NewAdamW(m.Params()))
			for b.Loop() {
				tape.Reset()
				if err := tape.Backward(must(m.Loss(tape, batch, labels, 1))); err != nil {
					b.Fatal(err)
				}
				opt.Step(tape.Workspace(), 1e-4, 1)
			}
			b.ReportMetric(float64(len(batch.Tokens)*b.N)/b.Elapsed().Seconds(), "tok/s")
			b.ReportMetric(float64(tape.Peak()), "step-B")
		})
	}
}
