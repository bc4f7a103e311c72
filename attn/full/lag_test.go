package full

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// scaled returns a call of 150 queries and 700 keys whose keys from token 128·b on are factors[b] times as large.
func scaled(mask attn.Mask, factors []float32) *attn.Call {
	c := testcall.New(attn.Shape{Batch: 1, QueryLen: 150, KeyLen: 700, Heads: 2, KVHeads: 1, KeyDim: 16, ValueDim: 5, Mask: mask}, nil, 7)
	for j := range c.KeyLen {
		for i := range c.K.Row(0, j, 0) {
			c.K.Row(0, j, 0)[i] *= factors[j/128]
		}
	}
	return c
}

// TestScoresOfAllSizes: blocks of keys whose scores are of usual size, far beyond what weights without a maximum could hold, and
// low before high: the output without what backward needs, for which the maximum may lag, is the definition's and to
// rounding that of training.
func TestScoresOfAllSizes(t *testing.T) {
	m := testcall.Mechanism(t, "full")
	for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
		for _, factors := range [][]float32{
			{1, 1, 1, 1, 1, 1}, {1, 1, 40, 1, 1, 1}, {40, 1, 1, 1, 40, 1}, {1, 3, 6, 12, 25, 50}, {50, 25, 12, 6, 3, 1}, {50, 1, 50, 1, 50, 1},
		} {
			t.Run(fmt.Sprint(mask, factors), func(t *testing.T) {
				c := scaled(mask, factors)
				testcall.Check(t, m.(attn.Defined), c)
				testcall.Forward(t, m, c)
				d := *c
				d.Out, d.Saved = testcall.Zeros(&c.Out), attn.NewSaved(new(attn.Arena))
				testcall.Forward(t, m, &d)
				for i := range c.QueryLen {
					for h := range c.Heads {
						for e, x := range c.Out.Row(0, i, h) {
							if y := d.Out.Row(0, i, h)[e]; math.Abs(float64(x-y)) > 1e-6*(1+math.Abs(float64(y))) {
								t.Fatalf("query %d, head %d: %g, for training %g", i, h, x, y)
							}
						}
					}
				}
			})
		}
	}
}

// TestLanesAlone: whatever the scores of one query are, those beside it in its tile keep all their bits.
func TestLanesAlone(t *testing.T) {
	m := testcall.Mechanism(t, "full")
	for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
		c := scaled(mask, []float32{1, 1, 1, 1, 1, 1})
		testcall.Forward(t, m, c)
		for _, factor := range []float32{100, 1e4, 1e30, float32(math.NaN())} {
			for _, at := range []int{0, 37, 149} {
				d := *c
				d.Q, d.Out = testcall.Zeros(&c.Q), testcall.Zeros(&c.Out)
				for i := range c.QueryLen {
					for h := range c.Heads {
						copy(d.Q.Row(0, i, h), c.Q.Row(0, i, h))
						for e := range d.Q.Row(0, i, h) {
							if i == at {
								d.Q.Row(0, i, h)[e] *= factor
							}
						}
					}
				}
				testcall.Forward(t, m, &d)
				for i := range c.QueryLen {
					for h := range c.Heads {
						if i != at && !slices.Equal(c.Out.Row(0, i, h), d.Out.Row(0, i, h)) {
							t.Fatalf("%v: query %d times %g changes head %d of query %d: %v, want %v", mask, at, factor, h, i, d.Out.Row(0, i, h), c.Out.Row(0, i, h))
						}
					}
				}
			}
		}
	}
}
