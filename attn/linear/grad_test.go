package linear

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"attnbench/attn"
)

// newGrads returns gradients for c: normal for the output (and Final), 1 throughout for the inputs,
// since Backward adds.
func newGrads(c *attn.Call, seed uint64) *attn.Grads {
	r := rand.New(rand.NewPCG(seed, 3))
	g := &attn.Grads{
		Out: attn.NewView[float32](c.Batch, c.QueryLen, c.Heads, c.ValueDim),
		Q:   ones(c.Q), K: ones(c.K), V: ones(c.V),
	}
	for i := range g.Out.Data {
		g.Out.Data[i] = float32(r.NormFloat64())
	}
	for _, x := range c.Extra {
		g.Extra = append(g.Extra, ones(x))
	}
	for _, x := range c.Learned {
		g.Learned = append(g.Learned, slices.Repeat([]float32{1}, len(x)))
	}
	if c.Final != nil {
		g.Final = make([]float32, len(c.Final))
		for i := range g.Final {
			g.Final[i] = float32(r.NormFloat64())
		}
	}
	if c.Initial != nil {
		g.Initial = make([]float32, len(c.Initial))
		for i := range g.Initial {
			g.Initial[i] = 1
		}
	}
	return g
}

func ones(v attn.View) attn.View {
	w := attn.NewView[float32](v.Batch, v.Time, v.Heads, v.Dim)
	for i := range w.Data {
		w.Data[i] = 1
	}
	return w
}

// loss is Σ g.Out·out + Σ g.Final·final by the definition.
func loss(t *testing.T, m mechanism, c *attn.Call64, g *attn.Grads) float64 {
	t.Helper()
	if err := m.Define(c); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, x := range c.Out.Data {
		sum += x * float64(g.Out.Data[i])
	}
	for i, x := range g.Final {
		sum += float64(x) * c.Final[i]
	}
	return sum
}

func backward(t *testing.T, m mechanism, c *attn.Call, g *attn.Grads) (saved int64) {
	t.Helper()
	ws := attn.NewWorkspace()
	c.Saved = attn.NewSaved(new(attn.Arena))
	if err := m.Forward(ws, c); err != nil {
		t.Fatal(err)
	}
	if err := m.Backward(ws, c, g); err != nil {
		t.Fatal(err)
	}
	saved = c.Saved.Bytes()
	c.Saved = nil
	return saved
}

// checkGrads compares the gradients with central differences of the definition, along directions
// in one input at a time; element by element when there are few.
func checkGrads(t *testing.T, m mechanism, c *attn.Call, g *attn.Grads) {
	t.Helper()
	w := wideCall(c)
	views := []attn.View64{w.Q, w.K, w.V}
	grads := []attn.View{g.Q, g.K, g.V}
	names := []string{"q", "k", "v"}
	for i := range w.Extra {
		names = append(names, fmt.Sprint("extra ", i))
		views, grads = append(views, w.Extra[i]), append(grads, g.Extra[i])
	}
	r := rand.New(rand.NewPCG(9, 9))
	try := func(name string, elements int, x func(i int) *float64, d func(i int) float64) {
		norm := 0.0
		for i := range elements {
			norm += d(i) * d(i)
		}
		norm = math.Sqrt(norm / float64(max(1, elements)))
		tries := 3
		if elements <= 12 {
			tries = elements
		}
		for k := range tries {
			dir := make([]float64, elements)
			for i := range dir {
				dir[i] = r.NormFloat64()
				if elements <= 12 {
					dir[i] = 0
				}
			}
			if elements <= 12 {
				dir[k] = 1
			}
			const h = 1e-5
			move := func(by float64) {
				for i, e := range dir {
					*x(i) += by * e
				}
			}
			move(h)
			up := loss(t, m, w, g)
			move(-2 * h)
			down := loss(t, m, w, g)
			move(h)
			want, got, size := (up-down)/(2*h), 0.0, 0.0
			for i, e := range dir {
				got += d(i) * e
				size += e * e
			}
			if tol := 3e-5*(1+norm)*math.Sqrt(size) + 1e-7; !(math.Abs(got-want) < tol) {
				t.Errorf("gradient of %s, direction %d: %.7g: want %.7g (tolerance %.2g)", name, k, got, want, tol)
				return
			}
		}
	}
	for n := range views {
		v, d := views[n], grads[n]
		at := func(i int) (int, int, int, int) {
			e := i % v.Dim
			i /= v.Dim
			return i / (v.Heads * v.Time), i / v.Heads % v.Time, i % v.Heads, e
		}
		try(names[n], v.Batch*v.Time*v.Heads*v.Dim,
			func(i int) *float64 { b, t, h, e := at(i); return &v.Row(b, t, h)[e] },
			func(i int) float64 { b, t, h, e := at(i); return float64(d.Row(b, t, h)[e]) - 1 })
	}
	for n := range w.Learned {
		try(fmt.Sprint("learned ", n), len(w.Learned[n]), func(i int) *float64 { return &w.Learned[n][i] }, func(i int) float64 { return float64(g.Learned[n][i]) - 1 })
	}
	if c.Initial != nil {
		try("initial", len(c.Initial), func(i int) *float64 { return &w.Initial[i] }, func(i int) float64 { return float64(g.Initial[i]) - 1 })
	}
}

