package full

import (
	"errors"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("differential", Differential{}, Differential.New) }

// Differential is the attention of the Differential Transformer, spelled differential. It has no options.
//
// A head holds two halves of queries and keys, each KeyDim/2 wide and rotated on its own, and values of the whole width; the
// paper has half as many heads as its baseline, each with halves of the baseline's width.
type Differential struct{}

// differentialEps is that of the norm of a head's output.
const differentialEps = 1e-5

// New returns differential attention.
func (o Differential) New() (attn.Mechanism, error) {
	m := differential{full{Softmax: tile.Softmax{Pattern: tile.Dense{}}}}
	half := func(s attn.Shape) int { return s.KeyDim / 2 }
	inputs := attn.QKV()
	inputs[0].Heads, inputs[0].Width = func(s attn.Shape) int { return 2 * s.Heads }, half
	inputs[1].Heads, inputs[1].Width = func(s attn.Shape) int { return 2 * s.KVHeads }, half
	vector := func(name string) attn.Tensor {
		return attn.Tensor{Name: name, Shape: func(s attn.Shape) []int { return []int{half(s)} }, Init: attn.Normal(0.1)}
	}
	m.info = &attn.Info{
		Name: attn.Spell("differential", o), Family: "full", Title: "Differential attention",
		Paper: "Ye et al. 2024, arXiv:2410.05258", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Inputs: inputs, Cost: m.cost,
		Learned: []attn.Tensor{
			vector("lambda_q1"), vector("lambda_k1"), vector("lambda_q2"), vector("lambda_k2"),
			{Name: "gain", Shape: func(s attn.Shape) []int { return []int{s.ValueDim} }, Init: attn.Const(1)},
		},
		CheckShape: func(s attn.Shape) error {
			if s.KeyDim%2 != 0 {
				return errors.New("key dim is odd: want two halves")
			}
			return nil
		},
	}
	return m, nil
}

type differential struct{ full }

// lambdaInit is λ_init of a layer.
func lambdaInit(layer int) float64 { return 0.8 - 0.6*math.Exp(-0.3*float64(layer)) }

// lambda returns λ and its two exponentials.
func lambda[F attn.Float](c *attn.CallOf[F]) (l, e1, e2 float64) {
	var dots [2]float64
	for a := range dots {
		for i, x := range c.Learned[2*a] {
			dots[a] += float64(x) * float64(c.Learned[2*a+1][i])
		}
	}
	e1, e2 = math.Exp(dots[0]), math.Exp(dots[1])
	return e1 - e2 + lambdaInit(c.Layer), e1, e2
}

// Define computes, for each head h with its halves a = 1, 2 of q and k (heads 2h and 2h+1 of these inputs, d wide),
//
//	x[i] = Σ_j (p¹[i,j] - λ p²[i,j]) v[j],  pᵃ[i,·] = softmax_j(qᵃ[i]·kᵃ[j] / √d) over the keys j that the mask lets i see
//	o[i] = (1-λ_init) · x[i] / √(mean x[i]² + 1e-5) ∘ gain
//	λ = exp(λ_q1·λ_k1) - exp(λ_q2·λ_k2) + λ_init,  λ_init = 0.8 - 0.6·exp(-0.3·layer), layers counted from 0
//
// A query that sees no key gives zeros. Ye et al. 2024 (arXiv:2410.05258) eq. 1 to 3.
func (differential) Define(c *attn.Call64) error {
	c.ZeroPadding()
	l, _, _ := lambda(c)
	c.EachHead(func(h attn.Head64) {
		p := make([]float64, h.Keys)
		for i := range h.Queries {
			out := h.Out(i)
			clear(out)
			for a, weight := range []float64{1, -l} {
				q := c.Q.Row(h.Row, h.Query0+i, 2*h.H+a)
				for j := range p {
					p[j] = math.Inf(-1)
					if h.Sees(i, j) {
						p[j] = attn.Dot(q, c.K.Row(h.Row, h.Key0+j, 2*h.KV+a)) / math.Sqrt(float64(len(q)))
					}
				}
				attn.Softmax(p)
				for j := range p {
					if h.Sees(i, j) { // an unseen value may be NaN
						attn.Axpy(weight*p[j], h.V(j), out)
					}
				}
			}
			rms := math.Sqrt(attn.Dot(out, out)/float64(len(out)) + differentialEps)
			for e := range out {
				out[e] *= (1 - lambdaInit(c.Layer)) / rms * c.Learned[4][e]
			}
		}
	})
	return nil
}

