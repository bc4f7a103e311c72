package task

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// synthetic are the generated tasks as the tests below run them, with the hash of what seed 1 gives.
var synthetic = []struct{ spec, golden string }{
	{"mqar-mix:eval=4", "6c7787c63a093894"},
	{"mqar-mix:vocab=300,train=64x4x3-128x8,test=64x2-64x4-256x16,epoch=4,eval=5", "5b51177e9ac4d1b5"},
	{"listops:eval=5", "9b2fede020b477bd"},
	{"listops:min=20,max=100,depth=5,args=6,eval=20", "bf10d1e0f5106eb0"},
	{"induction:eval=4", "7d86675e6fab777a"},
	{"selective-copy:eval=8", "ff73120d387bafdd"},
	{"mad-recall:eval=8", "7777ddf856e0fdfe"},
	{"mad-recall:vocab=32,noise=16,next=false,examples=5,eval=8", "771a575363d46173"},
	{"mad-fuzzy:eval=8", "6d76fd1d50d7516e"},
	{"mad-memory:eval=8", "444a81370fdc69f7"},
	{"niah:length=512,trained=128,eval=3", "539d8356b344ad5a"},
	{"niah:length=512,trained=128,keys=4,queries=4,values=2,haystack=essay,slots=true,eval=3", "b35de051a218e1ee"},
	{"niah:length=512,trained=512,haystack=needles,eval=3", "79c18be44930553a"},
	{"variable-tracking:length=512,trained=256,eval=3", "d90772bb5dcbef48"},
	{"variable-tracking:length=128,trained=64,chains=3,hops=2,slots=true,eval=3", "a7734aa7ff150383"},
	{"common-words:eval=3", "164049db3850e145"},
	{"frequent-words:length=512,trained=256,eval=3", "d72ad4986c07b4bc"},
	{"parity:eval=4", "8712026d44370890"},
	{"parity:running=true,eval=4", "a0815ce6756bf9ab"},
	{"adding:eval=20", "135d8dc7484d9ae0"},
	{"pathfinder:eval=4", "10a45a0d95bdfaf5"},
	{"mad-compress:eval=8", "90ee6ead08c9c96e"},
}

// TestSyntheticBytes pins what a seed gives: a change here changes every result of the task.
func TestSyntheticBytes(t *testing.T) {
	for _, c := range synthetic {
		if got := digest(mustNew(t, c.spec), 1); got != c.golden {
			t.Errorf("%s: %s: want %s", c.spec, got, c.golden)
		}
	}
}

func TestSyntheticContract(t *testing.T) {
	for _, c := range synthetic {
		k := mustNew(t, c.spec)
		info := k.Info()
		if again := mustNew(t, info.Name).Info(); again.Name != info.Name {
			t.Errorf("%s: its name %s is made again as %s", c.spec, info.Name, again.Name)
		}
		// A batch depends on its arguments alone.
		want := k.Train(7, 5, 4)
		other := mustNew(t, c.spec)
		other.Train(9, 5, 4)
		other.Train(7, 0, 3)
		if got := other.Train(7, 5, 4); !slices.Equal(got.Tokens, want.Tokens) || !slices.Equal(got.Labels, want.Labels) {
			t.Errorf("%s: another batch after other calls", c.spec)
		}
		if b := k.Train(8, 5, 4); slices.Equal(b.Tokens, want.Tokens) && slices.Equal(b.Labels, want.Labels) {
			t.Errorf("%s: two seeds give the same batch", c.spec)
		}
		// The evaluation sets are other rows than those of training with their own seed, and than one another.
		var first [2]Batch
		for split := range first {
			for first[split] = range k.Eval(Split(split), 2) {
				break
			}
		}
		for i, a := range []Batch{first[Valid], first[Test]} {
			for _, b := range []Batch{k.Train(0, 0, 2), first[Valid]}[:1+i] {
				n := min(len(a.Tokens), len(b.Tokens)) // of the first row at least, where lengths differ
				if slices.Equal(a.Tokens[:n], b.Tokens[:n]) {
					t.Errorf("%s: the %v set starts with rows of another", c.spec, Split(i))
				}
			}
		}
		longest := 0
		check := func(b Batch) {
			longest = max(longest, b.Length)
			for r := range b.Rows {
				tokens, labels := b.Row(r)
				if scored(labels) == 0 {
					t.Errorf("%s: a row without a label", c.spec)
				}
				for i, x := range tokens {
					if x < 0 || int(x) >= info.Vocab || labels[i] < -1 || int(labels[i]) >= info.Vocab {
						t.Fatalf("%s: token %d, label %d: want less than %d", c.spec, x, labels[i], info.Vocab)
					}
				}
			}
		}
		for step := range 8 {
			check(k.Train(1, step, 2))
		}
		for b := range k.Eval(Test, 3) {
			check(b)
		}
		if longest != info.Length {
			t.Errorf("%s: longest row of %d tokens: want %d", c.spec, longest, info.Length)
		}
	}
}

