package task

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatchAll(t *testing.T) {
	const a, b, c = 1, 2, 3
	for _, x := range []struct {
		references, answers []int32
		want                float64
	}{
		{[]int32{a, b, c}, []int32{c, b, a}, 1},
		{[]int32{a, b, c}, []int32{a, b}, 2. / 3},
		{[]int32{a, b, c}, []int32{a, a, a}, 1. / 3},
		{[]int32{a, b, c}, nil, 0},
		{[]int32{12}, []int32{123}, 0},
	} {
		if got := MatchAll(x.references, x.answers); got != x.want {
			t.Errorf("%v of %v: %v: want %v", x.answers, x.references, got, x.want)
		}
	}
}

func TestEffectiveLength(t *testing.T) {
	lengths := []int{4, 8, 16}
	for _, c := range []struct {
		scores []float64
		want   int
	}{
		{[]float64{.90, .80, .90}, 4},
		{[]float64{.90, .90, .86}, 16},
		{[]float64{.90, .90, .856}, 8}, // above, not at
		{[]float64{.80, .90, .90}, 0},
		{[]float64{.90, math.NaN(), .90}, 4},
	} {
		if got := EffectiveLength(lengths, c.scores, EffectiveThreshold); got != c.want {
			t.Errorf("%v: %d: want %d", c.scores, got, c.want)
		}
	}
	// As a metric: who answers rows of 64 and 256 tokens, but not of 128, is good for 64.
	k := mustNew(t, "niah:length=256,trained=64,eval=5")
	score := k.NewScore()
	for b := range k.Eval(Test, 2) {
		predicted := slices.Clone(b.Labels)
		if b.Length == 128 {
			clear(predicted)
		}
		if err := score.Add(b, make([]float32, len(b.Tokens)), predicted); err != nil {
			t.Fatal(err)
		}
	}
	values := score.Values()
	for unit, want := range map[string]Value{"match": {"match", 0.75, 20}, "match@128": {"match@128", 0, 5}, "match@256": {"match@256", 1, 5}, "effective-length": {"effective-length", 64, 20}} {
		if got := valueOf(values, unit); got != want {
			t.Errorf("%+v: want %+v", got, want)
		}
	}
}

// needled answers question of niah, by scanning.
func needled(o NIAH) func(tokens []int32) int32 {
	return func(tokens []int32) int32 {
		ask := slices.Index(tokens, 1)
		i := len(tokens) - 1 - (ask + 1)
		key := tokens[ask+1+i/o.Values*o.Values]
		n := i % o.Values
		for j := 0; j+2 < ask; j++ {
			if tokens[j] == 0 && tokens[j+1] == key {
				if n == 0 {
					return tokens[j+2]
				}
				n--
			}
		}
		return -1
	}
}

func TestNIAHSolver(t *testing.T) {
	for _, o := range []NIAH{
		{Keys: 1, Values: 1, Queries: 1, Haystack: "noise"}, {Keys: 1, Values: 1, Queries: 1, Haystack: "essay"}, {Keys: 4, Values: 1, Queries: 1, Haystack: "essay"},
		{Keys: 1, Values: 1, Queries: 1, Haystack: "needles"}, {Keys: 1, Values: 4, Queries: 1, Haystack: "essay"}, {Keys: 4, Values: 1, Queries: 4, Haystack: "essay"},
		{Keys: 3, Values: 3, Queries: 2, Haystack: "needles", Slots: true},
	} {
		o.Length, o.Trained, o.Symbols, o.Eval = 1024, 256, 500, 10
		solved(t, Spell("niah", o), needled(o))
	}
}

func TestNIAHRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := NIAH{
			Keys: rapid.IntRange(1, 4).Draw(t, "keys"), Values: rapid.IntRange(1, 3).Draw(t, "values"), Symbols: rapid.IntRange(13, 50).Draw(t, "symbols"),
			Haystack: rapid.SampledFrom([]string{"noise", "essay", "needles"}).Draw(t, "haystack"), Slots: rapid.Bool().Draw(t, "slots"), Eval: 1,
		}
		o.Queries = rapid.IntRange(1, o.Keys).Draw(t, "queries")
		o.Length = rapid.IntRange(max(32, o.question()+3*o.Keys*o.Values), 200).Draw(t, "length")
		o.Trained = o.Length
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			body := len(tokens) - o.question()
			needles := map[int32]int{}
			for i, x := range tokens[:body] {
				if x == 0 {
					key, value := int(tokens[i+1]), int(tokens[i+2])
					if key < o.keys() || key >= o.values() || value < o.values() {
						t.Fatalf("needle %d %d", key, value)
					}
					needles[int32(key)]++
				} else if labels[i] >= 0 || x == 1 {
					t.Fatalf("token %d, label %d at %d of the context", x, labels[i], i)
				}
			}
			if scored(labels) != o.Queries*o.Values || tokens[body] != 1 || o.Haystack != "needles" && len(needles) != o.Keys {
				t.Fatalf("%d labels, %d keys: %v", scored(labels), len(needles), tokens)
			}
			for i := body + 1; i < len(tokens); i++ {
				j := i - body - 1
				if labels[i] != needled(o)(tokens[:i+1]) {
					t.Fatalf("label %d at %d: %v", labels[i], i, tokens)
				}
				switch first := j%o.Values == 0; {
				case first && needles[tokens[i]] != o.Values:
					t.Fatalf("%d needles of key %d: want %d", needles[tokens[i]], tokens[i], o.Values)
				case !first && o.Slots && tokens[i] != int32(2+j%o.Values-1), !first && !o.Slots && tokens[i] != labels[i-1]:
					t.Fatalf("token %d asks for value %d of %v", tokens[i], j%o.Values, tokens)
				}
			}
		}
	})
}

// followed answers with the variables of the chain of the value that is asked for.
func followed(tokens []int32) int32 {
	ask := slices.Index(tokens, 1)
	n := len(tokens) - 1 - (ask + 1)
	value := tokens[ask+1]
	for j := 0; j < ask; j++ {
		if tokens[j] == 0 && tokens[j+2] == value {
			if value = tokens[j+1]; n == 0 {
				return value
			}
			n--
		}
	}
	return -1
}

func TestVariableTracking(t *testing.T) {
	solved(t, "variable-tracking:length=1024,trained=256,eval=10", followed)
	solved(t, "variable-tracking:length=256,trained=256,chains=4,hops=3,slots=true,eval=20", followed)
	rapid.Check(t, func(t *rapid.T) {
		o := VariableTracking{Chains: rapid.IntRange(1, 4).Draw(t, "chains"), Hops: rapid.IntRange(0, 4).Draw(t, "hops"), Slots: rapid.Bool().Draw(t, "slots"), Symbols: 30, Eval: 1}
		o.Length = rapid.IntRange(max(32, o.question()+3*o.Chains*(o.Hops+1)), 150).Draw(t, "length")
		o.Trained = o.Length
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 1)
		ask := slices.Index(b.Tokens, 1)
		got := map[int32]bool{} // variables
		chains := 0
		for j, x := range b.Tokens[:ask] {
			if x != 0 {
				continue
			}
			if to, from := b.Tokens[j+1], b.Tokens[j+2]; int(from) >= o.values() {
				got[to] = true
				chains++
			} else if !got[from] || got[to] {
				t.Fatalf("variable %d gets %d in %v", to, from, b.Tokens)
			} else {
				got[to] = true
			}
		}
		if chains != o.Chains || len(got) != o.Chains*(o.Hops+1) || scored(b.Labels) != o.Hops+1 || len(b.Tokens)-ask != o.question() {
			t.Fatalf("%d chains of %d variables, %d labels", chains, len(got), scored(b.Labels))
		}
		for i, l := range b.Labels {
			if l >= 0 && l != followed(b.Tokens[:i+1]) {
				t.Fatalf("label %d at %d: %v", l, i, b.Tokens)
			}
		}
	})
}

// counted returns the words of a context by how often they stand there, in the order of their first places.
func counted(context []int32) (words []int32, n map[int32]int) {
	n = map[int32]int{}
	for _, w := range context {
		if n[w]++; n[w] == 1 {
			words = append(words, w)
		}
	}
	return words, n
}

