package attntest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"attnbench/attn"
)

// A plan says how a call is drawn.
type plan struct {
	attn.Shape
	segments kind
	layout   layout
	present  uint               // bit i: the i-th optional input is given
	grid     bool               // inputs are multiples of 1/8, so that scores are exact
	gain     map[string]float64 // of the raw draw of an input, 1 by default; "*" for all others
	shift    map[string]float64 // added to the raw draw of an input
	strong   bool               // gates are weak but for a few that are very strong
	carry    bool               // Initial and Final are given
	saved    bool
	pos0     int
	seed     uint64
	what     string // what the plan is about, for messages
}

// kind is how sequences lie in a call.
type kind uint8

const (
	whole  kind = iota // one a row, at full length
	padded             // one a row, shorter; one of no tokens
	packed             // several documents a row, with gaps between them
)

func (k kind) String() string { return [...]string{"whole", "padded", "packed"}[k] }

// layout is how views lie in memory.
type layout uint8

const (
	dense     layout = iota
	gaps             // [batch, time, heads, dim] with gaps
	headMajor        // [batch, heads, time, dim] with gaps
)

func (l layout) String() string { return [...]string{"dense", "gaps", "head-major"}[l] }

func (p *plan) String() string {
	s := fmt.Sprintf("batch=%d queries=%d keys=%d heads=%d kv=%d keydim=%d valuedim=%d mask=%v %v %v draw=%d",
		p.Batch, p.QueryLen, p.KeyLen, p.Heads, p.KVHeads, p.KeyDim, p.ValueDim, p.Mask, p.segments, p.layout, p.seed)
	if p.present != 0 {
		s += fmt.Sprintf(" optional=%b", p.present)
	}
	if p.carry {
		s += " carry"
	}
	if p.grid {
		s += " grid"
	}
	if p.strong {
		s += " strong"
	}
	if p.what != "" {
		s += " (" + p.what + ")"
	}
	return s
}

// shape is a short form of a shape with equal lengths.
func shape(m attn.Mask, batch, queries, keys, heads, kv, keyDim, valueDim int) attn.Shape {
	return attn.Shape{Batch: batch, QueryLen: queries, KeyLen: keys, Heads: heads, KVHeads: kv,
		KeyDim: keyDim, ValueDim: valueDim, Mask: m}
}

// accept returns the shape nearest to s that the mechanism says it can compute.
func (k *kit) accept(s attn.Shape) (attn.Shape, bool) {
	ok := func() bool { return k.info.CheckShape == nil || k.info.CheckShape(s) == nil }
	if k.selfOnly() {
		s.QueryLen = s.KeyLen
	}
	if ok() {
		return s, true
	}
	asked := s
	round := func(n, to int) int { return (n + to - 1) / to * to }
	for _, change := range []func(){
		func() { s.ValueDim = s.KeyDim },
		func() { s.KVHeads = s.Heads },
		func() { s.KeyDim, s.ValueDim = round(s.KeyDim, 2), round(s.ValueDim, 2) },
		func() { s.KeyDim, s.ValueDim = round(s.KeyDim, 16), round(s.ValueDim, 16) },
		func() { s.QueryLen = s.KeyLen },
		func() { s.QueryLen, s.KeyLen = round(s.QueryLen, 64), round(s.KeyLen, 64) },
		func() { s.Heads, s.KVHeads = round(s.Heads, 4), round(s.Heads, 4) },
	} {
		before := s
		s = asked
		if change(); ok() { // alone, and then on top of the earlier ones
			return s, true
		}
		s = before
		if change(); ok() {
			return s, true
		}
	}
	return s, false
}

// selfOnly reports whether an input of one side has the values of one on the other, so that
// queries and keys are the same tokens.
func (k *kit) selfOnly() bool {
	for _, in := range k.info.Inputs {
		if j := k.tied(in); j >= 0 && (k.info.Inputs[j].From == attn.QuerySide) != (in.From == attn.QuerySide) {
			return true
		}
	}
	return false
}

// tied returns the number of the input that in shares its values with, or -1.
func (k *kit) tied(in attn.Input) int {
	if in.Tied == "" || in.From == attn.FirstLayer {
		return -1
	}
	for j := range k.info.Inputs {
		if k.info.Inputs[j].Name == in.Tied {
			return j
		}
	}
	return -1
}

