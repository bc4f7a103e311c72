package task

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestInduction(t *testing.T) {
	solved(t, "induction:eval=40", func(tokens []int32) int32 { return tokens[slices.Index(tokens, 15)+1] })
	rapid.Check(t, func(t *rapid.T) {
		o := Induction{Vocab: rapid.IntRange(3, 40).Draw(t, "vocab"), Trained: rapid.IntRange(4, 50).Draw(t, "trained"), Eval: 1}
		o.Length = o.Trained << rapid.IntRange(0, 3).Draw(t, "doublings")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			special, n := int32(o.Vocab-1), len(tokens)
			at := slices.Index(tokens, special)
			if n != o.Trained || at >= n-2 || tokens[n-1] != special || slices.Contains(tokens[at+1:n-1], special) || scored(labels) != 1 || labels[n-1] != tokens[at+1] {
				t.Fatalf("tokens %v, labels %v", tokens, labels)
			}
		}
	})
	for _, c := range []struct{ options, want string }{
		{"length=1000", "option length=1000: want trained, 256, times a power of two"}, {"length=128", "option length=128"}, {"vocab=2", "option vocab=2"}, {"trained=3", "option trained=3"},
	} {
		if _, err := New("induction:" + c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.options, err, c.want)
		}
	}
}
