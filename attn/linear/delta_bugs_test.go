package linear

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"attnbench/attn"
)

// deltaCall returns a call of unit queries and keys, normal values, β in (0, most), and log decays -dt (A is 0) that fill writes.
func deltaCall(m mechanism, s attn.Shape, seed uint64, most float64, fill func(j int, dt []float32)) *attn.Call {
	c := newCall(m, s, seed, 0)
	info, r := m.Info(), rand.New(rand.NewPCG(seed, 9))
	rows := func(v attn.View, f func(t int, row []float32)) {
		for b := range v.Batch {
			for t := range v.Time {
				for h := range v.Heads {
					f(t, v.Row(b, t, h))
				}
			}
		}
	}
	toUnit := func(_ int, row []float32) {
		n := 0.0
		for _, x := range row {
			n += float64(x) * float64(x)
		}
		for i := range row {
			row[i] /= float32(math.Sqrt(n))
		}
	}
	rows(c.Q, toUnit)
	rows(c.K, toUnit)
	extra := 0
	for _, in := range info.Inputs {
		switch in.Name {
		case "q", "k", "v":
			continue
		case "beta":
			rows(c.Extra[extra], func(_ int, row []float32) { row[0] = float32(most * r.Float64()) })
		case "dt":
			rows(c.Extra[extra], fill)
		}
		extra++
	}
	for _, x := range c.Learned {
		clear(x)
	}
	return c
}

func defined(t *testing.T, m mechanism, c *attn.Call) *attn.Call64 {
	t.Helper()
	w := wideCall(c)
	if err := m.Define(w); err != nil {
		t.Fatal(err)
	}
	return w
}

// one returns a call of d = 1 with an initial state.
func one(initial float32, learned int, x ...[]float32) *attn.Call {
	c := series(attn.Causal, x...)
	c.Initial, c.Final = []float32{initial}, make([]float32, 1)
	if learned > 0 {
		c.Learned = [][]float32{make([]float32, learned)}
	}
	return c
}

// BUGS 15: the gradient of β, with and without decay.
func TestBetaGradient(t *testing.T) {
	ones := []float32{1, 1}
	for _, spec := range []string{"deltanet", "gateddeltanet", "kda"} {
		m := newMech(t, spec)
		c := one(1, 0, ones, ones, []float32{2, 5}, []float32{0.5, 0.8})
		if spec != "deltanet" {
			c = one(1, 1, ones, ones, []float32{2, 5}, []float32{0, 0}, []float32{0.5, 0.8})
		}
		g := newGrads(c, 1)
		copy(g.Out.Data, ones)
		g.Final[0] = 0
		if len(c.Learned) > 0 {
			g.Learned = [][]float32{make([]float32, 1)}
		}
		backward(t, m, c, g)
		if !near(c.Out.Data, []float32{1.5, 4.3}, 1e-6) {
			t.Errorf("%s: outputs %v: want 1.5 and 4.3", spec, c.Out.Data)
		}
		db := g.Extra[len(g.Extra)-1].Data // newGrads holds ones
		if !near(db, []float32{2.2, 4.5}, 1e-6) || !near(g.Initial, []float32{1.6}, 1e-6) {
			t.Errorf("%s: gradients of β and the initial state, and 1: %v, %v: want 2.2, 4.5 and 1.6", spec, db, g.Initial)
		}
	}
}

