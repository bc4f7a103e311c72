package testcall

import (
	"math"
	"testing"

	"attnbench/attn"
)

// Small returns a call of one batch row, key and value dim 1, with q and k of 0, so that every output is the
// mean of the values that it sees. v holds one value a key and key/value head, head fastest. The words
// behind every input are NaN.
func Small(mask attn.Mask, queries, heads, kvHeads int, v ...float32) *attn.Call {
	keys := len(v) / kvHeads
	s := attn.Shape{Batch: 1, QueryLen: queries, KeyLen: keys, Heads: heads, KVHeads: kvHeads, KeyDim: 1, ValueDim: 1, Mask: mask}
	guarded := func(x []float32, time, heads int) attn.View {
		x = append(append([]float32(nil), x...), float32(math.NaN()), float32(math.NaN()), float32(math.NaN()))
		return attn.ViewAs(x, 1, time, heads, 1)
	}
	return &attn.Call{
		Shape: s,
		Q:     guarded(make([]float32, queries*heads), queries, heads),
		K:     guarded(make([]float32, keys*kvHeads), keys, kvHeads),
		V:     guarded(v, keys, kvHeads),
		Out:   guarded(make([]float32, queries*heads), queries, heads),
	}
}

// Want fails unless the outputs of c, head fastest, are want to within rounding; a wanted 0 is exact.
func Want(t *testing.T, what string, c *attn.Call, want ...float64) {
	t.Helper()
	if n := c.QueryLen * c.Heads; len(want) != n {
		t.Fatalf("%s: %d outputs: the test wants %d", what, n, len(want))
	}
	for i, w := range want {
		got := float64(c.Out.Row(0, i/c.Heads, i%c.Heads)[0])
		if !(math.Abs(got-w) <= 2e-6*math.Abs(w)) {
			t.Errorf("%s: query %d head %d: %v: want %v", what, i/c.Heads, i%c.Heads, got, w)
		}
	}
}

// Mechanism makes the mechanism spelled spec.
func Mechanism(t *testing.T, spec string) attn.Mechanism {
	t.Helper()
	m, err := attn.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Forward runs m on c.
func Forward(t *testing.T, m attn.Mechanism, c *attn.Call) {
	t.Helper()
	if err := m.Forward(attn.NewWorkspace(), c); err != nil {
		t.Fatal(err)
	}
}
