package linear

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// series returns a call of one head with the given rows of q, k, v (and g), one number each.
func series(mask attn.Mask, x ...[]float32) *attn.Call {
	n := len(x[0])
	c := &attn.Call{Shape: attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: mask}}
	c.Q, c.K, c.V = attn.ViewAs(x[0], 1, n, 1, 1), attn.ViewAs(x[1], 1, n, 1, 1), attn.ViewAs(x[2], 1, n, 1, 1)
	for _, e := range x[3:] {
		c.Extra = append(c.Extra, attn.ViewAs(e, 1, n, 1, 1))
	}
	c.Out = attn.NewView[float32](1, n, 1, 1)
	return c
}

func near(x, y []float32, tol float64) bool {
	return slices.EqualFunc(x, y, func(a, b float32) bool { return math.Abs(float64(a-b)) <= tol })
}

func constant(n int, x float32) []float32 { return slices.Repeat([]float32{x}, n) }

func TestKnownValues(t *testing.T) {
	zero := constant(4, 0)
	long := make([]float32, 191)
	for i := range long {
		long[i] = float32(i + 1)
	}
	for _, tc := range []struct {
		name, spec string
		c          *attn.Call
		want       []float32
		tol        float64
	}{
		{"BUGS 17 causal: a running mean", "linear", series(attn.Causal, zero, zero, []float32{4, 8, 0, 4}), []float32{4, 6, 4, 4}, 1e-5},
		{"BUGS 17 bidirectional: the mean", "linear", series(attn.Bidirectional, zero, zero, []float32{4, 8, 0, 4}), []float32{4, 4, 4, 4}, 1e-5},
		{"BUGS 17 keys that map to 0", "linear:map=relu", series(attn.Causal, constant(4, 1), constant(4, -1), []float32{4, 8, 0, 4}), zero, 0},
		{"BUGS 17 keys that map to 0, no eps", "linear:map=relu,eps=0", series(attn.Causal, constant(4, 1), constant(4, -1), []float32{4, 8, 0, 4}), zero, 0},
		{"BUGS 13 ones", "linear:map=identity,normalize=false", series(attn.Causal, constant(191, 1), constant(191, 1), constant(191, 1)), long, 0},
		{"BUGS 13 ones, without decay", "gla", series(attn.Causal, constant(191, 1), constant(191, 1), constant(191, 1), constant(191, 0)), long, 0},
		{"BUGS 12 weak beside strong", "gla", series(attn.Causal, constant(3, 1), []float32{0, 1, 0}, []float32{0, 1, 0}, []float32{-20000, -0.001, -0.001}), []float32{0, 1, 0.9990005}, 6e-8},
		{"BUGS 16 read after write, decay of the old state alone", "gla", series(attn.Causal, constant(2, 1), []float32{2, 1}, []float32{1, 3}, []float32{-9, -math.Ln2}), []float32{2, 4}, 3e-7},
		{"a decay to nothing", "gla", series(attn.Causal, constant(3, 1), constant(3, 1), constant(3, 1), []float32{0, float32(math.Inf(-1)), 0}), []float32{1, 1, 2}, 0},
	} {
		m := newMech(t, tc.spec)
		if tc.spec == "gla" { // one channel: the same with one decay a head
			c := *tc.c
			c.Out = attn.NewView[float32](1, c.QueryLen, 1, 1)
			if err := newMech(t, "fading").Forward(attn.NewWorkspace(), &c); err != nil {
				t.Fatal(err)
			}
			if !near(c.Out.Data, tc.want, tc.tol) {
				t.Errorf("%s, one decay a head: %v: want %v", tc.name, c.Out.Data, tc.want)
			}
		}
		if err := m.Forward(attn.NewWorkspace(), tc.c); err != nil {
			t.Fatal(err)
		}
		if !near(tc.c.Out.Data, tc.want, tc.tol) {
			t.Errorf("%s: %v: want %v", tc.name, tc.c.Out.Data, tc.want)
		}
		if tc.c.Mask != attn.Causal {
			continue
		}
		clear(tc.c.Out.Data)
		extend(t, m, tc.c, slices.Repeat([]int{1}, tc.c.QueryLen))
		if !near(tc.c.Out.Data, tc.want, tc.tol) {
			t.Errorf("%s: token by token %v: want %v", tc.name, tc.c.Out.Data, tc.want)
		}
	}
}

