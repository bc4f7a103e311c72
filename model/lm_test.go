package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/attn/composed"
	"attnbench/autograd"
	"attnbench/internal/kernel"
	"attnbench/nn"
)

// rich declares nearly everything that an input can: its outputs depend on all of it.
type rich struct{}

func init() {
	attn.Register("rich", rich{}, func(rich) (attn.Mechanism, error) {
		return composed.New(attn.Info{
			Name: "rich", Family: "test", Masks: attn.Causal,
			Inputs: []attn.Input{
				{Name: "q", Heads: attn.QueryHeads, Width: attn.KeyWidth, Rotary: true, Conv: 4, ConvBias: true, Act: attn.SiLU, Norm: attn.L2Norm},
				{Name: "k", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.KeyWidth, Rotary: true, Shift: true, Norm: attn.RMSNorm, Scale: 0.5},
				{Name: "v", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.ValueWidth, Conv: 2},
				{Name: "g", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.OneWide, Rank: 3, RankAct: attn.Tanh, RankNorm: attn.RMSNorm, Bias: true,
					Act: attn.Sigmoid, Init: attn.Const(1)},
				{Name: "k2", From: attn.MemorySide, Tied: "k", Heads: attn.KVHeads, Width: attn.KeyWidth},
				{Name: "v0", From: attn.FirstLayer, Tied: "v", Heads: attn.KVHeads, Width: attn.ValueWidth},
			},
			Learned: []attn.Tensor{{Name: "bias", Shape: func(s attn.Shape) []int { return []int{s.Heads, 1} }, Init: attn.Normal(0.5), Decay: true}},
			Output:  attn.Output{Norm: attn.RMSNorm, NormHeads: attn.QueryHeads, Gate: attn.SiLU},
		}, func(t *autograd.Tape, in composed.Inputs) autograd.Var {
			scores := t.Add(t.Scores(in.Q, in.K, in.Causal), t.SliceRows(in.Learned[0], in.Head, in.Head+1))
			scores = t.Add(scores, t.Transpose(t.SumCols(in.Extra[1])))
			return t.Weigh(t.Sigmoid(scores), t.Mul(t.Add(in.V, in.Extra[2]), in.Extra[0]), in.Causal)
		}), nil
	})
	attn.Register("bare", struct{}{}, func(struct{}) (attn.Mechanism, error) {
		return composed.New(attn.Info{Name: "bare", Family: "test", Masks: attn.Causal, Inputs: []attn.Input{{Name: "q", Width: attn.ValueWidth}}},
			func(_ *autograd.Tape, in composed.Inputs) autograd.Var { return in.Q }), nil
	})
	attn.Register("echo", struct{}{}, func(struct{}) (attn.Mechanism, error) {
		return composed.New(attn.Info{Name: "echo", Family: "test", Masks: attn.Causal},
			func(_ *autograd.Tape, in composed.Inputs) autograd.Var { return in.V }), nil
	})
}

func tiny(attention string) Config {
	return Config{
		Vocab: 19, Dim: 16, Layers: 2, Heads: 4, KVHeads: 2, MLP: "swiglu", MLPWidth: 24,
		Attention: attention, Positions: "rope", Tied: true, MaxLen: 64, Seed: 7,
	}
}

func batch(c Config, rows, length int) (tokens, labels []int32) {
	r := rand.New(rand.NewPCG(3, 9))
	for range rows * length {
		tokens = append(tokens, int32(r.IntN(c.Vocab)))
		labels = append(labels, int32(r.IntN(c.Vocab+3)-3))
		if labels[len(labels)-1] < 0 {
			labels[len(labels)-1] = -1
		}
	}
	return tokens, labels
}

func variants() []Config {
	var all []Config
	for _, a := range []string{"full", "rich", "gla", "sigmoid|rich|linear|sliding:window=4"} {
		c := tiny(a)
		c.Layers = max(2, 1+strings.Count(a, "|")) // the first layer has v, too
		all = append(all, c)
		c.MLP, c.Positions, c.ShortConv, c.Tied = "gelu", "learned", 3, false
		c.KeyDim, c.ValueDim = 6, 10
		all = append(all, c)
	}
	c := tiny("full")
	c.MLPWidth, c.Positions = 0, "none"
	all = append(all, c)
	c = tiny("full")
	c.MLP, c.Norm, c.NormEps, c.Bias, c.RopeBase, c.RopePairs = "gelu-erf", "layer", 1e-3, true, 500, "neighbours"
	return append(all, c)
}

func name(c Config) string {
	return fmt.Sprintf("%s/%s/%s/%d", c.Attention, c.Positions, c.MLP, c.ShortConv)
}