// TestSyntheticScores: a score is the same however the set is cut, its metrics are described, and the right answers give 1 in each share.
func TestSyntheticScores(t *testing.T) {
	for _, c := range synthetic {
		k := mustNew(t, c.spec)
		info := k.Info()
		var units []string
		for _, m := range info.Metrics {
			if m.Better != "lower" && m.Better != "higher" || m.Help == "" || m.Chance <= 0 || slices.Contains(units, m.Unit) {
				t.Errorf("%s: metric %+v is not described, or is there twice", c.spec, m)
			}
			units = append(units, m.Unit)
		}
		if len(k.NewScore().Values()) != 0 {
			t.Errorf("%s: an empty score has values", c.spec)
		}
		var want []Value
		for _, rows := range []int{1, 3, 512} {
			score, at := k.NewScore(), 0
			for b := range k.Eval(Test, rows) {
				nats, predicted := make([]float32, len(b.Tokens)), slices.Clone(b.Labels)
				for i := range nats {
					nats[i] = float32(math.Abs(math.Sin(float64(at))))
					if at++; at%3 == 0 {
						predicted[i] = 0
					}
				}
				if err := score.Add(b, nats, predicted); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want = score.Values()
			}
			if got := score.Values(); !slices.Equal(got, want) {
				t.Errorf("%s: batches of %d give %v: want %v", c.spec, rows, got, want)
			}
		}
		last := -1
		for _, v := range want {
			at := slices.Index(units, v.Unit)
			if at <= last || v.Count < 1 || math.IsNaN(v.Value) {
				t.Errorf("%s: value %+v: want it in the order of the metrics, with a count", c.spec, v)
			}
			last = at
		}
		for _, v := range answers(t, k, nil) {
			if v.Value != 1 && (strings.Contains(v.Unit, "accuracy") || strings.Contains(v.Unit, "match")) {
				t.Errorf("%s: the right answers give %+v: want 1", c.spec, v)
			}
		}
		b := k.Train(1, 0, 2)
		n := len(b.Tokens)
		for _, c := range []struct{ nats, predicted int }{{n - 1, n}, {n, n + 1}, {n, 0}} {
			if err := k.NewScore().Add(b, make([]float32, c.nats), make([]int32, c.predicted)); err == nil {
				t.Errorf("%s: %d losses and %d predictions for %d tokens are taken", info.Name, c.nats, c.predicted, n)
			}
		}
	}
}

// answers scores a solver on the test set: what it answers at the end of the tokens, for each that has a label. nil knows the labels.
func answers(t testing.TB, k Task, solve func(tokens []int32) int32) []Value {
	t.Helper()
	score := k.NewScore()
	for b := range k.Eval(Test, 16) {
		predicted := slices.Clone(b.Labels)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			for i, l := range labels {
				if l >= 0 && solve != nil {
					predicted[r*b.Length+i] = solve(tokens[: i+1 : i+1])
				}
			}
		}
		if err := score.Add(b, make([]float32, len(b.Tokens)), predicted); err != nil {
			t.Fatal(err)
		}
	}
	return score.Values()
}

// solved reports a solver that knows the rule and does not get everything right.
func solved(t testing.TB, spec string, solve func(tokens []int32) int32) {
	t.Helper()
	v := answers(t, mustNew(t, spec), solve)
	if len(v) == 0 || v[0].Unit != "accuracy" || v[0].Value != 1 {
		t.Errorf("%s: who knows the rule gets %v: want accuracy 1", spec, v)
	}
}
