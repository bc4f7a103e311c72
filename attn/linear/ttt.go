package linear

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("ttt", TTT{Batch: 16, Rate: 1}, TTT.New) }

// TTT holds the options of test-time training of a linear model, spelled ttt:batch=16.
type TTT struct {
	Batch int     `opt:"batch"` // tokens a step of gradient descent; at least 1
	Rate  float64 `opt:"rate"`  // of learning, which the tokens' own multiply; above 0
}

// New returns TTT-Linear with the options o.
func (o TTT) New() (attn.Mechanism, error) {
	m := ttt{o: o, model: tile.TTT{Batch: o.Batch, Rate: o.Rate}}
	if err := m.model.Check(); err != nil {
		return nil, err
	}
	each := func(n func(s attn.Shape) int) func(attn.Shape) []int {
		return func(s attn.Shape) []int { return []int{s.KVHeads, n(s)} }
	}
	m.info = &attn.Info{
		Name: attn.Spell("ttt", o), Family: "linear", Title: "Test-time training of a linear model (TTT-Linear)",
		Paper: "Sun et al. 2024, arXiv:2407.04620", Year: 2024, Revision: 1,
		Masks: attn.Causal, Decode: attn.DecodeAlways,
		RotatesInside: true, // queries and keys turn to their place in a batch
		Inputs: append(attn.QKV(), attn.Input{
			Name: "eta", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.OneWide, Bias: true, Act: attn.Sigmoid,
		}),
		Learned: []attn.Tensor{
			{Name: "w", Shape: func(s attn.Shape) []int { return []int{s.KVHeads, s.KeyDim, s.KeyDim} }, Init: attn.Normal(0.02), Decay: true},
			{Name: "b", Shape: each(attn.KeyWidth)},
			{Name: "gain", Shape: each(attn.KeyWidth), Init: attn.Const(1)},
			{Name: "shift", Shape: each(attn.KeyWidth)},
			{Name: "c", Shape: func(attn.Shape) []int { return []int{o.Batch} }},
		},
		// The paper's norm is a LayerNorm over all heads; the layer has one without mean and shift.
		Output: attn.Output{Norm: attn.RMSNorm, NormHeads: attn.QueryHeads},
		CheckShape: func(s attn.Shape) error {
			if s.KeyDim != s.ValueDim {
				return fmt.Errorf("key dim %d, value dim %d: the model predicts values from keys and is read by queries, want equal", s.KeyDim, s.ValueDim)
			}
			return nil
		},
		// No Carry: inside a batch the state has a place, which no number says.
		Cost: m.model.Cost,
	}
	return m, nil
}

type ttt struct {
	o     TTT
	model tile.TTT
	info  *attn.Info
}

func (m ttt) Info() attn.Info { return *m.info }

// Define is TTT-Linear, token by token, in batches of B = Batch tokens from the start of a sequence, with one model z = kW + b
// a key/value head, W [d, d] and b [d] learned for the start, and LN(z) = γ∘ẑ + δ, ẑ = (z - mean(z))/√(var(z) + 1e-6):
//
//	∇_j = gradient of ½|LN(k_j W + b) - (v_j - k_j)|² in its z, at the W and b of the batch's start
//	z̄_i = q_i W + b - Σ_{j≤i} η_ij (q_i·k_j + 1) ∇_j, over the tokens of the batch
//	η_ij = max(0, 1/(i+1) + c_i) Rate·η_j/d, where i counts in the batch and c is learned
//	o_i = q_i + LN(z̄_i)
//
// and after a batch W ← W - Σ_j η_{B-1,j} k_jᵀ ∇_j, b ← b - Σ_j η_{B-1,j} ∇_j. Queries and keys are turned to their place in the batch,
// before all else. Sun et al. 2024 (arXiv:2407.04620) §2.1 to 2.7, in the form of the authors' code, of which c, q_i in the output
// and the rotation are.
func (m ttt) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	d := c.KeyDim
	c.EachHead(func(h attn.Head64) {
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		w := append([]float64(nil), c.Learned[0][h.KV*d*d:][:d*d]...)
		b := append([]float64(nil), c.Learned[1][h.KV*d:][:d]...)
		gain, shift := c.Learned[2][h.KV*d:][:d], c.Learned[3][h.KV*d:][:d]
		model := func(x []float64) []float64 { // xW + b
			z := append([]float64(nil), b...)
			for r, y := range x {
				for e := range z {
					z[e] += y * w[r*d+e]
				}
			}
			return z
		}
		var keys, steps [][]float64 // of the batch: k, and ρ∇ with ρ = Rate·η/d
		for j := range h.Keys {
			at := j % m.o.Batch
			r := max(0, 1/float64(at+1)+c.Learned[4][at])
			if at == 0 {
				keys, steps = nil, nil
			}
			k := c.Rope.Turned(h.K(j), at)
			z, sd := norm64(model(k))
			g, mean, along := make([]float64, d), 0.0, 0.0
			for e := range g {
				g[e] = gain[e] * (gain[e]*z[e] + shift[e] - (h.V(j)[e] - k[e]))
				mean += g[e] / float64(d)
				along += g[e] * z[e] / float64(d)
			}
			for e := range g {
				g[e] = (g[e] - mean - z[e]*along) / sd * m.o.Rate * h.KeySide(0, j)[0] / float64(d)
			}
			keys, steps = append(keys, k), append(steps, g)
			if i := j - h.Offset(); i >= 0 {
				q := c.Rope.Turned(h.Q(i), at)
				z := model(q)
				for n, k := range keys {
					for e := range z {
						z[e] -= r * (attn.Dot(q, k) + 1) * steps[n][e]
					}
				}
				z, _ = norm64(z)
				for e := range z {
					h.Out(i)[e] = q[e] + gain[e]*z[e] + shift[e]
				}
			}
			if at == m.o.Batch-1 {
				for n, k := range keys {
					for e, x := range steps[n] {
						for a := range k {
							w[a*d+e] -= r * k[a] * x
						}
						b[e] -= r * x
					}
				}
			}
		}
	})
	return nil
}

// norm64 returns z brought to mean 0 and variance 1, and what it was divided by.
func norm64(z []float64) (x []float64, sd float64) {
	mean, squares := 0.0, 0.0
	for _, y := range z {
		mean += y / float64(len(z))
	}
	for _, y := range z {
		squares += (y - mean) * (y - mean) / float64(len(z))
	}
	sd = math.Sqrt(squares + 1e-6)
	for _, y := range z {
		x = append(x, (y-mean)/sd)
	}
	return x, sd
}

func (m ttt) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	m.model.Forward(ws, c)
	return nil
}

func (m ttt) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.model.Backward(ws, c, g)
	return nil
}

func (m ttt) NewState(s attn.Shape) (attn.State, error) {
	if err := m.info.CheckShape(s); err != nil {
		return nil, fmt.Errorf("%s: %w", m.info.Name, err)
	}
	state, err := m.model.NewState(m.info.Name, s)
	if err != nil {
		return nil, err // not a nil *RecurState in a State
	}
	return state, nil
}

func (m ttt) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	return m.model.Extend(ws, s, c)
}
