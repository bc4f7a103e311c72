package full

import (
	"fmt"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

func shapes() []attn.Shape {
	var s []attn.Shape
	for _, n := range []int{1, 31, 33, 65, 129, 191} {
		for _, m := range []attn.Mask{attn.Causal, attn.Bidirectional, attn.Cross} {
			s = append(s, attn.Shape{Batch: 2, QueryLen: n, KeyLen: n, Heads: 2, KVHeads: 1, KeyDim: 5, ValueDim: 7, Mask: m})
		}
	}
	for _, m := range []attn.Mask{attn.Causal, attn.Cross} {
		s = append(s, attn.Shape{Batch: 1, QueryLen: 37, KeyLen: 300, Heads: 6, KVHeads: 3, KeyDim: 16, ValueDim: 8, Mask: m},
			attn.Shape{Batch: 3, QueryLen: 140, KeyLen: 90, Heads: 4, KVHeads: 4, KeyDim: 3, ValueDim: 1, Mask: m},
			attn.Shape{Batch: 2, QueryLen: 3, KeyLen: 0, Heads: 1, KVHeads: 1, KeyDim: 3, ValueDim: 2, Mask: m})
	}
	return s
}

func TestAgainstDefinition(t *testing.T) {
	for _, spec := range []string{"full", "naive"} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range shapes() {
			t.Run(fmt.Sprintf("%s/%v/%d-%d", spec, s.Mask, s.QueryLen, s.KeyLen), func(t *testing.T) {
				testcall.Check(t, m.(attn.Defined), testcall.New(s, nil, 1))
			})
		}
		s := attn.Shape{Batch: 2, QueryLen: 150, KeyLen: 160, Heads: 4, KVHeads: 2, KeyDim: 6, ValueDim: 5, Mask: attn.Causal}
		testcall.Check(t, m.(attn.Defined), testcall.New(s, []attn.Segment{
			{Row: 0, Query0: 3, Queries: 40, Key0: 0, Keys: 45}, {Row: 0, Query0: 60, Queries: 90, Key0: 50, Keys: 30},
			{Row: 1, Queries: 7, Key0: 2, Keys: 0},
		}, 2))
	}
}

func TestDecode(t *testing.T) {
	for _, spec := range []string{"full", "naive"} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		s := attn.Shape{Batch: 2, Heads: 4, KVHeads: 2, KeyDim: 5, ValueDim: 3, Mask: attn.Causal, Layers: 1}
		for _, pieces := range [][]int{{1, 1, 1, 1}, {6, 1, 1}, {1, 2, 3, 5, 8, 13, 21, 44}, {40, 1}, {300, 1, 7, 8}} {
			testcall.Decode(t, m.(attn.Incremental), s, pieces)
		}
		if testing.Short() {
			continue
		}
		s.Batch, s.Heads, s.KVHeads = 1, 1, 1
		testcall.Decode(t, m.(attn.Incremental), s, []int{4095, 1, 2}) // keys split in two parts
	}
}

func TestCosts(t *testing.T) {
	m, err := attn.New("full")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shapes() {
		testcall.Costs(t, m.(attn.Differentiable), s, attn.Head64.Sees)
	}
}

// TestFullEqualsNaive compares the two at lengths of several groups of tiles, where the definition would take long.
func TestFullEqualsNaive(t *testing.T) {
	for _, s := range []attn.Shape{
		{Batch: 1, QueryLen: 700, KeyLen: 700, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64, Mask: attn.Causal},
		{Batch: 1, QueryLen: 300, KeyLen: 1100, Heads: 1, KVHeads: 1, KeyDim: 40, ValueDim: 72, Mask: attn.Causal},
		{Batch: 2, QueryLen: 530, KeyLen: 410, Heads: 2, KVHeads: 2, KeyDim: 16, ValueDim: 33, Mask: attn.Cross},
	} {
		var calls [2]*attn.Call
		var grads [2]*attn.Grads
		for i, spec := range []string{"full", "naive"} {
			m := testcall.Mechanism(t, spec).(attn.Differentiable)
			calls[i], grads[i] = testcall.New(s, nil, 1), testcall.NewGrads(testcall.New(s, nil, 1), 2)
			calls[i].Saved = attn.NewSaved(new(attn.Arena))
			testcall.Forward(t, m, calls[i])
			if err := m.Backward(attn.NewWorkspace(), calls[i], grads[i]); err != nil {
				t.Fatal(err)
			}
		}
		want := testcall.Wide(&attn.Call{Shape: s, Q: grads[1].Q, K: grads[1].K, V: grads[1].V, Out: calls[1].Out})
		for _, d := range []float64{testcall.Diff(&calls[0].Out, &want.Out), testcall.Diff(&grads[0].Q, &want.Q),
			testcall.Diff(&grads[0].K, &want.K), testcall.Diff(&grads[0].V, &want.V)} {
			if !(d < 2e-5) {
				t.Errorf("%+v: off by %g", s, d)
			}
		}
	}
}
