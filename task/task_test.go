package task

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func mustNew(t testing.TB, spec string) Task {
	t.Helper()
	k, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ spec, name string }{
		{"opticks", "opticks"},
		{"opticks:length=1024,stride=0", "opticks"},
		{"opticks:eval=1000,length=64", "opticks:length=64,eval=1000"},
		{"mqar:vocab=256,length=64,pairs=4", "mqar"},
		{"mqar:reach=14,random=false,vocab=512", "mqar:vocab=512,random=false,reach=14"},
		{"copy:items=4,distance=64", "copy:distance=64"},
		{"text:path=testdata/ab.txt,length=4", "text:path=testdata%2Fab.txt,length=4"},
	} {
		info := mustNew(t, c.spec).Info()
		if info.Name != c.name {
			t.Errorf("%s: name %s: want %s", c.spec, info.Name, c.name)
		}
		if again := mustNew(t, info.Name).Info(); again.Name != info.Name || again.Data != info.Data {
			t.Errorf("%s: made again from its name it is %s, %s", c.spec, again.Name, again.Data)
		}
		if strings.ContainsAny(info.Name, "/ \t") {
			t.Errorf("%s: name %q does not fit a benchmark name", c.spec, info.Name)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"optics", `unknown task "optics": want one of ` + strings.Join(Names(), ", ")},
		{"opticks:", "nothing after the colon"},
		{"opticks:window=3", `task opticks: unknown option "window": want one of length, stride, eval`},
		{"opticks:length=0", "option length=0: want an integer from 1 to 2^31-1"},
		{"opticks:length=9223372036854775807", "want an integer from 1 to 2^31-1"},
		{"mqar:length=2147483646,vocab=2147483647", "want an even number from 4 to 2^20"},
		{"opticks:length=600000", "bytes of training text: want more than the length"},
		{"opticks:length=64,stride=65", "option stride=65: want 0 to the length, 64"},
		{"opticks:eval=-1", "option eval=-1"},
		{"text", "option path is missing"},
		{"text:path=testdata/none", "no such file"},
		{"text:path=testdata/cut.gz", "unexpected EOF"},
		{"text:path=/dev/zero", "not a regular file"},
		{"books", "option path is missing"},
		{"books:path=testdata", "index.tsv: no such file"},
		{"mqar:length=63", "option length=63: want an even number"},
		{"mqar:pairs=17", "option pairs=17: want 1 to a quarter of the length, 16"},
		{"mqar:pairs=0", "option pairs=0"},
		{"mqar:vocab=64", "option vocab=64: want an integer of more than the length, 64"},
		{"mqar:power=0", "option power=0"},
		{"mqar:power=11", "option power=11"},
		{"mqar:reach=-1", "option reach=-1"},
		{"mqar:eval=0", "option eval=0"},
		{"copy:items=0", "option items=0"},
		{"copy:symbols=1", "option symbols=1"},
		{"copy:distance=96", "option distance=96: want items, 4, times a power of two"},
		{"copy:distance=2", "option distance=2"},
		{"copy:eval=0", "option eval=0"},
	} {
		if _, err := New(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
}

func TestMetricsAreDescribed(t *testing.T) {
	for _, spec := range []string{"opticks:length=100,eval=3000", "mqar:reach=14,eval=200", "copy:eval=40"} {
		k := mustNew(t, spec)
		info := k.Info()
		score := k.NewScore()
		for b := range k.Eval(Test, 8) {
			if err := score.Add(b, make([]float32, len(b.Tokens)), make([]int32, len(b.Tokens))); err != nil {
				t.Fatal(err)
			}
		}
		var units []string
		for _, m := range info.Metrics {
			if m.Better != "lower" && m.Better != "higher" || m.Help == "" || m.Chance <= 0 {
				t.Errorf("%s: metric %+v is not described", spec, m)
			}
			units = append(units, m.Unit)
		}
		last := -1
		for _, v := range score.Values() {
			at := slices.Index(units, v.Unit)
			if at <= last || v.Count < 1 || math.IsNaN(v.Value) {
				t.Errorf("%s: value %+v: want it in the order of the metrics, with a count", spec, v)
			}
			last = at
		}
		if score.Values()[0].Unit != units[0] {
			t.Errorf("%s: first value %v: want %s", spec, score.Values()[0], units[0])
		}
		if len(k.NewScore().Values()) != 0 {
			t.Errorf("%s: an empty score has values", spec)
		}
		if _, err := info.Metric("speed"); err == nil || !strings.Contains(err.Error(), units[0]) {
			t.Errorf("%s: error %v: want one that lists the metrics", spec, err)
		}
	}
}

func TestScoreRefusesOtherSizes(t *testing.T) {
	for _, spec := range []string{"opticks:length=10", "mqar", "copy"} {
		k := mustNew(t, spec)
		b := k.Train(1, 0, 2)
		n := len(b.Tokens)
		for _, c := range []struct{ nats, predicted int }{{n - 1, n}, {n, n + 1}, {0, 0}} {
			if err := k.NewScore().Add(b, make([]float32, c.nats), make([]int32, c.predicted)); err == nil {
				t.Errorf("%s: %d losses and %d predictions for %d tokens are taken", spec, c.nats, c.predicted, n)
			}
		}
	}
}

// digest is the hash of a task's first training rows and evaluation sets.
func digest(k Task, seed uint64) string {
	h := sha256.New()
	write := func(b Batch) {
		fmt.Fprintln(h, b.Rows, b.Length, b.Tokens, b.Labels)
	}
	for step := range 3 {
		write(k.Train(seed, step, 4))
	}
	for _, split := range []Split{Valid, Test} {
		for b := range k.Eval(split, 16) {
			write(b)
		}
	}
	return fmt.Sprintf("%.8x", h.Sum(nil))
}

// TestSameBytesForever pins what a seed gives: a change here changes every result of the task.
func TestSameBytesForever(t *testing.T) {
	for _, c := range []struct {
		spec string
		seed uint64
		want string
	}{
		{"mqar", 1, "44b09a7e20a629d2"},
		{"mqar", 2, "50005ff37ff9dada"},
		{"mqar:random=false,length=128,pairs=8", 1, "da66d5c5aae42557"},
		{"copy", 1, "ac04366992cfa6b7"},
		{"opticks:length=256", 1, "1597067f485c24a5"},
		{"opticks:length=256,stride=128,eval=10000", 1, "f1dffbfa62f8ccf4"},
	} {
		if got := digest(mustNew(t, c.spec), c.seed); got != c.want {
			t.Errorf("%s, seed %d: %s: want %s", c.spec, c.seed, got, c.want)
		}
	}
}

func TestTrainDependsOnItsArgumentsAlone(t *testing.T) {
	for _, spec := range []string{"mqar", "opticks:length=50", "copy"} {
		k := mustNew(t, spec)
		want := k.Train(7, 5, 4)
		other := mustNew(t, spec)
		other.Train(9, 5, 4)
		other.Train(7, 0, 64)
		got := other.Train(7, 5, 4)
		if !slices.Equal(got.Tokens, want.Tokens) || !slices.Equal(got.Labels, want.Labels) {
			t.Errorf("%s: another batch after other calls", spec)
		}
		// Rows are numbered through: two batches of 2 are one of 4.
		for half := range 2 {
			b := k.Train(7, 10+half, 2)
			if !slices.Equal(b.Tokens, want.Slice(2*half, 2*half+2).Tokens) {
				t.Errorf("%s: half %d of the batch differs", spec, half)
			}
		}
		if b := k.Train(8, 5, 4); slices.Equal(b.Tokens, want.Tokens) {
			t.Errorf("%s: two seeds give the same batch", spec)
		}
	}
}

// TestAnyBatchSize: accuracy and loss are the same to the last bit however the set is cut.
func TestAnyBatchSize(t *testing.T) {
	for _, spec := range []string{"opticks:length=100,eval=20000", "mqar:reach=14,eval=700", "copy:distance=16,eval=700"} {
		k := mustNew(t, spec)
		var want []Value
		for _, rows := range []int{1, 7, 512} {
			score, at := k.NewScore(), 0
			for b := range k.Eval(Test, rows) {
				nats, predicted := make([]float32, len(b.Tokens)), make([]int32, len(b.Tokens))
				for i := range nats {
					nats[i] = float32(math.Abs(math.Sin(float64(at))))
					predicted[i] = b.Labels[i]
					if at%3 == 0 {
						predicted[i]++
					}
					at++
				}
				if err := score.Add(b, nats, predicted); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want = score.Values()
			}
			if got := score.Values(); !slices.Equal(got, want) {
				t.Errorf("%s: batches of %d give %v: want %v", spec, rows, got, want)
			}
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add("mqar:vocab=256,length=64,pairs=4,power=0.5")
	f.Add("opticks:length=3,stride=2,eval=7")
	f.Add("copy:items=3,symbols=2,distance=12,eval=1")
	f.Add("mqar:length=4,vocab=5,pairs=1,random=false")
	for _, c := range synthetic {
		f.Add(c.spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		name, _, _ := strings.Cut(spec, ":")
		switch name {
		case "books", "text", "gosrc", "go-tags", "go-package", "lra-text", "lra-retrieval", "lra-image":
			return // they read files
		}
		k, err := New(spec)
		if err != nil {
			return
		}
		info := k.Info()
		if again, err := New(info.Name); err != nil || again.Info().Name != info.Name {
			t.Fatalf("%q: its name %q is made again as %v, %v", spec, info.Name, again, err)
		}
		if info.Vocab > 1<<16 || info.Length > 1<<12 || name == "pathfinder" && info.Length > 1<<10 {
			return
		}
		b := k.Train(1, 2, 3)
		for i, x := range b.Tokens {
			if x < 0 || int(x) >= info.Vocab || b.Labels[i] < -1 || int(b.Labels[i]) >= info.Vocab {
				t.Fatalf("%q: token %d, label %d at %d", spec, x, b.Labels[i], i)
			}
		}
	})
}
