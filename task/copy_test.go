package task

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestCopyRows checks what a row must be, for any options, and that who copies from the distance gets everything right.
func TestCopyRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Copy{Items: rapid.IntRange(1, 6).Draw(t, "items"), Symbols: rapid.IntRange(2, 9).Draw(t, "symbols"), Eval: 20}
		o.Distance = o.Items << rapid.IntRange(0, 5).Draw(t, "octaves")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			marks, others, distance := 0, 0, 0
			for i, token := range tokens {
				if labels[i] < 0 {
					if token != 0 {
						others++
					}
					continue
				}
				if want := int32(1 + o.Items*o.Symbols + marks); token != want {
					t.Fatalf("mark %d is token %d: want %d", marks, token, want)
				}
				for j := i - 1; distance == 0; j-- {
					if tokens[j] == labels[i] {
						distance = i - j
					}
				}
				if tokens[i-distance] != labels[i] || (labels[i]-1)/int32(o.Symbols) != int32(marks) {
					t.Fatalf("mark %d, %d after its item: label %d in %v", marks, distance, labels[i], tokens)
				}
				marks++
			}
			if marks != o.Items || others != o.Items || distance%o.Items != 0 || distance > o.Distance {
				t.Fatalf("%d marks, %d items, distance %d", marks, others, distance)
			}
		}
	})
}

func TestCopyScore(t *testing.T) {
	k := mustNew(t, "copy:items=2,distance=16,eval=400")
	right, near := k.NewScore(), k.NewScore()
	for b := range k.Eval(Test, 7) {
		nats, predicted := make([]float32, len(b.Tokens)), make([]int32, len(b.Tokens))
		copy(predicted, b.Labels)
		if err := right.Add(b, nats, predicted); err != nil {
			t.Fatal(err)
		}
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			for i, l := range labels {
				seen := false
				for j := max(0, i-4); j < i; j++ {
					seen = seen || tokens[j] == l
				}
				if l >= 0 && !seen { // who sees 4 tokens back answers with the first symbol of that item
					predicted[r*b.Length+i] = 1 + (l-1)/8*8
				}
			}
		}
		if err := near.Add(b, nats, predicted); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range right.Values() {
		if v.Unit != "nats/query" && v.Value != 1 {
			t.Errorf("%+v of the right answers: want 1", v)
		}
	}
	for _, v := range near.Values() {
		want := map[string]float64{"accuracy": 0.5 + 0.5/8, "accuracy@2": 1, "accuracy@4": 1, "accuracy@8": 1. / 8, "accuracy@16": 1. / 8, "nats/query": 0}
		w, ok := want[v.Unit]
		if tolerance := 4 * math.Sqrt(0.11/float64(v.Count)); !ok || math.Abs(v.Value-w) > tolerance {
			t.Errorf("%+v of who sees 4 tokens back: want %v ± %.3f", v, w, tolerance)
		}
	}
	b := k.Train(1, 0, 1)
	for i := range b.Tokens {
		b.Tokens[i] = 0
	}
	if err := k.NewScore().Add(b, make([]float32, b.Length), make([]int32, b.Length)); err == nil {
		t.Error("a mark without its item is taken")
	}
}
