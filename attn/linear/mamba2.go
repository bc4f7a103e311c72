package linear

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("mamba2", Mamba2{Chunk: 64}, Mamba2.New) }

// Mamba2 holds the options of the state space model of Mamba-2, spelled mamba2:chunk=32.
type Mamba2 struct {
	Chunk int `opt:"chunk"` // tokens between the states kept for training, computed by up to 32; at least 1
}

// New returns the state space model of Mamba-2 with the options o.
func (o Mamba2) New() (attn.Mechanism, error) {
	m := mamba2{derived{
		recurrent: recurrent{rec: tile.Recurrence{Chunk: o.Chunk, Decay: tile.HeadDecay, Scale: 1, Write: true, Own: tile.OwnSkip}},
		shape:     ssmShape, prepare: prepareSSM, differentiate: differentiateSSM, finish: finishSSM, floats: ssmFloats,
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name:     attn.Spell("mamba2", o),
		Title:    "State space duality (Mamba-2)",
		Paper:    "Dao & Gu 2024, arXiv:2405.21060",
		Year:     2024,
		Revision: 1,

		Masks:   attn.Causal,
		Inputs:  ssmInputs(),
		Learned: ssmLearned(),
		Output:  attn.Output{Norm: attn.RMSNorm, NormHeads: groupHeads, Gate: attn.SiLU, GateFirst: true},
		Limits: []attn.Limit{{
			Spec: func(attn.Shape) string { return attn.Spell("mamba2", o) }, Equals: "gla",
			Prepare: func(c *attn.Call64) { clear(c.Learned[1]) }, // no skip
			Convert: ssmAsGated,
		}},
	})
	return m, nil
}

// ssmInputs are C, B, x and Δ, in the paper's letters: each group of heads, which the shape counts as a key/value head, shares B and C.
func ssmInputs() []attn.Input {
	short := func(name string, from attn.Source, heads, width func(attn.Shape) int) attn.Input {
		return attn.Input{Name: name, From: from, Heads: heads, Width: width, Conv: 4, ConvBias: true, Act: attn.SiLU}
	}
	return []attn.Input{
		short("q", attn.QuerySide, attn.KVHeads, attn.KeyWidth),
		short("k", attn.MemorySide, attn.KVHeads, attn.KeyWidth),
		short("v", attn.MemorySide, attn.QueryHeads, attn.ValueWidth),
		{Name: "dt", From: attn.MemorySide, Heads: attn.QueryHeads, Width: attn.OneWide, Bias: true, Act: attn.Softplus, Init: initDelta},
	}
}

// initDelta draws biases whose softplus is spread evenly in the logarithm from 0.001 to 0.1.
func initDelta(_ attn.Shape, x []float32, r *rand.Rand) {
	for i := range x {
		dt := 1e-3 * math.Pow(100, r.Float64())
		x[i] = float32(dt + math.Log(-math.Expm1(-dt)))
	}
}

// ssmLearned are log(-A), with -A between 1 and 16, and D, one a head.
func ssmLearned() []attn.Tensor {
	heads := func(s attn.Shape) []int { return []int{s.Heads} }
	return []attn.Tensor{
		{Name: "A_log", Shape: heads, Init: func(_ attn.Shape, x []float32, r *rand.Rand) {
			for i := range x {
				x[i] = float32(math.Log(1 + 15*r.Float64()))
			}
		}},
		{Name: "D", Shape: heads, Init: attn.Const(1)},
	}
}

func groupHeads(s attn.Shape) int { return s.Heads / s.KVHeads }

// ssmShape is the recurrence's: each head has a state of its own.
func ssmShape(s attn.Shape) attn.Shape {
	s.KVHeads = s.Heads
	return s
}

type mamba2 struct{ derived }

// Define is the state space model of Mamba-2, token by token, for each head with its A = -e^{A_log} and D:
//
//	S_t = e^{Δ_t A} S_{t-1} + Δ_t B_t x_tᵀ,  y_t = S_tᵀ C_t + D x_t
//
// with C, B, x, Δ in the inputs q, k, v, dt; heads of one group share B and C. S [key dim, value dim] is zero, or Initial, at the
// start; a query reads after the write of its own token. Dao & Gu 2024 (arXiv:2405.21060) §2.1, eq. 2, and §7.
func (m mamba2) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s := state64At(h, c.KeyDim*c.ValueDim, h.H, c.Heads)
		a, d := -math.Exp(c.Learned[0][h.H]), c.Learned[1][h.H]
		for i := range h.Queries {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			dt, x := h.KeySide(0, j)[0], c.V.Row(h.Row, h.Key0+j, h.H)
			b := make([]float64, c.KeyDim)
			for n := range b {
				b[n] = dt * h.K(j)[n]
			}
			write64(s, []float64{math.Exp(dt * a)}, b, x)
			if i := j - h.Offset(); i >= 0 {
				read64(h.Out(i), s, c.Q.Row(h.Row, h.Query0+i, h.KV), 1)
				for p := range x {
					h.Out(i)[p] += d * x[p]
				}
			}
		}
		store64At(h, s, h.H, c.Heads)
	})
	return nil
}