// BUGS 17: padding is left out of the sums, which a zeroed key would not be: φ(0) = 1.
func TestPaddingIsNotSummed(t *testing.T) {
	for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
		c := series(mask, constant(4, 0), constant(4, 0), []float32{4, 8, 0, 0})
		c.Segments = attn.Lengths([]int{4}, []int{2})
		if mask == attn.Causal {
			c.Segments = attn.Lengths([]int{2}, []int{2})
		}
		if err := newMech(t, "linear").Forward(attn.NewWorkspace(), c); err != nil {
			t.Fatal(err)
		}
		if got := c.Out.Data[1]; math.Abs(float64(got)-6) > 1e-5 {
			t.Errorf("%v: %v: want 6", mask, got)
		}
	}
}

// BUGS 17: where a denominator is 0, gradients are 0 and not NaN.
func TestZeroDenominatorGradients(t *testing.T) {
	for _, spec := range []string{"linear:map=relu", "linear:map=relu,eps=0"} {
		m := newMech(t, spec)
		for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional, attn.Cross} {
			c := series(mask, constant(70, 1), constant(70, -1), constant(70, 3))
			g := newGrads(c, 1)
			backward(t, m, c, g)
			for _, v := range []attn.View{g.Q, g.K, g.V} {
				if !slices.Equal(v.Data, constant(70, 1)) {
					t.Errorf("%s %v: gradients of a zero denominator: %v", spec, mask, v.Data)
				}
			}
		}
	}
}

// BUGS 11: garbage in the padding reaches neither output, final state nor gradient, to the bit.
func TestPaddingBits(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 2, QueryLen: 5, KeyLen: 5, Heads: 2, KVHeads: 1, KeyDim: 3, ValueDim: 4, Mask: attn.Causal}
		c := padded(newCall(m, s, 3, 1), [2]int{}, [2]int{3, 5}, 5)
		info := m.Info()
		n := info.Carry(s)
		c.Final = make([]float32, 2*n)
		g := newGrads(c, 4)
		g.Final = nil
		backward(t, m, c, g)
		one := piece(rowOf(c, 0), 0, 3)
		one.Segments, one.Final, one.Out = nil, make([]float32, n), attn.NewView[float32](1, 3, 2, 4)
		h := newGrads(one, 4)
		h.Final, h.Out = nil, piece(&attn.Call{Shape: s, Out: g.Out}, 0, 3).Out
		h.Out.Batch = 1
		backward(t, m, one, h)
		if !slices.Equal(one.Final, c.Final[:n]) {
			t.Errorf("%s: other final state", spec)
		}
		for i := range 5 {
			for head := range 2 {
				want, dq := make([]float32, 4), constant(3, 1)
				if i < 3 {
					want, dq = one.Out.Row(0, i, head), h.Q.Row(0, i, head)
				}
				if !slices.Equal(c.Out.Row(0, i, head), want) || !slices.Equal(g.Q.Row(0, i, head), dq) {
					t.Errorf("%s: token %d: output %v, dq %v: alone %v, %v", spec, i, c.Out.Row(0, i, head), g.Q.Row(0, i, head), want, dq)
				}
			}
			if i >= 3 && (!slices.Equal(g.K.Row(0, i, 0), constant(3, 1)) || !slices.Equal(g.V.Row(0, i, 0), constant(4, 1))) {
				t.Errorf("%s: gradient in the padding", spec)
			}
		}
	}
}

