package sparse

import (
	"fmt"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

var specs = []string{
	"blocksparse", "blocksparse:block=16,local=1,stride=0", "blocksparse:block=7,local=2,stride=3", "blocksparse:block=1,local=3,stride=5",
	"blocksparse:stride=1", "blocksparse:block=100,local=1,stride=2",
	"bigbird", "bigbird:block=16,seed=9", "bigbird:block=7,global=2,window=5,random=2", "bigbird:block=1,random=4",
	"bigbird:block=8,global=0,window=1,random=1", "bigbird:block=16,random=0", "bigbird:block=4,random=64",
}

func build(t *testing.T, spec string) (attn.Differentiable, func(h attn.Head64, i, j int) bool) {
	m, err := attn.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	var base mechanism
	switch m := m.(type) {
	case blockSparse:
		base = m.mechanism
	case bigBird:
		base = m.mechanism
	}
	return m.(attn.Differentiable), func(h attn.Head64, i, j int) bool {
		return h.Sees(i, j) && base.sees(h, floor(i+h.Offset(), base.size), j/base.size)
	}
}

func TestAgainstDefinition(t *testing.T) {
	for _, spec := range specs {
		m, sees := build(t, spec)
		t.Run(spec, func(t *testing.T) {
			for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
				for _, n := range [][2]int{{33, 33}, {40, 150}, {90, 30}, {1, 1}, {65, 65}, {190, 190}} {
					if testing.Short() && n[0] == 1 {
						break
					}
					s := attn.Shape{Batch: 1, QueryLen: n[0], KeyLen: n[1], Heads: 2, KVHeads: 1, KeyDim: 5, ValueDim: 4, Mask: mask}
					testcall.Check(t, m.(attn.Defined), testcall.New(s, nil, 1))
					testcall.Costs(t, m, s, sees)
				}
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, spec := range specs {
		m, _ := build(t, spec)
		for _, pieces := range [][]int{{6, 1, 1}, {1, 2, 3, 5, 8, 13, 21, 44}, {96, 1}, {150, 9, 1, 30, 1}} {
			t.Run(fmt.Sprint(spec, pieces), func(t *testing.T) {
				s := attn.Shape{Batch: 2, Heads: 4, KVHeads: 2, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}
				testcall.Decode(t, m.(attn.Incremental), s, pieces)
			})
		}
	}
}
