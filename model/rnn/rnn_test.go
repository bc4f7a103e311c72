package rnn

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

func build(t *testing.T, c Config) *LM {
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tiny(cell string) Config { return Config{Cell: cell, Vocab: 11, Dim: 12, Layers: 2, Seed: 5} }

func batch(rows, length int) (tokens, labels []int32) {
	r := rand.New(rand.NewPCG(3, 9))
	for range rows * length {
		tokens, labels = append(tokens, int32(r.IntN(11))), append(labels, int32(r.IntN(14)-3))
		labels[len(labels)-1] = max(-1, labels[len(labels)-1])
	}
	return tokens, labels
}

func loss(t *testing.T, m *LM, tape *autograd.Tape, tokens, labels []int32, rows int) autograd.Var {
	tape.Reset()
	l, err := m.Loss(tape, tokens, labels, rows, len(tokens)/rows)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// gradient returns the gradients of all parameters, cleared afterwards.
func gradient(t *testing.T, m *LM, tape *autograd.Tape, tokens, labels []int32, rows int) [][]float32 {
	if err := tape.Backward(loss(t, m, tape, tokens, labels, rows)); err != nil {
		t.Fatal(err)
	}
	var all [][]float32
	for _, p := range m.Params() {
		all = append(all, slices.Clone(p.Grad))
		clear(p.Grad)
	}
	return all
}

// TestDirectionalGradients holds the gradient of a whole model against differences of its loss.
func TestDirectionalGradients(t *testing.T) {
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(3, 9)
	for _, cell := range Cells {
		m := build(t, tiny(cell))
		grads := gradient(t, m, tape, tokens, labels, 3)
		r := rand.New(rand.NewPCG(1, 1))
		for i, p := range m.Params() {
			dir, want := make([]float32, len(p.Data)), 0.0
			for j := range dir {
				dir[j] = float32(r.NormFloat64())
				want += float64(dir[j]) * float64(grads[i][j])
			}
			old, h := slices.Clone(p.Data), 3e-2/math.Sqrt(float64(len(dir)))
			var side [2]float64
			for k, sign := range []float64{1, -1} {
				for j := range dir {
					p.Data[j] = old[j] + float32(sign*h)*dir[j]
				}
				side[k] = float64(tape.Scalar(loss(t, m, tape, tokens, labels, 3)))
			}
			copy(p.Data, old)
			if got := (side[0] - side[1]) / (2 * h); math.Abs(got-want) > 1e-3+0.01*math.Abs(want) {
				t.Errorf("%s: slope along a direction of %s is %v: want %v", cell, p.Name, want, got)
			}
		}
	}
}

// TestCut: truncated back-propagation changes no loss, and no gradient when nothing is cut.
func TestCut(t *testing.T) {
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(3, 9)
	for _, cell := range Cells {
		c := tiny(cell)
		whole := build(t, c)
		c.Cut = 4
		cut := build(t, c)
		c.Cut = 9
		same := build(t, c)
		want := gradient(t, whole, tape, tokens, labels, 3)
		a, b := tape.Scalar(loss(t, whole, tape, tokens, labels, 3)), tape.Scalar(loss(t, cut, tape, tokens, labels, 3))
		if a != b {
			t.Errorf("%s: loss %v when cut: want %v", cell, b, a)
		}
		for i, g := range gradient(t, same, tape, tokens, labels, 3) {
			if !slices.Equal(g, want[i]) {
				t.Errorf("%s: gradient of %s differs though nothing is cut", cell, whole.params[i].Name)
			}
		}
		if g := gradient(t, cut, tape, tokens, labels, 3); slices.Equal(g[1], want[1]) {
			t.Errorf("%s: a cut changes no gradient", cell)
		}
	}
}

// TestWatchInputs: the gradients of the embedded tokens are what the embedding gets through its rows.
func TestWatchInputs(t *testing.T) {
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(3, 9)
	m := build(t, tiny("lstm"))
	want := gradient(t, m, tape, tokens, labels, 3)[0]
	grad := make([]float32, len(tokens)*12)
	m.WatchInputs(grad)
	got := gradient(t, m, tape, tokens, labels, 3)[0]
	m.WatchInputs(nil)
	for i, token := range tokens {
		for j := range 12 {
			got[int(token)*12+j] += grad[i*12+j]
		}
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 1e-6 {
			t.Fatalf("gradient %d of the embedding is %v through its rows: want %v", i, got[i], want[i])
		}
	}
}

// TestExtend: a prompt, uneven pieces and single tokens give the same bits, which are those of one pass.
func TestExtend(t *testing.T) {
	tape := autograd.NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	const rows, length = 2, 9
	tokens, _ := batch(rows, length)
	for _, cell := range Cells {
		m := build(t, tiny(cell))
		var want []float32
		for _, pieces := range [][]int{{9}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {2, 3, 4}, {8, 1}} {
			s, err := m.NewState(rows)
			if err != nil {
				t.Fatal(err)
			}
			bytes := s.Bytes()
			var logits []float32
			at := 0
			for _, n := range pieces {
				var part []int32
				for r := range rows {
					part = append(part, tokens[r*length+at:r*length+at+n]...)
				}
				if logits, err = m.Extend(tape, s, part, n); err != nil {
					t.Fatal(err)
				}
				at += n
			}
			if want == nil {
				want = slices.Clone(logits)
			}
			if !slices.Equal(logits, want) || s.Bytes() != bytes || bytes == 0 {
				t.Errorf("%s: pieces %v give other logits, or a state of %d bytes: want %d", cell, pieces, s.Bytes(), bytes)
			}
		}
		labels := make([]int32, rows*length)
		for i := range labels {
			labels[i] = -1
		}
		labels[length-1], labels[2*length-1] = 3, 4
		nats, best := make([]float32, rows*length), make([]int32, rows*length)
		if err := m.LossPerToken(tape, tokens, labels, rows, length, nats, best); err != nil {
			t.Fatal(err)
		}
		for r := range rows {
			x, at := want[r*11:(r+1)*11], (r+1)*length-1
			sum := 0.0
			for _, v := range x {
				sum += math.Exp(float64(v))
			}
			if got := math.Log(sum) - float64(x[labels[at]]); math.Abs(got-float64(nats[at])) > 1e-5 || x[best[at]] != slices.Max(x) {
				t.Errorf("%s: row %d loses %v by its logits, %v by LossPerToken", cell, r, got, nats[at])
			}
			if !math.IsNaN(float64(nats[at-1])) || best[at-1] != -1 {
				t.Errorf("%s: position without a label has %v, %d", cell, nats[at-1], best[at-1])
			}
		}
	}
}

func TestDim(t *testing.T) {
	for _, cell := range Cells {
		for _, params := range []int{1000, 50000, 400000} {
			c := Config{Cell: cell, Vocab: 256, Layers: 2}
			c.Dim = Dim(c, params)
			n := nn.Count(build(t, c).Params())
			for _, d := range []int{c.Dim - 1, c.Dim + 1} {
				if c.Dim = d; d < 1 {
					continue
				}
				if other := nn.Count(build(t, c).Params()); max(other-params, params-other) < max(n-params, params-n) {
					t.Errorf("%s: %d parameters: a width of %d comes closer to %d", cell, n, d, params)
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	tape := autograd.NewTape(attn.NewWorkspace())
	m := build(t, tiny("gru"))
	second := func(_ any, err error) error { return err }
	s, _ := m.NewState(1)
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(New(Config{Cell: "jordan", Vocab: 1, Dim: 1, Layers: 1})), `cell "jordan": want one of elman, gru, lstm`},
		{second(New(Config{Cell: "gru", Vocab: 1, Layers: 1})), "dim is 0: want at least 1"},
		{second(New(Config{Cell: "gru", Vocab: 1, Dim: 1, Layers: 1, Cut: -1})), "cut is -1"},
		{second(m.Loss(tape, []int32{11}, []int32{1}, 1, 1)), "token 0 is 11: want 0 to 10"},
		{second(m.Loss(tape, []int32{1}, []int32{11}, 1, 1)), "label 0 is 11"},
		{second(m.Loss(tape, []int32{1}, nil, 1, 1)), "0 labels for 1 tokens"},
		{second(m.Loss(tape, []int32{1}, []int32{1}, 1, 2)), "1 tokens: want 1 rows of 2"},
		{m.LossPerToken(tape, []int32{1}, []int32{1}, 1, 1, nil, nil), "results for 0 positions"},
		{second(m.NewState(0)), "state of 0 sequences"},
		{second(m.Extend(tape, s, []int32{1}, 1)), "a tape without gradients"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v: want %q in it", c.err, c.want)
		}
	}
}
