package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("mesanet", MesaNet{Steps: 30, Conv: 4, Chunk: 32}, MesaNet.New) }

// MesaNet holds the options of MesaNet, spelled mesanet:steps=15.
type MesaNet struct {
	Steps int `opt:"steps"` // of conjugate gradients a token; at least 1
	Conv  int `opt:"conv"`  // width of the short convolution of q and k; 0 for none
	Chunk int `opt:"chunk"` // tokens between the states kept for training; at least 1
}

// New returns MesaNet with the options o.
func (o MesaNet) New() (attn.Mechanism, error) {
	m := mesaNet{mesa: tile.Mesa{Chunk: o.Chunk, Steps: o.Steps}}
	if err := m.mesa.Check(); err != nil {
		return nil, err
	}
	if err := checkConv(o.Conv); err != nil {
		return nil, err
	}
	inputs := deltaInputs(o.Conv)
	inputs[2].Conv, inputs[2].Act = 0, ""
	number := func(name string, act attn.Activation) attn.Input {
		return attn.Input{Name: name, From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.OneWide, Bias: true, Act: act}
	}
	m.info = &attn.Info{
		Name:     attn.Spell("mesanet", o),
		Family:   "linear",
		Title:    "MesaNet",
		Paper:    "von Oswald et al. 2025, arXiv:2506.05233",
		Year:     2025,
		Revision: 1,
		Masks:    attn.Causal,
		Decode:   attn.DecodeAlways,
		Inputs:   append(inputs, number("g", attn.LogSigmoid), number("beta", attn.Sigmoid)),
		Learned: []attn.Tensor{{
			Name: "lambda", Shape: func(s attn.Shape) []int { return []int{s.KVHeads, s.KeyDim} },
			Init: attn.Const(float32(math.Log(math.Expm1(0.75)))), // λ = 1
		}},
		Output: attn.Output{Norm: attn.RMSNorm},
		// No Carry: a state of any numbers is not one, H must be positive.
		Cost: m.mesa.Cost,
	}
	return m, nil
}

type mesaNet struct {
	mesa tile.Mesa
	info *attn.Info
}

func (m mesaNet) Info() attn.Info { return *m.info }

// Define is MesaNet, token by token:
//
//	H_t = e^{g_t} H_{t-1} + β_t k_t k_tᵀ,  G_t = e^{g_t} G_{t-1} + β_t k_t v_tᵀ
//	o_t = G_tᵀ (H_t + diag(λ))⁻¹ q_t,  λ = 1/4 + softplus(p)
//
// H [key dim, key dim] and G [key dim, value dim] are zero at the start; p is one number a head and channel. A query reads after the
// write of its own token. The system is solved by elimination, where the mechanism takes steps of conjugate gradients. von
// Oswald et al. 2025 (arXiv:2506.05233) eq. 5 to 10.
func (m mesaNet) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		dk, dv := c.KeyDim, c.ValueDim
		hh, gg := make([]float64, dk*dk), make([]float64, dk*dv)
		a, x := make([]float64, dk*dk), make([]float64, dk)
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			k, v, decay, beta := h.K(j), h.V(j), math.Exp(h.KeySide(0, j)[0]), h.KeySide(1, j)[0]
			for r := range k {
				for i := range k {
					hh[r*dk+i] = decay*hh[r*dk+i] + beta*k[r]*k[i]
				}
				for i := range v {
					gg[r*dv+i] = decay*gg[r*dv+i] + beta*k[r]*v[i]
				}
			}
			i := j - h.Offset()
			if i < 0 {
				continue
			}
			copy(a, hh)
			for r, p := range c.Learned[0][h.KV*dk:][:dk] {
				a[r*dk+r] += 0.25 + max(p, 0) + math.Log1p(math.Exp(-math.Abs(p)))
			}
			copy(x, h.Q(i))
			solve64(a, x)
			out := h.Out(i)
			clear(out)
			for r, w := range x {
				for b := range out {
					out[b] += w * gg[r*dv+b]
				}
			}
		}
	})
	return nil
}

// solve64 turns b to the solution x of A x = b by elimination without exchanges, as a positive A allows; it overwrites A.
func solve64(a, b []float64) {
	n := len(b)
	for i := range n {
		for r := i + 1; r < n; r++ {
			f := a[r*n+i] / a[i*n+i]
			for j := i; j < n; j++ {
				a[r*n+j] -= f * a[i*n+j]
			}
			b[r] -= f * b[i]
		}
	}
	for i := n - 1; i >= 0; i-- {
		for j := i + 1; j < n; j++ {
			b[i] -= a[i*n+j] * b[j]
		}
		b[i] /= a[i*n+i]
	}
}

func (m mesaNet) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	m.mesa.Forward(ws, c)
	return nil
}

func (m mesaNet) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.mesa.Backward(ws, c, g)
	return nil
}

func (m mesaNet) NewState(s attn.Shape) (attn.State, error) {
	state, err := m.mesa.NewState(m.info.Name, s)
	if err != nil {
		return nil, err // not a nil *RecurState in a State
	}
	return state, nil
}

func (m mesaNet) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	return m.mesa.Extend(ws, s, c)
}
