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
	for _, spec := range []string{"full", "naive"} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range shapes() {
			testcall.Costs(t, m.(attn.Differentiable), s, attn.Head64.Sees)
		}
	}
}
