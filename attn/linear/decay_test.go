package linear

import (
	"math"
	"slices"
	"testing"

	"attnbench/attn"
)

// BUGS 12: strong decays stay finite and right, in the gradients too.
func TestStrongDecay(t *testing.T) {
	for i, decay := range []float32{-5, -20, -100, -20000, -5, -20, -100, -20000} {
		for _, mixed := range []bool{false, true} {
			spec := []string{"gla", "fading"}[i/4]
			m := newMech(t, spec)
			s := attn.Shape{Batch: 1, QueryLen: 150, KeyLen: 150, Heads: 1, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
			c := newCall(m, s, 5, 1e-4)
			for i := range 150 {
				if !mixed || i%37 == 3 {
					for j := range c.Extra[0].Dim {
						c.Extra[0].Row(0, i, 0)[j] = decay
					}
				}
			}
			w := wideCall(c)
			if err := m.Define(w); err != nil {
				t.Fatal(err)
			}
			g := newGrads(c, 6)
			backward(t, m, c, g)
			if e := worst(c.Out.Data, w.Out.Data); !(e < 1e-5) {
				t.Errorf("%s, decay %v: output differs by %.3g", spec, decay, e)
			}
			checkGrads(t, m, c, g)
		}
	}
}

// Weak to strong decays over thousands of tokens, against the definition.
func TestStability(t *testing.T) {
	n := 3000
	if !testing.Short() {
		n = 100_000
	}
	for i, decay := range []float64{-1e-7, -1e-4, -0.01, -1, -20, -1e-7, -0.01} {
		m := newMech(t, []string{"gla", "fading"}[i/5])
		s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 4, ValueDim: 2, Mask: attn.Causal}
		c := newCall(m, s, 7, 0)
		for i := range n {
			for j := range c.Extra[0].Dim {
				c.Extra[0].Row(0, i, 0)[j] = float32(decay)
			}
		}
		w := wideCall(c)
		if err := m.Define(w); err != nil {
			t.Fatal(err)
		}
		if err := m.Forward(attn.NewWorkspace(), c); err != nil {
			t.Fatal(err)
		}
		if e := worst(c.Out.Data, w.Out.Data); !(e < 5e-6) {
			t.Errorf("log decay %g, %d tokens: output differs by %.3g", decay, n, e)
		}
	}
}

// Token by token, too, weak decays are not rounded off, as far as a float32 state allows: a factor of
// e^-1e-7 itself would round to e^-1.2e-7, an error of 1e-4 after 5000 tokens.
func TestWeakDecayByStep(t *testing.T) {
	for i, decay := range []float64{-1e-7, -3e-5, -2e-3, -1e-7} {
		m := newMech(t, []string{"gla", "fading"}[i/3])
		const n = 5000
		s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 4, ValueDim: 2, Mask: attn.Causal}
		c := newCall(m, s, 7, 0)
		for i := range n {
			for j := range c.Extra[0].Dim {
				c.Extra[0].Row(0, i, 0)[j] = float32(decay)
			}
		}
		w := wideCall(c)
		if err := m.Define(w); err != nil {
			t.Fatal(err)
		}
		extend(t, m, c, slices.Repeat([]int{1}, n))
		if e := worst(c.Out.Data, w.Out.Data); !(e < 3e-5) {
			t.Errorf("log decay %g: output differs by %.3g", decay, e)
		}
	}
}

// BUGS 42: a decayed state ends at 0, not among the subnormal numbers, by chunks and by steps.
func TestDecayedStateEnds(t *testing.T) {
	for i, decay := range []float32{0.5, 0.9, 0.99, 0.5} {
		m := newMech(t, []string{"gla", "fading"}[i/3])
		for _, step := range []int{1, 64, 1000} {
			const n = 20_000
			s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal}
			c := newCall(m, s, 1, 0)
			for i := range n {
				c.Extra[0].Row(0, i, 0)[0] = float32(math.Log(float64(decay)))
				if i > 0 {
					c.K.Row(0, i, 0)[0] = 0
				}
			}
			var pieces []int
			for range n / step {
				pieces = append(pieces, step)
			}
			x := extend(t, m, c, pieces).(interface{ Numbers() []float32 }).Numbers()
			if x[0] != 0 {
				t.Errorf("decay %v, steps of %d: state %g: want 0", decay, step, x[0])
			}
		}
	}
}