// TestDirectionalGradients holds the gradient of a whole model against differences of its loss.
func TestDirectionalGradients(t *testing.T) {
	for _, c := range variants() {
		m, err := New(c)
		if err != nil {
			t.Fatalf("%s: %v", name(c), err)
		}
		for _, p := range m.Params() { // larger weights: differences above the rounding of float32
			if len(p.Shape) > 1 {
				for i := range p.Data {
					p.Data[i] *= 1.4
				}
			}
		}
		tokens, labels := batch(c, 3, 11)
		tape := autograd.NewTape(attn.NewWorkspace())
		loss := func() float64 {
			tape.Reset()
			l, err := m.Loss(tape, tokens, labels, 3, 11)
			if err != nil {
				t.Fatalf("%s: %v", name(c), err)
			}
			return float64(tape.Scalar(l))
		}
		tape.Reset()
		l, err := m.Loss(tape, tokens, labels, 3, 11)
		if err != nil {
			t.Fatalf("%s: %v", name(c), err)
		}
		if err := tape.Backward(l); err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		for _, p := range m.Params() {
			dir, want := make([]float32, len(p.Data)), 0.0
			for i := range dir {
				dir[i] = float32(r.NormFloat64())
				want += float64(dir[i]) * float64(p.Grad[i])
			}
			old := append([]float32(nil), p.Data...)
			h := 3e-3 / math.Sqrt(float64(len(dir)))
			var side [2]float64
			for k, sign := range []float64{1, -1} {
				for i := range dir {
					p.Data[i] = old[i] + float32(sign*h)*dir[i]
				}
				side[k] = loss()
			}
			copy(p.Data, old)
			got := (side[0] - side[1]) / (2 * h)
			if math.Abs(got-want) > 0.02*math.Abs(want)+3e-3*math.Sqrt(float64(len(dir)))/10 {
				t.Errorf("%s: %s: gradient along a direction %v: differences give %v", name(c), p.Name, want, got)
			}
			any := false
			for _, g := range p.Grad {
				any = any || g != 0
			}
			if !any {
				t.Errorf("%s: %s: no gradient", name(c), p.Name)
			}
		}
	}
}

func train(t *testing.T, c Config, steps int) []float32 {
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(c, 4, 33)
	var losses []float32
	for step := range steps {
		m.Step = uint64(step)
		tape.Reset()
		loss, err := m.Loss(tape, tokens, labels, 4, 33)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, tape.Scalar(loss))
		if err := tape.Backward(loss); err != nil {
			t.Fatal(err)
		}
		if err := m.Update(tape.Workspace()); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params() {
			for i, g := range p.Grad {
				p.Data[i] -= 0.5 * g
				p.Grad[i] = 0
			}
		}
	}
	return losses
}

func TestSameSeedSameLossBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range variants() {
		var want []float32
		for _, procs := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(procs)
			got := train(t, c, 6)
			if want == nil {
				want = got
				if !(got[5] < got[0]) {
					t.Errorf("%s: losses %v: want them to fall", name(c), got)
				}
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Errorf("%s: GOMAXPROCS %d: loss of step %d is %v: want %v", name(c), procs, i, got[i], want[i])
				}
			}
		}
	}
}

func TestLossPerToken(t *testing.T) {
	for _, c := range variants() {
		m, _ := New(c)
		tape := autograd.NewTape(attn.NewWorkspace())
		tokens, labels := batch(c, 3, 11)
		loss, err := m.Loss(tape, tokens, labels, 3, 11)
		if err != nil {
			t.Fatal(err)
		}
		want, kept := float64(tape.Scalar(loss)), tape.Bytes()
		nll, best := make([]float32, 33), make([]int32, 33)
		if err := m.LossPerToken(tape, tokens, labels, 3, 11, nll, best); err != nil {
			t.Fatal(err)
		}
		sum, n := 0.0, 0
		for i, l := range labels {
			if (l < 0) != math.IsNaN(float64(nll[i])) || (l < 0) != (best[i] < 0) {
				t.Fatalf("%s: position %d, label %d: loss %v, prediction %d", name(c), i, l, nll[i], best[i])
			}
			if l >= 0 {
				sum += float64(nll[i])
				n++
			}
		}
		if math.Abs(sum/float64(n)-want) > 1e-5 {
			t.Errorf("%s: mean loss %v: want %v", name(c), sum/float64(n), want)
		}
		if tape.NoGrad {
			t.Error("the tape lost its gradients")
		}
		_ = kept
	}
}

func TestStepTakesSameBytes(t *testing.T) {
	c := tiny("full")
	m, _ := New(c)
	tape := autograd.NewTape(attn.NewWorkspace())
	tokens, labels := batch(c, 4, 33)
	step := func() {
		tape.Reset()
		loss, err := m.Loss(tape, tokens, labels, 4, 33)
		if err != nil {
			t.Fatal(err)
		}
		tape.Backward(loss)
	}
	step()
	bytes := tape.Bytes()
	for range 50 {
		step()
	}
	if tape.Bytes() != bytes {
		t.Errorf("bytes of a step: %d, then %d", bytes, tape.Bytes())
	}
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	for range 10 {
		step()
	}
	runtime.ReadMemStats(&b)
	if n := (b.TotalAlloc - a.TotalAlloc) / 10; n > 2048 { // the checks of the contract make some strings
		t.Errorf("a step in the steady state makes %d bytes of garbage", n)
	}
}

