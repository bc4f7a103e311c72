package bert_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/model/bert"
	"attnbench/nn"
	"attnbench/train"
)

func small() bert.Config {
	return bert.Config{Vocab: 40, Dim: 16, Layers: 2, Heads: 2, MLPWidth: 32, Attention: "full", Norm: "pre", Positions: "rope", MaxLen: 64, Seed: 1}
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// mechanisms are those that an encoder can be trained with.
func mechanisms() (list []string) {
	for _, name := range attn.Names() {
		m := must(attn.New(name))
		if _, ok := m.(attn.Differentiable); ok && m.Info().Masks&attn.Bidirectional != 0 && !m.Info().Inference {
			list = append(list, name)
		}
	}
	return list
}

// sequences draws rows of ordinary tokens behind a first token 2.
func sequences(r *rand.Rand, vocab int, lengths ...int) (rows [][]int32) {
	for _, n := range lengths {
		x := []int32{2}
		for len(x) < n {
			x = append(x, int32(5+r.IntN(vocab-5)))
		}
		rows = append(rows, x)
	}
	return rows
}

func labelEach(b *bert.Batch, classes int, r *rand.Rand, where func(row, i int) bool) []int32 {
	labels := make([]int32, len(b.Tokens))
	for i := range labels {
		labels[i] = autograd.Ignored
		if row, at := i/b.Length, i%b.Length; at < b.Lengths[row] && where(row, at) {
			labels[i] = int32(r.IntN(classes))
		}
	}
	return labels
}

// models are one of each kind.
func models(c bert.Config) map[string]*bert.Model {
	return map[string]*bert.Model{
		"masked": must(bert.NewMaskedLM(c)), "tagger": must(bert.NewTagger(c, 5)),
		"first": must(bert.NewClassifier(c, 4, "first")), "mean": must(bert.NewClassifier(c, 4, "mean")),
	}
}

// TestPadding: a batch gives each row what the row gives alone, within 1e-5 of a loss near ln 40, with every mechanism and head; and what
// lies in the padding is not read.
func TestPadding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	lengths := []int{9, 33, 1, 20}
	for _, mech := range append(mechanisms(), "sliding:window=4,sinks=1", "linear|full") {
		for _, norm := range []string{"pre", "post"} {
			c := small()
			c.Attention, c.Norm = mech, norm
			if norm == "post" {
				c.Positions = "learned"
			}
			for kind, m := range models(c) {
				rows := sequences(r, c.Vocab, lengths...)
				b := bert.NewBatch(rows, 0)
				labels := labelEach(b, m.Classes, r, func(_, i int) bool { return i == 0 || kind == "masked" && i%3 == 0 || kind == "tagger" })
				tape := autograd.NewTape(attn.NewWorkspace())
				run := func(b *bert.Batch, labels []int32) []float32 {
					nll, best := make([]float32, len(labels)), make([]int32, len(labels))
					if err := m.Predict(tape, b, labels, nll, best); err != nil {
						t.Fatalf("%s: %v", mech, err)
					}
					return nll
				}
				all := run(b, labels)
				for row, n := range lengths {
					alone := run(&bert.Batch{Rows: 1, Length: n, Tokens: rows[row]}, labels[row*b.Length:][:n])
					for i, l := range labels[row*b.Length:][:n] {
						if got := all[row*b.Length+i]; l >= 0 && !(math.Abs(float64(got-alone[i])) < 1e-5) {
							t.Errorf("%s, %s, %s: row %d, token %d: loss %v in a batch: want %v", mech, norm, kind, row, i, got, alone[i])
						}
					}
				}
				for i := range b.Tokens {
					if i%b.Length >= lengths[i/b.Length] {
						b.Tokens[i] = 7
					}
				}
				for i, x := range run(b, labels) {
					if labels[i] >= 0 && x != all[i] {
						t.Fatalf("%s, %s: token %d: loss %v with other padding: want %v", mech, kind, i, x, all[i])
					}
				}
			}
		}
	}
}

// TestBothDirections: every token's vector depends on every other token.
func TestBothDirections(t *testing.T) {
	m := must(bert.NewMaskedLM(small()))
	tape := autograd.NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	hidden := func(change int) []float32 {
		rows := sequences(rand.New(rand.NewPCG(2, 2)), 40, 12)
		if change >= 0 {
			rows[0][change] = 3
		}
		tape.Reset()
		return slices.Clone(tape.Value(must(m.Hidden(tape, bert.NewBatch(rows, 0), 0))))
	}
	want := hidden(-1)
	for j := range 12 {
		got := hidden(j)
		for i := range 12 {
			if slices.Equal(got[i*16:(i+1)*16], want[i*16:(i+1)*16]) {
				t.Errorf("token %d does not see token %d", i, j)
			}
		}
	}
}

