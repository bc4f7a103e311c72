package fusion

import (
	"math"
	"testing"

	"attnbench/nn"
	"attnbench/train"
)

// BenchmarkStep is a training step of the default recipes on sounds of the median length, 0.42 s.
func BenchmarkStep(b *testing.B) {
	var list []pair
	for i := range 200 {
		p := pair{digit: i % 10, pixels: make([]byte, side*side)}
		for j := range 3360 {
			p.samples = append(p.samples, float32(math.Sin(float64(j*(i+1))*0.01)))
		}
		list = append(list, p)
	}
	for _, c := range []struct{ name, spec, mech string }{
		{"form=digit/fuse=early", "fusion", "full"},
		{"form=digit/fuse=cross", "fusion:fuse=cross", "full"},
		{"form=digit/fuse=late", "fusion:fuse=late", "full"},
		{"form=digit/input=image", "fusion:input=image", "full"},
		{"form=digit/input=sound", "fusion:input=sound", "full"},
		{"form=match/fuse=early", "fusion:form=match", "full"},
		{"form=recall/mech=full", "fusion:form=recall", "full"},
		{"form=recall/mech=linear", "fusion:form=recall", "linear"},
		{"form=recall/frames=raw", "fusion:form=recall,frames=raw,hop=20,batch=1", "full"},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := newFuser(b, c.spec)
			k := newBatches(x, list, nil, 1)
			m, _, err := x.model(c.mech, 1<<16, 1)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			_, err = train.Run(b.Context(), train.Config{
				Settings: train.Settings{Steps: b.N, Batch: x.o.Batch, Rate: 1e-4, Clip: 1}, Model: &trained{Model: m, k: k}, Task: k, NoTest: true})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(nn.Count(m.Params())), "params")
		})
	}
}
