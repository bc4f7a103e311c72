package task

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// recalled answers with the token after the last one's earlier place.
func recalled(tokens []int32) int32 {
	n := len(tokens) - 1
	if i := slices.Index(tokens[:n], tokens[n]); i >= 0 {
		return tokens[i+1]
	}
	return -1
}

// fuzzily answers with what followed where the same key, and the same part of its value, came before.
func fuzzily(vocab int) func(tokens []int32) int32 {
	keys := int32(vocab-1) / 2
	kind := func(x int32) int { // 0 key, 1 value, 2 padding
		switch {
		case x < keys:
			return 0
		case x < int32(vocab-1):
			return 1
		}
		return 2
	}
	return func(tokens []int32) int32 {
		n := len(tokens)
		from := n // of the key that the end belongs to
		for from > 0 && kind(tokens[from-1]) == 1 {
			from--
		}
		for from > 0 && kind(tokens[from-1]) == 0 {
			from--
		}
		want := tokens[from:]
		for i := range from {
			if (i == 0 || kind(tokens[i-1]) != 0) && kind(tokens[i]) == 0 && slices.Equal(tokens[i:min(n, i+len(want))], want) {
				if next := tokens[i+len(want)]; kind(next) == 1 {
					return next
				}
			}
		}
		return -1
	}
}

func TestMADSolvers(t *testing.T) {
	solved(t, "mad-recall:eval=100", recalled)
	solved(t, "mad-recall:vocab=32,noise=16,eval=100", recalled)
	solved(t, "mad-recall:vocab=144,noise=16,share=0.8,length=1024,eval=10", recalled)
	solved(t, "mad-fuzzy:eval=200", fuzzily(16))
	solved(t, "mad-fuzzy:vocab=32,length=512,eval=30", fuzzily(32))
	solved(t, "mad-compress:eval=50", func(tokens []int32) int32 { return tokens[len(tokens)-1] }) // with its own bottleneck away
	// Facts are learned from the training rows.
	b := mustNew(t, "mad-memory").Train(1, 0, 200)
	fact := map[int32]int32{}
	for i, l := range b.Labels {
		if l >= 0 {
			fact[b.Tokens[i-1]] = l
		}
	}
	solved(t, "mad-memory:eval=100", func(tokens []int32) int32 { return fact[tokens[len(tokens)-2]] })
	values := map[int32]bool{}
	for _, v := range fact {
		values[v] = true
	}
	if len(fact) != 127 || len(values) != 127 {
		t.Errorf("%d facts of %d values: want 127 of each", len(fact), len(values))
	}
}

func TestMADRecallRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := MADRecall{Vocab: rapid.IntRange(4, 60).Draw(t, "vocab"), Length: 2 * rapid.IntRange(2, 60).Draw(t, "half"), Share: rapid.Float64Range(0, 0.9).Draw(t, "share"), Next: rapid.Bool().Draw(t, "next"), Eval: 2}
		o.Noise = rapid.IntRange(0, o.Vocab-4).Draw(t, "noise")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		check := func(b Batch, next bool) {
			for r := range b.Rows {
				tokens, labels := b.Row(r)
				value := map[int32]int32{}
				for i := 0; i < o.Length; i += 2 {
					key, v := tokens[i], tokens[i+1]
					noise := int(key) >= o.Vocab-o.Noise
					want := int32(-1)
					if old, seen := value[key]; seen && !noise {
						if want = old; old != v {
							t.Fatalf("key %d has values %d and %d in %v", key, old, v, tokens)
						}
					}
					if noise == (int(key) < o.keys()) || noise != (int(v) >= o.Vocab-o.Noise) || int(v) < o.keys() {
						t.Fatalf("pair %d, %d in %v", key, v, tokens)
					}
					value[key] = v
					if next {
						want = v
					}
					if labels[i] != want || !next && labels[i+1] != -1 {
						t.Fatalf("label %d at %d: want %d; tokens %v", labels[i], i, want, tokens)
					}
				}
				if labels[o.Length-2] < 0 || next && scored(labels) != o.Length-1 {
					t.Fatalf("%d labels, the last pair's %d", scored(labels), labels[o.Length-2])
				}
			}
		}
		check(k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2), o.Next)
		for b := range k.Eval(Test, 2) {
			check(b, false)
		}
	})
}

func TestMADFuzzyRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := MADFuzzy{Vocab: rapid.IntRange(9, 40).Draw(t, "vocab"), Key: rapid.IntRange(1, 4).Draw(t, "key"), Value: rapid.IntRange(1, 4).Draw(t, "value"), Eval: 2}
		o.Length = rapid.IntRange(3*(o.Key+o.Value)+1, 200).Draw(t, "length")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		check := func(b Batch, shortest int) {
			keys := int32(o.Vocab-1) / 2
			for r := range b.Rows {
				tokens, labels := b.Row(r)
				start := 0
				for tokens[start] == int32(o.Vocab-1) {
					start++
				}
				seen := map[string]bool{}
				for i := start; i < o.Length; {
					j := i
					for j < o.Length && tokens[j] < keys {
						j++
					}
					e := j
					for e < o.Length && tokens[e] >= keys {
						e++
					}
					name := fmt.Sprint(tokens[i:j])
					if n := j - i; n < shortest || n > o.Key || e-j > o.Value || e == j && j != o.Length {
						t.Fatalf("key of %d and value of %d tokens in %v", n, e-j, tokens)
					}
					for at := i; at < min(e, o.Length-1); at++ {
						want := int32(-1)
						if seen[name] && at >= j-1 && at < e-1 {
							want = tokens[at+1]
						}
						if labels[at] != want {
							t.Fatalf("label %d at %d: want %d; %v", labels[at], at, want, tokens)
						}
					}
					seen[name], i = true, e
				}
				if labels[o.Length-1] < 0 || labels[o.Length-1] != fuzzily(o.Vocab)(tokens) {
					t.Fatalf("last label %d: %v", labels[o.Length-1], tokens)
				}
			}
		}
		check(k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 3), 1)
		for b := range k.Eval(Test, 2) {
			check(b, o.Key)
		}
	})
}

// TestExamplesRepeat: a training set of 5 rows is gone through again and again.
func TestExamplesRepeat(t *testing.T) {
	k := mustNew(t, "mad-recall:examples=5")
	a, b := k.Train(1, 0, 5), k.Train(1, 1, 5)
	if !slices.Equal(a.Tokens, b.Tokens) || !slices.Equal(a.Slice(2, 4).Tokens, k.Train(1, 1, 2).Tokens) {
		t.Error("the second pass has other rows than the first")
	}
	if a, _ := a.Row(0); slices.Equal(a, b.Slice(1, 2).Tokens) {
		t.Error("two of the rows are one")
	}
}

func TestMADCompressRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := MADCompress{Vocab: rapid.IntRange(3, 60).Draw(t, "vocab"), Length: rapid.IntRange(2, 60).Draw(t, "length"), Eval: 1}
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 1)
		if sign := slices.Index(b.Tokens, int32(o.Vocab-1)); sign != o.Length-1 || !slices.Equal(b.Tokens, b.Labels) {
			t.Fatalf("tokens %v, labels %v", b.Tokens, b.Labels)
		}
	})
}

func TestMADErrors(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"mad-recall:noise=13", "option noise=13: want 0 to 12"}, {"mad-recall:length=7", "option length=7: want an even number"}, {"mad-recall:share=1", "option share=1"},
		{"mad-memory:vocab=4", "option vocab=4"}, {"mad-memory:length=3", "option length=3"}, {"mad-fuzzy:key=8", "option key=8: want 1 to 7"},
		{"mad-fuzzy:length=18", "option length=18: want 19 to"}, {"mad-fuzzy:examples=-1", "option examples=-1"},
	} {
		if _, err := New(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
}
