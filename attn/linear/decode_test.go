package linear

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// piece returns tokens from to from+n of c.
func piece(c *attn.Call, from, n int) *attn.Call {
	p := *c
	p.QueryLen, p.KeyLen = n, n
	cut := func(v attn.View) attn.View {
		v.Time = n
		v.Data = v.Data[from*v.TimeStride:]
		return v
	}
	p.Q, p.K, p.V, p.Out = cut(c.Q), cut(c.K), cut(c.V), cut(c.Out)
	p.Extra = nil
	for _, x := range c.Extra {
		p.Extra = append(p.Extra, cut(x))
	}
	return &p
}

// extend decodes c in pieces and returns the state.
func extend(t fatal, m mechanism, c *attn.Call, pieces []int) attn.State {
	t.Helper()
	st, err := m.NewState(c.Shape)
	if err != nil {
		t.Fatal(err)
	}
	ws, at := attn.NewWorkspace(), 0
	for _, n := range pieces {
		if err := m.Extend(ws, st, piece(c, at, n)); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	return st
}

type fatal interface {
	Helper()
	Fatal(...any)
}

// BUGS 14: one pass, pieces and single tokens give the same outputs and the same final state.
func TestPieces(t *testing.T) {
	cuts := map[string][]int{
		"one": {97}, "growing": {1, 2, 3, 5, 8, 13, 21, 44}, "prompt and one": {96, 1},
		"singles": slices.Repeat([]int{1}, 97), "empty pieces": {0, 40, 0, 57}, "short then long": {15, 16, 66},
	}
	for _, spec := range specs {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 2, QueryLen: 97, KeyLen: 97, Heads: 4, KVHeads: 2, KeyDim: 9, ValueDim: 6, Mask: attn.Causal}
		c := newCall(m, s, 11, 0.2)
		info := m.Info()
		c.Final = make([]float32, s.Batch*info.Carry(s))
		w := wideCall(c)
		if err := m.Define(w); err != nil {
			t.Fatal(err)
		}
		for name, pieces := range cuts {
			d := *c
			d.Out = attn.NewView[float32](s.Batch, 97, s.Heads, s.ValueDim)
			d.Final = nil
			st := extend(t, m, &d, pieces).(interface{ Numbers() []float32 })
			if e := worst(d.Out.Data, w.Out.Data); !(e < 2e-5) {
				t.Errorf("%s %s: outputs differ by %.3g", spec, name, e)
			}
			if e := worst(st.Numbers(), w.Final); !(e < 2e-5) {
				t.Errorf("%s %s: states differ by %.3g", spec, name, e)
			}
		}
	}
}

func TestPiecesAtRandom(t *testing.T) {
	for _, spec := range []string{"linear:chunk=8", "gla:chunk=8", "fading:chunk=8"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 1, QueryLen: 60, KeyLen: 60, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
		c := newCall(m, s, 12, 1)
		w := wideCall(c)
		if err := m.Define(w); err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			var pieces []int
			for left := 60; left > 0; {
				n := rapid.IntRange(0, left).Draw(t, "n")
				pieces = append(pieces, n)
				left -= n
			}
			d := *c
			d.Out = attn.NewView[float32](1, 60, 2, 3)
			extend(t, m, &d, pieces)
			if e := worst(d.Out.Data, w.Out.Data); !(e < 2e-5) {
				t.Fatalf("%s %v: outputs differ by %.3g", spec, pieces, e)
			}
		})
	}
}

func TestDecodeCosts(t *testing.T) {
	for _, heads := range []int{1, 8} {
		for _, pieces := range [][]int{{1, 1, 1, 1}, {7, 9, 3}, {96, 1}, {150, 20}} {
			s := attn.Shape{Batch: 1, Heads: heads, KVHeads: heads, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}
			testcall.Decode(t, newMech(t, "linear"), s, pieces)
		}
	}
}

