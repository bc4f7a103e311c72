package full

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"attnbench/attn"
)

func TestSigmoidGradients(t *testing.T) {
	m, err := attn.New("sigmoid")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []attn.Shape{
		{Batch: 2, QueryLen: 5, KeyLen: 5, Heads: 4, KVHeads: 2, KeyDim: 3, ValueDim: 5, Mask: attn.Causal},
		{Batch: 1, QueryLen: 3, KeyLen: 7, Heads: 1, KVHeads: 1, KeyDim: 3, ValueDim: 2, Mask: attn.Causal},
		{Batch: 1, QueryLen: 5, KeyLen: 2, Heads: 1, KVHeads: 1, KeyDim: 3, ValueDim: 2, Mask: attn.Causal},
		{Batch: 1, QueryLen: 5, KeyLen: 4, Heads: 2, KVHeads: 1, KeyDim: 3, ValueDim: 2, Mask: attn.Cross},
	} {
		t.Run(fmt.Sprint(s), func(t *testing.T) { checkSigmoid(t, m, s) })
	}
}

func checkSigmoid(t *testing.T, m attn.Mechanism, s attn.Shape) {
	r := rand.New(rand.NewPCG(5, 6))
	c := &attn.Call{Shape: s, Q: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.KeyDim), K: attn.NewView[float32](s.Batch, s.KeyLen, s.KVHeads, s.KeyDim),
		V: attn.NewView[float32](s.Batch, s.KeyLen, s.KVHeads, s.ValueDim), Out: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.ValueDim)}
	c64 := &attn.Call64{Shape: s, Q: attn.NewView[float64](s.Batch, s.QueryLen, s.Heads, s.KeyDim), K: attn.NewView[float64](s.Batch, s.KeyLen, s.KVHeads, s.KeyDim),
		V: attn.NewView[float64](s.Batch, s.KeyLen, s.KVHeads, s.ValueDim), Out: attn.NewView[float64](s.Batch, s.QueryLen, s.Heads, s.ValueDim)}
	in, in64 := []attn.View{c.Q, c.K, c.V}, []attn.View64{c64.Q, c64.K, c64.V}
	for i := range in {
		for j := range in[i].Data {
			in[i].Data[j] = float32(r.NormFloat64())
			in64[i].Data[j] = float64(in[i].Data[j])
		}
	}
	ws := attn.NewWorkspace()
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	d := m.(attn.Defined)
	d.Define(c64)
	for i, want := range c64.Out.Data {
		if got := float64(c.Out.Data[i]); !(math.Abs(got-want) < 1e-5) {
			t.Fatalf("output %d is %v: want %v", i, got, want)
		}
	}
	cost := m.Info().Cost(s, attn.PassForward)
	if ws.Peak() != cost.Shared {
		t.Errorf("forward took %d bytes of scratch: declared %d", ws.Peak(), cost.Shared)
	}
	var arena attn.Arena
	c.Saved = attn.NewSaved(&arena)
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	g := &attn.Grads{Out: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.ValueDim), Q: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.KeyDim),
		K: attn.NewView[float32](s.Batch, s.KeyLen, s.KVHeads, s.KeyDim), V: attn.NewView[float32](s.Batch, s.KeyLen, s.KVHeads, s.ValueDim)}
	for i := range g.Out.Data {
		g.Out.Data[i] = float32(r.NormFloat64())
	}
	ws = attn.NewWorkspace()
	if err := m.(attn.Differentiable).Backward(ws, c, g); err != nil {
		t.Fatal(err)
	}
	if cost := m.Info().Cost(s, attn.PassBackward); ws.Peak() != cost.Shared {
		t.Errorf("backward took %d bytes of scratch: declared %d", ws.Peak(), cost.Shared)
	}
	loss := func() float64 {
		d.Define(c64)
		sum := 0.0
		for i, x := range c64.Out.Data {
			sum += x * float64(g.Out.Data[i])
		}
		return sum
	}
	for k, dx := range []attn.View{g.Q, g.K, g.V} {
		for j, got := range dx.Data {
			const h = 1e-5
			x := in64[k].Data[j]
			in64[k].Data[j] = x + h
			up := loss()
			in64[k].Data[j] = x - h
			down := loss()
			in64[k].Data[j] = x
			if want := (up - down) / (2 * h); !(math.Abs(float64(got)-want) < 1e-5*(1+math.Abs(want))) {
				t.Fatalf("gradient of input %d, element %d is %v: want %v", k, j, got, want)
			}
		}
	}
}

