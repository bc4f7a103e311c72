package composed_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"attnbench/attn"
	"attnbench/attn/composed"
	"attnbench/autograd"
)

// gated has a query-side and a memory-side input more, and a learned tensor: o = g∘softmax(q·kᵀ + b_h)·(u·v).
func gated() composed.Mechanism {
	return composed.New(attn.Info{
		Name: "gated", Masks: attn.Causal | attn.Cross,
		Inputs: append(attn.QKV(),
			attn.Input{Name: "g", From: attn.QuerySide, Heads: attn.QueryHeads, Width: attn.ValueWidth},
			attn.Input{Name: "u", From: attn.MemorySide, Heads: attn.OneHead, Width: attn.OneWide}),
		Learned: []attn.Tensor{{Name: "b", Shape: func(s attn.Shape) []int { return []int{s.Heads, 1} }}},
	}, func(t *autograd.Tape, in composed.Inputs) autograd.Var {
		scores := t.Scores(in.Q, in.K, in.Causal)
		p := t.Sigmoid(t.Add(scores, t.SliceRows(in.Learned[0], in.Head, in.Head+1)))
		return t.Mul(in.Extra[0], t.Weigh(p, t.Mul(in.V, in.Extra[1]), in.Causal))
	})
}

func call(s attn.Shape) (*attn.Call, *attn.Grads) {
	r := rand.New(rand.NewPCG(1, uint64(s.KeyLen)))
	view := func(time, heads, dim int) attn.View {
		v := attn.NewView[float32](s.Batch, time, heads, dim)
		for i := range v.Data {
			v.Data[i] = float32(r.NormFloat64())
		}
		return v
	}
	c := &attn.Call{
		Shape: s, Q: view(s.QueryLen, s.Heads, s.KeyDim), K: view(s.KeyLen, s.KVHeads, s.KeyDim), V: view(s.KeyLen, s.KVHeads, s.ValueDim),
		Extra:   []attn.View{view(s.QueryLen, s.Heads, s.ValueDim), view(s.KeyLen, 1, 1)},
		Learned: [][]float32{make([]float32, s.Heads)}, Out: view(s.QueryLen, s.Heads, s.ValueDim), Saved: attn.NewSaved(new(attn.Arena)),
	}
	for i := range c.Learned[0] {
		c.Learned[0][i] = float32(i) / 4
	}
	zeros := func(v attn.View) attn.View { return attn.NewView[float32](v.Batch, v.Time, v.Heads, v.Dim) }
	g := &attn.Grads{
		Out: view(s.QueryLen, s.Heads, s.ValueDim), Q: zeros(c.Q), K: zeros(c.K), V: zeros(c.V),
		Extra: []attn.View{zeros(c.Extra[0]), zeros(c.Extra[1])}, Learned: [][]float32{make([]float32, s.Heads)},
	}
	return c, g
}

var shape = attn.Shape{Batch: 2, QueryLen: 37, KeyLen: 37, Heads: 4, KVHeads: 2, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}

func TestGradientsOfAllInputs(t *testing.T) {
	m := gated()
	c, g := call(shape)
	ws := attn.NewWorkspace()
	loss := func() float64 {
		if err := m.Forward(ws, c); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, x := range c.Out.Data {
			sum += float64(x) * float64(g.Out.Data[i])
		}
		return sum
	}
	loss()
	if err := m.Backward(ws, c, g); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(9, 9))
	in := [][]float32{c.Q.Data, c.K.Data, c.V.Data, c.Extra[0].Data, c.Extra[1].Data, c.Learned[0]}
	for k, dx := range [][]float32{g.Q.Data, g.K.Data, g.V.Data, g.Extra[0].Data, g.Extra[1].Data, g.Learned[0]} {
		old, dir, want := append([]float32(nil), in[k]...), make([]float32, len(dx)), 0.0
		for i := range dir {
			dir[i] = float32(r.NormFloat64())
			want += float64(dir[i]) * float64(dx[i])
		}
		h := 1e-2 / math.Sqrt(float64(len(dir)))
		var side [2]float64
		for s, sign := range []float64{1, -1} {
			for i := range dir {
				in[k][i] = old[i] + float32(sign*h)*dir[i]
			}
			side[s] = loss()
		}
		copy(in[k], old)
		if got := (side[0] - side[1]) / (2 * h); math.Abs(got-want) > 1e-2*(1+math.Abs(want)) {
			t.Errorf("input %d: gradient along a direction %v: differences give %v", k, want, got)
		}
	}
}

func TestBitsAndScratchAtAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	m := gated()
	var first []float32
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		c, g := call(shape)
		ws := attn.NewWorkspace()
		if err := m.Forward(ws, c); err != nil {
			t.Fatal(err)
		}
		if want := m.Info().Cost(shape, attn.PassForward); ws.Peak() != want.Shared || want.PerWorker != 0 || c.Saved.Bytes() != want.Saved {
			t.Errorf("forward at GOMAXPROCS %d: scratch %d: declared %+v", procs, ws.Peak(), want)
		}
		ws = attn.NewWorkspace()
		if err := m.Backward(ws, c, g); err != nil {
			t.Fatal(err)
		}
		if want := m.Info().Cost(shape, attn.PassBackward); ws.Peak() != want.Shared {
			t.Errorf("backward at GOMAXPROCS %d: scratch %d: declared %+v", procs, ws.Peak(), want)
		}
		var all []float32
		for _, x := range [][]float32{c.Out.Data, g.Q.Data, g.K.Data, g.V.Data, g.Extra[0].Data, g.Extra[1].Data, g.Learned[0]} {
			all = append(all, x...)
		}
		for i := range first {
			if math.Float32bits(all[i]) != math.Float32bits(first[i]) {
				t.Fatalf("GOMAXPROCS %d: number %d is %v: want %v", procs, i, all[i], first[i])
			}
		}
		first = all
	}
}

// TestSharedValue: two goroutines use one mechanism from its first call, with workspaces and shapes of their own.
func TestSharedValue(t *testing.T) {
	m := gated()
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			s := shape
			s.QueryLen, s.KeyLen = 5+i, 5+i
			c, g := call(s)
			ws := attn.NewWorkspace()
			for range 3 {
				if err := m.Forward(ws, c); err != nil {
					t.Error(err)
				}
				if err := m.Backward(ws, c, g); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

func TestDecodeWithExtraInputs(t *testing.T) {
	m := gated()
	c, _ := call(shape)
	c.Saved = nil
	ws := attn.NewWorkspace()
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	state, err := m.NewState(shape)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, n := range []int{20, 1, 1, 15} {
		cut := func(v attn.View) attn.View {
			v.Data, v.Time = v.Data[at*v.TimeStride:], n
			return v
		}
		part := *c
		part.QueryLen, part.KeyLen = n, n
		part.Q, part.K, part.V, part.Extra = cut(c.Q), cut(c.K), cut(c.V), []attn.View{cut(c.Extra[0]), cut(c.Extra[1])}
		part.Out = attn.NewView[float32](2, n, 4, 3)
		if err := m.Extend(ws, state, &part); err != nil {
			t.Fatal(err)
		}
		for b := range 2 {
			for i := range n {
				for h := range 4 {
					for e, x := range part.Out.Row(b, i, h) {
						if want := c.Out.Row(b, at+i, h)[e]; math.Abs(float64(x-want)) > 1e-5 {
							t.Fatalf("token %d: %v: want %v", at+i, x, want)
						}
					}
				}
			}
		}
		at += n
		if want := int64(2*at) * 4 * (2*5 + 2*3 + 1); state.Bytes() != want {
			t.Errorf("state of %d tokens: %d bytes: want %d", at, state.Bytes(), want)
		}
	}
}

func TestErrorsWriteNothing(t *testing.T) {
	m := gated()
	for _, f := range []struct {
		change func(c *attn.Call)
		want   string
	}{
		{func(c *attn.Call) { c.Mask = attn.Bidirectional }, "mask is bidirectional: want causal+cross"},
		{func(c *attn.Call) { c.Extra = c.Extra[:1] }, "input u is missing"},
		{func(c *attn.Call) { c.Learned = nil }, "0 learned tensors: want 1"},
	} {
		c, g := call(shape)
		before := append([]float32(nil), c.Out.Data...)
		f.change(c)
		ws := attn.NewWorkspace()
		state, _ := m.NewState(shape)
		for i, err := range []error{m.Forward(ws, c), m.Backward(ws, c, g), m.Extend(ws, state, c)} {
			if err == nil || !strings.Contains(err.Error(), f.want) {
				t.Errorf("call %d: error %v: want %q in it", i, err, f.want)
			}
		}
		for i := range before {
			if before[i] != c.Out.Data[i] {
				t.Fatalf("%s: the output changed", f.want)
			}
		}
	}
	if _, err := m.NewState(attn.Shape{Batch: 1, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Bidirectional}); err == nil {
		t.Error("a state for a bidirectional mask")
	}
}

func FuzzUnmarshal(f *testing.F) {
	m := gated()
	c, _ := call(shape)
	state, _ := m.NewState(shape)
	c.Saved = nil
	m.Extend(attn.NewWorkspace(), state, c)
	data, _ := state.MarshalBinary()
	f.Add(data)
	f.Add(data[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := m.NewState(shape)
		if err := s.UnmarshalBinary(data); err != nil {
			if s.Bytes() != 0 {
				t.Errorf("a state of %d bytes after %v", s.Bytes(), err)
			}
			return
		}
		back, err := s.MarshalBinary()
		if err != nil || string(back) != string(data) {
			t.Errorf("reads back otherwise: %v", err)
		}
	})
}
