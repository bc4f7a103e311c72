package linear

import (
	"math"
	"math/bits"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("loglinear", LogLinear{Levels: 15}, LogLinear.New) }

// LogLinear holds the options of log-linear attention over Mamba-2, spelled loglinear:levels=21.
type LogLinear struct {
	// Levels is the number of weights that a query has for distances; n levels tell 2^(n-1) tokens apart, and the last takes what lies
	// further back. At least 1.
	Levels int `opt:"levels"`
}

// New returns log-linear attention with the options o.
func (o LogLinear) New() (attn.Mechanism, error) {
	if o.Levels < 1 || o.Levels > 60 {
		return nil, attn.OptionError("levels", o.Levels, "an integer from 1 to 60")
	}
	m := loglinear{o: o, rec: tile.NewLevels(o.Levels)}
	width := func(attn.Shape) int { return o.Levels }
	m.info = &attn.Info{
		Name:     attn.Spell("loglinear", o),
		Family:   "linear",
		Title:    "Log-linear attention (Mamba-2)",
		Paper:    "Guo et al. 2025, arXiv:2506.04761",
		Year:     2025,
		Revision: 1,

		Masks:  attn.Causal,
		Decode: attn.DecodeAlways,
		Inputs: append(ssmInputs(), attn.Input{Name: "l", From: attn.QuerySide, Heads: attn.QueryHeads, Width: width}),
		Learned: append(ssmLearned(), attn.Tensor{
			Name: "L", Shape: func(s attn.Shape) []int { return []int{s.Heads, o.Levels} }, Init: attn.Const(1),
		}),
		Output: attn.Output{Norm: attn.RMSNorm, NormHeads: groupHeads, Gate: attn.SiLU, GateFirst: true},
		Limits: []attn.Limit{{ // weights of 1
			Spec: func(attn.Shape) string { return attn.Spell("loglinear", o) }, Equals: "mamba2",
			Prepare: func(c *attn.Call64) {
				for i := range c.Learned[2] {
					c.Learned[2][i] = 1
				}
				for i := range c.Extra[1].Data {
					c.Extra[1].Data[i] = math.Log(math.E - 1)
				}
			},
			Convert: func(c *attn.Call64) *attn.Call64 {
				d := *c
				d.Extra, d.Learned = c.Extra[:1], c.Learned[:2]
				return &d
			},
		}},
	}
	m.info.Cost = m.cost
	return m, nil
}

type loglinear struct {
	o    LogLinear
	rec  tile.Levels
	info *attn.Info
}

func (m loglinear) Info() attn.Info { return *m.info }

// Define is log-linear attention over the state space model of Mamba-2, for each head with its A = -e^{A_log}, D and L:
//
//	y_t = Σ_{j≤t} λ_t[ℓ(t,j)] e^{(Δ_{j+1}+…+Δ_t) A} (C_t·B_j) Δ_j x_j + D x_t,  λ_t[ℓ] = softplus(L[ℓ] l_t[ℓ])
//	ℓ(t, j) = bit length of t xor j
//
// with C, B, x, Δ in the inputs q, k, v, dt, positions counted from the start of the sequence, and the last of L for all levels beyond.
// Here the sum is taken from one state for each level. Guo et al. 2025 (arXiv:2506.04761) §3.1, eq. 4 and 5, §3.4.
func (m loglinear) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	n := c.KeyDim * c.ValueDim
	c.EachHead(func(h attn.Head64) {
		a, d, wide := -math.Exp(c.Learned[0][h.H]), c.Learned[1][h.H], c.Learned[2][h.H*m.o.Levels:]
		var levels [64][]float64
		for i := range h.Queries {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			if j > 0 {
				low := bits.TrailingZeros(uint(j))
				sum := make([]float64, n)
				for l := range low + 1 {
					for i, x := range levels[l] {
						sum[i] += x
					}
					levels[l] = nil
				}
				levels[low+1] = sum
			}
			dt, x := h.KeySide(0, j)[0], c.V.Row(h.Row, h.Key0+j, h.H)
			for _, s := range levels {
				for i := range s {
					s[i] *= math.Exp(dt * a)
				}
			}
			b := make([]float64, c.KeyDim)
			for i := range b {
				b[i] = dt * h.K(j)[i]
			}
			levels[0] = make([]float64, n)
			write64(levels[0], []float64{1}, b, x)
			i := j - h.Offset()
			if i < 0 {
				continue
			}
			for l, s := range levels {
				if s != nil {
					l = min(l, m.o.Levels-1)
					read64(h.Out(i), s, c.Q.Row(h.Row, h.Query0+i, h.KV), softplus(wide[l]*h.QuerySide(1, i)[l]))
				}
			}
			for p := range x {
				h.Out(i)[p] += d * x[p]
			}
		}
	})
	return nil
}

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// lambda computes the weights of all queries and levels.
func (m loglinear) lambda(ws *attn.Workspace, c *attn.Call) attn.View {
	v := attn.ViewAs(ws.Floats(c.Batch*c.QueryLen*c.Heads*m.o.Levels), c.Batch, c.QueryLen, c.Heads, m.o.Levels)
	type args struct {
		c *attn.Call
		v attn.View
	}
	tokens := c.Batch * c.QueryLen
	attn.Parallel(ws, (tokens+gateRows-1)/gateRows, 0, args{c, v}, func(_ *attn.Scratch, a *args, task int) {
		first, row := task*gateRows, a.c.Heads*a.v.Dim
		end := min(first+gateRows, a.c.Batch*a.c.QueryLen)
		wide, dst := a.c.Learned[2][:row], a.v.Data[first*row:end*row]
		for t := first; t < end; t++ {
			to := dst[(t-first)*row:][:row]
			for h := range a.c.Heads {
				copy(to[h*a.v.Dim:], a.c.Extra[1].Row(t/a.c.QueryLen, t%a.c.QueryLen, h))
			}
			kernel.Times(to, wide)
		}
		softplus32(dst)
	})
	return v
}