// TestGradients: the loss falls along its gradient as the gradient says, for every head, norm and kind of position.
func TestGradients(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, positions := range []string{"none", "rope", "learned"} {
		for _, norm := range []string{"pre", "post"} {
			c := small()
			c.Positions, c.Norm, c.Dropout = positions, norm, 0.1
			for kind, m := range models(c) {
				b := bert.NewBatch(sequences(r, c.Vocab, 7, 12), 0)
				labels := labelEach(b, m.Classes, r, func(_, i int) bool { return i == 0 || kind == "masked" || kind == "tagger" })
				tape := autograd.NewTape(attn.NewWorkspace())
				loss := func() float64 {
					tape.Reset()
					return float64(tape.Scalar(must(m.Loss(tape, b, labels, 9))))
				}
				tape.Reset()
				if err := tape.Backward(must(m.Loss(tape, b, labels, 9))); err != nil {
					t.Fatal(err)
				}
				norm2, missing := 0.0, ""
				for _, p := range m.Params() {
					n := 0.0
					for _, g := range p.Grad {
						n += float64(g) * float64(g)
					}
					if norm2 += n; n == 0 {
						missing = p.Name
					}
				}
				if missing != "" {
					t.Errorf("%s, %s, %s: no gradient reaches %s", positions, norm, kind, missing)
				}
				const step = 2e-3
				move := func(by float64) {
					for _, p := range m.Params() {
						for i, g := range p.Grad {
							p.Data[i] += float32(by * float64(g) / math.Sqrt(norm2))
						}
					}
				}
				move(step)
				up := loss()
				move(-2 * step)
				down := loss()
				if got, want := (up-down)/(2*step), math.Sqrt(norm2); !(math.Abs(got/want-1) < 0.02) {
					t.Errorf("%s, %s, %s: slope %v: want %v", positions, norm, kind, got, want)
				}
			}
		}
	}
}

// TestOverfit: a tiny model learns to fill in, to label and to classify a handful of sequences by heart.
func TestOverfit(t *testing.T) {
	for _, mech := range []string{"full", "sliding:window=4", "linear"} {
		c := small()
		c.Attention = mech
		for kind, m := range models(c) {
			r := rand.New(rand.NewPCG(4, 4))
			rows := sequences(r, c.Vocab, 10, 12, 7, 12, 9, 8)
			b := bert.NewBatch(rows, 0)
			labels := labelEach(b, m.Classes, r, func(_, i int) bool { return i == 0 && kind != "masked" || kind == "tagger" })
			if kind == "masked" {
				mask := must(bert.NewMasking(c.Vocab, []int32{0, 1, 2, 3}, 4, 0.15))
				mask.Apply(b.Tokens, labels, r)
			}
			tape, opt := autograd.NewTape(attn.NewWorkspace()), must(train.NewAdamW(m.Params()))
			for step := range 120 {
				tape.Reset()
				if err := tape.Backward(must(m.Loss(tape, b, labels, uint64(step)))); err != nil {
					t.Fatal(err)
				}
				opt.Step(tape.Workspace(), 0.01, 1)
			}
			nll, best := make([]float32, len(labels)), make([]int32, len(labels))
			if err := m.Predict(tape, b, labels, nll, best); err != nil {
				t.Fatal(err)
			}
			for i, l := range labels {
				if l >= 0 && (best[i] != l || nll[i] > 0.1) {
					t.Errorf("%s, %s: token %d: %d with loss %v: want %d", mech, kind, i, best[i], nll[i], l)
				}
			}
		}
	}
}

// TestSameBits: loss and gradients, dropout included, on any number of cores and a second time; another seed drops others.
func TestSameBits(t *testing.T) {
	c := small()
	c.Dropout = 0.3
	r := rand.New(rand.NewPCG(5, 5))
	b := bert.NewBatch(sequences(r, c.Vocab, 40, 33, 64), 0)
	labels := labelEach(b, c.Vocab, r, func(_, i int) bool { return i%4 == 0 })
	run := func(procs int, seed uint64) []float32 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		m := must(bert.NewMaskedLM(c))
		tape := autograd.NewTape(attn.NewWorkspace())
		l := must(m.Loss(tape, b, labels, seed))
		out := []float32{tape.Scalar(l)}
		if err := tape.Backward(l); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params() {
			out = append(out, p.Grad...)
		}
		return out
	}
	want := run(1, 1)
	for _, procs := range []int{1, 2, 7} {
		if !slices.Equal(run(procs, 1), want) {
			t.Errorf("%d cores: other bits", procs)
		}
	}
	if run(1, 2)[0] == want[0] {
		t.Error("another seed gives the same loss")
	}
}

// TestNoLabels: a batch with nothing to predict has the loss 0 and no gradient.
func TestNoLabels(t *testing.T) {
	for kind, m := range models(small()) {
		b := bert.NewBatch([][]int32{{2, 3}, {2}}, 0)
		tape := autograd.NewTape(attn.NewWorkspace())
		l := must(m.Loss(tape, b, []int32{-1, -1, -1, -1}, 0))
		if x := tape.Scalar(l); x != 0 {
			t.Errorf("%s: loss %v: want 0", kind, x)
		}
		if err := tape.Backward(l); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params() {
			if i := slices.IndexFunc(p.Grad, func(g float32) bool { return g != 0 }); i >= 0 {
				t.Fatalf("%s: gradient of %s is %v", kind, p.Name, p.Grad[i])
			}
		}
	}
}