// BUGS 16: the state decays before its error is taken. RWKV-7 decays and erases the old state at once.
func TestDecayThenError(t *testing.T) {
	ln2, x := []float32{math.Ln2}, []float32{1}
	for _, spec := range []string{"gateddeltanet", "kda"} {
		for beta, want := range map[float32]float32{1: 3, 0.5: 2} {
			c := one(2, 1, x, x, []float32{3}, ln2, []float32{beta})
			if err := newMech(t, spec).Forward(attn.NewWorkspace(), c); err != nil {
				t.Fatal(err)
			}
			if !near(c.Final, []float32{want}, 1e-6) || !near(c.Out.Data, []float32{want}, 1e-6) {
				t.Errorf("%s, β %v: state %v, output %v: want %v", spec, beta, c.Final, c.Out.Data, want)
			}
		}
	}
	zero := []float32{0}
	c := one(2, 0, x, x, []float32{4}, []float32{-math.Ln2}, []float32{0.25}, zero, zero, x)
	c.Learned = [][]float32{{1}, {1}, {0}, {1}, {0}}
	if err := newMech(t, "rwkv7").Forward(attn.NewWorkspace(), c); err != nil {
		t.Fatal(err)
	}
	if !near(c.Final, []float32{1.5}, 1e-6) { // 2·½ - ¼·2 + ¼·4; erased after the decay it would be 1.75
		t.Errorf("rwkv7: state %v: want 1.5", c.Final)
	}
}

// A delta rule recalls what it wrote last at each of d orthonormal keys, exactly, though it wrote there before.
func TestRecall(t *testing.T) {
	const d, n = 16, 48
	for _, spec := range []string{"deltanet", "deltanet:chunk=7", "gateddeltanet", "kda"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 1, QueryLen: n + d, KeyLen: n + d, Heads: 1, KVHeads: 1, KeyDim: d, ValueDim: d, Mask: attn.Causal}
		c := deltaCall(m, s, 3, 1, func(_ int, dt []float32) { clear(dt) })
		house := c.Q.Row(0, 0, 0) // I - 2 u uᵀ is orthonormal
		key := func(i int, dst []float32) {
			for a := range dst {
				if dst[a] = -2 * house[a] * house[i]; a == i {
					dst[a]++
				}
			}
		}
		u := slices.Clone(house)
		house = u
		for t := range n + d {
			key((5*t)%d, c.K.Row(0, t, 0))
			c.Extra[len(c.Extra)-1].Row(0, t, 0)[0] = 1
			if t >= n { // these ask, and write nothing
				key(t-n, c.Q.Row(0, t, 0))
				c.Extra[len(c.Extra)-1].Row(0, t, 0)[0] = 0
			}
		}
		if err := m.Forward(attn.NewWorkspace(), c); err != nil {
			t.Fatal(err)
		}
		for i := range d {
			last := n - 1
			for (5*last)%d != i {
				last--
			}
			for b, v := range c.V.Row(0, last, 0) {
				if got := c.Out.Row(0, n+i, 0)[b] * 4; math.Abs(float64(got-v)) > 2e-6 { // 4 = √d
					t.Errorf("%s, key %d, element %d: recalls %g: want %g", spec, i, b, got, v)
				}
			}
		}
	}
}

// The stated error of forward against the definition, relative to 1 + the largest output, whatever the decays and the length.
const deltaError = 1e-5

// Weak to strong decays, steady and mixed, over a long sequence.
func TestDeltaStability(t *testing.T) {
	n := 2000
	if !testing.Short() {
		n = 30_000
	}
	for _, spec := range []string{"gateddeltanet", "kda", "kda:negative=true", "deltanet:negative=true"} {
		m := newMech(t, spec)
		for _, decay := range []float32{1e-7, 1e-4, 0.01, 1, 20, -1} {
			r := rand.New(rand.NewPCG(5, 6))
			s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 6, ValueDim: 3, Mask: attn.Causal}
			most := 1.0
			if len(spec) > 14 {
				most = 2
			}
			c := deltaCall(m, s, 7, most, func(_ int, dt []float32) {
				for i := range dt {
					if dt[i] = decay; decay < 0 { // between 1e-7 and 20
						dt[i] = float32(math.Exp(math.Log(1e-7) + r.Float64()*math.Log(2e8)))
					}
				}
			})
			w := defined(t, m, c)
			if err := m.Forward(attn.NewWorkspace(), c); err != nil {
				t.Fatal(err)
			}
			if e := worst(c.Out.Data, w.Out.Data); !(e < deltaError) {
				t.Errorf("%s, decay %g: output differs by %.3g", spec, decay, e)
			}
		}
	}
}