// half returns the heads of half a of a view of queries or keys.
func half(v attn.View, a int) attn.View {
	if at := a * v.HeadStride; at < len(v.Data) {
		v.Data = v.Data[at:]
	}
	v.Heads, v.HeadStride = v.Heads/2, 2*v.HeadStride
	return v
}

// halfCall is plain attention of one half of c, which goes to out.
func halfCall(c *attn.Call, a int, out attn.View) attn.Call {
	h := *c
	h.KeyDim, h.Q, h.K, h.Out = c.KeyDim/2, half(c.Q, a), half(c.K, a), out
	h.Extra, h.Learned, h.Saved = nil, nil, nil
	return h
}

func (m differential) cost(s attn.Shape, p attn.Pass) attn.Cost {
	pairs := s.Pairs() * int64(s.Heads)
	c := m.Softmax.Cost(s, p, pairs)
	s.KeyDim /= 2
	inner := m.Softmax.Cost(s, p, pairs)
	outputs := bytesOf(s.Batch * s.QueryLen * s.Heads * s.ValueDim)
	c.FLOPs, c.PerWorker, c.Shared, c.Saved = 2*inner.FLOPs, inner.PerWorker, inner.Shared+outputs, 2*inner.Saved
	switch p {
	case attn.PassForward:
		c.Saved += 2 * outputs
	case attn.PassBackward:
		c.Bytes += 4 * int64(s.Batch*s.QueryLen*s.Heads*(s.ValueDim+1)) // both halves before the norm, and their sums
		c.Shared += bytesOf(s.Batch * s.Heads * (s.ValueDim + 1))
	}
	return c
}

// diffArgs is what joins the halves.
type diffArgs struct {
	call         attn.Call
	a, b         attn.View // outputs of the halves
	lambda, rest float32   // λ and 1-λ_init
	grads        attn.Grads
	dx           attn.View // gradient before the norm
	sums         []float32 // [batch, heads, value dim + 1]: gradients of gain and λ
}

func newDiff(c *attn.Call, a, b attn.View) diffArgs {
	l, _, _ := lambda(c)
	d := diffArgs{call: *c, a: a, b: b, lambda: float32(l), rest: float32(1 - lambdaInit(c.Layer))}
	d.call.Saved = nil
	return d
}

// difference writes a query's output before the norm to x and returns 1/√(mean x² + eps).
func (d *diffArgs) difference(x []float32, row, t, h int) float32 {
	b := d.b.Row(row, t, h)
	for e, y := range d.a.Row(row, t, h) {
		x[e] = y - d.lambda*b[e]
	}
	squares := 0.0
	for _, y := range x {
		squares += float64(y) * float64(y)
	}
	return float32(1 / math.Sqrt(squares/float64(len(x))+differentialEps))
}

// join writes the outputs of head task%Heads of a segment.
func (d *diffArgs) join(task int) {
	c := &d.call
	g, h := c.Segment(task/c.Heads), task%c.Heads
	for t := g.Query0; t < g.Query0+g.Queries; t++ {
		out := c.Out.Row(g.Row, t, h)
		r := d.rest * d.difference(out, g.Row, t, h)
		for e, gain := range c.Learned[4] {
			out[e] *= r * gain
		}
	}
}

// split writes the gradient before the norm of a head of a batch row, and sums those of gain and λ. With y = r·x∘w, r = 1/√(mean x² + eps),
//
//	dx = r·(w∘dy - x·r²·mean(x∘w∘dy))
func (d *diffArgs) split(task int) {
	c := &d.call
	row, h, dv := task/c.Heads, task%c.Heads, c.ValueDim
	sums := d.sums[task*(dv+1):][:dv+1]
	clear(sums)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		for t := g.Query0; t < g.Query0+g.Queries; t++ {
			dy, dx := d.grads.Out.Row(row, t, h), d.dx.Row(row, t, h)
			r := d.difference(dx, row, t, h)
			mean := float32(0)
			for e, gain := range c.Learned[4] {
				xdy := d.rest * dx[e] * dy[e]
				sums[e] += r * xdy
				mean += gain * xdy
			}
			mean *= r * r / float32(dv)
			for e, gain := range c.Learned[4] {
				dx[e] = r * (d.rest*gain*dy[e] - dx[e]*mean)
			}
			sums[dv] -= tile.Dot(dx, d.b.Row(row, t, h))
		}
	}
}

