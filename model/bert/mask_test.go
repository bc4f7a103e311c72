package bert_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"attnbench/autograd"
	"attnbench/model/bert"
)

// TestMasking: of 100,000 ordinary tokens 15% are chosen, and of these 80% are masked, 10% replaced and 10% kept, each within 4 standard
// deviations; labels stand exactly where a token was chosen.
func TestMasking(t *testing.T) {
	const n, vocab, mask = 100_000, 1000, 4
	special := []int32{0, 1, 2, 3}
	m := must(bert.NewMasking(vocab, special, mask, 0.15))
	r := rand.New(rand.NewPCG(6, 6))
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(5 + r.IntN(vocab-5))
	}
	before, labels := slices.Clone(tokens), make([]int32, n)
	m.Apply(tokens, labels, r)
	chosen, masked, replaced, kept := 0, 0, 0, 0
	for i, l := range labels {
		switch {
		case l == autograd.Ignored:
			if tokens[i] != before[i] {
				t.Fatalf("token %d changed without a label", i)
			}
			continue
		case l != before[i]:
			t.Fatalf("label %d is %d: want %d", i, l, before[i])
		case tokens[i] == mask:
			masked++
		case tokens[i] == before[i]:
			kept++
		default:
			replaced++
			if tokens[i] < 5 {
				t.Fatalf("token %d became the special %d", i, tokens[i])
			}
		}
		chosen++
	}
	within := func(what string, got, of int, share float64) {
		if sd := math.Sqrt(float64(of) * share * (1 - share)); math.Abs(float64(got)-share*float64(of)) > 4*sd {
			t.Errorf("%s: %d of %d: want %v of them ± %.0f", what, got, of, share, 4*sd)
		}
	}
	within("chosen", chosen, n, 0.15)
	within("masked", masked, chosen, 0.8)
	within("replaced", replaced, chosen, 0.1*(vocab-6)/(vocab-5)) // a draw of the same token keeps it
	within("kept", kept, chosen, 0.1)
}

// TestSpecialNeverMasked: special tokens and padding are neither chosen nor drawn, whatever the text; the same stream gives the same masks and another
// one others.
func TestSpecialNeverMasked(t *testing.T) {
	m := must(bert.NewMasking(12, []int32{0, 1, 2, 3}, 4, 0.5))
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.SliceOfN(rapid.Int32Range(0, 11), 0, 200).Draw(t, "tokens")
		seed := rapid.Uint64().Draw(t, "seed")
		apply := func(seed uint64) (tokens, labels []int32) {
			tokens, labels = slices.Clone(before), make([]int32, len(before))
			m.Apply(tokens, labels, rand.New(rand.NewPCG(seed, 0)))
			return tokens, labels
		}
		tokens, labels := apply(seed)
		for i, x := range before {
			if x < 5 && (labels[i] != autograd.Ignored || tokens[i] != x) {
				t.Fatalf("special token %d became %d with label %d", x, tokens[i], labels[i])
			}
			if x >= 5 && tokens[i] < 4 {
				t.Fatalf("token %d became the special %d", x, tokens[i])
			}
		}
		if again, l := apply(seed); !slices.Equal(again, tokens) || !slices.Equal(l, labels) {
			t.Fatal("the same stream gives other masks")
		}
	})
	long, labels := make([]int32, 100), make([]int32, 100)
	for i := range long {
		long[i] = 7
	}
	other, more := slices.Clone(long), make([]int32, 100)
	m.Apply(long, labels, rand.New(rand.NewPCG(1, 0)))
	m.Apply(other, more, rand.New(rand.NewPCG(2, 0)))
	if slices.Equal(labels, more) {
		t.Error("another stream gives the same masks")
	}
}
