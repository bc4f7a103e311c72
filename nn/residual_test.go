package nn

import (
	"math"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

// TestJoin: over many steps the mean of what a residual branch adds in training, dropped and left out or not, is what it adds at inference.
func TestJoin(t *testing.T) {
	for _, c := range []struct {
		drop, skip float32
	}{{0, 0}, {0.3, 0}, {0, 0.4}, {0.3, 0.4}} {
		tape := autograd.NewTape(attn.NewWorkspace())
		norm := NewRMSNorm(&Builder{}, "norm", 8)
		stream, branch := make([]float32, 8), make([]float32, 8)
		for i := range stream {
			stream[i], branch[i] = float32(i), float32(1+i)
		}
		join := func(seed uint64) []float32 {
			tape.Reset()
			d := Dropper{P: c.drop, Seed: seed}
			y, err := Residual{Skip: c.skip}.Join(tape, norm, tape.Const(stream, 1, 8), &d, func(_, add autograd.Var) (autograd.Var, error) {
				f := tape.Const(branch, 1, 8)
				if add != autograd.None {
					f = tape.Add(add, f)
				}
				return f, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return tape.Value(y)
		}
		const steps = 20000
		sum := make([]float64, 8)
		for seed := range uint64(steps) {
			for i, x := range join(seed) {
				sum[i] += float64(x) / steps
			}
		}
		tape.NoGrad = true
		for i, x := range join(1) {
			if x != stream[i]+branch[i] {
				t.Errorf("drop %v, skip %v: element %d at inference is %v: want %v", c.drop, c.skip, i, x, stream[i]+branch[i])
			}
			if added := sum[i] - float64(stream[i]); math.Abs(added/float64(branch[i])-1) > 0.04 {
				t.Errorf("drop %v, skip %v: element %d gains %v in training, on average: want %v", c.drop, c.skip, i, added, branch[i])
			}
		}
	}
}
