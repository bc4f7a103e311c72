package testcall

import (
	"runtime"
	"testing"

	"attnbench/attn"
)

// Decode feeds the tokens of one sequence a row to a state in pieces and compares the outputs with the definition over the whole.
// It returns the state. It also holds the state's bytes and the scratch against the declared costs.
func Decode(t *testing.T, m attn.Incremental, s attn.Shape, pieces []int) attn.State {
	t.Helper()
	s.QueryLen = 0
	for _, n := range pieces {
		s.QueryLen += n
	}
	s.KeyLen = s.QueryLen
	c := New(s, nil, 3)
	w := Wide(c)
	if err := m.(attn.Defined).Define(w); err != nil {
		t.Fatal(err)
	}
	st, err := m.NewState(s)
	if err != nil {
		t.Fatalf("NewState: %v", err)
	}
	ws := attn.NewWorkspace()
	cost := m.Info().Cost
	at := 0
	for i, n := range pieces {
		p := *c
		p.QueryLen, p.KeyLen = n, n
		p.Q, p.K, p.V, p.Out = cut(c.Q, at, n), cut(c.K, at, n), cut(c.V, at, n), cut(c.Out, at, n)
		ws.ResetPeak()
		if err := m.Extend(ws, st, &p); err != nil {
			t.Fatalf("Extend: %v", err)
		}
		at += n
		now := s
		now.QueryLen, now.KeyLen = n, at
		want := cost(now, attn.PassDecode)
		if got := st.Bytes(); got != want.State {
			t.Errorf("%d tokens: state of %d bytes: declared %d", at, got, want.State)
		}
		if got := st.ReadBytes(); got != want.Read {
			t.Errorf("%d tokens: reads %d bytes: declared %d", at, got, want.Read)
		}
		if got, want := ws.Peak(), want.Shared+int64(runtime.GOMAXPROCS(0))*want.PerWorker; got != want {
			t.Errorf("%d after %d tokens: scratch %d: declared %d", n, at-n, got, want)
		}
		if i == len(pieces)/2 {
			b, err := st.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if st, err = m.NewState(s); err != nil {
				t.Fatal(err)
			}
			if err := st.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if d := Diff(&c.Out, &w.Out); !(d < 2e-5) {
		t.Errorf("%+v in pieces %v: off by %g", s, pieces, d)
	}
	return st
}

func cut(v attn.View, at, n int) attn.View {
	v.Time, v.Data = n, v.Data[at*v.TimeStride:]
	return v
}

// Costs holds the scratch and saved bytes of Forward and Backward against what m declares, and the declared FLOPs
// against the pairs that sees counts one by one.
func Costs(t *testing.T, m attn.Differentiable, s attn.Shape, sees func(h attn.Head64, i, j int) bool) {
	t.Helper()
	c := New(s, nil, 4)
	pairs := int64(0)
	Wide(c).EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			for j := range h.Keys {
				if sees(h, i, j) {
					pairs++
				}
			}
		}
	})
	ws := attn.NewWorkspace()
	scratch := func(what string, c attn.Cost) {
		t.Helper()
		if want := c.Shared + int64(runtime.GOMAXPROCS(0))*c.PerWorker; ws.Peak() != want {
			t.Errorf("%+v: %s: scratch %d: declared %d", s, what, ws.Peak(), want)
		}
		ws.ResetPeak()
	}
	cost := m.Info().Cost
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	fwd, bwd := cost(s, attn.PassForward), cost(s, attn.PassBackward)
	scratch("forward", fwd)
	c.Saved = attn.NewSaved(new(attn.Arena))
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	if c.Saved.Bytes() != fwd.Saved {
		t.Errorf("%+v: saved %d: declared %d", s, c.Saved.Bytes(), fwd.Saved)
	}
	ws.ResetPeak()
	if err := m.Backward(ws, c, NewGrads(c, 1)); err != nil {
		t.Fatal(err)
	}
	scratch("backward", bwd)
	dk, dv := int64(s.KeyDim), int64(s.ValueDim)
	if want := 2 * pairs * (dk + dv); fwd.FLOPs != want {
		t.Errorf("%+v: forward of %d FLOPs: counted %d", s, fwd.FLOPs, want)
	}
	if want := 2 * pairs * (3*dk + 2*dv); bwd.FLOPs != want {
		t.Errorf("%+v: backward of %d FLOPs: counted %d", s, bwd.FLOPs, want)
	}
}
