package harness

import (
	"context"
	"math"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/results"
)

func approximation(t *testing.T, mechs ...string) *Approximation {
	m, _, err := LoadLM("../model/public/testdata/stories260k", "")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := ReadTokens("../model/public/testdata/stories260k/sample512.tsv")
	if err != nil {
		t.Fatal(err)
	}
	return &Approximation{
		Mechs: mechs, Budgets: []int{2, 8, 64}, Lengths: []int{48}, Case: Case{Heads: 4, KVHeads: 2, Dim: 8, Causal: true}, Samples: 2, Seed: 5,
		Model: m, From: "stories260k", Tokens: tokens,
	}
}

func fidelityOf(t *testing.T, a *Approximation) []Row {
	t.Helper()
	jobs, err := a.Jobs()
	if err != nil {
		t.Fatal(err)
	}
	var store Memory
	o, err := Sweep(context.Background(), jobs, &store, nil)
	if err != nil || len(o.Failed)+len(o.Skipped) > 0 {
		t.Fatal(err, o.Failed, o.Skipped)
	}
	set := new(results.Set)
	if err := set.Add(store.Records...); err != nil {
		t.Fatal(err)
	}
	rows, err := a.Rows(set, "full")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// More budget is less error, on both kinds of input, down to that of float32 when nothing is left out.
func TestApproximation(t *testing.T) {
	rows := fidelityOf(t, approximation(t, "sliding", "linear"))
	if len(rows) != 8 {
		t.Fatalf("%d rows: want 4 of each source", len(rows))
	}
	for i, r := range rows {
		if r.From != []string{"gaussian", "stories260k"}[i/4] || len(r.Error.Values) != 2 {
			t.Errorf("row %d: from %s, %d samples", i, r.From, len(r.Error.Values))
		}
		switch {
		case r.Name == "linear":
			if r.Option != "" || r.Error.Median < 0.1 {
				t.Errorf("linear: %+v", r)
			}
		case i%4 > 0 && !(r.Error.High < rows[i-1].Error.Low):
			t.Errorf("window %d: error %v: want less than that of the window before, %v", r.Value, r.Error, rows[i-1].Error)
		case r.Value == 64 && (r.Error.Median > 1e-5 || r.FLOPs != 1 || r.State != 1):
			t.Errorf("a window of all: error %v, shares %v and %v", r.Error, r.FLOPs, r.State)
		case r.Value == 8 && math.Abs(r.State-8.0/48) > 1e-9:
			t.Errorf("window 8 of 48: state %v of full", r.State)
		}
	}
}

// What is taken from the model is what its own attention saw: full attention of it is the layer's output.
func TestLayersOfModel(t *testing.T) {
	a := approximation(t, "sliding")
	if _, err := a.Jobs(); err != nil {
		t.Fatal(err)
	}
	first, err := a.layers(48, 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.layers(48, a.start(48, 1))
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 5 || first[0].Q.Data[100] == second[0].Q.Data[100] {
		t.Errorf("%d layers: want 5, and other numbers from another part of the text", len(first))
	}
	for i, c := range first {
		if e, ok := fullErr(c, 0); !ok || e > 1e-5 {
			t.Errorf("layer %d: error %v of its own output, %v", i, e, ok)
		}
	}
}

// evicting is full attention in one pass, and a window while it decodes.
type evicting struct {
	attn.Incremental
	full attn.Mechanism
	d    attn.DecodeEquality
}

func (e evicting) Info() attn.Info {
	i := e.Incremental.Info()
	i.Inference, i.Decode = true, e.d
	return i
}
func (e evicting) Forward(ws *attn.Workspace, c *attn.Call) error { return e.full.Forward(ws, c) }

func TestApproximationByDecoding(t *testing.T) {
	window, _ := attn.New("sliding:window=4")
	full, _ := attn.New("full")
	info := window.Info()
	s := Case{Mech: "full", N: 40, Heads: 2, Dim: 8, Causal: true}.Shape()
	errorOf := func(d attn.DecodeEquality) float64 {
		c := newCall(&info, s, 3)
		e, err := approximationError(evicting{window.(attn.Incremental), full, d}, c)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := errorOf(attn.DecodeSameSplit); e < 0.1 {
		t.Errorf("error %v: want that of what decodes", e)
	}
	if e := errorOf(attn.DecodeAlways); e > 1e-5 {
		t.Errorf("error %v: want that of one pass", e)
	}
	// The decoded half is the window's own output.
	c, w := newCall(&info, s, 3), newCall(&info, s, 3)
	if err := decodeAll(attn.NewWorkspace(), evicting{window.(attn.Incremental), full, attn.DecodeNever}, &info, c, 20); err != nil {
		t.Fatal(err)
	}
	if err := window.Forward(attn.NewWorkspace(), w); err != nil {
		t.Fatal(err)
	}
	for i, x := range w.Out.Data {
		if d := math.Abs(float64(x - c.Out.Data[i])); d > 1e-5 {
			t.Fatalf("output %d: %v by decoding, %v in one pass", i, c.Out.Data[i], x)
		}
	}
}

func TestApproximationErrors(t *testing.T) {
	for _, x := range []struct {
		change func(a *Approximation)
		want   string
	}{
		{func(a *Approximation) { a.Mechs = []string{"full"} }, "full: it approximates nothing"},
		{func(a *Approximation) { a.Mechs = []string{"slidin"} }, "unknown mechanism"},
		{func(a *Approximation) { a.Samples = 0 }, "samples=0"},
		{func(a *Approximation) { a.Budgets = []int{-1} }, "option window=0"},
		{func(a *Approximation) { a.Budgets = nil }, "no budgets: want values of its option window"},
		{func(a *Approximation) { a.Lengths = []int{0} }, "length 0: want at least 1"},
		{func(a *Approximation) { a.Lengths = []int{513} }, "at most the model's context of 512"},
		{func(a *Approximation) { a.Tokens = a.Tokens[:40] }, "at most the text's 40 tokens"},
	} {
		a := approximation(t, "sliding")
		x.change(a)
		if _, err := a.Jobs(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("error %v: want %s", err, x.want)
		}
	}
	a := approximation(t, "sliding")
	a.Model, a.Lengths = nil, []int{0}
	if _, err := a.Jobs(); err == nil {
		t.Error("no model, length 0: no error")
	}
	a.Lengths, a.Budgets = []int{600}, []int{3, 3, -5}
	if jobs, err := a.Jobs(); err != nil || len(jobs) != 2 {
		t.Errorf("%d jobs, %v: want two samples of one budget", len(jobs), err)
	}
}

// A mechanism of narrower queries than the model's has Gaussian figures alone: its cells of the model are skipped, by name.
func TestApproximationOfOtherWidth(t *testing.T) {
	a := approximation(t, "based")
	a.Budgets = []int{16}
	jobs, err := a.Jobs()
	if err != nil {
		t.Fatal(err)
	}
	var store Memory
	o, err := Sweep(context.Background(), jobs, &store, nil)
	if err != nil || len(o.Failed) > 0 || len(o.Skipped) != 2 || len(store.Records) != 2 {
		t.Fatalf("%v, failed %v, skipped %v, %d records: want two of Gaussian inputs and two skipped", err, o.Failed, o.Skipped, len(store.Records))
	}
	if !strings.Contains(o.Skipped[0].Err.Error(), "based: input q has 8 heads of 16: want the model's 8 of 8") {
		t.Error(o.Skipped[0].Err)
	}
}
