package harness

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
)

// newCall returns a call of shape s with the inputs that info declares, drawn from seed: a normal
// number for each element and the declared bias, put through activation, scale and norm, so that a decay
// or a gate has the range that the layer would give it. Each input has a random stream of its own: a further
// input of one mechanism leaves q, k and v as they are for all others.
func newCall(info *attn.Info, s attn.Shape, seed uint64) *attn.Call {
	c := &attn.Call{Shape: s, Seed: seed, Out: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.ValueDim)}
	if info.RotatesInside {
		c.Rope = &attn.Rope{}
	}
	drawn := map[string]attn.View{}
	for i := range info.Inputs {
		in := &info.Inputs[i]
		v, tied := drawn[in.Tied]
		if !tied {
			v = drawInput(in, s, rand.New(rand.NewPCG(seed, stream(in.Name))))
		}
		drawn[in.Name] = v
		c.SetInput(info, i, v)
	}
	c.Learned = drawTensors(info.Learned, s, seed)
	c.Buffers = drawTensors(info.Buffers, s, seed)
	return c
}

// stream numbers the random stream of a name (FNV-1a).
func stream(name string) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range []byte(name) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

func drawInput(in *attn.Input, s attn.Shape, r *rand.Rand) attn.View {
	heads, width := in.Size(s)
	time := s.KeyLen
	if in.From == attn.QuerySide {
		time = s.QueryLen
	}
	v := attn.NewView[float32](s.Batch, time, heads, width)
	bias := make([]float32, heads*width)
	if in.Bias && in.Init != nil {
		in.Init(s, bias, r)
	}
	scale := in.Scale
	if scale == 0 {
		scale = 1
	}
	for i := 0; i < len(v.Data); i += width {
		row := v.Data[i : i+width]
		for j := range row {
			row[j] = float32(scale * activate(in.Act, r.NormFloat64()+float64(bias[(i+j)%len(bias)])))
		}
		normalise(in.Norm, row)
	}
	return v
}

func activate(a attn.Activation, x float64) float64 {
	switch a {
	case attn.SiLU:
		return x / (1 + math.Exp(-x))
	case attn.Sigmoid:
		return 1 / (1 + math.Exp(-x))
	case attn.LogSigmoid:
		return -math.Log1p(math.Exp(-x))
	case attn.Softplus:
		return math.Log1p(math.Exp(x))
	case attn.Tanh:
		return math.Tanh(x)
	case attn.ReLU:
		return max(x, 0)
	}
	return x
}

func normalise(n attn.Norm, row []float32) {
	if n == "" {
		return
	}
	sum := 0.0
	for _, x := range row {
		sum += float64(x) * float64(x)
	}
	if n == attn.RMSNorm {
		sum /= float64(len(row))
	}
	f := float32(1 / math.Sqrt(sum+1e-6))
	for j := range row {
		row[j] *= f
	}
}

func drawTensors(ts []attn.Tensor, s attn.Shape, seed uint64) [][]float32 {
	var out [][]float32
	for i := range ts {
		x := make([]float32, ts[i].Len(s))
		if ts[i].Init != nil {
			ts[i].Init(s, x, rand.New(rand.NewPCG(seed, stream(ts[i].Name))))
		}
		out = append(out, x)
	}
	return out
}

// newGrads returns zeroed gradients for c with a random gradient of the output. Tied inputs share one.
func newGrads(info *attn.Info, c *attn.Call, seed uint64) *attn.Grads {
	g := &attn.Grads{Out: attn.NewView[float32](c.Batch, c.QueryLen, c.Heads, c.ValueDim)}
	r := rand.New(rand.NewPCG(seed, stream("gradient")))
	for i := range g.Out.Data {
		g.Out.Data[i] = float32(r.NormFloat64())
	}
	made := map[string]attn.View{}
	for i := range info.Inputs {
		in := &info.Inputs[i]
		v, tied := made[in.Tied]
		if !tied {
			x := c.Input(info, i)
			v = attn.NewView[float32](x.Batch, x.Time, x.Heads, x.Dim)
		}
		made[in.Name] = v
		g.SetInput(info, i, v)
	}
	for _, x := range c.Learned {
		g.Learned = append(g.Learned, make([]float32, len(x)))
	}
	return g
}

// window returns a call over the tokens t0 to t1-1 of c, of which those from q0 on ask, sharing its memory.
func window(info *attn.Info, c *attn.Call, q0, t0, t1 int) *attn.Call {
	w := *c
	w.QueryLen, w.KeyLen = t1-q0, t1-t0
	cut := func(v attn.View, from int) attn.View {
		if v.Empty() {
			return v
		}
		v.Data = v.From(0, from, 0)
		v.Time = t1 - from
		return v
	}
	w.Q, w.K, w.V, w.Out = cut(c.Q, q0), cut(c.K, t0), cut(c.V, t0), cut(c.Out, q0)
	w.Extra = nil
	for i := range info.Inputs {
		switch in := &info.Inputs[i]; {
		case in.Name == "q" || in.Name == "k" || in.Name == "v":
		case in.From == attn.QuerySide:
			w.Extra = append(w.Extra, cut(c.Input(info, i), q0))
		default:
			w.Extra = append(w.Extra, cut(c.Input(info, i), t0))
		}
	}
	return &w
}

// widen returns c in float64, for definitions, with an output of its own.
func widen(c *attn.Call) *attn.Call64 {
	d := &attn.Call64{
		Shape: c.Shape, Segments: c.Segments, Pos0: c.Pos0, Seed: c.Seed, Rope: c.Rope,
		Q: widenView(c.Q), K: widenView(c.K), V: widenView(c.V),
		Out: attn.NewView[float64](c.Batch, c.QueryLen, c.Heads, c.ValueDim),
	}
	for _, x := range c.Extra {
		d.Extra = append(d.Extra, widenView(x))
	}
	for _, x := range c.Learned {
		d.Learned = append(d.Learned, widenSlice(x))
	}
	for _, x := range c.Buffers {
		d.Buffers = append(d.Buffers, widenSlice(x))
	}
	return d
}

func widenView(v attn.View) attn.View64 {
	if v.Empty() {
		return attn.View64{}
	}
	return attn.View64{
		Data: widenSlice(v.Data), Batch: v.Batch, Time: v.Time, Heads: v.Heads, Dim: v.Dim,
		BatchStride: v.BatchStride, TimeStride: v.TimeStride, HeadStride: v.HeadStride,
	}
}

func widenSlice(x []float32) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = float64(x[i])
	}
	return y
}
