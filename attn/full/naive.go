package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("naive", Naive{}, Naive.New) }

// Naive is softmax attention as everyone first writes it, spelled naive: all scores of all heads in memory,
// softmax row by row, then the product with the values. It has no options.
type Naive struct{}

// New returns naive attention.
func (o Naive) New() (attn.Mechanism, error) {
	m := naive{}
	m.info = &attn.Info{
		Name: attn.Spell("naive", o), Family: "full", Title: "Full attention, scores in memory",
		Paper: "Vaswani et al. 2017, arXiv:1706.03762", Year: 2017, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Quick: true, Inputs: attn.QKV(), Cost: m.cost,
		Limits: []attn.Limit{{Spec: func(attn.Shape) string { return "naive" }, Equals: "full"}},
	}
	return m, nil
}

type naive struct{ info *attn.Info }

var softmax = tile.Softmax{Pattern: tile.Dense{}}

// Info describes the mechanism.
func (m naive) Info() attn.Info { return *m.info }

// Define is the definition of full attention.
func (naive) Define(c *attn.Call64) error { return full{}.Define(c) }

func (naive) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := softmax.Cost(s, p, s.Pairs()*int64(s.Heads))
	scores := 4 * int64(attn.ScratchFloats(scoreFloats(s)))
	switch p {
	case attn.PassForward, attn.PassDecode:
		if c.Shared = scores; p == attn.PassForward {
			c.Saved = scores
		}
		c.PerWorker = 4 * int64(forwardFloats(s))
	case attn.PassBackward:
		c.FLOPs = 4 * int64(s.Batch) * s.Pairs() * int64(s.Heads) * int64(s.KeyDim+s.ValueDim) // the weights are kept
		c.Shared = scores
		c.PerWorker = 4 * int64(attn.ScratchFloats(tile.Lanes*s.ValueDim))
	}
	if s.Batch == 0 { // no tasks
		c.PerWorker = 0
	}
	return c
}

// scoreFloats is the size of the scores [batch, heads, queries, keys].
func scoreFloats(s attn.Shape) int { return s.Batch * s.Heads * s.QueryLen * s.KeyLen }

func forwardFloats(s attn.Shape) int { return attn.ScratchFloats(tile.Lanes*s.KeyDim, s.QueryLen) }

// Forward computes the output. With c.Saved set, the weights stay there.
func (m naive) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	m.forward(ws, c)
	return nil
}

func (m naive) forward(ws *attn.Workspace, c *attn.Call) {
	mark := ws.Mark()
	defer ws.Release(mark)
	args := naiveArgs{call: *c, scale: float32(1 / math.Sqrt(float64(c.KeyDim)))}
	if c.Saved != nil {
		args.p = c.Saved.Floats(scoreFloats(c.Shape))
	} else {
		args.p = ws.Floats(scoreFloats(c.Shape))
	}
	args.call.Saved, args.saves = nil, c.Saved != nil
	attn.Parallel(ws, c.NumSegments()*c.Heads, forwardFloats(c.Shape), args, func(s *attn.Scratch, a *naiveArgs, task int) {
		a.forward(s, task)
	})
}

type naiveArgs struct {
	call  attn.Call
	grads attn.Grads
	scale float32
	saves bool      // the weights are kept for Backward
	p, dp []float32 // [batch, heads, queries, keys]
}

// rows returns the part of x that belongs to a head of a segment, as a matrix [queries, keys].
func (a *naiveArgs) rows(x []float32, g attn.Segment, head int) tile.Mat {
	c := &a.call
	at := ((g.Row*c.Heads+head)*c.QueryLen+g.Query0)*c.KeyLen + g.Key0
	if at >= len(x) {
		return tile.Rows(nil, c.KeyLen)
	}
	return tile.Rows(x[at:], c.KeyLen)
}

// visible returns how many keys query i sees, from the first on.
func visible(c *attn.Call, g attn.Segment, i int) int {
	if c.Mask != attn.Causal {
		return g.Keys
	}
	return min(max(i+g.Offset()+1, 0), g.Keys)
}

// forward computes one head of a segment: S = scale·Q·Kᵀ, P = e^(S-max), O = P·V / ΣP.
func (a *naiveArgs) forward(s *attn.Scratch, task int) {
	c := &a.call
	head, g := task%c.Heads, c.Segment(task/c.Heads)
	if g.Keys == 0 {
		for i := range g.Queries {
			clear(c.Out.Row(g.Row, g.Query0+i, head))
		}
		return
	}
	if g.Queries == 0 {
		return
	}
	kv := c.KVHead(head)
	p := a.rows(a.p, g, head)
	q, out := tile.HeadRows(&c.Q, g.Row, g.Query0, head), tile.HeadRows(&c.Out, g.Row, g.Query0, head)
	k, v := tile.HeadRows(&c.K, g.Row, g.Key0, kv), tile.HeadRows(&c.V, g.Row, g.Key0, kv)
	products(s.Floats(tile.Lanes*c.KeyDim), p, q, k, g.Queries, g.Keys, c.KeyDim, a.scale)
	sums, clean := s.Floats(c.QueryLen), tile.RowsFinite(v, g.Keys, c.ValueDim)
	for i := range g.Queries {
		n := visible(c, g, i)
		if sums[i] = weigh(p.Data[i*p.Row:][:g.Keys], n); !clean { // 0·NaN is NaN: leave out what the row does not see
			tile.Mul(1, c.ValueDim, n, p.From(i, 0), v, out.From(i, 0))
		}
	}
	if clean {
		tile.Mul(g.Queries, c.ValueDim, g.Keys, p, v, out)
	}
	for i, sum := range sums[:g.Queries] {
		divide(out.Data[i*out.Row:][:c.ValueDim], sum)
		if a.saves {
			divide(p.Data[i*p.Row:][:g.Keys], sum)
		}
	}
}

