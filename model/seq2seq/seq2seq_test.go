package seq2seq_test

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
	"attnbench/model/seq2seq"
	"attnbench/nn"
)

const words = 17

var special = seq2seq.Special{Pad: 0, Begin: 1, End: 2}

func config() seq2seq.Config {
	return seq2seq.Config{Words: words, Dim: 16, Encoder: 2, Decoder: 2, Heads: 2, MLPWidth: 24, Norm: "pre", Positions: "sinusoidal", Tied: true,
		MaxLen: 64, Seed: 3, EncoderSelf: "full", DecoderSelf: "full", Cross: "full"}
}

// models are all kinds of model: every mechanism in the places that its masks allow, every setting, and the recurrent one.
func models(t testing.TB) map[string]seq2seq.Model {
	t.Helper()
	all := map[string]seq2seq.Model{}
	add := func(name string, change func(c *seq2seq.Config)) {
		c := config()
		change(&c)
		m, err := seq2seq.NewTransformer(c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = m
	}
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			t.Fatal(err)
		}
		info := m.Info()
		if _, ok := m.(attn.Differentiable); !ok || info.Inference {
			continue
		}
		_, decodes := m.(attn.Incremental)
		add(name, func(c *seq2seq.Config) {
			if info.Masks&attn.Bidirectional != 0 {
				c.EncoderSelf = name
			}
			if info.Masks&attn.Causal != 0 && decodes {
				c.DecoderSelf = name
			}
			if info.Masks&attn.Cross != 0 && decodes {
				c.Cross = name
			}
		})
	}
	add("narrow", func(c *seq2seq.Config) {
		c.EncoderSelf, c.DecoderSelf = "sliding:window=2|full", "full|sliding:window=3,sinks=1"
	})
	add("post", func(c *seq2seq.Config) { c.Norm = "post" })
	add("learned", func(c *seq2seq.Config) { c.Positions, c.Tied = "learned", false })
	add("rotary", func(c *seq2seq.Config) { c.Positions, c.Norm = "rotary", "post" })
	m, err := seq2seq.NewLSTM(seq2seq.LSTMConfig{Words: words, Dim: 16, Hidden: 12, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	all["lstm"] = m
	return all
}

func sentences(seed uint64, lengths ...int) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 1))
	var all [][]int32
	for _, n := range lengths {
		var s []int32
		for range n {
			s = append(s, 3+r.Int32N(words-3))
		}
		all = append(all, s)
	}
	return all
}

func newTape() *autograd.Tape { return autograd.NewTape(attn.NewWorkspace()) }

func near(x, y []float32, most float64) error {
	if len(x) != len(y) {
		return fmt.Errorf("%d numbers: want %d", len(x), len(y))
	}
	for i := range x {
		if !(math.Abs(float64(x[i]-y[i])) <= most*(1+math.Abs(float64(y[i])))) {
			return fmt.Errorf("number %d is %v: want %v", i, x[i], y[i])
		}
	}
	return nil
}

// TestNewBatch: who shifts, and where the loss looks: exactly at the target's tokens and its end, also when pad and end are one token.
func TestNewBatch(t *testing.T) {
	for _, s := range []seq2seq.Special{{Pad: 0, Begin: 1, End: 2}, {Pad: 2, Begin: 1, End: 2}} {
		b := seq2seq.NewBatch([][]int32{{7}, {8, 9}}, [][]int32{{5, 6}, {5, 6, 7, 8}}, s)
		if want := []int32{7, s.Pad, 8, 9}; !slices.Equal(b.Source, want) {
			t.Errorf("source %d: want %d", b.Source, want)
		}
		if want := []int32{1, 5, 6, s.Pad, s.Pad, 1, 5, 6, 7, 8}; !slices.Equal(b.Target, want) {
			t.Errorf("target %d: want %d", b.Target, want)
		}
		if want := []int32{5, 6, 2, -1, -1, 5, 6, 7, 8, 2}; !slices.Equal(b.Labels, want) {
			t.Errorf("labels %d: want %d", b.Labels, want)
		}
		if !slices.Equal(b.Sources, []int{1, 2}) || !slices.Equal(b.Targets, []int{3, 5}) {
			t.Errorf("lengths %d and %d", b.Sources, b.Targets)
		}
	}
}

