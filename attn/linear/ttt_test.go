package linear

import (
	"math"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// TestTTTSmall: two tokens, a step of gradient descent each, from W = 0 and b = 0. The first, k = q = (1, 0), v = 0: z = 0, ẑ = 0 with
// sd 1e-3, and ∇ = (1/2, -1/2)/1e-3, so that z̄ = -2·(η/2)∇ = (-500, 500), normalised (-1, 1), and o = (0, 1). Then W = [-250 250; 0 0]
// and b = (-250, 250), which q = (0, 1) reads: (-1, 2).
func TestTTTSmall(t *testing.T) {
	s := attn.Shape{Batch: 1, QueryLen: 2, KeyLen: 2, Heads: 1, KVHeads: 1, KeyDim: 2, ValueDim: 2, Mask: attn.Causal}
	view := func(dim int, x ...float32) attn.View { return attn.ViewAs(x, 1, 2, 1, dim) }
	c := &attn.Call{
		Shape: s, Q: view(2, 1, 0, 0, 1), K: view(2, 1, 0, 0, 0), V: view(2, 0, 0, 0, 0), Extra: []attn.View{view(1, 1, 0)},
		Learned: [][]float32{make([]float32, 4), {0, 0}, {1, 1}, {0, 0}, {0}}, Out: view(2, 9, 9, 9, 9),
	}
	testcall.Forward(t, testcall.Mechanism(t, "ttt:batch=1"), c)
	for i, want := range []float32{0, 1, -1, 2} {
		if got := c.Out.Data[i]; !(math.Abs(float64(got-want)) < 1e-5) {
			t.Errorf("output %d: %v: want %v", i, got, want)
		}
	}
}