// masks returns the masks that the mechanism declares.
func (k *kit) masks() []attn.Mask {
	var ms []attn.Mask
	for _, m := range []attn.Mask{attn.Causal, attn.Bidirectional, attn.Cross} {
		if k.info.Masks&m != 0 {
			ms = append(ms, m)
		}
	}
	return ms
}

func (k *kit) causal() bool { return k.info.Masks&attn.Causal != 0 }

// optional returns the number of optional inputs.
func (k *kit) optional() int {
	n := 0
	for _, in := range k.info.Inputs {
		if in.Optional {
			n++
		}
	}
	return n
}

// every returns all optional inputs as a set.
func (k *kit) every() uint { return 1<<k.optional() - 1 }

// begin makes p the plan at hand, with a shape that the mechanism accepts and a seed of its own.
func (k *kit) begin(p *plan) bool {
	k.drawn++
	p.seed = k.Seed<<32 | k.drawn
	s, ok := k.accept(p.Shape)
	k.plan = p
	if !ok || s.QueryLen > p.QueryLen && s.QueryLen*s.KeyLen > 1<<20 { // a few queries were to be asked, not all of a long sequence
		return false
	}
	p.Shape = s
	p.carry = p.carry && k.info.Carry != nil
	return true
}

func (p *plan) rand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(p.seed, stream)) }

// draw makes the call of the plan. Out holds NaN.
func (k *kit) draw(p *plan) *attn.Call {
	c := &attn.Call{Shape: p.Shape, Seed: p.seed, Segments: k.drawSegments(p), Pos0: p.pos0}
	if k.info.RotatesInside && p.seed%2 == 0 {
		c.Rope = &attn.Rope{}
	}
	c.Out = newView(p.layout, p.Batch, p.QueryLen, p.Heads, p.ValueDim)
	for i := range k.info.Inputs {
		if k.given(p, i) {
			k.put(c, i, k.drawInput(p, i, p.rand(10+uint64(i))))
		} else {
			k.put(c, i, attn.View{})
		}
	}
	for i, in := range k.info.Inputs {
		if j := k.tied(in); j >= 0 && k.given(p, i) && k.given(p, j) {
			copyView(k.input(c, i), k.input(c, j))
		}
	}
	r := p.rand(2)
	for _, t := range k.info.Learned {
		x := drawTensor(t, p.Shape, r)
		for i := range x {
			x[i] += float32(0.1 * r.NormFloat64()) // a fresh one may be 0 and hide its use
		}
		c.Learned = append(c.Learned, x)
	}
	for _, t := range k.info.Buffers {
		c.Buffers = append(c.Buffers, drawTensor(t, p.Shape, r))
	}
	if p.carry {
		c.Initial = k.drawState(p, c)
		c.Final = make([]float32, len(c.Initial))
		for i := range c.Final {
			c.Final[i] = nan
		}
	}
	if p.saved {
		c.Saved = attn.NewSaved(new(attn.Arena))
	}
	return c
}

// drawState returns states that the definition comes to from other inputs, one for each segment of c: a normaliser of
// numbers at random can be 0 where none of keys is.
func (k *kit) drawState(p *plan, c *attn.Call) []float32 {
	q := *p
	q.Batch, q.segments, q.seed, q.carry, q.saved = c.NumSegments(), whole, ^p.seed, false, false
	other := k.draw(&q)
	other.Learned, other.Buffers = c.Learned, c.Buffers
	w := wide(other)
	w.Final = make([]float64, c.NumSegments()*k.info.Carry(p.Shape))
	if err := k.define(w); err != nil {
		k.failf("definition of a good call: %v", err)
	}
	return narrowSlice(w.Final)
}

func drawTensor(t attn.Tensor, s attn.Shape, r *rand.Rand) []float32 {
	x := make([]float32, t.Len(s))
	if t.Init != nil {
		t.Init(s, x, r)
	}
	return x
}

// given reports whether the plan gives the i-th input.
func (k *kit) given(p *plan, i int) bool {
	if !k.info.Inputs[i].Optional {
		return true
	}
	n := 0
	for _, in := range k.info.Inputs[:i] {
		if in.Optional {
			n++
		}
	}
	return p.present>>n&1 == 1
}

