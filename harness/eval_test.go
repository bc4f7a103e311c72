package harness

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
)

// small is a model whose logits are far from even, and tokens for it.
func small(t *testing.T, n int) *Eval {
	t.Helper()
	m, err := model.New(model.Config{
		Vocab: 13, Dim: 16, Layers: 2, Heads: 4, KVHeads: 2, MLP: "swiglu", MLPWidth: 24, Attention: "full", Positions: "rope", Tied: true, MaxLen: 32, Seed: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		for i := range p.Data {
			p.Data[i] *= 2
		}
	}
	e := &Eval{Model: m, Checkpoint: "a b/c=d", Text: "t"}
	for i := range n {
		e.Tokens = append(e.Tokens, int32(i*i+i/3)%13)
	}
	return e
}

// loss runs one mechanism.
func loss(t *testing.T, e *Eval, mech string) float64 {
	t.Helper()
	jobs, err := e.Jobs([]string{mech})
	if err != nil {
		t.Fatal(err)
	}
	r, err := jobs[0].Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.Key() != jobs[0].Key || !strings.HasPrefix(r.Name, "Accuracy/task=eval:checkpoint=a_b_c_d,text=t/mech=") {
		t.Errorf("record %s of key %q: want the job's %q", r.Name, r.Key(), jobs[0].Key)
	}
	if r.Values[0].Unit != "nats/token" {
		t.Fatalf("values %v: want the loss first", r.Values)
	}
	return r.Values[0].Value
}

// TestEvalByHand holds windows and decoding against sums of whole passes over each token's own context.
func TestEvalByHand(t *testing.T) {
	tape := autograd.NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	e := small(t, 50)
	// nll is the loss of token i when the context begins at from.
	nll := func(m *model.LM, from, i int) float64 {
		tape.Reset()
		v, err := m.Logits(tape, e.Tokens[from:i], 1, i-from)
		if err != nil {
			t.Fatal(err)
		}
		row := tape.Value(v)[(i-from-1)*13:]
		sum := 0.0
		for _, x := range row {
			sum += math.Exp(float64(x))
		}
		return math.Log(sum) - float64(row[e.Tokens[i]])
	}
	want := 0.0
	for i := 1; i < 50; i++ { // windows 0 to 20, 12 to 32, 24 to 44, and the last, which ends with the text
		from := 0
		switch {
		case i >= 44:
			from = 30
		case i >= 32:
			from = 24
		case i >= 20:
			from = 12
		}
		want += nll(e.Model, from, i) / 49
	}
	e.Window, e.Stride = 20, 12
	if got := loss(t, e, "full"); math.Abs(got-want) > 1e-5 {
		t.Errorf("windows: %v nats a token: want %v", got, want)
	}
	for _, mech := range []string{"full", "sliding:window=6,sinks=2"} {
		e := small(t, 30)
		e.Prompt = 9
		m, err := e.Model.With(mech)
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for i := 9; i < 30; i++ {
			want += nll(m, 0, i) / 21
		}
		if got := loss(t, e, mech); math.Abs(got-want) > 1e-5 {
			t.Errorf("%s: decoded: %v nats a token: want %v", mech, got, want)
		}
	}
}

// forgetful is a mechanism that drops all but the newest keys at the end of the prompt: only decoding shows what it does.
type forgetful struct{ attn.Incremental }

func (f forgetful) Info() attn.Info {
	info := f.Incremental.Info()
	info.Name, info.Inference, info.Decode = "forgetful", true, attn.DecodeNever
	return info
}

func TestEvalRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(e *Eval)
		mech   string
		want   string
	}{
		{func(e *Eval) {}, "gla", "gla in place of full: tensor layers.0.attention."},
		{func(e *Eval) { e.Tokens = e.Tokens[:1] }, "full", "1 tokens: want at least 2"},
		{func(e *Eval) { e.Tokens[2] = 13 }, "full", "token 2 is 13: want 0 to 12"},
		{func(e *Eval) { e.Tokens[2] = -1 }, "full", "token 2 is -1"},
		{func(e *Eval) { e.Prompt = 20 }, "full", "prompt of 20 tokens: want 0 to 19"},
		{func(e *Eval) { e.Prompt = -1 }, "full", "prompt of -1"},
		{func(e *Eval) { e.Window = 33 }, "full", "window of 33 tokens: want at most the model's context of 32"},
		{func(e *Eval) { e.Window = -3 }, "full", "window of -3"},
		{func(e *Eval) { e.Prompt = 3; e.Tokens = append(e.Tokens, e.Tokens...) }, "full", "decoding 40 tokens: want at most the model's context of 32"},
		{func(e *Eval) {}, "full|slidin", `unknown mechanism "slidin"`},
	} {
		e := small(t, 20)
		c.change(e)
		if _, err := e.Jobs([]string{c.mech}); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.mech, err, c.want)
		}
	}
	full, err := attn.New("full")
	if err != nil {
		t.Fatal(err)
	}
	m := forgetful{full.(attn.Incremental)}
	if err := (&Eval{}).CanScore(m); err == nil || !strings.Contains(err.Error(), "forgetful: one pass is not what it is for: want a prompt") {
		t.Errorf("error %v: want a prompt asked for", err)
	}
	if err := (&Eval{Prompt: 3}).CanScore(m); err != nil {
		t.Error(err)
	}
	if err := (&Eval{Prompt: 3}).CanScore(struct{ attn.Mechanism }{full}); err == nil || !strings.Contains(err.Error(), "does not decode") {
		t.Errorf("error %v: want no prompt asked for", err)
	}
	// Another weight, token or protocol is another result.
	key := func(change func(e *Eval)) string {
		e := small(t, 20)
		change(e)
		jobs, err := e.Jobs([]string{"full"})
		if err != nil {
			t.Fatal(err)
		}
		return jobs[0].Key
	}
	same := key(func(*Eval) {})
	if key(func(*Eval) {}) != same {
		t.Error("the same evaluation has another key")
	}
	for i, change := range []func(e *Eval){
		func(e *Eval) { e.Model.Params()[3].Data[1] *= 1.0001 }, func(e *Eval) { e.Tokens[19]++ }, func(e *Eval) { e.Prompt = 1 }, func(e *Eval) { e.Window = 19 },
		func(e *Eval) { e.Model.Config.RopeBase = 5 },
	} {
		if key(change) == same {
			t.Errorf("change %d has the key of another evaluation", i)
		}
	}
}