func TestBackward(t *testing.T) {
	if testing.Short() {
		t.Skip("the kit's gradients are enough")
	}
	each(t, func(t *testing.T, m mechanism, sc shapeCase) {
		for _, states := range []bool{false, true} {
			if sc.s.QueryLen*sc.s.Heads > 300 && (states || testing.Short()) {
				continue
			}
			c := newCall(m, sc.s, 3, 0.3)
			c.Segments = sc.segs
			if states {
				carry(m, c, 4)
			}
			g := newGrads(c, 5)
			saved := backward(t, m, c, g)
			checkGrads(t, m, c, g)
			info := m.Info()
			if want := info.Cost(c.Shape, attn.PassForward).Saved; sc.segs == nil && saved != want {
				t.Errorf("%d bytes saved: cost says %d", saved, want)
			}
			c.Saved = attn.NewSaved(new(attn.Arena))
			ws := attn.NewWorkspace()
			if err := m.Forward(ws, c); err != nil {
				t.Fatal(err)
			}
			ws = attn.NewWorkspace()
			if err := m.Backward(ws, c, g); err != nil {
				t.Fatal(err)
			}
			cost := info.Cost(c.Shape, attn.PassBackward)
			if limit := cost.Shared + int64(runtime.GOMAXPROCS(0))*cost.PerWorker; sc.segs == nil && c.Batch > 0 && c.KeyLen > 0 && ws.Peak() != limit {
				t.Errorf("scratch %d: cost says %d", ws.Peak(), limit)
			}
		}
	})
}

func TestOverlappingKeys(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		c := newCall(m, attn.Shape{Batch: 1, QueryLen: 8, KeyLen: 9, Heads: 1, KVHeads: 1, KeyDim: 3, ValueDim: 2, Mask: attn.Causal}, 3, 0.5)
		c.Segments = []attn.Segment{{Queries: 4, Keys: 7}, {Query0: 4, Queries: 4, Key0: 2, Keys: 7}}
		g := newGrads(c, 4)
		backward(t, m, c, g)
		checkGrads(t, m, c, g)
	}
}

func TestBackwardSameBits(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 1, QueryLen: 300, KeyLen: 300, Heads: 4, KVHeads: 2, KeyDim: 16, ValueDim: 24, Mask: attn.Causal}
		var first []float32
		for _, n := range []int{1, 2, 3, 7, 64} {
			procs(t, n)
			c := newCall(m, s, 5, 1)
			g := newGrads(c, 6)
			backward(t, m, c, g)
			all := slices.Concat(g.Q.Data, g.K.Data, g.V.Data)
			for _, x := range g.Extra {
				all = append(all, x.Data...)
			}
			if first == nil {
				first = all
			} else if !slices.Equal(first, all) {
				t.Errorf("%s: GOMAXPROCS %d gives other bits", spec, n)
			}
		}
	}
}

// A row alone takes another path than among many (chunks in parallel, or heads): the bits are the same.
func TestRowsAloneSameBits(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
			if m.Info().Masks&mask == 0 {
				continue
			}
			s := attn.Shape{Batch: 5, QueryLen: 150, KeyLen: 150, Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 12, Mask: mask}
			c := newCall(m, s, 5, 1)
			g := newGrads(c, 6)
			backward(t, m, c, g)
			for b := range s.Batch {
				one := *c
				one.Batch = 1
				cut := func(v attn.View) attn.View {
					v.Data, v.Batch = v.Data[b*v.BatchStride:], 1
					return v
				}
				one.Q, one.K, one.V = cut(c.Q), cut(c.K), cut(c.V)
				one.Extra = nil
				for _, x := range c.Extra {
					one.Extra = append(one.Extra, cut(x))
				}
				one.Out = attn.NewView[float32](1, s.QueryLen, s.Heads, s.ValueDim)
				h := newGrads(&one, 6)
				h.Out = cut(g.Out)
				backward(t, m, &one, h)
				for _, p := range [][2]attn.View{{one.Out, cut(c.Out)}, {h.Q, cut(g.Q)}, {h.K, cut(g.K)}, {h.V, cut(g.V)}} {
					if !slices.Equal(p[0].Data, p[1].Data[:len(p[0].Data)]) {
						t.Errorf("%s %v: row %d alone has other bits", spec, mask, b)
					}
				}
				for i := range h.Extra {
					if !slices.Equal(h.Extra[i].Data, cut(g.Extra[i]).Data[:len(h.Extra[i].Data)]) {
						t.Errorf("%s %v: row %d alone has other bits of g", spec, mask, b)
					}
				}
			}
		}
	}
}

func TestBackwardErrors(t *testing.T) {
	m := newMech(t, "gla")
	c := newCall(m, attn.Shape{Batch: 1, QueryLen: 2, KeyLen: 2, Heads: 1, KVHeads: 1, KeyDim: 2, ValueDim: 2, Mask: attn.Causal}, 1, 1)
	g := newGrads(c, 1)
	if err := m.Backward(attn.NewWorkspace(), c, g); err == nil {
		t.Error("backward without saved: no error")
	}
	g.Extra = nil
	if err := m.Backward(attn.NewWorkspace(), c, g); err == nil {
		t.Error("backward without the gradient of g: no error")
	}
}
