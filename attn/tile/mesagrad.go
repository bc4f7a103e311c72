package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Backward adds to the gradients in g, for calls that have passed Check, from what Forward left in c.Saved: the state before each
// chunk, and the x.
func (m *Mesa) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	mark := ws.Mark()
	a := m.args(c)
	a.g = g
	a.plan(ws)
	a.records = c.Saved.Part(0)
	a.x = attn.ViewAs(c.Saved.Part(1), c.Batch, c.QueryLen, c.Heads, c.KeyDim)
	a.dl = ws.Zeros(c.NumSegments() * c.KVHeads * c.KeyDim)
	floats := m.backwardFloats(c.Shape)
	if keysOverlap(c) { // segments that share keys add to the same gradients: one after the other
		for i := range c.NumSegments() {
			a.lo, a.hi = i, i+1
			attn.Parallel(ws, a.heads(), floats, a, mesaGradTask)
		}
	} else {
		attn.Parallel(ws, a.heads(), floats, a, mesaGradTask)
	}
	for i, dl := range a.dl {
		i %= c.KVHeads * c.KeyDim
		g.Learned[0][i] += dl * float32(1/(1+math.Exp(-float64(c.Learned[0][i]))))
	}
	ws.Release(mark)
}

func (m *Mesa) backwardFloats(s attn.Shape) int {
	return mesaFloats(s) + attn.ScratchFloats(m.Chunk*mesaLen(s), mesaLen(s), mesaLen(s), s.KeyDim, s.KeyDim, s.ValueDim)
}

// mesaGradTask goes back through the tokens of one head of a segment, chunk by chunk, each of which it first computes again.
func mesaGradTask(s *attn.Scratch, a *mesaArgs, task int) {
	t := newMesaHead(s, a, task)
	n, dk := mesaLen(a.c.Shape), a.c.KeyDim
	seg, kv := a.head(task)
	states, ds := s.Floats(a.Chunk*n), s.Floats(n)
	x := mesaGrad{mesaHead: t, dl: a.dl[(seg*a.c.KVHeads+kv)*dk:][:dk], ds: ds}
	x.s = s.Floats(n)
	x.read, x.dx, x.dv = s.Floats(dk), s.Floats(dk), s.Floats(a.c.ValueDim)
	clear(ds)
	current := x.s
	for chunk := a.chunks(x.Keys) - 1; chunk >= 0; chunk-- {
		first := chunk * a.Chunk
		end := min(first+a.Chunk, x.Keys)
		copy(current, a.record(kv, int(a.keys[seg])+chunk))
		for j := first; j < end; j++ { // states[j-first] is the one before token j
			copy(states[(j-first)*n:], current)
			x.step(j)
		}
		for j := end - 1; j >= first; j-- {
			if i := j - x.Offset(); i >= 0 {
				x.query(i)
			}
			x.s = states[(j-first)*n:][:n]
			x.keyOf(j)
		}
		x.s = current
	}
}

// mesaGrad is a head with the gradient of its state.
type mesaGrad struct {
	mesaHead
	ds       []float32 // gradient of [H G]
	dl       []float32 // gradient of λ
	read, dx []float32 // [key dim]
	dv       []float32 // [value dim]
}

// query adds the gradients of query i of the group, which read the state s: with z = (H+Λ)⁻¹ G do,
//
//	dq = z,  dG = x doᵀ,  dH = -z xᵀ,  dλ = -z∘x
func (t *mesaGrad) query(i int) {
	c, group := t.c, t.c.Heads/t.c.KVHeads
	for h := t.kv * group; h < (t.kv+1)*group; h++ {
		do, x := t.g.Out.Row(t.Row, t.Query0+i, h), t.mesaArgs.x.Row(t.Row, t.Query0+i, h)
		kernel.Dots(t.dx, do, t.state().From(0, c.KeyDim), c.KeyDim)
		t.solve(t.dx)
		kernel.Axpy(1, t.x, t.g.Q.Row(t.Row, t.Query0+i, h))
		d := kernel.Rows(t.ds, len(t.row))
		kernel.Update(d.From(0, c.KeyDim), nil, x, do)
		for a, z := range t.x {
			t.dl[a] -= z * x[a]
			t.x[a] = -z
		}
		kernel.Update(d, nil, t.x, x)
	}
}

