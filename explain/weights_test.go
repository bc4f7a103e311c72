package explain

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
)

// randomCall returns a causal call of m with random inputs: 2 query heads for each key/value head.
func randomCall(m attn.Mechanism, n int) *attn.Call {
	info := m.Info()
	s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 8, Mask: attn.Causal, Layers: 1, MaxLen: n}
	r := rand.New(rand.NewPCG(1, 2))
	c := &attn.Call{Shape: s, Seed: 1, Out: attn.NewView[float32](1, n, s.Heads, s.ValueDim)}
	for i := range info.Inputs {
		heads, width := info.Inputs[i].Size(s)
		v := attn.NewView[float32](1, n, heads, width)
		for j := range v.Data {
			v.Data[j] = float32(r.NormFloat64())
			if info.Inputs[i].Act == attn.LogSigmoid {
				v.Data[j] = -float32(r.Float64())
			}
		}
		switch info.Inputs[i].Name {
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
		t := make([]float32, x.Len(s))
		for j := range t {
			t[j] = float32(r.NormFloat64())
		}
		c.Learned = append(c.Learned, t)
	}
	for _, x := range info.Buffers {
		t := make([]float32, x.Len(s))
		if x.Init != nil {
			x.Init(s, t, r)
		}
		c.Buffers = append(c.Buffers, t)
	}
	return c
}

// The weights of every registered mechanism that has values are those of its backward pass, look at no later key, and add up to its output
// where they say so.
func TestEveryMechanism(t *testing.T) {
	ws := attn.NewWorkspace()
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			t.Fatal(err)
		}
		c := randomCall(m, 11)
		info := m.Info()
		if info.Masks&attn.Causal == 0 || c.V.Empty() || info.CheckShape != nil && info.CheckShape(c.Shape) != nil {
			continue
		}
		w, err := Find(ws, m, c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for h := range w.Heads {
			for i, row := range w.Heads[h] {
				for j, x := range row {
					if j > i && x != 0 {
						t.Errorf("%s: head %d, query %d: weight %g of key %d", name, h, i, x, j)
					}
				}
			}
		}
		d, ok := m.(attn.Differentiable)
		if !ok || !w.Linear {
			continue
		}
		g, err := byGradient(ws, d, c)
		if err != nil {
			t.Fatal(err)
		}
		if g.Off > exact {
			t.Errorf("%s: linear, but %g of its derivative is no multiple of the identity", name, g.Off)
		}
		for h := range w.Heads {
			for i := range w.Heads[h] {
				for j, x := range w.Heads[h][i] {
					if y := g.Heads[h][i][j]; math.Abs(x-y) > 1e-4*(1+math.Abs(x)) {
						t.Fatalf("%s: head %d, query %d, key %d: weight %g, by the backward pass %g", name, h, i, j, x, y)
					}
				}
			}
		}
	}
}

// Only where weights are a softmax of q·k/√d over some keys are there similarities.
func TestSimilarities(t *testing.T) {
	for _, x := range []struct {
		mech string
		want bool
	}{
		{"full", true}, {"naive", true}, {"sliding:window=4,sinks=1", true}, {"linear", false}, {"gla", false}, {"alibi", false},
		{"sigmoid", false}, {"softcap:cap=2", false},
	} {
		m, err := attn.New(x.mech)
		if err != nil {
			t.Fatal(err)
		}
		c := randomCall(m, 11)
		w, err := Find(attn.NewWorkspace(), m, c)
		if err != nil {
			t.Fatal(err)
		}
		s, ok := Similarities(c, w)
		if ok != x.want {
			t.Errorf("%s: similarities %v, want %v", x.mech, ok, x.want)
			continue
		}
		if !ok {
			continue
		}
		h, i := 3, 7 // from the similarities to the weights, over the keys that have one
		top, sum := math.Inf(-1), 0.0
		for j, p := range w.Heads[h][i] {
			if p != 0 {
				top = max(top, s[h][i][j])
			}
		}
		for j, p := range w.Heads[h][i] {
			if p != 0 {
				sum += math.Exp(s[h][i][j] - top)
			}
		}
		for j, p := range w.Heads[h][i] {
			if p != 0 && math.Abs(math.Exp(s[h][i][j]-top)/sum-p) > 1e-5 {
				t.Errorf("%s: key %d has weight %g: its similarity says %g", x.mech, j, p, math.Exp(s[h][i][j]-top)/sum)
			}
		}
	}
	if _, ok := Similarities(randomCall(mustNew(t, "full"), 1), &Weights{Linear: true, Heads: [][][]float64{{{1}}, {{1}}, {{1}}, {{1}}}}); ok {
		t.Error("one token: a softmax by one key alone")
	}
}

func mustNew(t *testing.T, spec string) attn.Mechanism {
	m, err := attn.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// odd is a mechanism with one fault as a sum of values: out[i] = f(v[i]) for the head's own value.
type odd struct {
	attn.Mechanism
	f func(out, v []float32)
}

func (o odd) Forward(_ *attn.Workspace, c *attn.Call) error {
	for h := range c.Heads {
		for i := range c.QueryLen {
			o.f(c.Out.Row(0, i, h), c.V.Row(0, i, c.KVHead(h)))
		}
	}
	return nil
}

type oddTrained struct {
	odd
	back func(dv, dout, v []float32)
}

func (o oddTrained) Backward(_ *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	for h := range c.Heads {
		for i := range c.QueryLen {
			o.back(g.V.Row(0, i, c.KVHead(h)), g.Out.Row(0, i, h), c.V.Row(0, i, c.KVHead(h)))
		}
	}
	return nil
}

// What is no weighted sum of values is seen, and goes through the backward pass.
func TestNotLinear(t *testing.T) {
	base := mustNew(t, "naive")
	square := odd{base, func(out, v []float32) {
		for b, x := range v {
			out[b] = x * x
		}
	}}
	if _, err := Find(attn.NewWorkspace(), square, randomCall(base, 5)); err == nil || !strings.Contains(err.Error(), "no backward pass") {
		t.Errorf("a square without a backward pass: %v", err)
	}
	c := randomCall(base, 5)
	w, err := Find(attn.NewWorkspace(), oddTrained{square, func(dv, dout, v []float32) {
		for b, x := range v {
			dv[b] += 2 * x * dout[b]
		}
	}}, c)
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for _, x := range c.V.Row(0, 3, 1) {
		want += 2 * float64(x) / 8
	}
	if w.Linear || math.Abs(w.Heads[2][3][3]-want) > 1e-6 || w.Heads[2][3][2] != 0 || w.Off < 0.1 {
		t.Errorf("a square: weight %g, linear %v, off %g: want %g, not linear, and a part beside the diagonal", w.Heads[2][3][3], w.Linear, w.Off, want)
	}
	turn := odd{base, func(out, v []float32) { // linear, but it takes each element from its neighbour
		for b := range out {
			out[b] = v[(b+1)%len(v)]
		}
	}}
	w, err = Find(attn.NewWorkspace(), oddTrained{turn, func(dv, dout, v []float32) {
		for b := range dout {
			dv[(b+1)%len(dv)] += dout[b]
		}
	}}, randomCall(base, 5))
	if err != nil {
		t.Fatal(err)
	}
	if w.Linear || w.Heads[0][2][2] != 0 || w.Off != 1 {
		t.Errorf("a turn: weight %g, linear %v, off %g: want nothing on the diagonal, and all beside it", w.Heads[0][2][2], w.Linear, w.Off)
	}
}
