package composed_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
	"attnbench/attn/composed"
	"attnbench/autograd"
)

// perHead[n] is the shape of a learned tensor with a number for each of n heads.
var perHead = func() (all [33][]int) {
	for n := range all {
		all[n] = []int{n, 1}
	}
	return all
}()

// gated has a query-side and a memory-side input more, and a learned tensor: o = g∘softmax(q·kᵀ + b_h)·(u·v).
func gated() composed.Mechanism {
	return composed.New(attn.Info{
		Name: "gated", Masks: attn.Causal | attn.Cross,
		Inputs: append(attn.QKV(),
			attn.Input{Name: "g", From: attn.QuerySide, Heads: attn.QueryHeads, Width: attn.ValueWidth},
			attn.Input{Name: "u", From: attn.MemorySide, Heads: attn.OneHead, Width: attn.OneWide}),
		Learned: []attn.Tensor{{Name: "b", Shape: func(s attn.Shape) []int { return perHead[s.Heads] }}},
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

// define is gated's formula.
func define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			out := h.Out(i)
			clear(out)
			for j := range h.Keys {
				if !h.Sees(i, j) {
					continue
				}
				s := c.Learned[0][h.H]
				for e, x := range h.Q(i) {
					s += x * h.K(j)[e]
				}
				for e, x := range h.V(j) {
					out[e] += h.KeySide(1, j)[0] * x / (1 + math.Exp(-s))
				}
			}
			for e, x := range h.QuerySide(0, i) {
				out[e] *= x
			}
		}
	})
	return nil
}

func TestConformance(t *testing.T) { attntest.Run(t, gated(), define) }

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