// drawInput draws the i-th input: a normal or grid value, then what the layer would do to it.
func (k *kit) drawInput(p *plan, i int, r *rand.Rand) attn.View {
	in := &k.info.Inputs[i]
	heads, width := in.Size(p.Shape)
	time := p.QueryLen
	if in.From != attn.QuerySide {
		time = p.KeyLen
	}
	v := newView(p.layout, p.Batch, time, heads, width)
	gain, ok := p.gain[in.Name]
	if !ok {
		if gain, ok = p.gain["*"]; !ok {
			gain = 1
		}
	}
	eachRow(v, func(_, _, _ int, row []float32) {
		for j := range row {
			x := r.NormFloat64()
			if p.grid {
				x = math.RoundToEven(x*8) / 8
			}
			row[j] = float32(gain*x + p.shift[in.Name])
			if p.strong && gate(in) {
				if row[j] = 8; r.IntN(8) == 0 {
					row[j] = -1e5
				}
			}
		}
		pipeline(in, row)
	})
	return v
}

// gate reports whether an input's activation makes it a gate or a decay.
func gate(in *attn.Input) bool {
	return in.Act == attn.LogSigmoid || in.Act == attn.Sigmoid || in.Act == attn.Softplus
}

// pipeline applies the activation, scale and norm that an input declares.
func pipeline(in *attn.Input, row []float32) {
	squares := 0.0
	for i, x32 := range row {
		x := activate(in.Act, float64(x32))
		if in.Scale != 0 {
			x *= in.Scale
		}
		row[i] = float32(x)
		squares += x * x
	}
	div := 1.0
	switch in.Norm {
	case attn.L2Norm:
		div = math.Sqrt(squares + 1e-12)
	case attn.RMSNorm:
		div = math.Sqrt(squares/float64(len(row)) + 1e-6)
	}
	if div != 1 {
		for i := range row {
			row[i] = float32(float64(row[i]) / div)
		}
	}
}

func activate(a attn.Activation, x float64) float64 {
	switch a {
	case attn.SiLU:
		return x / (1 + math.Exp(-x))
	case attn.Sigmoid:
		return 1 / (1 + math.Exp(-x))
	case attn.LogSigmoid:
		return -softplus(-x)
	case attn.Softplus:
		return softplus(x)
	case attn.Tanh:
		return math.Tanh(x)
	case attn.ReLU:
		return max(x, 0)
	}
	return x
}

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// drawSegments draws the sequences of the plan. Queries and keys of one sequence are the same
// tokens when the plan has as many of both.
func (k *kit) drawSegments(p *plan) []attn.Segment {
	r, self := p.rand(1), p.QueryLen == p.KeyLen && p.Mask != attn.Cross
	switch p.segments {
	case padded:
		q, n := make([]int, p.Batch), make([]int, p.Batch)
		for b := range q {
			q[b], n[b] = r.IntN(p.QueryLen+1), r.IntN(p.KeyLen+1)
			if self {
				n[b] = q[b]
			}
			if b == 1 {
				q[b], n[b] = 0, 0
			}
			if b == 0 && p.QueryLen > 0 && p.KeyLen > 0 {
				q[b], n[b] = max(q[b], 1), max(n[b], 1)
			}
		}
		return attn.Lengths(q, n)
	case packed:
		segs := []attn.Segment{}
		for b := range p.Batch {
			at, key := 0, 0
			for i := 0; at < p.QueryLen; i++ {
				g := attn.Segment{Row: b, Query0: at, Queries: 1 + r.IntN(1+p.QueryLen/2), Key0: key, Keys: r.IntN(1 + p.KeyLen/2)}
				g.Queries = min(g.Queries, p.QueryLen-at)
				g.Keys = min(g.Keys, p.KeyLen-key)
				if self {
					g.Key0, g.Keys = g.Query0, g.Queries
				}
				segs = append(segs, g)
				gap := r.IntN(3)
				at, key = g.Query0+g.Queries+gap, min(g.Key0+g.Keys+gap, p.KeyLen)
			}
		}
		return segs
	}
	return nil
}