func TestParseTokens(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int32
		err  string
	}{
		{"", nil, ""},
		{"1 2\n3\t4\r\n\n5", []int32{1, 2, 3, 4, 5}, ""},
		{"position\ttoken\tnll\n0\t7\t0.5\n1\t9\t-\n", []int32{7, 9}, ""},
		{"position\ttoken\r\n0\t7\r\n", []int32{7}, ""},
		{"token\n3\n", []int32{3}, ""},
		{"position\ttoken\n0\n", nil, "line 2: 1 columns: want 2"},
		{"a\ttoken\n0\t1\n0\t1.5\n", nil, `line 3: token "1.5"`},
		{"1\n-2", nil, `line 2: token "-2": want a whole number from 0 on`},
		{"2147483648", nil, `line 1: token "2147483648"`},
		{"position\tpiece\n0\t1\n", nil, `line 1: token "position"`},
	} {
		got, err := parseTokens(c.text)
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: %v, %v: want %v, %q", c.text, got, err, c.want, c.err)
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("position\ttoken\n0\t7\n")
	f.Add("1 2\n3")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseTokens(text)
		if err != nil && list != nil {
			t.Fatalf("%v beside the error %v", list, err)
		}
		for _, x := range list {
			if x < 0 {
				t.Fatalf("token %d", x)
			}
		}
	})
}
