package model

import (
	"errors"
	"math"
	"slices"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

func narrow(t *testing.T, mech string) *LM {
	t.Helper()
	c := tiny(mech)
	c.Bottleneck, c.MaxLen = true, 8
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBottleneckSeesTheLastTokenAlone: with a window of one token, what the answers are made of says nothing of the others.
func TestBottleneckSeesTheLastTokenAlone(t *testing.T) {
	tokens := []int32{1, 2, 3, 4, 5, 6, 4, 3, 2, 1}
	labels := []int32{1, -1, 3, 4, 5, 6, 4, -1, -1, 1}
	nats := func(mech string, tokens []int32) []float32 {
		out := make([]float32, len(tokens))
		if err := narrow(t, mech).LossPerToken(autograd.NewTape(attn.NewWorkspace()), tokens, labels, 2, 5, out, nil); err != nil {
			t.Fatal(err)
		}
		return out
	}
	same := func(a, b []float32) bool {
		return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
	}
	want := nats("sliding:window=1", tokens)
	for i := range tokens {
		other := slices.Clone(tokens)
		other[i] = 0
		got := nats("sliding:window=1", other)
		for row := range 2 {
			if equal := same(want[5*row:5*row+5], got[5*row:5*row+5]); equal != (i != 5*row+4) {
				t.Errorf("token %d changed: answers of row %d the same: %v", i, row, equal)
			}
		}
		if got := nats("full", other); same(got, nats("full", tokens)) {
			t.Errorf("token %d changed: the answers of full attention are the same", i)
		}
	}
	// Two answers of one label differ by their positions.
	if want[0] == want[9] || want[3] == want[6] {
		t.Errorf("losses %v: want answers that know their position", want)
	}
}

func TestBottleneckGradient(t *testing.T) {
	m := narrow(t, "full")
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := []int32{1, 2, 3, 4, 5, 6}, []int32{1, 2, -1, 4, -1, 6}
	loss := func() float64 {
		tape.Reset()
		l, err := m.Loss(tape, tokens, labels, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		return float64(tape.Scalar(l))
	}
	tape.Reset()
	l, err := m.Loss(tape, tokens, labels, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := tape.Backward(l); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		// Along the gradient the loss changes by its squared norm.
		norm := 0.0
		grad := slices.Clone(p.Grad)
		for _, g := range grad {
			norm += float64(g) * float64(g)
		}
		if norm == 0 {
			t.Errorf("%s has no gradient", p.Name)
			continue
		}
		h := 1e-3 / math.Sqrt(norm)
		old := slices.Clone(p.Data)
		move := func(h float64) float64 {
			for i := range p.Data {
				p.Data[i] = old[i] + float32(h*float64(grad[i]))
			}
			return loss()
		}
		got := (move(h) - move(-h)) / (2 * h)
		copy(p.Data, old)
		if math.Abs(got-norm) > 0.02*norm+2e-3*math.Sqrt(norm) {
			t.Errorf("%s: slope %v along a gradient of squared norm %v", p.Name, got, norm)
		}
	}
}

func TestBottleneckRefuses(t *testing.T) {
	m := narrow(t, "full")
	if _, err := m.NewState(1); !errors.Is(err, errBottleneck) {
		t.Errorf("error %v: want %v", err, errBottleneck)
	}
	list := make([]int32, 9)
	if _, err := m.Loss(autograd.NewTape(attn.NewWorkspace()), list, list, 1, 9); err == nil {
		t.Error("a row of 9 tokens at max length 8 is taken")
	}
}

// TestSinusoids: by hand, of width 4: frequencies 1 and 1/10000.
func TestSinusoids(t *testing.T) {
	got := sinusoids(3, 4)[8:]
	for i, want := range []float64{math.Sin(2), math.Sin(2e-4), math.Cos(2), math.Cos(2e-4)} {
		if math.Abs(float64(got[i])-want) > 1e-7 {
			t.Errorf("position 2: %v at %d: want %v", got[i], i, want)
		}
	}
}
