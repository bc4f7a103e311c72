package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// halfFull is full attention of q, k and v rounded to bfloat16, 8 bits of significand: both products take pairs of such numbers and
// add in float32, by VDPBF16PS where the processor has it, elsewhere to the same bits by float32 instructions. It is for inference
// on a model that was trained with full. Decoding keeps what was rounded as float32, since it is bound by neither.
type halfFull struct{ m full }

func (o Full) half() attn.Mechanism {
	h := halfFull{full{Softmax: tile.Softmax{Pattern: tile.Dense{}, Pairs: true}}}
	h.m.info = &attn.Info{
		Name: attn.Spell("full", o), Family: "full", Title: "Full attention, products of bfloat16",
		Paper: "Vaswani et al. 2017, arXiv:1706.03762; Kalamkar et al. 2019, arXiv:1905.12322", Year: 2019, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Approximates: true, Inference: true, Decode: attn.DecodeSameSplit,
		Tolerance: halfTolerance, Inputs: attn.QKV(), Cost: h.cost,
	}
	return h
}

// halfTolerance is that of a weight's rounding, 2^-9 of it, which the definition leaves out; the sum that divides is of the weights before.
const halfTolerance = 1.0 / 256

// Define is full's of q, k and v rounded to the nearest bfloat16, ties to even; subnormal numbers are 0.
func (h halfFull) Define(c *attn.Call64) error {
	r := *c
	r.Q, r.K, r.V = rounded64(c.Q), rounded64(c.K), rounded64(c.V)
	return h.m.Define(&r)
}

func rounded64(v attn.View64) attn.View64 {
	r := attn.NewView[float64](v.Batch, v.Time, v.Heads, v.Dim)
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				to := r.Row(b, t, h)
				for i, x := range v.Row(b, t, h) {
					to[i] = float64(roundHalf(float32(x)))
				}
			}
		}
	}
	return r
}

// roundHalf returns the bfloat16 nearest to x.
func roundHalf(x float32) float32 {
	u := math.Float32bits(x)
	switch {
	case x != x:
		return x
	case u&0x7f800000 == 0:
		u &= 1 << 31
	default:
		u += 0x7fff + u>>16&1
	}
	return math.Float32frombits(u &^ 0xffff)
}

// Info describes the mechanism.
func (h halfFull) Info() attn.Info { return h.m.Info() }

// Forward computes the output.
func (h halfFull) Forward(ws *attn.Workspace, c *attn.Call) error { return h.m.Forward(ws, c) }

// NewState returns an empty cache of keys and values.
func (h halfFull) NewState(s attn.Shape) (attn.State, error) { return h.m.NewState(s) }

// Extend appends the call's keys and values and computes its queries, all of them rounded.
func (h halfFull) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(h.m.info); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	r := attn.Reused[attn.Call](ws)
	*r = *c
	r.Q, r.K, r.V = rounded(ws, c.Q), rounded(ws, c.K), rounded(ws, c.V)
	err := h.m.Extend(ws, s, r)
	*r = attn.Call{}
	return err
}

func rounded(ws *attn.Workspace, v attn.View) attn.View {
	r := attn.ViewAs(ws.Floats(v.Batch*v.Time*v.Heads*v.Dim), v.Batch, v.Time, v.Heads, v.Dim)
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				to := r.Row(b, t, h)
				for i, x := range v.Row(b, t, h) {
					to[i] = roundHalf(x)
				}
			}
		}
	}
	return r
}

func (h halfFull) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := h.m.cost(s, p)
	if p == attn.PassDecode {
		rows := s.Batch * s.QueryLen
		c.Shared += 4 * int64(attn.ScratchFloats(rows*s.Heads*s.KeyDim, rows*s.KVHeads*s.KeyDim, rows*s.KVHeads*s.ValueDim))
	}
	return c
}
