package linear

import (
	"math"
	"math/rand/v2"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// featuredCall returns a call of m, of one head and value dim 1, with the queries and keys given, one number wide.
func featuredCall(m attn.Mechanism, q, k, v []float32) *attn.Call {
	s := attn.Shape{Batch: 1, QueryLen: len(q), KeyLen: len(k), Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal, MaxLen: 6}
	c := &attn.Call{
		Shape: s, Q: attn.ViewAs(q, 1, len(q), 1, 1), K: attn.ViewAs(k, 1, len(k), 1, 1), V: attn.ViewAs(v, 1, len(v), 1, 1),
		Out: attn.NewView[float32](1, len(q), 1, 1),
	}
	info := m.Info()
	r := rand.New(rand.NewPCG(1, 2))
	for _, list := range []struct {
		tensors []attn.Tensor
		to      *[][]float32
	}{{info.Learned, &c.Learned}, {info.Buffers, &c.Buffers}} {
		for _, t := range list.tensors {
			x := make([]float32, t.Len(s))
			if t.Init != nil {
				t.Init(s, x, r)
			}
			*list.to = append(*list.to, x)
		}
	}
	return c
}

// TestFeatureWeights: a query of 2 against keys of 1 and 3 gives the values -1 and 1 the weights of the paper's kernel.
func TestFeatureWeights(t *testing.T) {
	series := func(s float64) float64 { return 1 + s + s*s/2 }
	soft := func(q, k float64) float64 { // softmax([2y, -2y]) of each, multiplied
		return 2 * math.Cosh(2*(q+k)) / (4 * math.Cosh(2*q) * math.Cosh(2*k))
	}
	cos := func(d float64) float64 { return math.Cos(math.Pi * d / 12) }
	for _, x := range []struct {
		spec string
		a, b float64 // weights
	}{
		{"based:dim=1", series(2), series(6)},
		{"hedgehog", soft(2, 1), soft(2, 3)},
		{"cosformer", 2 * cos(1), 6},
	} {
		m := newMech(t, x.spec)
		c := featuredCall(m, []float32{0.5, 2}, []float32{1, 3}, []float32{-1, 1})
		testcall.Forward(t, m, c)
		testcall.Want(t, x.spec, c, -1, (x.b-x.a)/(x.b+x.a))
	}
}

// TestCosformerWithoutQuery: a query whose features are 0 gives 0, not the quotient of two zeros.
func TestCosformerWithoutQuery(t *testing.T) {
	m := newMech(t, "cosformer")
	c := featuredCall(m, []float32{-1, 1}, []float32{1, -3}, []float32{5, 1})
	testcall.Forward(t, m, c)
	testcall.Want(t, "negative query, negative key", c, 0, 5)
	c.MaxLen, c.Pos0 = 0, 1
	if err := m.Forward(attn.NewWorkspace(), c); err == nil {
		t.Error("keys up to position 2 with M = 2: want an error")
	}
}

// TestRebasedNormalises: rows that differ in scale and shift alone give the same output.
func TestRebasedNormalises(t *testing.T) {
	m := newMech(t, "rebased:dim=3")
	var out [2]float32
	for i, x := range [][2]float32{{1, 0}, {7, -4}} {
		s := attn.Shape{Batch: 1, QueryLen: 1, KeyLen: 2, Heads: 1, KVHeads: 1, KeyDim: 8, ValueDim: 1, Mask: attn.Causal}
		row := func(v ...float32) []float32 {
			for j := range v {
				v[j] = x[0]*v[j] + x[1]
			}
			return v
		}
		c := &attn.Call{Shape: s, Q: attn.ViewAs(row(1, 2, 5), 1, 1, 1, 3), K: attn.ViewAs(row(0, 1, -3, 4, 4, 1), 1, 2, 1, 3),
			V: attn.ViewAs([]float32{1, 2}, 1, 2, 1, 1), Out: attn.NewView[float32](1, 1, 1, 1), Learned: [][]float32{{1, 1, 1}, {0, 0, 0}}}
		testcall.Forward(t, m, c)
		out[i] = c.Out.Data[0]
	}
	if d := math.Abs(float64(out[0] - out[1])); !(d < 1e-4) {
		t.Errorf("%v and %v: want the same", out[0], out[1])
	}
}

// TestFavorFeatures: the rows of Ω are orthogonal within a block, and the mean of many products of features is e^(q·k/√d).
func TestFavorFeatures(t *testing.T) {
	const d, n = 8, 1 << 15
	s := attn.Shape{KeyDim: d}
	dst := make([]float32, d*n)
	orthogonal(s, dst, rand.New(rand.NewPCG(7, 4)))
	column := func(c int) []float64 {
		x := make([]float64, d)
		for i := range x {
			x[i] = float64(dst[i*n+c])
		}
		return x
	}
	for a := range d {
		for b := range a {
			x, y := column(a), column(b)
			if c := attn.Dot(x, y) / math.Sqrt(attn.Dot(x, x)*attn.Dot(y, y)); math.Abs(c) > 1e-6 {
				t.Errorf("features %d and %d have cosine %g", a, b, c)
			}
		}
	}
	q, k := make([]float64, d), make([]float64, d)
	for i := range q {
		q[i], k[i] = 0.5*math.Sin(float64(i)), 0.4*math.Sin(float64(i+1))+0.2
	}
	scale, sum := math.Pow(d, -0.25), 0.0
	for c := range n {
		x := column(c)
		sum += math.Exp(scale*(attn.Dot(x, q)+attn.Dot(x, k)) - scale*scale*(attn.Dot(q, q)+attn.Dot(k, k))/2)
	}
	if got, want := sum/n, math.Exp(attn.Dot(q, k)/math.Sqrt(d)); math.Abs(got/want-1) > 0.02 {
		t.Errorf("mean product %g: want %g", got, want)
	}
}

// TestFavorRedraw: the features change when they have served, and only then.
func TestFavorRedraw(t *testing.T) {
	m := newMech(t, "performer:redraw=3")
	c := featuredCall(m, []float32{1}, []float32{1}, []float32{1})
	before := append([]float32(nil), c.Buffers[0]...)
	for step := 1; step <= 6; step++ {
		c.Seed = uint64(step)
		if err := m.(attn.Updater).Update(attn.NewWorkspace(), c); err != nil {
			t.Fatal(err)
		}
		if changed := before[0] != c.Buffers[0][0]; changed != (step%3 == 0) {
			t.Errorf("step %d: features changed: %v", step, changed)
		}
		copy(before, c.Buffers[0])
	}
}