// The declared operations are those of the recurrence; pairs within chunks take some more.
func TestFLOPs(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		info := m.Info()
		s := attn.Shape{Batch: 1, QueryLen: 512, KeyLen: 512, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64, Mask: attn.Causal}
		c := newCall(m, s, 7, 1)
		ws := attn.NewWorkspace()
		g := newGrads(c, 1)
		c.Saved = attn.NewSaved(new(attn.Arena))
		st, err := m.NewState(s)
		if err != nil {
			t.Fatal(err)
		}
		one := piece(c, 0, 1)
		one.Saved = nil
		for _, tc := range []struct {
			name string
			cost attn.Cost
			run  func() error
			most float64
		}{
			{"forward", info.Cost(s, attn.PassForward), func() error { return m.Forward(ws, c) }, 1.6},
			{"backward", info.Cost(s, attn.PassBackward), func() error { return m.Backward(ws, c, g) }, 2.7},
			{"decode", info.Cost(one.Shape, attn.PassDecode), func() error { return m.Extend(ws, st, one) }, 1},
		} {
			var err error
			n := kernel.CountFLOPs(func() { err = tc.run() })
			if err != nil {
				t.Fatal(err)
			}
			if x := float64(n) / float64(tc.cost.FLOPs); x < 0.98 || x > tc.most {
				t.Errorf("%s %s: %d FLOPs, %.2f of the %d declared", spec, tc.name, n, x, tc.cost.FLOPs)
			}
		}
	}
}

// NaN and Inf in token j reach only rows that may see j; what the others give keeps its bits.
func TestNonFinite(t *testing.T) {
	for _, spec := range []string{"linear", "linear:normalize=false,map=relu", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 2, QueryLen: 130, KeyLen: 130, Heads: 2, KVHeads: 2, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
			for _, at := range []int{0, 1, 63, 70, 127} {
				good := newCall(m, s, 8, 1)
				good.Segments = []attn.Segment{{Row: 0, Queries: 129, Keys: 129}, {Row: 1, Queries: 130, Keys: 130}}
				ws := attn.NewWorkspace()
				if err := m.Forward(ws, good); err != nil {
					t.Fatal(err)
				}
				inputs := 3 + len(good.Extra)
				for in := range inputs {
					c := newCall(m, s, 8, 1)
					c.Segments = good.Segments
					v := slices.Concat([]attn.View{c.Q, c.K, c.V}, c.Extra)[in]
					v.Row(0, at, 1)[v.Dim/2] = bad
					if err := m.Forward(ws, c); err != nil {
						t.Fatal(err)
					}
					for b := range 2 {
						for i := range 130 {
							for h := range 2 {
								sees := b == 0 && h == 1 && i >= at && (in > 0 || i == at)
								if x, y := c.Out.Row(b, i, h), good.Out.Row(b, i, h); !sees && !slices.Equal(x, y) {
									t.Fatalf("%s: %v in input %d of token %d: row %d token %d head %d is %v, was %v", spec, bad, in, at, b, i, h, x, y)
								}
							}
						}
					}
				}
			}
		}
	}
}

// Changing a later token changes no earlier output, to the bit.
func TestCausality(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 1, QueryLen: 140, KeyLen: 140, Heads: 1, KVHeads: 1, KeyDim: 5, ValueDim: 3, Mask: attn.Causal}
		first := newCall(m, s, 9, 1)
		ws := attn.NewWorkspace()
		if err := m.Forward(ws, first); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{1, 2, 31, 32, 63, 64, 65, 100, 139} {
			c, other := newCall(m, s, 9, 1), newCall(m, s, 10, 1)
			for i := at; i < 140; i++ {
				copy(c.K.Row(0, i, 0), other.K.Row(0, i, 0))
				copy(c.V.Row(0, i, 0), other.V.Row(0, i, 0))
				for j := range c.Extra {
					copy(c.Extra[j].Row(0, i, 0), other.Extra[j].Row(0, i, 0))
				}
			}
			if err := m.Forward(ws, c); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(c.Out.Data[:at*3], first.Out.Data[:at*3]) {
				t.Errorf("%s: token %d changes earlier outputs", spec, at)
			}
		}
	}
}