func TestSigmoidDecodes(t *testing.T) {
	m, _ := attn.New("sigmoid")
	s := attn.Shape{Batch: 2, QueryLen: 97, KeyLen: 97, Heads: 2, KVHeads: 1, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}
	r := rand.New(rand.NewPCG(5, 6))
	c := &attn.Call{Shape: s, Q: attn.NewView[float32](2, 97, 2, 5), K: attn.NewView[float32](2, 97, 1, 5), V: attn.NewView[float32](2, 97, 1, 3), Out: attn.NewView[float32](2, 97, 2, 3)}
	for _, x := range [][]float32{c.Q.Data, c.K.Data, c.V.Data} {
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
	}
	ws := attn.NewWorkspace()
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	state, err := m.(attn.Incremental).NewState(s)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	cut := func(v attn.View, n int) attn.View {
		v.Data = v.Data[at*v.TimeStride:]
		v.Time = n
		return v
	}
	for _, n := range []int{1, 2, 3, 5, 8, 13, 21, 44} {
		part := &attn.Call{Shape: s, Q: cut(c.Q, n), K: cut(c.K, n), V: cut(c.V, n), Out: attn.NewView[float32](2, n, 2, 3)}
		part.QueryLen, part.KeyLen = n, n
		ws := attn.NewWorkspace()
		if err := m.(attn.Incremental).Extend(ws, state, part); err != nil {
			t.Fatal(err)
		}
		shape := part.Shape
		shape.KeyLen = at + n
		if cost := m.Info().Cost(shape, attn.PassDecode); ws.Peak() != cost.Shared || state.Bytes() != cost.State || state.ReadBytes() != cost.Read {
			t.Errorf("after %d tokens: scratch %d, state %d, read %d: declared %+v", at+n, ws.Peak(), state.Bytes(), state.ReadBytes(), cost)
		}
		for b := range 2 {
			for i := range n {
				for h := range 2 {
					for e, x := range part.Out.Row(b, i, h) {
						if want := c.Out.Row(b, at+i, h)[e]; math.Abs(float64(x-want)) > 1e-5 {
							t.Fatalf("token %d: %v: want %v", at+i, x, want)
						}
					}
				}
			}
		}
		data, err := state.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		state, _ = m.(attn.Incremental).NewState(s)
		if err := state.UnmarshalBinary(data[:len(data)-1]); err == nil || state.Len(0) != 0 {
			t.Errorf("read a state cut short: length %d, error %v", state.Len(0), err)
		}
		if err := state.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		at += n
	}
}

func TestSigmoidAllocatesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	m, _ := attn.New("sigmoid")
	s := attn.Shape{Batch: 2, QueryLen: 40, KeyLen: 40, Heads: 2, KVHeads: 1, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}
	ws := attn.NewWorkspace()
	c := &attn.Call{Shape: s, Q: attn.NewView[float32](2, 40, 2, 5), K: attn.NewView[float32](2, 40, 1, 5), V: attn.NewView[float32](2, 40, 1, 3), Out: attn.NewView[float32](2, 40, 2, 3)}
	g := &attn.Grads{Out: attn.NewView[float32](2, 40, 2, 3), Q: attn.NewView[float32](2, 40, 2, 5), K: attn.NewView[float32](2, 40, 1, 5), V: attn.NewView[float32](2, 40, 1, 3)}
	c.Saved = attn.NewSaved(new(attn.Arena))
	work := func() {
		m.Forward(ws, c)
		m.(attn.Differentiable).Backward(ws, c, g)
	}
	for range 20 {
		work()
	}
	info := m.Info()
	checks := testing.AllocsPerRun(20, func() { // what the contract's own checks take
		c.Check(&info)
		c.Check(&info)
		g.Check(&info, c)
	})
	if n := testing.AllocsPerRun(20, work); n > checks {
		t.Errorf("%v heap allocations a call: want the %v of its checks", n, checks)
	}
}
