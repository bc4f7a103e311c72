package train

import (
	"math/rand/v2"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/internal/kernel"
	"attnbench/internal/paired"
	"attnbench/model"
)

// BenchmarkStep is a whole training step of a decoder LM over bytes, d=256, 4 layers, 1024 tokens a row: forward, backward,
// norm of the gradient and AdamW. of-peak is the median of 7 ratios of the operations of its products, as counted in the kernels, to
// the multiply-add peak measured just before and after.
func BenchmarkStep(b *testing.B) {
	m, err := model.New(model.Config{
		Vocab: 256, Dim: 256, Layers: 4, Heads: 4, MLP: "gelu", MLPWidth: 1024,
		Attention: "full", Positions: "rope", Tied: true, MaxLen: 1024, Seed: 1,
	})
	if err != nil {
		b.Fatal(err)
	}
	const rows, length = 2, 1024
	r := rand.New(rand.NewPCG(1, 2))
	tokens, labels := make([]int32, rows*length), make([]int32, rows*length)
	for i := range tokens {
		tokens[i], labels[i] = int32(r.IntN(256)), int32(r.IntN(256))
	}
	ws := attn.NewWorkspace()
	tape := autograd.NewTape(ws)
	o, err := NewAdamW(m.Params())
	if err != nil {
		b.Fatal(err)
	}
	step := func() {
		tape.Reset()
		loss, err := m.Loss(tape, tokens, labels, rows, length)
		if err != nil {
			b.Fatal(err)
		}
		if err := tape.Backward(loss); err != nil {
			b.Fatal(err)
		}
		norm, err := o.Norm(ws, o.Steps())
		if err != nil {
			b.Fatal(err)
		}
		o.Step(ws, 1e-3, 1/max(1, norm))
		o.Clear()
	}
	step()
	flops := kernel.CountFLOPs(step)
	share := paired.OfPeak(7, float64(flops), step)
	for b.Loop() {
		step()
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(rows*length/seconds, "tok/s")
	b.ReportMetric(float64(flops)/seconds, "FLOP/s")
	b.ReportMetric(share.Median, "of-peak")
}
