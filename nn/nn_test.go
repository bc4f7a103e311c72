package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/composed"
	"attnbench/autograd"
)

func copyValues(_ *autograd.Tape, in composed.Inputs) autograd.Var { return in.V }

func shape(mask attn.Mask) attn.Shape {
	return attn.Shape{Heads: 2, KVHeads: 1, KeyDim: 3, ValueDim: 4, Mask: mask, Layers: 1, MaxLen: 16}
}

// TestSharedTensor: layers of one mechanism, whatever its options, have a shared tensor in common, which is counted once.
func TestSharedTensor(t *testing.T) {
	b := &Builder{}
	var layers []*Attention
	for _, name := range []string{"copy", "copy:x=1", "other"} {
		mech := composed.New(attn.Info{Name: name, Masks: attn.Causal, Inputs: attn.QKV(),
			Learned: []attn.Tensor{{Name: "s", Shared: true, Shape: func(attn.Shape) []int { return []int{5} }}}}, copyValues)
		a, err := NewAttention(b, "layer "+name, mech, AttentionConfig{Dim: 4, Shape: shape(attn.Causal)})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, a)
	}
	if layers[0].learned[0] != layers[1].learned[0] || layers[0].learned[0] == layers[2].learned[0] {
		t.Error("want one tensor for two layers of one mechanism, and another for another's")
	}
	n := 0
	for _, p := range b.Params {
		if strings.HasSuffix(p.Name, ".s") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d shared tensors: want 2", n)
	}
}

