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

// A mechanism of this package.
type mechanism interface {
	attn.Differentiable
	attn.Incremental
	attn.Defined
}

func newMech(t testing.TB, spec string) mechanism {
	t.Helper()
	if m := newFading(spec); m != nil {
		return m
	}
	m, err := attn.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m.(mechanism)
}

// newCall returns a call with normal inputs and, for a gated mechanism, log decays down to about -strength.
func newCall(m mechanism, s attn.Shape, seed uint64, strength float64) *attn.Call {
	r := rand.New(rand.NewPCG(seed, 1))
	c := &attn.Call{Shape: s}
	info := m.Info()
	for _, in := range info.Inputs {
		time := s.QueryLen
		if in.From != attn.QuerySide {
			time = s.KeyLen
		}
		heads, width := in.Size(s)
		// Strided, with NaN between the rows.
		v := attn.ViewAs(make([]float32, s.Batch*time*heads*(width+3)), s.Batch, time, heads, width+3)
		for i := range v.Data {
			v.Data[i] = float32(math.NaN())
		}
		v.Dim = width
		for b := range s.Batch {
			for t := range time {
				for h := range heads {
					for i := range width {
						x := r.NormFloat64()
						switch in.Act {
						case attn.LogSigmoid:
							x = -strength * r.Float64()
						case attn.Softplus, attn.Sigmoid:
							x = strength * r.Float64()
						}
						v.Row(b, t, h)[i] = float32(x)
					}
				}
			}
		}
		switch in.Name {
		case "q":
			c.Q = v
		case "k":
			c.K = v
		case "v":
			c.V = v
		default:
			c.Extra = append(c.Extra, v)
		}
	}
	for _, x := range info.Learned {
		data := make([]float32, x.Len(s))
		if x.Init != nil {
			x.Init(s, data, r)
		}
		c.Learned = append(c.Learned, data)
	}
	c.Out = attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.ValueDim)
	for i := range c.Out.Data {
		c.Out.Data[i] = float32(math.NaN())
	}
	return c
}

// carry gives the call an initial state and room for a final one.
func carry(m mechanism, c *attn.Call, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	info := m.Info()
	n := c.NumSegments() * info.Carry(c.Shape)
	c.Initial, c.Final = make([]float32, n), make([]float32, n)
	for i := range c.Initial {
		c.Initial[i] = float32(math.Abs(r.NormFloat64()))
	}
}

func wide(v attn.View) attn.View64 {
	w := attn.View64{
		Data: wideSlice(v.Data), Batch: v.Batch, Time: v.Time, Heads: v.Heads, Dim: v.Dim,
		BatchStride: v.BatchStride, TimeStride: v.TimeStride, HeadStride: v.HeadStride,
	}
	return w
}

func wideSlice(x []float32) []float64 {
	if x == nil {
		return nil
	}
	y := make([]float64, len(x))
	for i := range x {
		y[i] = float64(x[i])
	}
	return y
}

func wideCall(c *attn.Call) *attn.Call64 {
	d := &attn.Call64{
		Shape: c.Shape, Q: wide(c.Q), K: wide(c.K), V: wide(c.V), Out: wide(c.Out),
		Segments: c.Segments, Initial: wideSlice(c.Initial), Final: wideSlice(c.Final),
	}
	for _, x := range c.Extra {
		d.Extra = append(d.Extra, wide(x))
	}
	for _, x := range c.Learned {
		d.Learned = append(d.Learned, wideSlice(x))
	}
	return d
}

// worst returns the largest |x-y| relative to 1+max|y|.
func worst(x []float32, y []float64) float64 {
	top, diff := 1.0, 0.0
	for i := range y {
		top = max(top, math.Abs(y[i]))
	}
	for i := range y {
		if d := math.Abs(float64(x[i]) - y[i]); !(d <= diff) {
			diff = d
		}
	}
	return diff / top
}

