package task

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSlotWeights: the published distribution at 28 slots.
func TestSlotWeights(t *testing.T) {
	p := slotWeights(28, 0.01)
	if math.Abs(p[0]-0.2511) > 5e-5 || math.Abs(p[27]-0.0093) > 5e-5 {
		t.Errorf("slot 1 %.4f, slot 28 %.4f: want 0.2511 and 0.0093", p[0], p[27])
	}
	// The first key draws among all slots: its frequencies follow p.
	k := mustNew(t, "mqar").(*mqar)
	const rows = 20000
	n := make([]float64, len(p))
	for i := range rows / 100 {
		b := k.Train(5, i, 100)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			for at := 8; at < 64; at++ {
				if labels[at] >= 0 && tokens[at] == tokens[0] {
					n[(at-8)/2]++
				}
			}
		}
	}
	for s := range p {
		if sigma := math.Sqrt(rows * p[s] * (1 - p[s])); math.Abs(n[s]-rows*p[s]) > 4.5*sigma {
			t.Errorf("slot %d drawn %v times: want %.0f ± %.0f", s+1, n[s], rows*p[s], 4.5*sigma)
		}
	}
}

// TestMQARRows checks what a row must be, for any options.
func TestMQARRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := 2 * rapid.IntRange(2, 60).Draw(t, "half length")
		o := MQAR{
			Vocab:  rapid.IntRange(length+1, 400).Draw(t, "vocab"),
			Length: length,
			Pairs:  rapid.IntRange(1, length/4).Draw(t, "pairs"),
			Power:  rapid.Float64Range(0.001, 3).Draw(t, "power"),
			Random: rapid.Bool().Draw(t, "random"),
			Eval:   3,
		}
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			value := map[int32]int32{}
			values := map[int32]bool{}
			for i := range o.Pairs {
				key, v := tokens[2*i], tokens[2*i+1]
				if key < 1 || int(key) >= o.Vocab/2 || int(v) < o.Vocab/2 || int(v) >= o.Vocab {
					t.Fatalf("pair %d, %d of vocabulary %d", key, v, o.Vocab)
				}
				value[key], values[v] = v, true
			}
			if len(value) != o.Pairs || len(values) != o.Pairs {
				t.Fatalf("pairs %v: want %d different keys and values", tokens[:2*o.Pairs], o.Pairs)
			}
			asked := map[int32]bool{}
			for i, l := range labels {
				key := tokens[i]
				switch {
				case i < 2*o.Pairs:
					if l != -1 {
						t.Fatalf("a label among the pairs at %d", i)
					}
				case l >= 0:
					if value[key] != l || asked[key] || i%2 != 0 {
						t.Fatalf("query %d with label %d at %d of %v", key, l, i, tokens)
					}
					asked[key] = true
				case value[key] != 0:
					t.Fatalf("filler %d at %d is a key of the row", key, i)
				case !o.Random && key != 0:
					t.Fatalf("filler %d at %d: want 0", key, i)
				}
			}
			if len(asked) != o.Pairs {
				t.Fatalf("%d queries of %d", len(asked), o.Pairs)
			}
		}
	})
}

// TestMQARSolver: who knows the rule gets everything right, who answers at random gets chance, and who sees
// 14 tokens back gets the near ones.
func TestMQARSolver(t *testing.T) {
	k := mustNew(t, "mqar:reach=14")
	solve := func(tokens []int32, at, reach int) int32 {
		for i := at - 1; i > max(0, at-1-reach); i-- {
			if tokens[i-1] == tokens[at] {
				return tokens[i]
			}
		}
		return 200
	}
	for _, c := range []struct {
		reach               int
		all, near, far, tol float64
	}{{64, 1, 1, 1, 0}, {14, math.NaN(), 1, 1.0 / 128, 0.01}, {0, 1.0 / 128, 1.0 / 128, 1.0 / 128, 0.01}} {
		score := k.NewScore()
		for b := range k.Eval(Test, 100) {
			predicted := make([]int32, len(b.Tokens))
			for r := range b.Rows {
				tokens, _ := b.Row(r)
				for i := range tokens {
					predicted[r*b.Length+i] = solve(tokens, i, c.reach)
				}
			}
			if err := score.Add(b, make([]float32, len(b.Tokens)), predicted); err != nil {
				t.Fatal(err)
			}
		}
		values := score.Values()
		for _, w := range []struct {
			unit string
			want float64
		}{{"accuracy", c.all}, {"row-accuracy", c.all}, {"near-accuracy", c.near}, {"far-accuracy", c.far}} {
			if v := valueOf(values, w.unit); math.Abs(v.Value-w.want) > c.tol {
				t.Errorf("reach %d: %s %v: want %v", c.reach, w.unit, v, w.want)
			}
		}
		gaps := 0
		for _, v := range values {
			if len(v.Unit) > 9 && v.Unit[:9] == "accuracy@" {
				gaps += v.Count
			}
		}
		near, far := valueOf(values, "near-accuracy").Count, valueOf(values, "far-accuracy").Count
		if gaps != 12000 || near+far != 12000 || far < 3000 {
			t.Errorf("reach %d: gaps count %d, near %d, far %d: want 12000 in all", c.reach, gaps, near, far)
		}
	}
}

// TestTokenAndRowAccuracy: rows with 1 of 1 and 1 of 4 labels right are 0.4 by token and 0.625 by row.
func TestTokenAndRowAccuracy(t *testing.T) {
	k := mustNew(t, "mqar:length=16,vocab=32")
	b := k.Train(1, 0, 2)
	predicted := slices.Clone(b.Labels)
	seen := 0
	for i, l := range b.Labels {
		if l < 0 {
			continue
		}
		seen++
		if seen > 1 && seen <= 4 {
			b.Labels[i] = -1 // the first row keeps one label
		}
		if seen > 5 {
			predicted[i] = 0 // the second has one right
		}
	}
	score := k.NewScore()
	if err := score.Add(b, make([]float32, len(predicted)), predicted); err != nil {
		t.Fatal(err)
	}
	v := score.Values()
	if v[0] != (Value{"accuracy", 0.4, 5}) || v[1] != (Value{"row-accuracy", 0.625, 2}) {
		t.Errorf("%v: want 0.4 of 5 tokens and 0.625 of 2 rows", v[:2])
	}
}

func TestScoreRefusesOtherTasksBatches(t *testing.T) {
	k := mustNew(t, "mqar")
	b := k.Train(1, 0, 1)
	for i := range b.Tokens {
		if b.Labels[i] >= 0 {
			b.Tokens[i] = 0
		}
	}
	if err := k.NewScore().Add(b, make([]float32, 64), make([]int32, 64)); err == nil {
		t.Errorf("a query without a pair is taken")
	}
}
