package bert

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/model/bert"
	"attnbench/system"
	"attnbench/task"
	"attnbench/train"
)

// small are options by which a model trains in a fraction of a second.
const small = "dim=16,layers=2,heads=2,pieces=200,tokens=128"

func newSystem(t testing.TB, spec string) system.System {
	t.Helper()
	s, err := system.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fitted(t *testing.T, spec string, f system.Fit) system.Result {
	t.Helper()
	if f.Data == "" {
		f.Data = "testdata"
	}
	r, err := newSystem(t, spec).Fit(t.Context(), f)
	if err != nil {
		t.Fatalf("%s, %s: %v", spec, f.Mech, err)
	}
	return r
}

// same are the values that do not depend on the clock.
func same(r system.Result) (all []string) {
	for _, v := range r.Values {
		if v.Unit != unitSpeed {
			all = append(all, fmt.Sprint(v))
		}
	}
	return append(all, fmt.Sprint(r.Params, r.Steps))
}

func metric(r system.Result, unit string) float64 {
	for _, v := range r.Values {
		if v.Unit == unit {
			return v.Value
		}
	}
	return math.NaN()
}

// TestFit: every system and set trains with each kind of mechanism and gives the metrics that it declares, in their order.
func TestFit(t *testing.T) {
	for _, c := range []struct{ spec, mech string }{
		{"bert-mlm:length=32," + small, "full"},
		{"bert-mlm:length=32,positions=learned," + small, "linear"},
		{"classify:" + small, "sliding:window=4"},
		{"classify:set=clinc150,pool=first,examples=6," + small, "full|linear"},
		{"ner:" + small, "sliding:window=8,sinks=1"},
		{"ner:set=wnut17,positions=none," + small, "linear"},
		{"ner:set=uner-zh,span=8," + small, "full"},
		{"classify:valid=true," + small, "full"},
		{"authorship:bytes=512," + small, "bigbird:block=4"},
		{"authorship:bytes=512,examples=4,positions=learned," + small, "full"},
	} {
		var log strings.Builder
		info := newSystem(t, c.spec).Info()
		r := fitted(t, c.spec, system.Fit{Mech: c.mech, Seed: 1, Steps: 3, Log: &log})
		if again := newSystem(t, info.Name).Info(); again.Name != info.Name || again.Recipe != info.Recipe || len(r.Values) != len(info.Metrics) || r.Steps != 3 || r.Params == 0 || r.Seconds <= 0 {
			t.Errorf("%s: name %s, %d steps, %d parameters, values %v", c.spec, info.Name, r.Steps, r.Params, r.Values)
			continue
		}
		for i, v := range r.Values {
			if v.Unit != info.Metrics[i].Unit || math.IsNaN(v.Value) || v.Value < 0 || v.Count == 0 && v.Value != 0 {
				t.Errorf("%s: value %v: want %s", c.spec, v, info.Metrics[i].Unit)
			}
		}
		if strings.HasPrefix(c.spec, "bert-mlm") && (!strings.Contains(log.String(), "what is restored") || !strings.Contains(log.String(), "is not kept")) {
			t.Errorf("%s: log %q", c.spec, log.String())
		}
	}
}

// TestOverfit: texts and entities that were trained on are known by heart after a second.
func TestOverfit(t *testing.T) {
	for _, c := range []struct{ spec, mech, unit string }{
		{"classify:rate=0.01,dropout=0," + small, "full", "accuracy"},
		{"classify:set=clinc150,rate=0.01,dropout=0," + small, "linear", "in-scope-accuracy"},
		{"ner:set=uner-zh,rate=0.01,dropout=0," + small, "sliding:window=4", "F1"},
	} {
		if v := metric(fitted(t, c.spec, system.Fit{Mech: c.mech, Seed: 1, Steps: 100}), c.unit); v < 0.99 {
			t.Errorf("%s: %s of %v: want 1", c.spec, c.unit, v)
		}
	}
}

// TestResume: a run that was stopped and gone on with ends as one that was not, on another number of cores; a checkpoint of another seed is
// refused.
func TestResume(t *testing.T) {
	for _, spec := range []string{"bert-mlm:length=16,dropout=0.2," + small, "ner:span=8,dropout=0.2," + small} {
		want := same(fitted(t, spec, system.Fit{Mech: "full", Seed: 7, Steps: 6}))
		if other := same(fitted(t, spec, system.Fit{Mech: "full", Seed: 8, Steps: 6})); slices.Equal(other, want) {
			t.Errorf("%s: another seed gives the same", spec)
		}
		f := system.Fit{Data: "testdata", Mech: "full", Seed: 7, Steps: 6, Checkpoint: filepath.Join(t.TempDir(), "x.ckpt")}
		ctx, cancel := context.WithCancel(t.Context())
		f.Progress = func(p train.Progress) {
			if p.Step == 3 {
				cancel()
			}
		}
		if _, err := newSystem(t, spec).Fit(ctx, f); err == nil {
			t.Fatal("a stopped run: want an error")
		}
		f.Progress = nil
		before := runtime.GOMAXPROCS(3)
		got := same(fitted(t, spec, f))
		runtime.GOMAXPROCS(before)
		if !slices.Equal(got, want) {
			t.Errorf("%s: resumed %q: want %q", spec, got, want)
		}
		f.Seed = 9
		if _, err := newSystem(t, spec).Fit(t.Context(), f); err == nil || !strings.Contains(err.Error(), "of another run") {
			t.Errorf("%s: the checkpoint of another seed: %v", spec, err)
		}
	}
}

// TestPretrained: a file of pre-training is what a fine-tuned encoder starts from, also one of another mechanism that learns the same tensors; one
// spelling names the files of several mechanisms.
func TestPretrained(t *testing.T) {
	dir := t.TempDir()
	const spec = "bert-mlm:length=16," + small
	for _, mech := range []string{"full", "linear"} {
		var log strings.Builder
		fitted(t, spec, system.Fit{Mech: mech, Seed: 1, Steps: 2, Log: &log, Checkpoint: filepath.Join(dir, mech+".ckpt")})
		if !strings.Contains(log.String(), "the encoder is in "+dir) {
			t.Errorf("log %q", log.String())
		}
	}
	name := "bert-mlm-length-16-dim-16-layers-2-heads-2-pieces-200-tokens-128-MECH-2steps-seed1.bert"
	path := filepath.Join(dir, name)
	p, err := loadPretrained(forMech(path, "full"))
	if err != nil {
		t.Fatal(err)
	}
	spelling := "init=" + path + ",tokens=64"
	for _, c := range []struct{ spec, mech string }{{"ner", "full"}, {"classify", "linear"}, {"authorship:bytes=512", "full"}} {
		joint := ":"
		if strings.Contains(c.spec, ":") {
			joint = ","
		}
		r := fitted(t, c.spec+joint+spelling, system.Fit{Mech: c.mech, Seed: 3, Steps: 2})
		if r.Params == 0 {
			t.Errorf("%s: %v", c.spec, r)
		}
	}
	from := &start{config: p.config, words: p.words, from: p}
	from.config.Attention, from.config.Seed = "sliding:window=4", 9
	m, err := from.build([][]example{{unlabelled(make([]int32, 50))}}, func(c bert.Config) (*bert.Model, error) { return bert.NewTagger(c, 3) })
	if err != nil {
		t.Fatal(err)
	}
	if m.Config.MaxLen != 50 || m.Config.Dim != 16 || m.Config.Vocab != p.words.Size() {
		t.Errorf("built %+v", m.Config)
	}
	for _, q := range m.EncoderParams() {
		if x, err := p.Tensor(q.Name, q.Shape); err != nil || !slices.Equal(x, q.Data) {
			t.Errorf("%s is not the file's: %v", q.Name, err)
		}
	}
	one := "ner:init=" + forMech(path, "full")
	fitted(t, one, system.Fit{Mech: "sliding:window=4", Seed: 1, Steps: 1})
	a, b := newSystem(t, one).Info(), newSystem(t, "ner").Info()
	if a.Recipe == b.Recipe || !strings.Contains(a.Recipe, "seed 1, 2 steps") {
		t.Errorf("recipes %q and %q", a.Recipe, b.Recipe)
	}
	// Files of unlike trainings are not compared.
	fitted(t, spec, system.Fit{Mech: "naive", Seed: 1, Steps: 1, Checkpoint: filepath.Join(dir, "naive.ckpt")})
	if err := os.Rename(filepath.Join(dir, strings.Replace(forMech(name, "naive"), "2steps", "1steps", 1)), forMech(path, "naive")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ spec, mech, want string }{
		{"ner:init=" + path, "", "come from different trainings"},
		{"ner:init=" + path + ",dim=32", "", "want them left out, the file says them"},
		{"ner:init=" + filepath.Join(dir, "nothing-MECH"), "", "no such file for any mechanism"},
		{"ner:init=" + filepath.Join(dir, "nothing"), "", "no such file"},
		{"ner:init=" + filepath.Join(dir, "full.ckpt"), "", "no pre-trained encoder: want a file that bert-mlm wrote"},
		{"classify:init=" + forMech(path, "full"), "sinklogit", "pre-trained with full: tensor layers.0.attention"},
	} {
		s, err := system.New(c.spec)
		if err == nil {
			_, err = s.Fit(t.Context(), system.Fit{Data: "testdata", Mech: c.mech, Steps: 1})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
}

func maskedTask(t *testing.T) *batches {
	t.Helper()
	x := newSystem(t, "bert-mlm:length=16,"+small).(*masked)
	f := &system.Fit{Data: "testdata"}
	books, err := readBooks(f)
	if err != nil {
		t.Fatal(err)
	}
	words, err := bookWords(f, x.o.Pieces)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x.task(books, words)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestNewMasksEveryEpoch: masks are a function of seed and epoch, others in every epoch; rows hold no special piece but their own, which are never
// labelled; the test set has the same masks always.
func TestNewMasksEveryEpoch(t *testing.T) {
	k, again := maskedTask(t), maskedTask(t)
	epoch := func(k *batches, n int) []example { return k.epoch(n, rand.New(rand.NewPCG(1, uint64(n)))) }
	for i := range k.test {
		if !slices.Equal(k.test[i].pieces, again.test[i].pieces) || !slices.Equal(k.test[i].labels, again.test[i].labels) {
			t.Fatalf("test row %d differs the second time", i)
		}
	}
	a, b := epoch(k, 0), epoch(k, 0)
	labels := func(list []example) (all []int32) {
		for _, e := range list {
			all = append(all, e.labels...)
		}
		return all
	}
	if !slices.Equal(labels(a), labels(b)) {
		t.Error("an epoch differs the second time")
	}
	if slices.Equal(labels(a), labels(epoch(k, 1))) {
		t.Error("the next epoch has the same masks")
	}
	chosen := 0
	for _, e := range slices.Concat(a, k.test) {
		if len(e.pieces) != 16 || e.pieces[0] != 2 || e.pieces[15] != 3 || e.labels[0] >= 0 || e.labels[15] >= 0 {
			t.Fatalf("row %v labelled %v", e.pieces, e.labels)
		}
		for _, l := range e.labels {
			if l >= 0 {
				chosen++
				if l < 5 {
					t.Fatalf("special piece %d is to be restored", l)
				}
			}
		}
	}
	if n := 14 * (len(a) + len(k.test)); math.Abs(float64(chosen)/float64(n)-0.15) > 0.03 {
		t.Errorf("%d of %d chosen: want 15%%", chosen, n)
	}
}

// TestBatches: an epoch has every example once, batches hold at most so many tokens, and a step's batch is a function of seed and step alone and
// comes back from its packing as it was.
func TestBatches(t *testing.T) {
	var list []example
	for i := range 37 {
		e := unlabelled(slices.Repeat([]int32{int32(i)}, 1+i*i%23))
		e.labels[0] = int32(i)
		list = append(list, e)
	}
	fresh := func() *batches {
		return &batches{pad: 99, tokens: 40, test: list, epoch: func(int, *rand.Rand) []example { return list }}
	}
	k := fresh()
	k.Train(5, 0, 1)
	epoch := k.ends[0]
	seen := make([]int, len(list))
	for step := range 3 * epoch {
		b := k.Train(5, step, 1)
		if again := fresh().Train(5, step, 1); !slices.Equal(again.Tokens, b.Tokens) || !slices.Equal(again.Labels, b.Labels) {
			t.Fatalf("step %d differs when asked for alone", step)
		}
		x, labels, n := unpack(b.Tokens, b.Labels, b.Rows, b.Length)
		if n != step || x.Rows*x.Length > 40 {
			t.Errorf("step %d: a batch of step %d with %d rows of %d", step, n, x.Rows, x.Length)
		}
		for row, length := range x.Lengths {
			i := b.Tokens[row*b.Length+1]
			if length != len(list[i].pieces) || !slices.Equal(x.Tokens[row*x.Length:][:length], list[i].pieces) || labels[row*x.Length] != i {
				t.Fatalf("step %d: row %d is not example %d", step, row, i)
			}
			for j := length; j < x.Length; j++ {
				if x.Tokens[row*x.Length+j] != 99 || labels[row*x.Length+j] != autograd.Ignored {
					t.Fatalf("step %d: row %d has padding %d labelled %d", step, row, x.Tokens[row*x.Length+j], labels[row*x.Length+j])
				}
			}
			seen[i]++
		}
	}
	for i, n := range seen {
		if n != 3 {
			t.Errorf("example %d came %d times in 3 epochs", i, n)
		}
	}
	if slices.Equal(k.Train(6, 0, 1).Tokens, k.Train(5, 0, 1).Tokens) {
		t.Error("another seed has the same first batch")
	}
	clear(seen)
	for b := range k.Eval(task.Test, 7) {
		for row := range b.Rows {
			seen[b.Tokens[row*b.Length+1]]++
		}
	}
	if slices.Max(seen) != 1 || slices.Min(seen) != 1 {
		t.Errorf("test examples seen %v times: want each once", seen)
	}
}

// TestChoose: fewer examples are a part of more, and as even over the groups as they can be.
func TestChoose(t *testing.T) {
	var list []string
	for i := range 60 {
		list = append(list, fmt.Sprintf("%c%d", "aaaabbc"[i%7], i))
	}
	group := func(s string) string { return s[:1] }
	all := choose(list, group, 0, 1)
	if !slices.Equal(all, list) || !slices.Equal(choose(list, group, 99, 1), list) {
		t.Error("all are not all")
	}
	before := choose(list, group, 1, 3)
	for n := 2; n < 60; n++ {
		now := choose(list, group, n, 3)
		if !slices.Equal(now[:n-1], before) {
			t.Fatalf("%d examples do not begin with %d", n, n-1)
		}
		before = now
		counts := map[string]int{}
		for _, s := range now {
			counts[group(s)]++
		}
		if n <= 24 && max(counts["a"], counts["b"], counts["c"])-min(counts["a"], counts["b"], counts["c"]) > 1 {
			t.Errorf("%d examples: %v", n, counts)
		}
	}
	if slices.Equal(choose(list, group, 9, 4), choose(list, group, 9, 3)) {
		t.Error("another seed chooses the same")
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"bert-mlm:length=3", "option length=3: want an integer from 4 to 2^20"}, {"bert-mlm:share=1", "option share=1"},
		{"bert-mlm:heads=3", "option heads=3: want a divisor of dim, 128"}, {"bert-mlm:positions=alibi", "want none, rope or learned"},
		{"bert-mlm:pieces=10", "option pieces=10: want an integer from 64 to 1048576"}, {"bert-mlm:layers=9223372036854775807", "want an integer from 1 to 1024"}, {"bert-mlm:tokens=9223372036854775807", "want an integer from 16 to 2^24"}, {"bert-mlm:length=9223372036854775807", "want an integer from 4 to 2^20"}, {"bert-mlm:tokens=1", "option tokens=1"},
		{"bert-mlm:rate=0", "option rate=0"}, {"bert-mlm:dropout=1", "option dropout=1"}, {"bert-mlm:dim=0", "option dim=0"},
		{"classify:set=imdb", "want banking77 or clinc150"}, {"classify:pool=max", "want first or mean"}, {"classify:examples=-1", "option examples=-1"},
		{"classify:dropout=-1", "option dropout=-1"}, {"ner:set=conll2003", "want litbank-ner, wnut17 or uner-zh"}, {"ner:span=-1", "option span=-1"},
		{"ner:layers=0", "option layers=0"}, {"ner:rate=-1", "option rate=-1"},
		{"authorship:bytes=1", "option bytes=1: want an integer from 64 to 2^24"}, {"authorship:pool=last", "option pool=last"}, {"authorship:tokens=2", "option tokens=2"},
		{"authorship:valid=true", "option valid=true: want false"}, {"authorship:examples=-2", "option examples=-2"},
	} {
		if _, err := system.New(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
	for _, spec := range []string{"bert-mlm", "classify", "ner", "authorship"} {
		for _, c := range []struct{ data, mech, want string }{
			{"", "full", "no data folder"}, {"nowhere", "full", "data set "}, {"testdata", "fulll", `unknown mechanism "fulll"`},
			{"testdata", "gla", "want a trained mechanism under a bidirectional mask"},
		} {
			if _, err := newSystem(t, spec).Fit(t.Context(), system.Fit{Data: c.data, Mech: c.mech, Steps: 1}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, data %q, mechanism %q: error %v: want %q", spec, c.data, c.mech, err, c.want)
			}
		}
	}
	if _, err := newSystem(t, "authorship:bytes=60000").Fit(t.Context(), system.Fit{Data: "testdata", Mech: "full", Steps: 1}); err == nil || !strings.Contains(err.Error(), "0 texts to train on and 0 to test on") {
		t.Errorf("passages longer than the books: %v", err)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
