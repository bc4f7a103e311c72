package sparse

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// TestQuest decodes behind a prompt and holds the outputs against the rule in float64: its own page, and those of largest bound.
func TestQuest(t *testing.T) {
	const prompt, all = 29, 60
	for _, o := range []Quest{{3, 9, 0}, {1, 4, 0}, {5, 5, 0}, {4, 100, 0}, {3, 9, 1}} {
		for _, piece := range []int{1, 3, 9} {
			t.Run(attn.Spell("quest", o), func(t *testing.T) {
				m := testcall.Mechanism(t, attn.Spell("quest", o)).(attn.Incremental)
				shape := attn.Shape{Batch: 1, QueryLen: all, KeyLen: all, Heads: 4, KVHeads: 2, KeyDim: 6, ValueDim: 5, Mask: attn.Causal}
				call := testcall.New(shape, nil, 5)
				w := testcall.Wide(call)
				state, err := m.NewState(shape)
				if err != nil {
					t.Fatal(err)
				}
				ws := attn.NewWorkspace()
				for at := 0; at < all; {
					c := cut(call, at, min(piece, all-at))
					if at == 0 {
						c = cut(call, 0, prompt)
						c.EndOfPrompt = true
					}
					if err := m.Extend(ws, state, c); err != nil {
						t.Fatal(err)
					}
					at += c.KeyLen
				}
				w.EachHead(func(h attn.Head64) {
					for i := range all {
						own := i / o.Page
						pages := make([]float64, own)
						for n := range pages {
							for e, q := range h.Q(i) {
								hi, lo := h.K(n * o.Page)[e], h.K(n * o.Page)[e]
								for j := n * o.Page; j < (n+1)*o.Page; j++ {
									hi, lo = max(hi, h.K(j)[e]), min(lo, h.K(j)[e])
								}
								pages[n] += max(q*hi, q*lo)
							}
						}
						k := o.Budget/o.Page - 1
						if i < prompt || o.Dense > 0 {
							k = own
						}
						over(h, i, keysOf(largest(pages, k), own, o.Page, i+1))
					}
				})
				if d := testcall.Diff(&call.Out, &w.Out); !(d < 2e-5) {
					t.Errorf("pieces of %d: off by %g", piece, d)
				}
			})
		}
	}
}
