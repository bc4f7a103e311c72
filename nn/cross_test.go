package nn_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/attn/composed"
	"attnbench/autograd"
	"attnbench/nn"
)

func crossLayer(t *testing.T, m attn.Mechanism) *nn.Attention {
	t.Helper()
	a, err := nn.NewAttention(&nn.Builder{Seed: 1}, "a", m, nn.AttentionConfig{Dim: 12, Memory: 10, Shape: attn.Shape{
		Heads: 3, KVHeads: 1, KeyDim: 4, ValueDim: 5, Mask: attn.Cross, Layers: 1, MaxLen: 32}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestCrossDecode: queries one by one, over memory that was given once, get what a forward pass over padded memory gives, to rounding;
// what lies in the padding is not read.
func TestCrossDecode(t *testing.T) {
	const rows, queries, keys = 3, 9, 13
	lengths := []int{13, 1, 6}
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	x, memory := fill(rows*queries*12), fill(rows*keys*10)
	for row, n := range lengths {
		for i := (row*keys + n) * 10; i < (row+1)*keys*10; i++ {
			memory[i] = float32(math.NaN())
		}
	}
	decoded := 0
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(attn.Incremental); !ok || m.Info().Masks&attn.Cross == 0 {
			continue
		}
		decoded++
		a := crossLayer(t, m)
		tape := autograd.NewTape(attn.NewWorkspace())
		tape.NoGrad = true
		p := &nn.Pass{Tape: tape}
		p.Begin(nn.Layout{Batch: rows, QueryLen: queries, KeyLen: keys, Segments: attn.Lengths([]int{queries, queries, queries}, lengths)})
		out, err := a.Forward(p, tape.Const(x, rows*queries, 12), tape.Const(memory, rows*keys, 10), autograd.None)
		if err != nil {
			t.Fatal(err)
		}
		want := append([]float32(nil), tape.Value(out)...)
		for _, step := range []int{1, 2, queries} {
			s, err := a.NewState(rows)
			if err != nil {
				t.Fatal(err)
			}
			tape.Reset()
			p.Begin(nn.Layout{Batch: rows, KeyLen: keys, Segments: attn.Lengths([]int{0, 0, 0}, lengths)})
			if err := a.Remember(p, s, tape.Const(memory, rows*keys, 10)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := a.Remember(p, s, tape.Const(memory, rows*keys, 10)); err == nil || !strings.Contains(err.Error(), "want an empty state") {
				t.Errorf("%s: a second memory: %v", name, err)
			}
			bytes := s.Bytes()
			for at := 0; at < queries; at += step {
				n := min(step, queries-at)
				part := make([]float32, 0, rows*n*12)
				for row := range rows {
					part = append(part, x[(row*queries+at)*12:(row*queries+at+n)*12]...)
				}
				tape.Reset()
				p.Begin(nn.Layout{Batch: rows, QueryLen: n, Start: []int{at, at, at}})
				out, err := a.Extend(p, s, tape.Const(part, rows*n, 12), autograd.None)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for i, v := range tape.Value(out) {
					row, at := i/(n*12), at+i%(n*12)/12
					if w := want[(row*queries+at)*12+i%12]; !(math.Abs(float64(v-w)) < 1e-5) {
						t.Fatalf("%s, %d at a time: row %d, query %d: %v: want %v", name, step, row, at, v, w)
					}
				}
			}
			if s.Bytes() != bytes {
				t.Errorf("%s: queries grew the state from %d to %d bytes", name, bytes, s.Bytes())
			}
		}
	}
	if decoded < 2 {
		t.Errorf("%d mechanisms decode with cross attention: want some", decoded)
	}
}

func TestCrossDecodeRefuses(t *testing.T) {
	info := attn.Info{Name: "m", Masks: attn.Cross, Inputs: attn.QKV()}
	info.Inputs[0].Conv = 2
	a := crossLayer(t, composed.New(info, func(_ *autograd.Tape, in composed.Inputs) autograd.Var { return in.Q }))
	if _, err := a.NewState(1); err == nil || !strings.Contains(err.Error(), "input q reads the queries before") {
		t.Errorf("queries with a convolution: %v", err)
	}
}