// derive returns the recurrence's call.
func (m loglinear) derive(ws *attn.Workspace, c *attn.Call) *derivation {
	d := attn.Reused[derivation](ws)
	d.call = *c
	d.call.Shape = ssmShape(c.Shape)
	prepareSSM(ws, c, d)
	d.inputs[2] = m.lambda(ws, c)
	d.call.Extra = d.inputs[:]
	return d
}

func (m loglinear) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	mark := ws.Mark()
	d := m.derive(ws, c)
	m.rec.Forward(ws, &d.call)
	*d = derivation{}
	ws.Release(mark)
	return nil
}

func (m loglinear) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	d := m.derive(ws, c)
	d.grads = *g
	differentiateSSM(ws, c, d)
	dlambda := attn.ViewAs(ws.Zeros(c.Batch*c.QueryLen*c.Heads*m.o.Levels), c.Batch, c.QueryLen, c.Heads, m.o.Levels)
	d.inputGrads[2] = dlambda
	d.grads.Extra = d.inputGrads[:]
	m.rec.Backward(ws, &d.call, &d.grads)
	finishSSM(ws, c, g, d)
	for b := range c.Batch {
		for t := range c.QueryLen {
			for h := range c.Heads {
				wide, dwide := c.Learned[2][h*m.o.Levels:], g.Learned[2][h*m.o.Levels:]
				l, dl := c.Extra[1].Row(b, t, h), g.Extra[1].Row(b, t, h)
				for i, dx := range dlambda.Row(b, t, h) {
					if dx != 0 { // padding may hold NaN
						dx /= 1 + float32(math.Exp(-float64(wide[i]*l[i])))
						dl[i] += dx * wide[i]
						dwide[i] += dx * l[i]
					}
				}
			}
		}
	}
	*d = derivation{}
	ws.Release(mark)
	return nil
}

// loglinearState is the state for calls of so many groups.
type loglinearState struct {
	*tile.LevelState
	kvHeads int
}

func (m loglinear) NewState(s attn.Shape) (attn.State, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	state, err := m.rec.NewState(m.info.Name, ssmShape(s))
	if err != nil {
		return nil, err
	}
	return &loglinearState{state, s.KVHeads}, nil
}

func (m loglinear) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	s, err := stateFor[*loglinearState](m.info.Name, state)
	if err != nil {
		return err
	}
	if err := sameGroups(m.info.Name, s.kvHeads, c); err != nil {
		return err
	}
	mark := ws.Mark()
	d := m.derive(ws, c)
	err = m.rec.Extend(ws, s.LevelState, &d.call)
	*d = derivation{}
	ws.Release(mark)
	return err
}

func (m loglinear) cost(s attn.Shape, p attn.Pass) attn.Cost {
	cost := m.rec.Cost(ssmShape(s), p)
	if p == attn.PassDecode {
		s.KeyLen = s.QueryLen
	}
	prepare, differentiate := ssmFloats(s)
	lambda := attn.ScratchFloats(s.Batch * s.QueryLen * s.Heads * m.o.Levels)
	cost.Shared += 4 * int64(prepare+lambda)
	cost.Bytes += movedBytes(m.info, s)
	if p == attn.PassBackward {
		cost.Bytes *= 2
		cost.Shared += 4 * int64(differentiate+lambda)
	}
	return cost
}
