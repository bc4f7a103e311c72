package translate

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	_ "attnbench/attn/all"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/train"
)

// small is a spelling of the system that trains in a fraction of a second.
const small = ",words=320,dim=16,layers=1,heads=2,tokens=256,beam=2"

func newSystem(t testing.TB, spec string) *translate {
	t.Helper()
	s, err := system.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*translate)
}

func fit(t *testing.T, spec string, f system.Fit) system.Result {
	t.Helper()
	f.Data = "testdata"
	r, err := newSystem(t, spec).Fit(t.Context(), f)
	if err != nil {
		t.Fatalf("%s, %s: %v", spec, f.Mech, err)
	}
	return r
}

// same are the values that do not depend on the clock.
func same(r system.Result) (all []string) {
	for _, v := range r.Values {
		if v.Unit != "out-tok/s" {
			all = append(all, fmt.Sprint(v))
		}
	}
	return append(all, fmt.Sprint(r.Params, r.Steps))
}

// TestFit: every form and set trains, writes and is scored, with each kind of model, under every declared metric.
func TestFit(t *testing.T) {
	for _, c := range []struct{ spec, mech, bleu string }{
		{"translate:set=bible-en-es" + small, "sliding:window=4", "BLEU-13a"},
		{"translate:set=bible-en-es,positions=sinusoidal" + small, "full+sliding:window=2+linear", "BLEU-13a"},
		{"translate:set=bible-en-es" + small, "lstm", "BLEU-13a"},
		{"translate:set=bible-en-es,form=chapter" + strings.Replace(small, "tokens=256", "tokens=1024", 1), "linear", "BLEU-13a"},
		{"translate:set=tatoeba-en-zh,norm=post,positions=learned" + small, "full", "BLEU-zh"},
	} {
		var log strings.Builder
		r := fit(t, c.spec, system.Fit{Mech: c.mech, Seed: 1, Steps: 3, Log: &log})
		info := newSystem(t, c.spec).Info()
		if info.Metrics[0].Unit != c.bleu || len(r.Values) != len(info.Metrics) {
			t.Errorf("%s: %d values, first metric %s: want %d and %s", c.spec, len(r.Values), info.Metrics[0].Unit, len(info.Metrics), c.bleu)
		}
		for i, v := range r.Values {
			if v.Unit != info.Metrics[i].Unit || math.IsNaN(v.Value) || v.Value < 0 {
				t.Errorf("%s: value %v: want %s", c.spec, v, info.Metrics[i].Unit)
			}
		}
		if r.Steps != 3 || r.Params == 0 || !strings.Contains(log.String(), "tok:"+strings.TrimPrefix(c.bleu, "BLEU-")) || !strings.Contains(log.String(), "  source: ") {
			t.Errorf("%s: %d steps, %d parameters, log %q", c.spec, r.Steps, r.Params, log.String())
		}
	}
}

// TestResume: a run that was stopped and gone on with ends as one that was not, on another number of cores.
func TestResume(t *testing.T) {
	for _, mech := range []string{"full", "lstm"} {
		if testing.Short() && mech == "lstm" {
			continue
		}
		spec := "translate:dropout=0.2" + small
		want := same(fit(t, spec, system.Fit{Mech: mech, Seed: 7, Steps: 4}))
		if other := same(fit(t, spec, system.Fit{Mech: mech, Seed: 8, Steps: 4})); slices.Equal(other, want) {
			t.Errorf("%s: another seed gives the same", mech)
		}
		f := system.Fit{Data: "testdata", Mech: mech, Seed: 7, Steps: 4, Checkpoint: filepath.Join(t.TempDir(), "x.ckpt")}
		ctx, cancel := context.WithCancel(t.Context())
		f.Progress = func(p train.Progress) {
			if p.Step == 2 {
				cancel()
			}
		}
		if _, err := newSystem(t, spec).Fit(ctx, f); err == nil {
			t.Fatal("a stopped run: want an error")
		}
		f.Progress = nil
		before := runtime.GOMAXPROCS(3)
		got := same(fit(t, spec, f))
		runtime.GOMAXPROCS(before)
		if !slices.Equal(got, want) {
			t.Errorf("%s: resumed %q: want %q", mech, got, want)
		}
		f.Seed = 9
		if _, err := newSystem(t, spec).Fit(t.Context(), f); err == nil || !strings.Contains(err.Error(), "of another run") {
			t.Errorf("%s: the checkpoint of another seed: %v", mech, err)
		}
	}
}

