package train

import (
	"math/rand/v2"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/internal/paired"
	"attnbench/model"
)

// BenchmarkTrainStep is a whole training step of a decoder LM over bytes, d=256, 4 layers, 1024 tokens a row: forward, backward,
// norm of the gradient and AdamW. FLOP/s is by the operations that the step needs, model.StepFLOPs, which leaves out what masks
// hide; of-roof is the median of 7 ratios of that rate to the multiply-add peak measured just before and after, with as many threads.
//
// results/data/trainstep.sh writes its profile.
func BenchmarkTrainStep(b *testing.B) {
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
	}
	flops := rows * float64(m.StepFLOPs(length))
	share := paired.OfPeak(7, flops, step)
	for b.Loop() {
		step()
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(rows*length/seconds, "tok/s")
	b.ReportMetric(flops/seconds, "FLOP/s")
	b.ReportMetric(share.Median, "of-roof")
}
