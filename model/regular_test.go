package model

import (
	"math"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

// gradients returns the loss, all gradients and the most bytes of a step of training.
func gradients(t *testing.T, c Config, step uint64, passes int) (float32, []float32, int64) {
	t.Helper()
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(c, 3, 40)
	m.SetStep(step)
	var loss float32
	for range passes {
		tape.Reset()
		l, err := m.Loss(tape, tokens, labels, 3, 40)
		if err != nil {
			t.Fatal(err)
		}
		loss = tape.Scalar(l)
		if err := tape.Backward(l); err != nil {
			t.Fatal(err)
		}
	}
	var all []float32
	for _, p := range m.Params() {
		all = append(all, p.Grad...)
	}
	return loss, all, tape.Peak()
}

// regular are configurations whose training draws, in all ways.
func regular() []Config {
	var all []Config
	for _, a := range []string{"full", "gla", "sigmoid|sliding:window=4"} {
		c := tiny(a)
		c.Layers = 4
		all = append(all, c)
		c.Dropout = 0.2
		all = append(all, c)
		c.Skip = 0.5
		all = append(all, c)
	}
	return all
}

func TestRecomputeSameBits(t *testing.T) {
	for _, c := range regular() {
		for step := range uint64(4) {
			loss, want, bytes := gradients(t, c, step, 1)
			c.Recompute = true
			again, got, fewer := gradients(t, c, step, 1)
			c.Recompute = false
			if loss != again {
				t.Errorf("%s, dropout %v: loss %v: want %v", name(c), c.Dropout, again, loss)
			}
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s, dropout %v, skip %v, step %d: gradient %d is %v: want %v", name(c), c.Dropout, c.Skip, step, i, got[i], want[i])
				}
			}
			if c.Skip == 0 && fewer > bytes*3/4 {
				t.Errorf("%s: %d bytes: want at most 3/4 of %d", name(c), fewer, bytes)
			}
		}
	}
}

func TestRecomputeRefused(t *testing.T) {
	c := tiny("echo|rich")
	c.Recompute = true
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "recompute with rich") {
		t.Errorf("a layer that reads the first: %v: want an error that names recompute", err)
	}
}

// TestDraws: a step's draws are its own, a micro-batch's too; they are the same when the step is repeated.
func TestDraws(t *testing.T) {
	for _, c := range regular() {
		if c.Dropout == 0 {
			continue
		}
		loss, _, _ := gradients(t, c, 5, 1)
		if again, _, _ := gradients(t, c, 5, 1); again != loss {
			t.Errorf("%s: the same step again: loss %v: want %v", name(c), again, loss)
		}
		if other, _, _ := gradients(t, c, 6, 1); other == loss {
			t.Errorf("%s: the next step draws the same", name(c))
		}
		if second, _, _ := gradients(t, c, 5, 2); second == loss {
			t.Errorf("%s: the next micro-batch draws the same", name(c))
		}
	}
}

// TestSkip: stochastic depth leaves out as many sublayers as it says, gives them no gradient, and nothing outside training.
func TestSkip(t *testing.T) {
	c := tiny("full")
	c.Skip = 0.6
	const steps = 400
	zero := []int{0, 0}
	for step := range uint64(steps) {
		m, _ := New(c)
		m.SetStep(step)
		tape := autograd.NewTape(attn.NewWorkspace())
		tokens, labels := batch(c, 1, 5)
		l, err := m.Loss(tape, tokens, labels, 1, 5)
		if err != nil {
			t.Fatal(err)
		}
		tape.Backward(l)
		for i := range zero {
			at := slices.IndexFunc(m.Params(), func(p *autograd.Param) bool { return p.Name == "layers."+string(rune('0'+i))+".norm1.gain" })
			if !slices.ContainsFunc(m.Params()[at].Grad, func(x float32) bool { return x != 0 }) {
				zero[i]++
			}
		}
	}
	for i, want := range []float64{0.3, 0.6} {
		if got := float64(zero[i]) / steps; math.Abs(got-want) > 0.08 {
			t.Errorf("layer %d is left out in %v of the steps: want %v", i, got, want)
		}
	}
	plain := tiny("full")
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(c, 2, 9)
	var loss [2][]float32
	for i, c := range []Config{c, plain} {
		m, _ := New(c)
		loss[i] = make([]float32, 18)
		if err := m.LossPerToken(tape, tokens, labels, 2, 9, loss[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range loss[0] {
		if math.Float32bits(loss[0][i]) != math.Float32bits(loss[1][i]) {
			t.Fatalf("outside training: loss %v: want %v", loss[0][i], loss[1][i])
		}
	}
}

func TestRegularisersAreChecked(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"dropout 1:": func(c *Config) { c.Dropout = 1 }, "stochastic depth -1:": func(c *Config) { c.Skip = -1 }, "label smoothing NaN:": func(c *Config) { c.Smoothing = math.NaN() },
	} {
		c := tiny("full")
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v: want %q", err, want)
		}
	}
}