// ssmFloats is the scratch of the decays and, for Backward, of their gradients and those of each head's B and C.
func ssmFloats(s attn.Shape) (int, int) {
	n := s.Batch * s.KeyLen * s.Heads
	back := attn.ScratchFloats(n)
	if s.KVHeads < s.Heads {
		back += attn.ScratchFloats(s.Batch*s.QueryLen*s.Heads*s.KeyDim, n*s.KeyDim)
	}
	return attn.ScratchFloats(n), back
}

func prepareSSM(ws *attn.Workspace, c *attn.Call, d *derivation) {
	g, dt := viewOf(ws, c, c.Heads, 1), c.Extra[0]
	for h := range c.Heads {
		a := -float32(math.Exp(float64(c.Learned[0][h])))
		for b := range c.Batch {
			for t := range c.KeyLen {
				g.Row(b, t, h)[0] = a * dt.Row(b, t, h)[0]
			}
		}
	}
	d.inputs[0], d.inputs[1] = g, dt
	d.call.Extra = d.inputs[:2]
	d.learned[0] = c.Learned[1]
	d.call.Learned = d.learned[:]
}

func differentiateSSM(ws *attn.Workspace, c *attn.Call, d *derivation) {
	dg := viewOf(ws, c, c.Heads, 1)
	clear(dg.Data)
	d.inputGrads[0], d.inputGrads[1] = dg, d.grads.Extra[0]
	d.grads.Extra = d.inputGrads[:2]
	d.learnedGrads[0] = d.grads.Learned[1]
	d.grads.Learned = d.learnedGrads[:]
	if c.KVHeads < c.Heads {
		d.grads.Q = attn.ViewAs(ws.Zeros(c.Batch*c.QueryLen*c.Heads*c.KeyDim), c.Batch, c.QueryLen, c.Heads, c.KeyDim)
		d.grads.K = viewOf(ws, c, c.Heads, c.KeyDim)
		clear(d.grads.K.Data)
	}
}

// finishSSM adds the gradients of Δ and A_log through the decays g = -e^{A_log} Δ, and sums those of B and C over the heads of groups.
func finishSSM(_ *attn.Workspace, c *attn.Call, g *attn.Grads, d *derivation) {
	for h := range c.Heads {
		a, sum := -float32(math.Exp(float64(c.Learned[0][h]))), 0.0
		for b := range c.Batch {
			for t := range c.KeyLen {
				if dg := d.inputGrads[0].Row(b, t, h)[0]; dg != 0 { // padding may hold NaN
					g.Extra[0].Row(b, t, h)[0] += a * dg
					sum += float64(d.inputs[0].Row(b, t, h)[0]) * float64(dg)
				}
			}
		}
		g.Learned[0][h] += float32(sum)
	}
	if c.KVHeads < c.Heads {
		sumGroups(g.Q, d.grads.Q)
		sumGroups(g.K, d.grads.K)
	}
}

// sumGroups adds to each head of dst the heads of x that share it.
func sumGroups(dst, x attn.View) {
	for b := range x.Batch {
		for t := range x.Time {
			for h := range x.Heads {
				kernel.Add(dst.Row(b, t, h*dst.Heads/x.Heads), x.Row(b, t, h))
			}
		}
	}
}

// ssmAsGated turns the call of a state space model without skip into one of gated linear attention.
func ssmAsGated(c *attn.Call64) *attn.Call64 {
	d := *c
	d.Shape, d.Learned = ssmShape(c.Shape), nil
	perHead := func(v attn.View64, time int, f func(b, t, h int) float64) attn.View64 {
		w := attn.NewView[float64](c.Batch, time, c.Heads, c.KeyDim)
		for b := range c.Batch {
			for t := range time {
				for h := range c.Heads {
					for i := range c.KeyDim {
						w.Row(b, t, h)[i] = f(b, t, h)
						if !v.Empty() {
							w.Row(b, t, h)[i] *= v.Row(b, t, c.KVHead(h))[i]
						}
					}
				}
			}
		}
		return w
	}
	dt := func(b, t, h int) float64 { return c.Extra[0].Row(b, t, h)[0] }
	d.Q = perHead(c.Q, c.QueryLen, func(_, _, _ int) float64 { return math.Sqrt(float64(c.KeyDim)) })
	d.K = perHead(c.K, c.KeyLen, dt)
	d.Extra = []attn.View64{perHead(attn.View64{}, c.KeyLen, func(b, t, h int) float64 { return -math.Exp(c.Learned[0][h]) * dt(b, t, h) })}
	return &d
}