func procs(t testing.TB, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

type shapeCase struct {
	name string
	s    attn.Shape
	segs []attn.Segment
}

func shapes(mask attn.Mask) []shapeCase {
	sh := func(b, q, k, h, kv, dk, dv int) attn.Shape {
		return attn.Shape{Batch: b, QueryLen: q, KeyLen: k, Heads: h, KVHeads: kv, KeyDim: dk, ValueDim: dv, Mask: mask}
	}
	list := []shapeCase{
		{"one token", sh(1, 1, 1, 1, 1, 1, 1), nil},
		{"grouped", sh(2, 67, 67, 4, 2, 7, 5), nil},
		{"many heads", sh(2, 131, 131, 8, 4, 16, 8), nil},
		{"more keys", sh(1, 70, 150, 2, 1, 33, 40), nil},
		{"more keys by whole chunks", sh(2, 3, 131, 6, 6, 8, 8), nil},
		{"more queries", sh(1, 80, 5, 2, 2, 8, 9), nil},
		{"no keys", sh(1, 3, 0, 1, 1, 4, 4), nil},
		{"no queries", sh(1, 0, 70, 1, 1, 4, 4), nil},
		{"no batch", sh(0, 3, 3, 1, 1, 4, 4), nil},
		{"padded", sh(3, 100, 130, 2, 1, 8, 8), attn.Lengths([]int{100, 0, 30}, []int{70, 10, 130})},
		{"documents", sh(2, 200, 200, 2, 2, 8, 8), attn.Documents(200, [][]int{{0, 1, 66, 130}, {0, 64}})},
		{"uncovered rows", sh(2, 20, 20, 1, 1, 4, 4), []attn.Segment{{Row: 1, Query0: 3, Queries: 5, Key0: 7, Keys: 9}}},
	}
	for _, n := range []int{63, 64, 65, 127, 129, 191} {
		list = append(list, shapeCase{fmt.Sprintf("length %d", n), sh(1, n, n, 2, 1, 8, 4), nil})
	}
	return list
}

var specs = []string{
	"linear", "linear:map=identity,normalize=false", "gla",
	"linear:map=relu", "linear:chunk=7,eps=0", "linear:map=elu,normalize=false,chunk=33",
	"gla:chunk=5", "gla:chunk=32", "gla:chunk=100", "gla:chunk=1", "fading", "fading:chunk=5", "fading:chunk=20",
}

// each calls f for every mechanism, mask and shape.
func each(t *testing.T, f func(t *testing.T, m mechanism, sc shapeCase)) {
	for n, spec := range specs {
		m := newMech(t, spec)
		for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional, attn.Cross} {
			if m.Info().Masks&mask == 0 {
				continue
			}
			for i, sc := range shapes(mask) {
				if n >= 3 && i%4 != 1 { // grouped, more queries, padded, two lengths
					continue
				}
				t.Run(fmt.Sprintf("%s/%v/%s", spec, mask, sc.name), func(t *testing.T) { f(t, m, sc) })
			}
		}
	}
}

func TestForward(t *testing.T) {
	each(t, func(t *testing.T, m mechanism, sc shapeCase) {
		for _, states := range []bool{false, true} {
			c := newCall(m, sc.s, 3, 0.3)
			c.Segments = sc.segs
			if states {
				carry(m, c, 4)
			}
			want := wideCall(c)
			if err := m.Define(want); err != nil {
				t.Fatal(err)
			}
			ws := attn.NewWorkspace()
			if err := m.Forward(ws, c); err != nil {
				t.Fatal(err)
			}
			if d := worst(c.Out.Data, want.Out.Data); !(d < 2e-5) {
				t.Errorf("states %v: output differs by %.3g", states, d)
			}
			if d := worst(c.Final, want.Final); !(d < 2e-5) {
				t.Errorf("states %v: final state differs by %.3g", states, d)
			}
			info := m.Info()
			cost := info.Cost(c.Shape, attn.PassForward)
			if got, limit := ws.Peak(), cost.Shared+int64(runtime.GOMAXPROCS(0))*cost.PerWorker; sc.segs == nil && sc.s.Batch > 0 && sc.s.KeyLen > 0 && got != limit {
				t.Errorf("scratch %d: cost says %d", got, limit)
			}
		}
	})
}

func TestSameBitsAnyProcs(t *testing.T) {
	for _, spec := range []string{"linear", "gla", "fading"} {
		m := newMech(t, spec)
		s := attn.Shape{Batch: 1, QueryLen: 300, KeyLen: 300, Heads: 4, KVHeads: 2, KeyDim: 16, ValueDim: 24, Mask: attn.Causal}
		var first []float32
		for _, n := range []int{1, 2, 7, 64} {
			procs(t, n)
			c := newCall(m, s, 5, 1)
			if err := m.Forward(attn.NewWorkspace(), c); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = c.Out.Data
			} else if !slices.Equal(first, c.Out.Data) {
				t.Errorf("%s: GOMAXPROCS %d gives other bits", spec, n)
			}
		}
	}
}