// The limit of gla: without decay it is linear attention without map and normaliser.
func TestLimit(t *testing.T) {
	m := newMech(t, "gla:chunk=16")
	info := m.Info()
	l := info.Limits[0]
	c := newCall(m, attn.Shape{Batch: 1, QueryLen: 50, KeyLen: 60, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}, 3, 1)
	w := wideCall(c)
	l.Prepare(w)
	if err := newMech(t, l.Spec(c.Shape)).Define(w); err != nil {
		t.Fatal(err)
	}
	p := l.Convert(w)
	p.Out = attn.NewView[float64](1, 50, 2, 3)
	if err := newMech(t, l.Equals).Define(p); err != nil {
		t.Fatal(err)
	}
	for i, x := range p.Out.Data {
		if math.Abs(x-w.Out.Data[i]) > 1e-12 {
			t.Fatalf("element %d: %v and %v", i, x, w.Out.Data[i])
		}
	}
}

// TestOutputGate: the option is the activation that the layer is told of.
func TestOutputGate(t *testing.T) {
	for _, name := range []string{"retnet", "gla", "gateddeltanet"} {
		for options, want := range map[string]attn.Activation{"": attn.SiLU, ":gate=silu": attn.SiLU, ":gate=sigmoid": attn.Sigmoid} {
			if got := newMech(t, name+options).Info().Output.Gate; got != want {
				t.Errorf("%s%s: gate %q: want %q", name, options, got, want)
			}
		}
		if _, err := attn.New(name + ":gate=relu"); err == nil || !strings.Contains(err.Error(), "silu or sigmoid") {
			t.Errorf("%s:gate=relu: error %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, spec := range []string{"linear:chunk=0", "linear:chunk=5000", "linear:map=tanh", "linear:eps=-1", "gla:chunk=-1", "gla:eps=1"} {
		if _, err := attn.New(spec); err == nil {
			t.Errorf("%s: no error", spec)
		}
	}
	m := newMech(t, "gla")
	for _, mask := range []attn.Mask{attn.Bidirectional, attn.Cross} {
		s := attn.Shape{Batch: 1, QueryLen: 1, KeyLen: 1, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: mask}
		if err := m.Forward(attn.NewWorkspace(), newCall(m, s, 1, 1)); err == nil {
			t.Errorf("gla %v: no error", mask)
		}
		if _, err := m.NewState(s); err == nil {
			t.Errorf("gla %v: a state without error", mask)
		}
	}
}

// BUGS 25: two goroutines share one mechanism with their own workspaces.
func TestShared(t *testing.T) {
	m := newMech(t, "gla")
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() {
			s := attn.Shape{Batch: 1, QueryLen: 70 + i, KeyLen: 70 + i, Heads: 2, KVHeads: 2, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
			c := newCall(m, s, 3, 1)
			backward(t, m, c, newGrads(c, 3))
		})
	}
	wait.Wait()
}

// A call after the first allocates nothing.
func TestNoAllocation(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		for _, heads := range []int{1, 8} {
			s := attn.Shape{Batch: 1, QueryLen: 130, KeyLen: 130, Heads: heads, KVHeads: heads, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
			c, one := newCall(m, s, 3, 1), newCall(m, s, 3, 1)
			one = piece(one, 0, 1)
			g := newGrads(c, 3)
			ws, arena := attn.NewWorkspace(), new(attn.Arena)
			c.Saved = attn.NewSaved(arena)
			st, err := m.NewState(s)
			if err != nil {
				t.Fatal(err)
			}
			run := func() {
				arena.Reset()
				c.Saved.Reset()
				if m.Forward(ws, c) != nil || m.Backward(ws, c, g) != nil || m.Extend(ws, st, one) != nil {
					t.Fatal("error")
				}
			}
			for range 20 {
				run()
			}
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			for range 20 {
				run()
			}
			runtime.ReadMemStats(&b)
			if n := b.Mallocs - a.Mallocs; n > 10 {
				t.Errorf("%s, %d heads: %d heap allocations in 20 warm calls", spec, heads, n)
			}
		}
	}
}