// TestPadding: in a padded batch each row gets what it gets alone, within 1e-5, and the loss is the mean over all labels; what
// the padding holds changes no bit, of a gradient neither.
func TestPadding(t *testing.T) {
	sources, targets := sentences(1, 5, 1, 9, 3), sentences(2, 4, 8, 0, 6)
	for name, m := range models(t) {
		tape := newTape()
		run := func(b *seq2seq.Batch, smoothing float32) (logits []float32, loss float64) {
			tape.Reset()
			v, err := m.Logits(tape, b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			logits = slices.Clone(tape.Value(v))
			tape.Reset()
			l, err := m.Loss(tape, b, smoothing, 1)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			loss = float64(tape.Scalar(l))
			for _, p := range m.Params() {
				clear(p.Grad)
			}
			if err := tape.Backward(l); err != nil {
				t.Fatal(err)
			}
			return logits, loss
		}
		gradients := func() (all []float32) {
			for _, p := range m.Params() {
				all = append(all, p.Grad...)
			}
			return all
		}
		b := seq2seq.NewBatch(sources, targets, special)
		logits, loss := run(b, 0.1)
		grads := gradients()
		other, otherLoss := run(seq2seq.NewBatch(sources, targets, seq2seq.Special{Pad: 9, Begin: 1, End: 2}), 0.1)
		for row := range sources {
			n := b.Targets[row] * words
			if at := row * b.TargetLen * words; !slices.Equal(logits[at:at+n], other[at:at+n]) {
				t.Errorf("%s: row %d depends on what the padding holds", name, row)
			}
		}
		if loss != otherLoss || !slices.Equal(grads, gradients()) {
			t.Errorf("%s: loss or gradients depend on what the padding holds", name)
		}
		total, labels := 0.0, 0
		sum := make([]float32, len(grads))
		for row := range sources {
			one := seq2seq.NewBatch(sources[row:row+1], targets[row:row+1], special)
			alone, l := run(one, 0.1)
			at := row * b.TargetLen * words
			if err := near(logits[at:at+len(alone)], alone, 1e-5); err != nil {
				t.Errorf("%s: row %d: %v", name, row, err)
			}
			n := one.Targets[0]
			total, labels = total+l*float64(n), labels+n
			for i, g := range gradients() {
				sum[i] += g * float32(n)
			}
		}
		if m, err := attn.New(name); err == nil && m.Info().Aux {
			continue // its own loss is a mean over other tokens than the labelled ones
		}
		if want := total / float64(labels); math.Abs(loss-want) > 1e-5 {
			t.Errorf("%s: loss %v: want %v, the mean over all labels", name, loss, want)
		}
		for i := range sum {
			sum[i] /= float32(labels)
		}
		if err := near(grads, sum, 1e-5); err != nil {
			t.Errorf("%s: gradient: %v", name, err)
		}
	}
}

// TestNoFuture: a later target token changes no earlier logits by a bit, and the last source token changes the first logits.
func TestNoFuture(t *testing.T) {
	for name, m := range models(t) {
		tape := newTape()
		logits := func(source, target []int32) []float32 {
			tape.Reset()
			v, err := m.Logits(tape, seq2seq.NewBatch([][]int32{source}, [][]int32{target}, special))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return slices.Clone(tape.Value(v))
		}
		source, target := sentences(1, 6)[0], sentences(2, 7)[0]
		before := logits(source, target)
		later := slices.Clone(target)
		later[4] = 3 + (later[4]-2)%(words-3)
		after := logits(source, later)
		if !slices.Equal(before[:5*words], after[:5*words]) {
			t.Errorf("%s: the future is seen", name)
		}
		if slices.Equal(before[5*words:6*words], after[5*words:6*words]) {
			t.Errorf("%s: the token before is not seen", name)
		}
		source[5] = 3 + (source[5]-2)%(words-3)
		if moved := logits(source, target); slices.Equal(before[:words], moved[:words]) {
			t.Errorf("%s: the last source token is not seen", name)
		}
	}
}

// TestDecodeEqualsForward: token by token from the state, over padded sources and several outputs of each that trade places, the logits are those of full
// computation over what each output then holds, within 2e-5.
func TestDecodeEqualsForward(t *testing.T) {
	sources := sentences(1, 5, 2, 9)
	const width = 2
	for name, m := range models(t) {
		tape, decode := newTape(), newTape()
		tape.NoGrad, decode.NoGrad = true, true
		s, err := m.Start(decode, sources, width)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n := len(sources) * width
		held, last := make([][]int32, n), slices.Repeat([]int32{special.Begin}, n)
		r := rand.New(rand.NewPCG(5, 6))
		var all [][]int32
		for i := range n {
			all = append(all, sources[i/width])
		}
		for step := range 7 {
			got, err := m.Next(decode, s, last)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			tape.Reset()
			b := seq2seq.NewBatch(all, held, special)
			v, err := m.Logits(tape, b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i := range n {
				at := (i*b.TargetLen + step) * words
				if err := near(got[i*words:(i+1)*words], tape.Value(v)[at:at+words], 2e-5); err != nil {
					t.Fatalf("%s: output %d, step %d: %v", name, i, step, err)
				}
			}
			from := []int{1, 0, 2, 2, 4, 5}
			if step%3 == 2 {
				from = []int{0, 0, 3, 2, 5, 5}
			}
			if err := s.Reorder(from); err != nil {
				t.Fatal(err)
			}
			next := make([][]int32, n)
			for i, f := range from {
				last[i] = 3 + r.Int32N(words-3)
				next[i] = append(slices.Clone(held[f]), last[i])
			}
			held = next
		}
		if s.Bytes() <= 0 {
			t.Errorf("%s: a state of %d bytes", name, s.Bytes())
		}
		for _, from := range [][]int{{0}, {2, 0, 2, 2, 4, 5}, {-1, 0, 2, 2, 4, 5}} {
			if err := s.Reorder(from); err == nil {
				t.Errorf("%s: reorder from %d: want an error", name, from)
			}
		}
	}
}

// TestSameBits: loss and gradients, dropout included, at any number of cores and on a second run.
func TestSameBits(t *testing.T) {
	c := config()
	c.Dropout = 0.3
	lc := seq2seq.LSTMConfig{Words: words, Dim: 16, Hidden: 12, Seed: 3, Dropout: 0.3}
	b := seq2seq.NewBatch(sentences(1, 5, 7, 9), sentences(2, 4, 8, 3), special)
	run := func(kind string, seed uint64) (all []float32) {
		var m seq2seq.Model
		var err error
		if kind == "lstm" {
			m, err = seq2seq.NewLSTM(lc)
		} else {
			m, err = seq2seq.NewTransformer(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		tape := newTape()
		l, err := m.Loss(tape, b, 0.1, seed)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tape.Scalar(l))
		if err := tape.Backward(l); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params() {
			all = append(all, p.Grad...)
		}
		return all
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, kind := range []string{"transformer", "lstm"} {
		want := run(kind, 1)
		for _, n := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(n)
			if !slices.Equal(run(kind, 1), want) {
				t.Errorf("%s: other bits at GOMAXPROCS %d", kind, n)
			}
		}
		if slices.Equal(run(kind, 2), want) {
			t.Errorf("%s: another seed drops the same", kind)
		}
	}
}

// TestLSTMCount against the tensors, of sizes that differ.
func TestLSTMCount(t *testing.T) {
	c := seq2seq.LSTMConfig{Words: 11, Dim: 5, Hidden: 7}
	m, err := seq2seq.NewLSTM(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Count(), nn.Count(m.Params()); got != want {
		t.Errorf("%d numbers: want %d", got, want)
	}
}

func TestRefuses(t *testing.T) {
	for _, x := range []struct {
		change func(c *seq2seq.Config)
		want   string
	}{
		{func(c *seq2seq.Config) { c.Words = 0 }, "words is 0: want at least 1"},
		{func(c *seq2seq.Config) { c.Heads = 3 }, "dim 16 over 3 heads"},
		{func(c *seq2seq.Config) { c.Norm = "mid" }, `norm "mid": want pre or post`},
		{func(c *seq2seq.Config) { c.Positions = "alibi" }, `positions "alibi": want sinusoidal, learned or rotary`},
		{func(c *seq2seq.Config) { c.Dropout = 1 }, "dropout 1: want 0 to below 1"},
		{func(c *seq2seq.Config) { c.Cross = "sliding" }, "decoder.0.cross"},
		{func(c *seq2seq.Config) { c.EncoderSelf = "gla" }, "mask is bidirectional: want causal"},
		{func(c *seq2seq.Config) { c.DecoderSelf = "nothing" }, `unknown mechanism "nothing"`},
	} {
		c := config()
		x.change(&c)
		if x.want == "decoder.0.cross" {
			x.want = "mask is cross: want causal+bidirectional"
		}
		if _, err := seq2seq.NewTransformer(c); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("error %v: want %q", err, x.want)
		}
	}
	if _, err := seq2seq.NewLSTM(seq2seq.LSTMConfig{Words: 5, Dim: 4}); err == nil || !strings.Contains(err.Error(), "hidden is 0") {
		t.Errorf("an LSTM without state: %v", err)
	}
	for name, m := range models(t) {
		tape := newTape()
		tape.NoGrad = true
		bad := seq2seq.NewBatch([][]int32{{3}}, [][]int32{{words}}, special)
		if _, err := m.Logits(tape, bad); err == nil || !strings.Contains(err.Error(), "want 0 to 16") {
			t.Errorf("%s: a token too high: %v", name, err)
		}
		for _, sources := range [][][]int32{{}, {{3}, {}}, {{3, -1}}} {
			if _, err := m.Start(tape, sources, 1); err == nil {
				t.Errorf("%s: sources %d: want an error", name, sources)
			}
		}
		s, err := m.Start(tape, [][]int32{{3}}, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Next(tape, s, []int32{1}); err == nil || !strings.Contains(err.Error(), "want one for each of 2 outputs") {
			t.Errorf("%s: too few tokens: %v", name, err)
		}
		if _, err := m.Next(tape, nil, []int32{1, 1}); err == nil {
			t.Errorf("%s: no state: want an error", name)
		}
	}
}