// TestParams: the encoders of models with different heads start equal, and a head's parameters come behind.
func TestParams(t *testing.T) {
	ms := models(small())
	want := ms["masked"].EncoderParams()
	for kind, m := range ms {
		for i, p := range m.EncoderParams() {
			if p.Name != want[i].Name || !slices.Equal(p.Data, want[i].Data) {
				t.Errorf("%s: %s differs from %s", kind, p.Name, want[i].Name)
			}
		}
		if len(m.EncoderParams()) != len(want) || len(m.Params()) <= len(want) {
			t.Errorf("%s: %d parameters of the encoder of %d", kind, len(m.EncoderParams()), len(m.Params()))
		}
	}
	// dim 16, 2 layers: embedding 40·16, a layer 4·16² + 2·16·32 + 32 + 16 + 4·16, norm 2·16, tagger 16·5 + 5
	if got, want := nn.Count(ms["tagger"].Params()), 640+2*(1024+1024+48+64)+32+85; got != want {
		t.Errorf("%d parameters: want %d", got, want)
	}
	// 2·(1024+1024)·2 layers a token, and 4·length²·16 a layer of attention
	if got, want := ms["tagger"].FLOPs(10), int64(2*(2*2048*10+4*100*16)); got != want {
		t.Errorf("%d FLOPs: want %d", got, want)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(c *bert.Config)
		want   string
	}{
		{func(c *bert.Config) { c.Vocab = 0 }, "vocab is 0: want at least 1"},
		{func(c *bert.Config) { c.Heads = 3 }, "dim 16 over 3 heads"},
		{func(c *bert.Config) { c.Norm = "none" }, `norm "none": want pre or post`},
		{func(c *bert.Config) { c.Positions = "alibi" }, "want none, rope or learned"},
		{func(c *bert.Config) { c.Dropout = 1 }, "dropout 1: want 0 to below 1"},
		{func(c *bert.Config) { c.Attention = "gla" }, "mask is bidirectional: want causal"},
		{func(c *bert.Config) { c.Attention = "fulll" }, `unknown mechanism "fulll"`},
	} {
		x := small()
		c.change(&x)
		if _, err := bert.NewTagger(x, 3); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
	if _, err := bert.NewClassifier(small(), 3, "max"); err == nil || !strings.Contains(err.Error(), `pool "max": want first or mean`) {
		t.Errorf("error %v", err)
	}
	if _, err := bert.NewTagger(small(), 0); err == nil || !strings.Contains(err.Error(), "0 classes") {
		t.Errorf("error %v", err)
	}
	learned := small()
	learned.Positions, learned.MaxLen = "learned", 4
	m, l := must(bert.NewTagger(small(), 3)), must(bert.NewTagger(learned, 3))
	b := func(lengths []int, tokens ...int32) *bert.Batch {
		return &bert.Batch{Rows: 1, Length: len(tokens), Tokens: tokens, Lengths: lengths}
	}
	for _, c := range []struct {
		m      *bert.Model
		b      *bert.Batch
		labels []int32
		want   string
	}{
		{m, b([]int{2}, 2, 40), []int32{-1, -1}, "token 1 is 40: want 0 to 39"},
		{m, b([]int{3}, 2, 9), []int32{-1, -1}, "length of row 0 is 3: want 0 to 2"},
		{m, b([]int{1}, 2, 9), []int32{-1, 0}, "label 1 is 0 in the padding"},
		{m, b(nil, 2, 9), []int32{-1, 3}, "label 1 is 3: want -1 to 2"},
		{m, b(nil, 2, 9), []int32{-1}, "1 labels for 2 tokens"},
		{m, &bert.Batch{Rows: 2, Length: 2, Tokens: []int32{1}}, []int32{-1}, "batch of 2 rows of 2: 1 tokens"},
		{l, b(nil, 2, 9, 9, 9, 9), []int32{0, 0, 0, 0, 0}, "position 4 under learned positions"},
	} {
		if _, err := c.m.Loss(autograd.NewTape(attn.NewWorkspace()), c.b, c.labels, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
	for _, c := range []struct {
		special []int32
		mask    int32
		share   float64
		want    string
	}{{nil, 4, 0, "share of masked tokens 0"}, {nil, 9, 0.1, "special token 9"}, {[]int32{0, 1, 2}, 3, 0.1, "special tokens alone"}} {
		if _, err := bert.NewMasking(4, c.special, c.mask, c.share); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	if err := m.Predict(tape, b(nil, 2, 9), []int32{0, 0}, make([]float32, 1), make([]int32, 2)); err == nil || !strings.Contains(err.Error(), "results for 1 and 2 tokens: want 2") {
		t.Errorf("error %v", err)
	}
}

func ExampleNewMaskedLM() {
	m, err := bert.NewMaskedLM(bert.Config{
		Vocab: 1000, Dim: 64, Layers: 2, Heads: 4, MLPWidth: 256, Attention: "sliding:window=32", Norm: "pre", Positions: "rope", MaxLen: 512,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(nn.Count(m.Params()), "parameters")
	// Output: 168872 parameters
}
