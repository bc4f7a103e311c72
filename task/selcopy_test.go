package task

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// copied answers with the items in order, one a label.
func copied(vocab int) func(tokens []int32) int32 {
	return func(tokens []int32) int32 {
		var items []int32
		for i, x := range tokens {
			if x == int32(vocab-1) {
				return items[len(tokens)-i-2]
			}
			if x < int32(vocab-2) {
				items = append(items, x)
			}
		}
		return -1
	}
}

func TestSelectiveCopy(t *testing.T) {
	solved(t, "selective-copy:eval=50", copied(16))
	rapid.Check(t, func(t *rapid.T) {
		o := SelectiveCopy{Vocab: rapid.IntRange(4, 40).Draw(t, "vocab"), Length: rapid.IntRange(4, 90).Draw(t, "length"), Eval: 1}
		o.Items = rapid.IntRange(1, (o.Length-2)/2).Draw(t, "items")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 1)
		items := 0
		for i, x := range b.Tokens {
			if x < int32(o.Vocab-2) {
				items++
			}
			after := i >= o.Length-o.Items
			if (b.Labels[i] >= 0) != after || after && (b.Labels[i] != copied(o.Vocab)(b.Tokens[:i+1]) || x != int32(o.Vocab-2)) {
				t.Fatalf("at %d: tokens %v, labels %v", i, b.Tokens, b.Labels)
			}
		}
		if items != o.Items || b.Tokens[o.Length-o.Items-1] != int32(o.Vocab-1) {
			t.Fatalf("%d items: want %d; tokens %v", items, o.Items, b.Tokens)
		}
	})
	if _, err := New("selective-copy:length=33"); err == nil || !strings.Contains(err.Error(), "option items=16: want 1 to 15") {
		t.Errorf("error %v: want one that says how many items fit", err)
	}
}

// TestSelectiveCopyPlaces: each place is taken equally often, the last one too.
func TestSelectiveCopyPlaces(t *testing.T) {
	k := mustNew(t, "selective-copy:length=24,items=4")
	var n [19]int
	const rows = 6000
	b := k.Train(1, 0, rows)
	for r := range rows {
		tokens, _ := b.Row(r)
		for i := range n {
			if tokens[i] < 14 {
				n[i]++
			}
		}
	}
	p := 4.0 / 19
	for i, got := range n {
		if sigma := math.Sqrt(rows * p * (1 - p)); math.Abs(float64(got)-rows*p) > 4.5*sigma {
			t.Errorf("place %d taken %d times: want %.0f ± %.0f", i, got, rows*p, 4.5*sigma)
		}
	}
}