// TestShortConvInPieces: width 4, all weights 1, x = 1 2 3 4 5 gives 1 3 6 10 14 however it is cut, and leaves the raw
// inputs 3 4 5 behind.
func TestShortConvInPieces(t *testing.T) {
	mech := composed.New(attn.Info{Name: "copy", Masks: attn.Causal, Inputs: []attn.Input{
		{Name: "q"}, {Name: "k", From: attn.MemorySide}, {Name: "v", From: attn.MemorySide, Conv: 4}}}, copyValues)
	b := &Builder{}
	a, err := NewAttention(b, "a", mech, AttentionConfig{Dim: 1, Shape: attn.Shape{Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range b.Params {
		for i := range p.Data {
			p.Data[i] = 1
		}
	}
	tape := autograd.NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	p := &Pass{Tape: tape}
	x, want := []float32{1, 2, 3, 4, 5}, []float32{1, 3, 6, 10, 14}
	p.Begin(Layout{Batch: 1, QueryLen: 5, KeyLen: 5})
	if err := a.project(p, tape.Const(x, 5, 1), tape.Const(x, 5, 1), nil); err != nil {
		t.Fatal(err)
	}
	if got := tape.Value(p.values[2]); !slices.Equal(got, want) {
		t.Errorf("in one pass %v: want %v", got, want)
	}
	for _, pieces := range [][]int{{5}, {1, 1, 1, 1, 1}, {2, 3}, {3, 2}, {4, 1}, {1, 4}} {
		s, err := a.NewState(1)
		if err != nil {
			t.Fatal(err)
		}
		var got []float32
		at := 0
		for _, n := range pieces {
			tape.Reset()
			p.Begin(Layout{Batch: 1, QueryLen: n, KeyLen: n, Start: []int{at}})
			if _, err := a.Extend(p, s, tape.Const(x[at:at+n], n, 1), autograd.None); err != nil {
				t.Fatal(err)
			}
			got = append(got, tape.Value(p.values[2])...)
			at += n
		}
		if !slices.Equal(got, want) || !slices.Equal(s.tails[2], []float32{3, 4, 5}) {
			t.Errorf("pieces %v: %v, tail %v: want %v and the raw inputs 3 4 5", pieces, got, s.tails[2], want)
		}
	}
}

func TestLayerRefuses(t *testing.T) {
	input := func(in attn.Input) []attn.Input { return append(attn.QKV(), in) }
	for _, c := range []struct {
		name string
		info attn.Info
		mask attn.Mask
		want string
	}{
		{"mask", attn.Info{Masks: attn.Causal}, attn.Bidirectional, "mask is bidirectional: want causal"},
		{"cross", attn.Info{Masks: attn.Causal | attn.Bidirectional}, attn.Cross, "want causal+bidirectional"},
		{"shape", attn.Info{Masks: attn.Causal, CheckShape: func(s attn.Shape) error { return s.Check() }, Inputs: input(attn.Input{Name: "x", Act: "step"})},
			attn.Causal, `input x: activation "step"`},
		{"norm", attn.Info{Masks: attn.Causal, Inputs: input(attn.Input{Name: "x", Norm: "max"})}, attn.Causal, `norm "max": want rms or l2`},
		{"tied to nothing", attn.Info{Masks: attn.Causal, Inputs: input(attn.Input{Name: "x", Tied: "y"})}, attn.Causal, `tied to "y"`},
		{"tied to another width", attn.Info{Masks: attn.Causal, Inputs: input(attn.Input{Name: "x", Tied: "v"})}, attn.Causal, "tied to v of 1×4"},
		{"first of nothing", attn.Info{Masks: attn.Causal, Inputs: input(attn.Input{Name: "x", From: attn.FirstLayer})}, attn.Causal, "want Tied"},
		{"gate", attn.Info{Masks: attn.Causal, Output: attn.Output{Gate: "step"}}, attn.Causal, `activation "step"`},
	} {
		c.info.Name = "m"
		_, err := NewAttention(&Builder{}, "a", composed.New(c.info, copyValues), AttentionConfig{Dim: 8, Shape: shape(c.mask)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q in it", c.name, err, c.want)
		}
	}
}

// TestCrossAttention: each query side token reads the memory of its own row.
func TestCrossAttention(t *testing.T) {
	mean := func(t *autograd.Tape, in composed.Inputs) autograd.Var {
		return t.Weigh(t.Softmax(t.Scores(in.Q, in.K, in.Causal)), in.V, in.Causal)
	}
	b := &Builder{Seed: 1}
	a, err := NewAttention(b, "a", composed.New(attn.Info{Name: "m", Masks: attn.Cross}, mean), AttentionConfig{Dim: 8, Memory: 5, Shape: shape(attn.Cross), Rotary: NewRotary(attn.Rope{})})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	x, memory := fill(2*3*8), fill(2*7*5)
	tape := autograd.NewTape(attn.NewWorkspace())
	run := func(rows int, x, memory []float32) []float32 {
		tape.Reset()
		p := &Pass{Tape: tape}
		p.Begin(Layout{Batch: rows, QueryLen: 3, KeyLen: 7})
		out, err := a.Forward(p, tape.Const(x, rows*3, 8), tape.Const(memory, rows*7, 5), autograd.None)
		if err != nil {
			t.Fatal(err)
		}
		if err := tape.Backward(tape.Sum(out)); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(tape.Value(out))
	}
	both, second := run(2, x, memory), run(1, x[24:], memory[35:])
	if !slices.Equal(both[24:], second) {
		t.Error("the second row depends on the first")
	}
	for _, p := range b.Params {
		if !slices.ContainsFunc(p.Grad, func(g float32) bool { return g != 0 }) {
			t.Errorf("%s: no gradient", p.Name)
		}
	}
}

// TestStreamsByName: a parameter starts the same whatever is built beside it.
func TestStreamsByName(t *testing.T) {
	one, two := &Builder{Seed: 3}, &Builder{Seed: 3}
	x := NewLinear(one, "x", 4, 4, false, 1)
	NewLinear(two, "y", 9, 9, true, 1)
	if y := NewLinear(two, "x", 4, 4, false, 1); !slices.Equal(x.W.Data, y.W.Data) {
		t.Error("x starts otherwise beside y")
	}
	if NewLinear(&Builder{Seed: 4}, "x", 4, 4, false, 1).W.Data[0] == x.W.Data[0] {
		t.Error("another seed starts the same")
	}
}

// TestLowRankVariesAsDirect: the product of the two factors has the variance of a direct projection.
func TestLowRankVariesAsDirect(t *testing.T) {
	info := attn.Info{Name: "m", Masks: attn.Causal, Inputs: append(attn.QKV(), attn.Input{Name: "x", From: attn.MemorySide, Width: func(attn.Shape) int { return 128 }, Rank: 8})}
	a, err := NewAttention(&Builder{}, "a", composed.New(info, copyValues), AttentionConfig{Dim: 64, Shape: shape(attn.Causal)})
	if err != nil {
		t.Fatal(err)
	}
	in, sum, n := a.inputs[3], 0.0, 0
	for i := range 64 {
		for j := range 256 {
			w := 0.0
			for r := range 8 {
				w += float64(in.low.Data[i*8+r]) * float64(in.proj.W.Data[r*256+j])
			}
			sum += w * w
			n++
		}
	}
	if std := math.Sqrt(sum / float64(n)); math.Abs(std/Std(64)-1) > 0.15 {
		t.Errorf("standard deviation %v: want about %v", std, Std(64))
	}
}