// BUGS 11: a row of a batch decodes as it does alone, whatever the others do and the padding holds.
func TestRaggedDecode(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 2, QueryLen: 40, KeyLen: 40, Heads: 2, KVHeads: 2, KeyDim: 5, ValueDim: 4, Mask: attn.Causal}
		c := newCall(m, s, 13, 0.5)
		lens := [][2]int{{3, 20}, {0, 1}, {17, 2}, {1, 0}}
		both, err := m.NewState(s)
		if err != nil {
			t.Fatal(err)
		}
		ws := attn.NewWorkspace()
		for b := range 2 {
			alone, err := m.NewState(with(s, 1))
			if err != nil {
				t.Fatal(err)
			}
			both.Reset(0)
			both.Reset(1)
			at := [2]int{}
			for _, l := range lens {
				n := max(l[0], l[1])
				p := padded(c, at, l, n)
				if err := m.Extend(ws, both, p); err != nil {
					t.Fatal(err)
				}
				one := piece(rowOf(c, b), at[b], l[b])
				one.Out = attn.NewView[float32](1, l[b], 2, 4)
				if err := m.Extend(ws, alone, one); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					for h := range 2 {
						got := p.Out.Row(b, i, h)
						want := make([]float32, 4)
						if i < l[b] {
							want = one.Out.Row(0, i, h)
						}
						if !slices.Equal(got, want) {
							t.Fatalf("%s row %d, %v: token %d: %v alone %v", spec, b, l, i, got, want)
						}
					}
				}
				at[0], at[1] = at[0]+l[0], at[1]+l[1]
			}
			if both.Len(b) != 21 && both.Len(b) != 23 || alone.Len(0) != both.Len(b) {
				t.Errorf("row %d has %d tokens", b, both.Len(b))
			}
		}
	}
}

func with(s attn.Shape, batch int) attn.Shape {
	s.Batch = batch
	return s
}

func rowOf(c *attn.Call, b int) *attn.Call {
	p := *c
	p.Batch = 1
	cut := func(v attn.View) attn.View {
		v.Batch, v.Data = 1, v.Data[b*v.BatchStride:]
		return v
	}
	p.Q, p.K, p.V = cut(c.Q), cut(c.K), cut(c.V)
	p.Extra = nil
	for _, x := range c.Extra {
		p.Extra = append(p.Extra, cut(x))
	}
	return &p
}

// padded returns the next l[b] tokens of each row of c from at[b] on, in rows of n tokens with 1e9 in the padding.
func padded(c *attn.Call, at, l [2]int, n int) *attn.Call {
	p := *c
	p.QueryLen, p.KeyLen = n, n
	p.Segments = nil
	for b := range 2 {
		if l[b] > 0 {
			p.Segments = append(p.Segments, attn.Segment{Row: b, Queries: l[b], Keys: l[b]})
		}
	}
	take := func(v attn.View) attn.View {
		w := attn.NewView[float32](2, n, v.Heads, v.Dim)
		for i := range w.Data {
			w.Data[i] = 1e9
		}
		for b := range 2 {
			for i := range l[b] {
				for h := range v.Heads {
					copy(w.Row(b, i, h), v.Row(b, at[b]+i, h))
				}
			}
		}
		return w
	}
	p.Q, p.K, p.V = take(c.Q), take(c.K), take(c.V)
	p.Extra = nil
	for _, x := range c.Extra {
		p.Extra = append(p.Extra, take(x))
	}
	p.Out = attn.NewView[float32](2, n, c.Heads, c.ValueDim)
	return &p
}

// Cross attention fills the state once and reads it in later calls without keys.
func TestCrossDecode(t *testing.T) {
	m := newMech(t, "linear")
	s := attn.Shape{Batch: 1, QueryLen: 30, KeyLen: 70, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Cross}
	c := newCall(m, s, 14, 0)
	w := wideCall(c)
	if err := m.Define(w); err != nil {
		t.Fatal(err)
	}
	st, err := m.NewState(s)
	if err != nil {
		t.Fatal(err)
	}
	ws := attn.NewWorkspace()
	for i := range 30 {
		p := piece(c, 0, 70)
		p.Q, p.Out = piece(c, i, 1).Q, piece(c, i, 1).Out
		p.QueryLen = 1
		if i > 0 {
			p.KeyLen = 0
			p.K.Time, p.V.Time = 0, 0
		}
		if err := m.Extend(ws, st, p); err != nil {
			t.Fatal(err)
		}
	}
	if e := worst(c.Out.Data, w.Out.Data); !(e < 2e-5) {
		t.Errorf("outputs differ by %.3g", e)
	}
}

