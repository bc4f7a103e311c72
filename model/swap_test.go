package model

import (
	"math"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

func inference() *autograd.Tape {
	t := autograd.NewTape(attn.NewWorkspace())
	t.NoGrad = true
	return t
}

// TestWith: a mechanism at its limit gives what the exact one gives, one that sees less another result, and the tensors are
// shared; one that learns others is refused.
func TestWith(t *testing.T) {
	for _, c := range variants() {
		if c.Attention != "full" {
			continue
		}
		m, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		tokens, _ := batch(c, 2, 30)
		logits := func(m *LM) []float32 {
			tape := inference()
			v, err := m.Logits(tape, tokens, 2, 30)
			if err != nil {
				t.Fatal(err)
			}
			return tape.Value(v)
		}
		want := logits(m)
		for _, w := range []struct {
			mech string
			same bool
		}{{"sliding:window=30", true}, {"naive", true}, {"sliding:window=4,sinks=1", false}, {"full|sliding:window=4", false}} {
			s, err := m.With(w.mech)
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for i, x := range logits(s) {
				worst = max(worst, math.Abs(float64(x-want[i])))
			}
			if (worst < 1e-5) != w.same {
				t.Errorf("%s: %s: logits differ by %v", name(c), w.mech, worst)
			}
			if &s.Params()[0].Data[0] != &m.Params()[0].Data[0] {
				t.Errorf("%s: %s: the tensors are not shared", name(c), w.mech)
			}
		}
	}
	m, _ := New(tiny("full"))
	for mech, want := range map[string]string{
		"rich":    "model: rich in place of full: tensor layers.0.attention.q.conv.weight: the model has none",
		"bare":    "model: bare in place of full: tensor layers.0.attention.k.weight: nothing takes it",
		"nothing": "unknown mechanism",
	} {
		if mech == "bare" { // as wide as v, which here is as wide as k
			mech = "bare|full"
			want = strings.Replace(want, "bare in", "bare|full in", 1)
		}
		if _, err := m.With(mech); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v: want %q", mech, err, want)
		}
	}
}

// TestGreedy holds greedy decoding against the argmax of whole passes.
func TestGreedy(t *testing.T) {
	c := tiny("full")
	m, _ := New(c)
	prompt, _ := batch(c, 1, 5)
	got, err := m.Greedy(inference(), prompt, 12)
	if err != nil {
		t.Fatal(err)
	}
	tokens := slices.Clone(prompt)
	for range 12 {
		tape := inference()
		v, err := m.Logits(tape, tokens, 1, len(tokens))
		if err != nil {
			t.Fatal(err)
		}
		last := tape.Value(v)[(len(tokens)-1)*c.Vocab:]
		tokens = append(tokens, int32(slices.Index(last, slices.Max(last))))
	}
	if !slices.Equal(got, tokens[5:]) {
		t.Errorf("tokens %v: want %v", got, tokens[5:])
	}
	if _, err := m.Greedy(inference(), nil, 3); err == nil {
		t.Error("no error without a prompt")
	}
	if _, err := m.Greedy(inference(), []int32{99}, 3); err == nil {
		t.Error("no error for a token that the model does not have")
	}
}

// TestEndPrompt: the mechanisms hear of the end of the prompt, once.
func TestEndPrompt(t *testing.T) {
	m, _ := New(tiny("full"))
	var heard []bool
	for i := range m.layers {
		m.layers[i].attention.Mech = hearing{m.layers[i].attention.Mech.(attn.Incremental), &heard}
	}
	tape := inference()
	s, err := m.NewState(1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if i == 1 {
			s.EndPrompt()
		}
		if _, err := m.Extend(tape, s, []int32{1}, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := []bool{false, false, true, true, false, false}; !slices.Equal(heard, want) {
		t.Errorf("heard %v: want %v", heard, want)
	}
}

type hearing struct {
	attn.Incremental
	ends *[]bool
}

func (h hearing) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	*h.ends = append(*h.ends, c.EndOfPrompt)
	return h.Incremental.Extend(ws, s, c)
}