// Chunks, single tokens and any mixture of both agree with the definition.
func TestDeltaChunkings(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, name := range []string{"deltanet", "gateddeltanet", "kda", "rwkv7"} {
		for _, chunk := range []int{1, 5, 16, 31, 64, 100} {
			m := newMech(t, fmt.Sprintf("%s:chunk=%d", name, chunk))
			const n = 203
			s := attn.Shape{Batch: 2, QueryLen: n, KeyLen: n, Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 5, Mask: attn.Causal}
			c := deltaCall(m, s, 11, 1, func(j int, dt []float32) {
				for i := range dt {
					dt[i] = float32(j%7) * 0.2
				}
			})
			if name == "rwkv7" {
				for i, x := range c.Extra[rwkvW].Data {
					c.Extra[rwkvW].Data[i] = -0.6 / (1 + x*x)
					c.Extra[rwkvA].Data[i] = 1 / (1 + c.Extra[rwkvA].Data[i]*c.Extra[rwkvA].Data[i])
				}
				for i := range c.Learned {
					for j := range c.Learned[i] {
						c.Learned[i][j] = 0.5 + float32(j%3)/4
					}
				}
			}
			w := defined(t, m, c)
			check := func(what string) {
				t.Helper()
				if e := worst(c.Out.Data, w.Out.Data); !(e < deltaError) {
					t.Errorf("%s, chunk %d, %s: output differs by %.3g", name, chunk, what, e)
				}
				clear(c.Out.Data)
			}
			if err := m.Forward(attn.NewWorkspace(), c); err != nil {
				t.Fatal(err)
			}
			check("whole")
			for range 3 {
				var pieces []int
				for at := 0; at < n; {
					p := min(1+r.IntN(1+r.IntN(90)), n-at)
					pieces, at = append(pieces, p), at+p
				}
				extend(t, m, c, pieces)
				check(fmt.Sprint("pieces ", pieces))
			}
		}
	}
}

// MesaNet by hand, and its steps against elimination where nothing fades and the state has seen many tokens.
func TestMesaNet(t *testing.T) {
	m := newMech(t, "mesanet")
	c := series(attn.Causal, []float32{1, 1}, []float32{1, 1}, []float32{2, 8}, []float32{-5, -math.Ln2}, []float32{0.5, 0.75})
	c.Learned = [][]float32{{float32(math.Log(math.Expm1(0.75)))}} // λ = 1
	if err := m.Forward(attn.NewWorkspace(), c); err != nil {
		t.Fatal(err)
	}
	// H = 0.5, G = 1; then H = 0.25 + 0.75, G = 0.5 + 6.
	if !near(c.Out.Data, []float32{1 / 1.5, 6.5 / 2}, 1e-6) {
		t.Errorf("outputs %v: want 0.66667 and 3.25", c.Out.Data)
	}
	n := 1000
	if testing.Short() {
		n = 200
	}
	s := attn.Shape{Batch: 1, QueryLen: 2, KeyLen: n, Heads: 2, KVHeads: 1, KeyDim: 48, ValueDim: 8, Mask: attn.Causal}
	c = deltaCall(m, s, 3, 1, nil)
	for i := range c.Extra[0].Data {
		c.Extra[0].Data[i] = 0
	}
	w := defined(t, m, c)
	if err := m.Forward(attn.NewWorkspace(), c); err != nil {
		t.Fatal(err)
	}
	for i, x := range w.Out.Data { // outputs are below 1: relative to the largest
		w.Out.Data[i], c.Out.Data[i] = x*100, c.Out.Data[i]*100
	}
	if e := worst(c.Out.Data, w.Out.Data); !(e < deltaError) {
		t.Errorf("%d tokens: output differs by %.3g of %.3g", n, e, slices.Max(w.Out.Data))
	}
}