// More queries than new keys: the first may see the state alone.
func TestExtendLooksBack(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		for _, n := range []int{1, 20} {
			s := attn.Shape{Batch: 1, QueryLen: 30, KeyLen: 30, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
			c := newCall(m, s, 15, 0.5)
			w := wideCall(c)
			if err := m.Define(w); err != nil {
				t.Fatal(err)
			}
			st := extend(t, m, c, []int{5})
			p := piece(c, 5, n)
			q := piece(c, 4, n+1)
			p.Q, p.Out, p.QueryLen = q.Q, q.Out, n+1
			for i := range p.Out.Data {
				p.Out.Data[i] = float32(math.NaN())
			}
			ws := attn.NewWorkspace()
			if err := m.Extend(ws, st, p); err != nil {
				t.Fatal(err)
			}
			if e := worst(p.Out.Data[:(n+1)*6], w.Out.Data[4*6:(5+n)*6]); !(e < 2e-5) {
				t.Errorf("%s %d: outputs differ by %.3g", spec, n, e)
			}
			before := slices.Clone(st.(interface{ Numbers() []float32 }).Numbers())
			q = piece(c, 5, 0)
			q.Q, q.Out, q.QueryLen = piece(c, 0, 2).Q, piece(c, 0, 2).Out, 2
			if err := m.Extend(ws, st, q); err == nil {
				t.Errorf("%s: two queries without keys: no error", spec)
			}
			if st.Len(0) != 5+n || !slices.Equal(before, st.(interface{ Numbers() []float32 }).Numbers()) {
				t.Errorf("%s: an error changed the state", spec)
			}
		}
	}
}

func TestState(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 3, QueryLen: 20, KeyLen: 20, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
		c := newCall(m, s, 16, 0.5)
		st := extend(t, m, c, []int{20})
		info := m.Info()
		cost := info.Cost(s, attn.PassDecode)
		if st.Bytes() != cost.State || st.ReadBytes() != cost.Read || cost.State != int64(4*3*info.Carry(s)) {
			t.Errorf("%s: state of %d bytes, %d read: cost says %d, %d", spec, st.Bytes(), st.ReadBytes(), cost.State, cost.Read)
		}
		data, err := st.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Reorder([]int{2, 0, 0}); err != nil {
			t.Fatal(err)
		}
		other, _ := m.NewState(s)
		if err := other.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		n := info.Carry(s)
		x, y := st.(interface{ Numbers() []float32 }).Numbers(), other.(interface{ Numbers() []float32 }).Numbers()
		if !slices.Equal(x[:n], y[2*n:]) || !slices.Equal(x[n:2*n], y[:n]) || !slices.Equal(x[2*n:], y[:n]) {
			t.Errorf("%s: reordered rows are others", spec)
		}
		for _, from := range [][]int{{0}, {0, 1, 3}, {-1, 0, 0}} {
			if err := st.Reorder(from); err == nil {
				t.Errorf("%s: reorder %v: no error", spec, from)
			}
		}
		other.Reset(1)
		if other.Len(1) != 0 || other.Len(0) != 20 {
			t.Errorf("%s: reset: lengths %d, %d", spec, other.Len(0), other.Len(1))
		}
		for i, bad := range [][]byte{nil, data[:len(data)-1], append(slices.Clone(data), 0), bytes.Replace(data, []byte("state 1"), []byte("state 9"), 1), bytes.Replace(data, []byte(spec), []byte("full"), 1)} {
			before, _ := st.MarshalBinary()
			if err := st.UnmarshalBinary(bad); err == nil {
				t.Errorf("%s: bad data %d: no error", spec, i)
			}
			if after, _ := st.MarshalBinary(); !bytes.Equal(before, after) {
				t.Errorf("%s: bad data %d changed the state", spec, i)
			}
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	m := newMech(f, "gla")
	s := attn.Shape{Batch: 1, Heads: 1, KVHeads: 1, KeyDim: 2, ValueDim: 2, Mask: attn.Causal}
	st, err := m.NewState(s)
	if err != nil {
		f.Fatal(err)
	}
	data, _ := st.MarshalBinary()
	f.Add(data)
	f.Add(data[:10])
	f.Fuzz(func(t *testing.T, data []byte) {
		st, _ := m.NewState(s)
		if err := st.UnmarshalBinary(data); err != nil {
			return
		}
		back, err := st.MarshalBinary()
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("read and written again: other bytes (%v)", err)
		}
	})
}
