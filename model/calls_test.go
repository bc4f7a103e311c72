package model_test

import (
	"math"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
)

// Every layer's call is there, in order, and computing it again gives the output that it holds.
func TestCalls(t *testing.T) {
	m, err := model.New(model.Config{Vocab: 11, Dim: 16, Layers: 3, Heads: 4, KVHeads: 2, Attention: "full|gla|linear", Positions: "rope", MaxLen: 9, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	if _, err := m.Calls(tape, []int32{1, 2}); err == nil {
		t.Error("calls on a tape with gradients: no error")
	}
	tape.NoGrad = true
	calls, err := m.Calls(tape, []int32{1, 2, 3, 4, 5, 6, 7})
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) != 3 {
		t.Fatalf("%d calls: want one a layer, 3", len(calls))
	}
	for i, c := range calls {
		want := append([]float32(nil), c.Out.Data...)
		clear(c.Out.Data)
		if c.Layer != i {
			t.Errorf("call %d is of layer %d", i, c.Layer)
		}
		if err := m.Mechanism(i).Forward(attn.NewWorkspace(), c); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for j, x := range c.Out.Data {
			sum += math.Abs(float64(x))
			if x != want[j] {
				t.Fatalf("layer %d: output %d is %v when computed again: want %v", i, j, x, want[j])
			}
		}
		if sum == 0 {
			t.Errorf("layer %d: the output is zero", i)
		}
	}
	if _, err := m.Calls(tape, []int32{11}); err == nil {
		t.Error("token 11 of 11: no error")
	}
}