// TestEqualParameters: the recurrent model has as many parameters as the Transformer, within 1%, at the sizes that are compared.
func TestEqualParameters(t *testing.T) {
	x := newSystem(t, "translate")
	count := func(mech string) float64 {
		m, err := x.model(mech, x.words(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return float64(nn.Count(m.Params()))
	}
	if a, b := count("full"), count("lstm"); math.Abs(a/b-1) > 0.01 {
		t.Errorf("%v and %v parameters: want them within 1%%", a, b)
	}
}

// TestBatches: an epoch has every pair once, batches hold as many tokens as asked, and a step's batch is a function of seed and step alone, and
// comes back from its packing as it was.
func TestBatches(t *testing.T) {
	for _, spec := range []string{"translate:set=tatoeba-en-zh" + small, "translate:form=chapter" + small} {
		x := newSystem(t, spec)
		d, err := load(&system.Fit{Data: "testdata"}, x.set, x.words())
		if err != nil {
			t.Fatal(err)
		}
		special, err := specialOf(d)
		if err != nil {
			t.Fatal(err)
		}
		make := func() *batches { return &batches{data: d, long: x.long(), tokens: x.o.Tokens, special: special} }
		k := make()
		k.Train(5, 0, 1)
		epoch := k.ends[0]
		seen := map[string]int{}
		for step := range 3 * epoch {
			b := k.Train(5, step, 1)
			if again := make().Train(5, step, 1); !slices.Equal(again.Tokens, b.Tokens) || !slices.Equal(again.Labels, b.Labels) {
				t.Fatalf("%s: step %d differs when asked for alone", spec, step)
			}
			s, n := unpack(b.Tokens, b.Labels, b.Rows, b.Length)
			if n != step || s.Rows*max(s.SourceLen, s.TargetLen) > x.o.Tokens {
				t.Errorf("%s: step %d: batch of step %d with %d rows of %d and %d", spec, step, n, s.Rows, s.SourceLen, s.TargetLen)
			}
			if packed := pack(s, step); !slices.Equal(packed.Tokens, b.Tokens) || !slices.Equal(packed.Labels, b.Labels) {
				t.Errorf("%s: step %d is packed otherwise a second time", spec, step)
			}
			for row := range s.Rows {
				if step < epoch {
					seen[d.tokens.Decode(s.Source[row*s.SourceLen:][:s.Sources[row]])]++
				}
			}
		}
		if !x.long() {
			for _, p := range d.train {
				seen[p.source]--
			}
			for text, n := range seen {
				if n != 0 {
					t.Errorf("%q: %+d times too often in an epoch", text, n)
				}
			}
		}
		if slices.Equal(k.Train(6, 0, 1).Tokens, k.Train(5, 0, 1).Tokens) {
			t.Errorf("%s: another seed has the same first batch", spec)
		}
	}
}

// TestQuestions: sources that occur several times are one question with all their translations; long questions are chapters of 2 to 8 thousand bytes.
func TestQuestions(t *testing.T) {
	d := &data{test: []pair{{source: "a", target: "x"}, {source: "b", target: "y"}, {source: "a", target: "z"}}}
	if q := d.questions(false); len(q) != 2 || !slices.Equal(q[0].refs, []string{"x", "z"}) || !slices.Equal(q[1].refs, []string{"y"}) {
		t.Errorf("questions %+v", q)
	}
	x := newSystem(t, "translate:form=chapter"+small)
	full, err := load(&system.Fit{Data: "testdata"}, x.set, x.words())
	if err != nil {
		t.Fatal(err)
	}
	q := full.questions(true) // Jonah 2 and 3 are shorter
	if len(q) != 1 || !strings.HasPrefix(q[0].source, "My brothers") || strings.Count(q[0].source, joint) != 25 || full.tokens.Decode(q[0].in) != q[0].source || full.tokens.Decode(q[0].out) != q[0].refs[0] {
		t.Errorf("long questions %.60q…", q)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"translate:set=wmt", "want bible-en-es or tatoeba-en-zh"},
		{"translate:set=tatoeba-en-zh,form=chapter", "option form=chapter"},
		{"translate:dim=0", "option dim=0: want an integer from 1 to 65536"},
		{"translate:heads=5", "option heads=5: want a divisor of dim, 128"},
		{"translate:norm=none", "want pre or post"},
		{"translate:positions=alibi", "want sinusoidal, learned or rotary"},
		{"translate:dropout=1", "option dropout=1"},
		{"translate:rate=0", "option rate=0"},
		{"translate:layers=9223372036854775807", "option layers=9223372036854775807: want an integer from 1 to 1024"},
		{"translate:tokens=9223372036854775807", "want an integer from 0 to 16777216"},
		{"translate:beam=9223372036854775807", "want an integer from 0 to 1024"},
		{"translate:tokens=-1", "option tokens=-1: want an integer from 0 to 16777216"},
	} {
		if _, err := system.New(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
	for _, c := range []struct{ data, mech, want string }{
		{"", "full", "no data folder"}, {"nowhere", "full", "data set bible-en-es"}, {"testdata", "gru", `unknown mechanism "gru"`},
		{"testdata", "full+full", "want 1 or 3"},
	} {
		if _, err := newSystem(t, "translate:"+small[1:]).Fit(t.Context(), system.Fit{Data: c.data, Mech: c.mech, Steps: 1}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("data %q, mechanism %q: error %v: want %q", c.data, c.mech, err, c.want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"a\tb\n", "line 1: 2 columns: want 3"}, {"G 1:1\ta\tb\nG 1:2\ta\t \n", "line 2: an empty sentence"},
		{"Genesis\ta\tb\n", `line 1: verse "Genesis": want`}, {"", "no pairs"}, {strings.Repeat("x", 1<<21), "too long"},
	} {
		if _, err := sets[0].parse(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: error %v: want %q", c.text, err, c.want)
		}
	}
}

// dataDir is the folder with the whole sets, or the test is skipped.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ATTNBENCH_DATA")
	if dir == "" {
		t.Skip("ATTNBENCH_DATA is not set: want the folder with the data sets")
	}
	return dir
}

// TestFloors computes the floors that stand beside results.
func TestFloors(t *testing.T) {
	dir := dataDir(t)
	for _, spec := range []string{"translate", "translate:form=chapter", "translate:set=tatoeba-en-zh"} {
		x := newSystem(t, spec)
		d, err := load(&system.Fit{Data: dir}, x.set, 300) // the vocabulary plays no part
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.computeFloors(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range got {
			i := slices.IndexFunc(known, func(k floor) bool { return k.set == f.set && k.form == f.form && k.name == f.name })
			if i < 0 || math.Abs(known[i].bleu-f.bleu) > 0.005 || math.Abs(known[i].chrf-f.chrf) > 0.005 {
				t.Errorf("floor {%q, %q, %q, %.2f, %.2f} is not among the known", f.set, f.form, f.name, f.bleu, f.chrf)
			}
		}
	}
}

// TestNearest: rare words decide.
func TestNearest(t *testing.T) {
	f := newFinder([]string{"the cat and the dog", "the ark", "and the whale", "and the ark of the whale"})
	for text, want := range map[string]int{"a whale, and so on": 2, "The ARK!": 1, "dog": 0, "nothing of it": 3, "zzz": 0} {
		if got := f.nearest(text); got != want {
			t.Errorf("%q: text %d: want %d", text, got, want)
		}
	}
}