func TestFLOPs(t *testing.T) {
	c := tiny("echo")
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	tokens, _ := batch(c, 1, 32)
	got := kernel.CountFLOPs(func() {
		h, err := m.Hidden(tape, tokens, 1, 32, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.logits(tape, h)
	})
	if got != m.FLOPs(32) {
		t.Errorf("%d FLOPs: declared %d", got, m.FLOPs(32))
	}
}

// A training step takes the operations of the closed form, and few beside: what the mask's edge hides within tiles, at most 16 pairs
// a query, and the row sums of norms and of embeddings.
func TestStepFLOPs(t *testing.T) {
	const rows, length = 2, 128
	for _, attention := range []string{"echo", "full", "full|echo"} {
		c := tiny(attention)
		c.Dim, c.MLPWidth, c.Vocab, c.KVHeads, c.Tied = 64, 160, 61, 4, attention != "full"
		m, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		tape := autograd.NewTape(attn.NewWorkspace())
		tokens, labels := batch(c, rows, length)
		got := kernel.CountFLOPs(func() {
			loss, err := m.Loss(tape, tokens, labels, rows, length)
			if err == nil {
				err = tape.Backward(loss)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		want := rows * m.StepFLOPs(length)
		edges := rows * (m.attention(length, attn.PassForward) + m.attention(length, attn.PassBackward)) * 31 / (length + 1)
		if most := want + edges + want/500; got < want || got > most {
			t.Errorf("%s: %d FLOPs in a step: want %d to %d", attention, got, want, most)
		}
		if forward := m.FLOPs(length); rows*3*forward > want || want > rows*7*forward/2 {
			t.Errorf("%s: %d FLOPs in a step, %d forward", attention, want, rows*forward)
		}
	}
}

func TestParameterCount(t *testing.T) {
	c := tiny("full")
	m, _ := New(c)
	want := 19*16 + 2*(16+16*16+2*16*8+16*16+16+16*48+24*16) + 16
	if n := nn.Count(m.Params()); n != want {
		t.Errorf("%d parameters: want %d", n, want)
	}
}

func TestBadInputsAreErrors(t *testing.T) {
	for _, f := range []struct {
		change func(c *Config)
		want   string
	}{
		{func(c *Config) { c.Vocab = 0 }, "vocab is 0"},
		{func(c *Config) { c.Heads, c.KVHeads = 6, 4 }, "6 heads over 4 kv heads"},
		{func(c *Config) { c.Heads = 3; c.KVHeads = 3 }, "dim 16 over 3 heads"},
		{func(c *Config) { c.MLP = "relu" }, `mlp "relu": want one of ["gelu" "gelu-erf" "swiglu" "none"]`},
		{func(c *Config) { c.Positions = "alibi" }, "want none, rope or learned"},
		{func(c *Config) { c.Norm = "batch" }, `norm "batch": want one of`},
		{func(c *Config) { c.NormEps = -1 }, "norm epsilon -1"},
		{func(c *Config) { c.RopeBase = -1 }, "rotary base -1"},
		{func(c *Config) { c.RopePairs = "thirds" }, `rotary pairs "thirds": want one of`},
		{func(c *Config) { c.Attention = "nothing" }, "unknown mechanism"},
		{func(c *Config) { c.Attention = "rich"; c.Layers = -1 }, "layers is -1"},
		{func(c *Config) { c.Attention = "bare|rich" }, "the first layer, bare, has no v"},
	} {
		c := tiny("full")
		f.change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("error %v: want %q in it", err, f.want)
		}
	}
	c := tiny("full")
	c.Positions, c.MaxLen = "learned", 4
	m, _ := New(c)
	tape := autograd.NewTape(attn.NewWorkspace())
	for _, f := range []struct {
		tokens, labels []int32
		length         int
	}{
		{[]int32{1, 19}, []int32{1, 1}, 2}, {[]int32{1, 2}, []int32{1, 19}, 2}, {[]int32{1, 2}, []int32{1}, 2}, {[]int32{1, -1}, []int32{1, -2}, 2},
		{[]int32{1, 2}, []int32{1, 2}, 3}, {make([]int32, 5), make([]int32, 5), 5},
	} {
		tape.Reset()
		if _, err := m.Loss(tape, f.tokens, f.labels, 1, f.length); err == nil {
			t.Errorf("no error for tokens %v, labels %v", f.tokens, f.labels)
		}
	}
	// A batch without any label: a loss of 0, not of NaN.
	tape.Reset()
	loss, err := m.Loss(tape, []int32{1, 2}, []int32{-1, -1}, 1, 2)
	if err != nil || tape.Scalar(loss) != 0 {
		t.Errorf("loss without labels: %v, %v", tape.Scalar(loss), err)
	}
	if err := tape.Backward(loss); err != nil {
		t.Error(err)
	}
}