// halves computes both halves of c by f and joins them, in c.Out and scratch.
func (m differential) halves(ws *attn.Workspace, c *attn.Call, a attn.View, b []float32, f func(m differential, ws *attn.Workspace, c *attn.Call, half int)) {
	d := newDiff(c, a, attn.ViewAs(b, c.Batch, c.QueryLen, c.Heads, c.ValueDim))
	first, second := halfCall(c, 0, d.a), halfCall(c, 1, d.b)
	first.Saved, second.Saved = c.Saved, c.Saved
	f(m, ws, &first, 0)
	f(m, ws, &second, 1)
	attn.Parallel(ws, c.NumSegments()*c.Heads, 0, d, func(_ *attn.Scratch, d *diffArgs, task int) { d.join(task) })
}

// Forward computes the output.
func (m differential) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	n := c.Batch * c.QueryLen * c.Heads
	if c.Saved == nil {
		mark := ws.Mark()
		m.halves(ws, c, c.Out, ws.Floats(n*c.ValueDim), func(m differential, ws *attn.Workspace, c *attn.Call, _ int) {
			m.ForwardSums(ws, c, nil)
		})
		ws.Release(mark)
		return nil
	}
	for range 2 {
		c.Saved.Floats(n)
	}
	a := attn.ViewAs(c.Saved.Floats(n*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	m.halves(ws, c, a, c.Saved.Floats(n*c.ValueDim), func(m differential, ws *attn.Workspace, c *attn.Call, half int) {
		m.ForwardSums(ws, c, c.Saved.Part(half))
	})
	return nil
}

// Backward adds the gradients of q, k, v, the four vectors of λ and the gain.
func (m differential) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	like := func(x []float32) attn.View { return attn.ViewAs(x, c.Batch, c.QueryLen, c.Heads, c.ValueDim) }
	d := newDiff(c, like(c.Saved.Part(2)), like(c.Saved.Part(3)))
	dx := ws.Zeros(c.Batch * c.QueryLen * c.Heads * c.ValueDim)
	d.grads, d.dx, d.sums = *g, like(dx), ws.Floats(c.Batch*c.Heads*(c.ValueDim+1))
	attn.Parallel(ws, c.Batch*c.Heads, 0, d, func(_ *attn.Scratch, d *diffArgs, task int) { d.split(task) })
	for a, out := range []attn.View{d.a, d.b} {
		h := halfCall(c, a, out)
		inner := *g
		inner.Out, inner.Q, inner.K = d.dx, half(g.Q, a), half(g.K, a)
		m.BackwardSums(ws, &h, &inner, c.Saved.Part(a))
		for i := range dx { // the second half is taken -λ times
			dx[i] *= -d.lambda
		}
	}
	l, dl := c.Learned, float32(0)
	for task := range c.Batch * c.Heads {
		sums := d.sums[task*(c.ValueDim+1):][:c.ValueDim+1]
		tile.Axpy(1, sums[:c.ValueDim], g.Learned[4])
		dl += sums[c.ValueDim]
	}
	_, e1, e2 := lambda(c)
	for a, de := range []float32{dl * float32(e1), -dl * float32(e2)} {
		tile.Axpy(de, l[2*a+1], g.Learned[2*a])
		tile.Axpy(de, l[2*a], g.Learned[2*a+1])
	}
	return nil
}

// NewState returns an empty cache of both halves' keys and of values.
func (m differential) NewState(s attn.Shape) (attn.State, error) {
	if err := m.info.CheckShape(s); err != nil {
		return nil, err
	}
	state, err := m.Softmax.NewCache(m.info.Name, s, tile.Kept{Heads: 2 * s.KVHeads, Dim: s.KeyDim / 2}, tile.Kept{Heads: s.KVHeads, Dim: s.ValueDim})
	if err != nil {
		return nil, err // not a nil *Cache in a State
	}
	return state, nil
}

// Extend appends the call's keys and values and computes its queries.
func (m differential) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	cache, err := tile.Checked(m.info, s, c)
	if err != nil {
		return err
	}
	c.ZeroPadding()
	all := cache.Append(ws, c, c.K, c.V)
	all.K, all.V, all.Saved = cache.View(0), cache.View(1), nil
	mark := ws.Mark()
	m.halves(ws, &all, all.Out, ws.Floats(c.Batch*c.QueryLen*c.Heads*c.ValueDim), func(m differential, ws *attn.Workspace, c *attn.Call, _ int) {
		m.Attend(ws, c)
	})
	ws.Release(mark)
	return nil
}
