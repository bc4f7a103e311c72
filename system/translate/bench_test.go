package translate

import (
	"testing"

	_ "attnbench/attn/all"
	"attnbench/model/seq2seq"
	"attnbench/nn"
	"attnbench/task"
	"attnbench/train"
)

// BenchmarkStep is a training step of the default recipe on random batches of the real lengths: 64 pairs of 32 tokens.
func BenchmarkStep(b *testing.B) {
	for _, mech := range []string{"full", "linear", recurrent} {
		b.Run(mech, func(b *testing.B) {
			s, err := defaults.New()
			if err != nil {
				b.Fatal(err)
			}
			x := s.(*translate)
			m, err := x.model(mech, x.words(), 1)
			if err != nil {
				b.Fatal(err)
			}
			var in, out [][]int32
			for i := range 64 {
				var p, q []int32
				for j := range 32 {
					p, q = append(p, int32(3+(i*31+j*17)%4000)), append(q, int32(3+(i*13+j*29)%4000))
				}
				in, out = append(in, p), append(out, q[1:])
			}
			pb := pack(seq2seq.NewBatch(in, out, seq2seq.Special{Pad: 0, Begin: 1, End: 2}), 0)
			k := &fixed{&batches{}, pb}
			b.ResetTimer()
			_, err = train.Run(b.Context(), train.Config{
				Settings: train.Settings{Steps: b.N, Batch: 1, Rate: 1e-4, Clip: 1}, Model: &trained{Model: m, smoothing: 0.1}, Task: k, NoTest: true})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(nn.Count(m.Params())), "params")
		})
	}
}

// fixed is a task whose batches are all one.
type fixed struct {
	*batches
	b task.Batch
}

func (k *fixed) Train(uint64, int, int) task.Batch { return k.b }