// keyOf adds the gradients of key j, from the gradient of the state behind it and the state s before it, and goes to that one.
func (t *mesaGrad) keyOf(j int) {
	c, dk, at, ld := t.c, t.c.KeyDim, t.Key0+j, len(t.row)
	k, v, beta := c.K.Row(t.Row, at, t.kv), c.V.Row(t.Row, at, t.kv), c.Extra[1].Row(t.Row, at, t.kv)[0]
	gk, d := t.g.K.Row(t.Row, at, t.kv), kernel.Rows(t.ds, ld)
	copy(t.row[copy(t.row, k):], v)
	kernel.Dots(t.read, t.row, d, dk) // dH k + dG v
	t.g.Extra[1].Row(t.Row, at, t.kv)[0] += kernel.Dot(k, t.read)
	kernel.Axpy(beta, t.read, gk)
	clear(t.row)
	kernel.Combine(t.row, k, d) // dHᵀk, dGᵀk
	kernel.Axpy(beta, t.row[:dk], gk)
	kernel.Axpy(beta, t.row[dk:], t.g.V.Row(t.Row, at, t.kv))
	g := c.Extra[0].Row(t.Row, at, t.kv)[0]
	sum := float32(0)
	for i := range dk { // in rows, as longer sums lose digits
		sum += kernel.Dot(t.ds[i*ld:][:ld], t.s[i*ld:])
	}
	e := float32(math.Exp(float64(g)))
	t.g.Extra[0].Row(t.Row, at, t.kv)[0] += e * sum
	kernel.Scale(e, t.ds)
}

// Cost returns the closed-form costs of a pass.
func (m *Mesa) Cost(s attn.Shape, p attn.Pass) attn.Cost {
	b, h, kvh, dk, dv := int64(s.Batch), int64(s.Heads), int64(s.KVHeads), int64(s.KeyDim), int64(s.ValueDim)
	k, q := int64(s.KeyLen), int64(s.QueryLen)
	reads := min(q, k)
	if p == attn.PassDecode {
		k, reads = q, q // new keys
	}
	width := dk * (dk + dv)
	solve := (int64(m.Steps)+1)*dk*dk + 5*int64(m.Steps)*dk
	cost := attn.Cost{State: 4 * b * kvh * width}
	cost.Read = cost.State
	in, out := b*(h*q*dk+kvh*k*(dk+dv+2)), b*h*q*dv
	cost.Bytes = 4 * (in + out)
	cost.FLOPs = 2 * b * (kvh*k*width + h*reads*(solve+dk*dv))
	floats := func(n ...int) int64 { return 4 * int64(attn.ScratchFloats(n...)) }
	r := m.recurrence()
	_, chunks, _ := r.chunkCounts(s)
	cost.PerWorker = 4 * int64(m.forwardFloats(s))
	switch p {
	case attn.PassForward:
		cost.Shared = 4 * int64(r.planFloats(s))
		cost.Saved = floats(chunks*mesaLen(s), s.Batch*s.QueryLen*s.Heads*s.KeyDim)
	case attn.PassBackward:
		// A key's state again, its products with the gradient and the sum of its decay; a query's solution and two products.
		cost.FLOPs = 2 * b * (kvh*k*4*width + h*reads*(solve+dk*dv+width))
		cost.Bytes *= 2
		cost.Shared = 4*int64(r.planFloats(s)) + floats(s.Batch*s.KVHeads*s.KeyDim)
		cost.PerWorker = 4 * int64(m.backwardFloats(s))
	case attn.PassDecode:
		cost.Bytes += 2 * cost.State
	}
	if s.Batch == 0 {
		cost.PerWorker = 0
	}
	return cost
}
