package sliding

import (
	"fmt"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

var options = []Sliding{absolute(3, 0, 1), absolute(1, 0, 1), absolute(40, 3, 1), absolute(200, 0, 1), absolute(9, 2, 3), absolute(70, 40, 2),
	absolute(100, 0, 33), absolute(1<<30, 0, 1)}

func absolute(window, sinks, dilation int) Sliding {
	return Sliding{Window: window, Sinks: sinks, Dilation: dilation, Positions: "absolute"}
}

func mechanism(t *testing.T, o Sliding) sliding {
	m, err := o.New()
	if err != nil {
		t.Fatal(err)
	}
	return m.(sliding)
}

func TestAgainstDefinition(t *testing.T) {
	for _, o := range options {
		m := mechanism(t, o)
		t.Run(m.Info().Name, func(t *testing.T) {
			for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
				for _, n := range [][2]int{{33, 33}, {40, 150}, {90, 30}, {1, 1}, {65, 65}, {190, 190}} {
					if testing.Short() && n[0] == 1 {
						break
					}
					s := attn.Shape{Batch: 1, QueryLen: n[0], KeyLen: n[1], Heads: 2, KVHeads: 1, KeyDim: 5, ValueDim: 4, Mask: mask}
					testcall.Check(t, m, testcall.New(s, nil, 1))
					testcall.Costs(t, m, s, m.o.sees)
				}
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, o := range options {
		m := mechanism(t, o)
		for _, pieces := range [][]int{{1, 1, 1, 1, 1, 1, 1}, {6, 1, 1}, {2, 2, 2, 2, 2}, {7, 7, 7, 7}, {1, 2, 3, 5, 8, 13, 21, 44}, {96, 1}, {150, 9, 1, 30, 1}} {
			t.Run(fmt.Sprint(m.Info().Name, pieces), func(t *testing.T) {
				s := attn.Shape{Batch: 2, Heads: 4, KVHeads: 2, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}
				testcall.Decode(t, m, s, pieces)
			})
		}
	}
}