// weigh replaces the first n scores of a row by e^(score-max) and the others by 0, and returns the sum.
func weigh(p []float32, n int) float32 {
	clear(p[n:])
	return tile.ExpSum(p[:n], tile.Max(p[:n]))
}

func divide(x []float32, sum float32) {
	if sum == 0 { // the row sees no key
		return
	}
	for i := range x {
		x[i] /= sum
	}
}

// products computes out = scale·x·yᵀ for x [n, dim] and y [m, dim], 32 rows of y at a time.
func products(panel []float32, out, x, y tile.Mat, n, m, dim int, scale float32) {
	if n == 1 { // decoding: a transposed copy of y would cost more than the product
		tile.Dots(out.Data[:m], x.Data[:dim], y, m)
		for j := range out.Data[:m] {
			out.Data[j] *= scale
		}
		return
	}
	for j := 0; j < m; j += tile.Lanes {
		w := min(tile.Lanes, m-j)
		tile.Pack(panel, y.From(j, 0), w, dim, scale)
		tile.Mul(n, w, dim, x, tile.Rows(panel, tile.Lanes), out.From(0, j))
	}
}

// NewState returns an empty cache of keys and values.
func (m naive) NewState(s attn.Shape) (attn.State, error) { return softmax.NewState(m.info.Name, s) }

// Extend appends the call's keys and values and computes its queries, by Forward's steps.
func (m naive) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	call, err := tile.Append(ws, m.info, s, c)
	if err != nil {
		return err
	}
	call.Saved = nil
	m.forward(ws, &call)
	return nil
}

// Backward adds the gradients of q, k and v.
func (m naive) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	args := naiveArgs{call: *c, grads: *g, scale: float32(1 / math.Sqrt(float64(c.KeyDim)))}
	args.p, args.dp = c.Saved.Part(0), ws.Floats(scoreFloats(c.Shape))
	args.call.Saved = nil
	attn.Parallel(ws, c.Batch*c.KVHeads, tile.Lanes*c.ValueDim, args, func(s *attn.Scratch, a *naiveArgs, task int) {
		a.backward(s, task)
	})
	return nil
}

// backward adds the gradients of one key/value head, its query heads in order.
func (a *naiveArgs) backward(s *attn.Scratch, task int) {
	c := &a.call
	kv, row := task%c.KVHeads, task/c.KVHeads
	group := c.Heads / c.KVHeads
	panel := s.Floats(tile.Lanes * c.ValueDim)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row || g.Keys == 0 || g.Queries == 0 {
			continue
		}
		for head := kv * group; head < (kv+1)*group; head++ {
			a.backwardHead(panel, g, head, kv)
		}
	}
}

// backwardHead computes dV += Pᵀ·dO, dP = dO·Vᵀ, dS = scale·P∘(dP - D) with D[i] = do[i]·o[i],
// dQ += dS·K and dK += dSᵀ·Q.
func (a *naiveArgs) backwardHead(panel []float32, g attn.Segment, head, kv int) {
	c := &a.call
	dk, dv := c.KeyDim, c.ValueDim
	p, ds := a.rows(a.p, g, head), a.rows(a.dp, g, head)
	q, k := tile.HeadRows(&c.Q, g.Row, g.Query0, head), tile.HeadRows(&c.K, g.Row, g.Key0, kv)
	v, do := tile.HeadRows(&c.V, g.Row, g.Key0, kv), tile.HeadRows(&a.grads.Out, g.Row, g.Query0, head)
	dq, gk := tile.HeadRows(&a.grads.Q, g.Row, g.Query0, head), tile.HeadRows(&a.grads.K, g.Row, g.Key0, kv)
	gv := tile.HeadRows(&a.grads.V, g.Row, g.Key0, kv)
	products(panel, ds, do, v, g.Queries, g.Keys, dv, 1)
	for i := range g.Queries {
		n := visible(c, g, i)
		w, x := p.Data[i*p.Row:][:g.Keys], ds.Data[i*ds.Row:][:g.Keys]
		delta := tile.Dot(do.Data[i*do.Row:][:dv], c.Out.Row(g.Row, g.Query0+i, head))
		for j := range n {
			x[j] = a.scale * w[j] * (x[j] - delta)
		}
		clear(x[n:])
	}
	if tile.RowsFinite(q, g.Queries, dk) && tile.RowsFinite(k, g.Keys, dk) && tile.RowsFinite(do, g.Queries, dv) {
		tile.MulAdd(g.Keys, dv, g.Queries, p.T(), do, gv)
		tile.MulAdd(g.Queries, dk, g.Keys, ds, k, dq)
		tile.MulAdd(g.Keys, dk, g.Queries, ds.T(), q, gk)
		return
	}
	for i := range g.Queries { // 0·NaN is NaN: leave out what the row does not see
		n := visible(c, g, i)
		tile.MulAdd(n, dv, 1, p.From(i, 0).T(), do.From(i, 0), gv)
		tile.MulAdd(1, dk, n, ds.From(i, 0), k, dq.From(i, 0))
		tile.MulAdd(n, dk, 1, ds.From(i, 0).T(), q.From(i, 0), gk)
	}
}
