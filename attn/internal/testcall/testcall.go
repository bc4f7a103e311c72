// Package testcall makes random attention calls and holds mechanisms against their definitions, for the
// table tests of this module's softmax mechanisms.
package testcall

import (
	"math"
	"math/rand/v2"
	"testing"

	"attnbench/attn"
)

// New returns a call of the given shape with normal inputs. Views have gaps between rows that are filled with NaN.
func New(s attn.Shape, segments []attn.Segment, seed uint64) *attn.Call {
	r := rand.New(rand.NewPCG(seed, 1))
	c := &attn.Call{Shape: s, Segments: segments}
	c.Q = view(r, s.Batch, s.QueryLen, s.Heads, s.KeyDim)
	c.K = view(r, s.Batch, s.KeyLen, s.KVHeads, s.KeyDim)
	c.V = view(r, s.Batch, s.KeyLen, s.KVHeads, s.ValueDim)
	c.Out = view(r, s.Batch, s.QueryLen, s.Heads, s.ValueDim)
	return c
}

func view(r *rand.Rand, b, t, h, d int) attn.View {
	v := attn.View{Batch: b, Time: t, Heads: h, Dim: d, HeadStride: d + 3, TimeStride: h*(d+3) + 5}
	v.BatchStride = t*v.TimeStride + 7
	v.Data = make([]float32, b*v.BatchStride+16)
	for i := range v.Data {
		v.Data[i] = float32(math.NaN())
	}
	Each(&v, func(x *float32) { *x = float32(r.NormFloat64()) })
	return v
}

// Each calls f for every element of v.
func Each[F attn.Float](v *attn.ViewOf[F], f func(x *F)) {
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				row := v.Row(b, t, h)
				for i := range row {
					f(&row[i])
				}
			}
		}
	}
}

// Wide returns the same call in float64.
func Wide(c *attn.Call) *attn.Call64 {
	w := &attn.Call64{Shape: c.Shape, Segments: c.Segments, Pos0: c.Pos0, Seed: c.Seed}
	w.Q, w.K, w.V, w.Out = wide(&c.Q), wide(&c.K), wide(&c.V), wide(&c.Out)
	return w
}

func wide(v *attn.View) attn.View64 {
	w := attn.View64{Batch: v.Batch, Time: v.Time, Heads: v.Heads, Dim: v.Dim,
		BatchStride: v.BatchStride, TimeStride: v.TimeStride, HeadStride: v.HeadStride, Data: make([]float64, len(v.Data))}
	for i, x := range v.Data {
		w.Data[i] = float64(x)
	}
	return w
}

// Zeros returns a zero view of the shape of v, without gaps.
func Zeros(v *attn.View) attn.View { return attn.NewView[float32](v.Batch, v.Time, v.Heads, v.Dim) }

// NewGrads returns zero gradients for c with a random output gradient.
func NewGrads(c *attn.Call, seed uint64) *attn.Grads {
	r := rand.New(rand.NewPCG(seed, 2))
	return &attn.Grads{Q: Zeros(&c.Q), K: Zeros(&c.K), V: Zeros(&c.V),
		Out: view(r, c.Batch, c.QueryLen, c.Heads, c.ValueDim)}
}

// Diff returns the largest difference of two views relative to 1 + |want|.
func Diff(got *attn.View, want *attn.View64) float64 {
	worst := 0.0
	for b := range got.Batch {
		for t := range got.Time {
			for h := range got.Heads {
				w := want.Row(b, t, h)
				for i, x := range got.Row(b, t, h) {
					d := math.Abs(float64(x)-w[i]) / (1 + math.Abs(w[i]))
					if math.IsNaN(d) {
						return d
					}
					worst = max(worst, d)
				}
			}
		}
	}
	return worst
}

// Check compares Forward with Define, and Backward with differences of Define in random directions.
func Check(t *testing.T, m attn.Defined, c *attn.Call) {
	t.Helper()
	ws := attn.NewWorkspace()
	c.Saved = attn.NewSaved(new(attn.Arena))
	if err := m.Forward(ws, c); err != nil {
		t.Fatalf("Forward: %v", err)
	}
	w := Wide(c)
	if err := m.Define(w); err != nil {
		t.Fatalf("Define: %v", err)
	}
	if d := Diff(&c.Out, &w.Out); !(d < 2e-5) {
		t.Errorf("%+v: Forward is off by %g", c.Shape, d)
	}
	d, ok := m.(attn.Differentiable)
	if !ok {
		return
	}
	g := NewGrads(c, 5)
	if err := d.Backward(ws, c, g); err != nil {
		t.Fatalf("Backward: %v", err)
	}
	for dir := range 4 {
		r := rand.New(rand.NewPCG(uint64(dir), 9))
		want, got := 0.0, 0.0
		const eps = 1e-4
		for _, sign := range []float64{1, -1} {
			r = rand.New(rand.NewPCG(uint64(dir), 9))
			x := Wide(c)
			got = 0
			for i, v := range []*attn.View64{&x.Q, &x.K, &x.V} {
				gv := []*attn.View{&g.Q, &g.K, &g.V}[i]
				var flat []float32
				Each(gv, func(y *float32) { flat = append(flat, *y) })
				n := 0
				Each(v, func(y *float64) {
					step := r.NormFloat64()
					if dir < 3 && dir != i {
						step = 0
					}
					got += step * float64(flat[n])
					*y += sign * eps * step
					n++
				})
			}
			if err := m.Define(x); err != nil {
				t.Fatal(err)
			}
			want += sign * inner(&x.Out, &g.Out) / (2 * eps)
		}
		if !(math.Abs(got-want) < 1e-3*(1+math.Abs(want))) {
			t.Errorf("%+v: direction %d: gradient gives %g, differences %g", c.Shape, dir, got, want)
		}
	}
}

func inner(x *attn.View64, y *attn.View) float64 {
	s := 0.0
	for b := range x.Batch {
		for t := range x.Time {
			for h := range x.Heads {
				yr := y.Row(b, t, h)
				for i, v := range x.Row(b, t, h) {
					s += v * float64(yr[i])
				}
			}
		}
	}
	return s
}
