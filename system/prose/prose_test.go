package prose

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/model/rnn"
	"attnbench/nn"
	"attnbench/system"
	"attnbench/train"
)

// data writes a set of books in miniature: sentences of a few words.
func data(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "books"), 0o777); err != nil {
		t.Fatal(err)
	}
	index := "file\tlm_split\n"
	for i, split := range []string{"train", "valid", "test"} {
		var b strings.Builder
		for j := range 400 {
			words := []string{"the", "old", "man", "and", "the", "sea", "“were”", "calm", "—", "again"}
			b.WriteString(words[(j*j+i)%len(words)] + " " + words[(j*7+i)%len(words)] + ".\n")
		}
		if err := os.WriteFile(filepath.Join(dir, "books", split+".txt"), []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		index += split + ".txt\t" + split + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "books", "index.tsv"), []byte(index), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

func tiny() Prose {
	o := defaults
	o.Params, o.Length, o.Batch, o.Eval, o.Layers, o.Dim = 30000, 32, 2, 512, 1, 32
	return o
}

// models are one of each kind.
var models = []string{"ngram:order=1", "ngram:order=5", "elman", "gru", "lstm", "full", "sliding:window=8"}

// TestFit: each model trains, gives only metrics that Info describes, the whole learning curve, and the same on a second run.
func TestFit(t *testing.T) {
	o, dir := tiny(), data(t)
	info := o.Info()
	var units []string
	for _, m := range info.Metrics {
		units = append(units, m.Unit)
	}
	for _, mech := range models {
		f := system.Fit{Data: dir, Mech: mech, Seed: 3, Steps: 20}
		r, err := o.Fit(context.Background(), f)
		if err != nil {
			t.Errorf("%s: %v", mech, err)
			continue
		}
		seen := map[string]float64{}
		for _, v := range r.Values {
			if !slices.Contains(units, v.Unit) || !(v.Value > 0 && v.Value < 9) || v.Count == 0 {
				t.Errorf("%s: %+v: want a described metric", mech, v)
			}
			seen[v.Unit] = v.Value
		}
		if seen["bits/byte"] == 0 || seen["valid-bits/byte@10"] < seen["valid-bits/byte@100"] || seen["valid-bits/byte@100"] == 0 {
			t.Errorf("%s: values %v: want a loss and a curve that falls", mech, r.Values)
		}
		if r.Steps != 20 || r.Params == 0 {
			t.Errorf("%s: %d steps, %d parameters", mech, r.Steps, r.Params)
		}
		again, err := o.Fit(context.Background(), f)
		if err != nil || !reflect.DeepEqual(again.Values, r.Values) {
			t.Errorf("%s: a second run gives %v, %v: want %v", mech, again.Values, err, r.Values)
		}
	}
}

// TestResume: a run that was stopped ends as one that was not.
func TestResume(t *testing.T) {
	o, dir := tiny(), data(t)
	for _, mech := range []string{"lstm", "full"} {
		f := system.Fit{Data: dir, Mech: mech, Seed: 3, Steps: 10}
		want, err := o.Fit(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		f.Checkpoint = filepath.Join(t.TempDir(), "a.ckpt")
		ctx, stop := context.WithCancel(context.Background())
		f.Progress = func(p train.Progress) {
			if p.Step == 4 {
				stop()
			}
		}
		if _, err := o.Fit(ctx, f); err == nil {
			t.Errorf("%s: a run that is stopped gives no error", mech)
		}
		f.Progress = func(p train.Progress) {
			if p.Step <= 4 {
				t.Errorf("%s: step %d is done again", mech, p.Step)
			}
		}
		got, err := o.Fit(context.Background(), f)
		if err != nil || !reflect.DeepEqual(got.Values, want.Values) {
			t.Errorf("%s: resumed %v, %v: want %v", mech, got.Values, err, want.Values)
		}
	}
}

// TestEqualParameters: at the sizes of the table, every model has the parameters that were asked for.
func TestEqualParameters(t *testing.T) {
	for _, mech := range append([]string{"linear", "gla", "sliding:window=64"}, rnn.Cells...) {
		m, err := defaults.model(mech, 1)
		if err != nil {
			t.Errorf("%s: %v", mech, err)
			continue
		}
		if n := nn.Count(m.Params()); math.Abs(float64(n)/float64(defaults.Params)-1) > 0.05 {
			t.Errorf("%s: %d parameters: want %d to within 5%%", mech, n, defaults.Params)
		}
	}
}

// TestNamesAreFree: no mechanism has the name of a model before it.
func TestNamesAreFree(t *testing.T) {
	for _, name := range append([]string{"ngram"}, rnn.Cells...) {
		if slices.Contains(attn.Names(), name) {
			t.Errorf("a mechanism is named %s, as a model is", name)
		}
	}
}

func TestErrors(t *testing.T) {
	dir := data(t)
	for _, c := range []struct {
		spec, mech, data string
		steps            int
		want             string
	}{
		{"prose:params=0", "full", dir, 10, "option params=0"},
		{"prose:params=9223372036854775807", "full", dir, 10, "want an integer from 1 to 4294967296"},
		{"prose:layers=9223372036854775807", "full", dir, 10, "want an integer from 1 to 1024"},
		{"prose:length=1", "full", dir, 10, "option length=1"},
		{"prose:rate=0", "full", dir, 10, "option rate=0"},
		{"prose", "full", "", 10, "no data folder"},
		{"prose", "full", t.TempDir(), 10, "data set books"},
		{"prose:length=32", "full", dir, 15, "15 steps: want a multiple of 10"},
		{"prose:length=32", "jordan", dir, 10, "or one of the models ngram, elman, gru, lstm"},
		{"prose:length=32", "ngram:order=7", dir, 10, "option order=7: want 1 to 6"},
		{"prose:length=32", "ngram:n=7", dir, 10, `unknown option "n"`},
		{"prose:length=32,params=20000", "full", dir, 10, "without its MLPs: want fewer than 20000"},
		{"prose:length=32,params=200", "lstm", dir, 10, "parameters: want 200 to within 0.05"},
	} {
		s, err := system.New(c.spec)
		if err == nil {
			_, err = s.Fit(context.Background(), system.Fit{Data: c.data, Mech: c.mech, Steps: c.steps})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: error %v: want %q in it", c.spec, c.mech, err, c.want)
		}
	}
}

// TestSpread: pieces of the whole text, together as long as asked for.
func TestSpread(t *testing.T) {
	text := make([]byte, 1000)
	for i := range text {
		text[i] = byte(i)
	}
	for _, total := range []int{1, 63, 64, 65, 500, 999, 1000, 5000} {
		n := 0
		for _, d := range spread(text, total) {
			n += len(d)
		}
		if n != min(total, len(text)) {
			t.Errorf("%d bytes asked for: got %d", total, n)
		}
	}
}