func TestCommonWords(t *testing.T) {
	o := CommonWords{Length: 200, Trained: 100, Common: 4, Often: 12, Rare: 3, Symbols: 100, Eval: 20}
	solver := func(tokens []int32) int32 {
		ask := slices.Index(tokens, 0)
		words, n := counted(tokens[:ask])
		left := len(tokens) - 1 - ask
		for _, w := range words {
			if n[w] == o.Often {
				if left == 0 {
					return w
				}
				left--
			}
		}
		return -1
	}
	solved(t, Spell("common-words", o), solver)
	o.Slots = true
	solved(t, Spell("common-words", o), solver)
	rapid.Check(t, func(t *rapid.T) {
		o := CommonWords{Common: rapid.IntRange(1, 5).Draw(t, "common"), Often: rapid.IntRange(2, 12).Draw(t, "often"), Symbols: 250, Eval: 1}
		o.Rare = rapid.IntRange(1, o.Often-1).Draw(t, "rare")
		o.Length = rapid.IntRange(max(32, o.Common*(o.Often+1)+o.Rare), 200).Draw(t, "length")
		o.Trained = o.Length
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), 3, 1)
		ask := len(b.Tokens) - o.Common
		words, n := counted(b.Tokens[:ask])
		common, short := 0, 0
		for _, w := range words {
			switch {
			case n[w] == o.Often:
				if b.Labels[ask+common] != w {
					t.Fatalf("label %d: want %d", b.Labels[ask+common], w)
				}
				common++
			case n[w] > o.Rare:
				t.Fatalf("word %d stands %d times: want %d or %d", w, n[w], o.Often, o.Rare)
			case n[w] < o.Rare:
				short++
			}
		}
		if common != o.Common || short > 1 || b.Tokens[ask] != 0 || scored(b.Labels) != o.Common {
			t.Fatalf("%d common words, %d with fewer than %d", common, short, o.Rare)
		}
	})
}

func TestFrequentWords(t *testing.T) {
	o := FrequentWords{Length: 1024, Trained: 64, Alpha: 2, Symbols: 100, Eval: 10}
	solver := func(tokens []int32) int32 {
		ask := slices.Index(tokens, 0)
		words, n := counted(tokens[:ask])
		slices.SortStableFunc(words, func(a, b int32) int { return n[b] - n[a] })
		return words[1+len(tokens)-1-ask]
	}
	solved(t, Spell("frequent-words", o), solver)
	o.Slots = true
	solved(t, Spell("frequent-words", o), solver)
	// By hand: 1000·k^-2/1.644934 is 151.98, 67.55, 38.00, 24.32, …
	if c := o.counts(1000); !slices.Equal(c[:4], []int{151, 67, 37, 24}) || c[len(c)-1] != 1 {
		t.Errorf("counts %v: want 151, 67, 37, 24 and so on to 1", c)
	}
	rapid.Check(t, func(t *rapid.T) {
		o := FrequentWords{Length: rapid.IntRange(64, 300).Draw(t, "length"), Alpha: rapid.Float64Range(1.5, 2.5).Draw(t, "alpha"), Symbols: 300, Eval: 1}
		o.Trained = o.Length
		k, err := o.New()
		if err != nil {
			t.Skip(err) // ranks that are not apart at this length
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), 3, 1)
		for i, l := range b.Labels {
			if l >= 0 && (l != solver(b.Tokens[:i+1]) || l < 4) || (l >= 0) != (i >= len(b.Tokens)-3) {
				t.Fatalf("label %d at %d: %v", l, i, b.Tokens)
			}
		}
	})
}

// TestScatter: each place is as likely as another.
func TestScatter(t *testing.T) {
	rng := stream(1, trainRows, 0)
	n := map[string]int{}
	const draws = 6000
	for range draws {
		body := make([]int32, 8)
		scatter(rng, body, [][]int32{{1, 2, 3}, {4, 5, 6}}, func(i int) int32 { return int32(7 + i) })
		n[fmt.Sprint(body)]++
	}
	if len(n) != 6 { // of 4 units 2 are parts
		t.Errorf("%d rows: want 6: %v", len(n), n)
	}
	for row, got := range n {
		if math.Abs(float64(got)-draws/6) > 4.5*math.Sqrt(draws*5/36.) {
			t.Errorf("%s drawn %d times: want %d", row, got, draws/6)
		}
	}
}

func TestRULERErrors(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"niah:trained=1000", "option trained=1000: want one of the lengths tested, [32 64 128 256 512 1024 2048 4096]"},
		{"niah:length=20", "option length=20: want 32 to"}, {"niah:queries=2", "option queries=2: want 1 to 1"}, {"niah:haystack=grass", "want noise, essay or needles"},
		{"niah:keys=50,values=50", "option symbols=2048: want 2501"}, {"variable-tracking:hops=-1", "option hops=-1"}, {"variable-tracking:chains=500", "option symbols=2048: want 2500"},
		{"common-words:rare=30", "option rare=30: want 1 to 29"}, {"common-words:length=200", "option length=200: want 313"}, {"common-words:symbols=100", "option symbols=100"},
		{"frequent-words:alpha=1", "option alpha=1"}, {"frequent-words:symbols=10", "option symbols=10"}, {"frequent-words:length=32,trained=32", "option length=32"},
	} {
		if _, err := New(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
}
