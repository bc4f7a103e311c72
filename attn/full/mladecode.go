package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// mlaFew is the number of queries from which on Extend writes keys and values out. Below, the up-projections go to the query and to the
// output instead (the absorbed form), so that all heads read one latent a token:
//
//	q̃ = [W_ukᵀ qⁿ, turn(qʳ)],  k̃[j] = [c[j], turn(κ[j])],  o = W_uv Σ_j softmax_j(q̃·k̃[j] / √(d_n+d_r)) c[j]
const mlaFew = 64

// NewState returns an empty cache of latents and turned keys, d_r + r numbers a token.
func (m mla) NewState(s attn.Shape) (attn.State, error) {
	if err := m.check(s); err != nil {
		return nil, err
	}
	state, err := plainSoftmax.NewCache(m.info.Name, s, tile.Kept{Heads: 1, Dim: m.rank(s) + m.rotary(s)})
	if err != nil {
		return nil, err // not a nil *Cache in a State
	}
	return state, nil
}

// Extend appends the call's latents and keys and computes its queries.
func (m mla) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	cache, err := tile.Checked(m.info, s, c)
	if err != nil {
		return err
	}
	c.ZeroPadding()
	mark := ws.Mark()
	defer ws.Release(mark)
	d := m.sizes(c.Shape)
	rows := attn.ViewAs(ws.Floats(c.Batch*c.KeyLen*(d.r+d.dr)), c.Batch, c.KeyLen, 1, d.r+d.dr)
	attn.Parallel(ws, c.NumSegments(), d.turnFloats(), mlaRows{d, *c, cache, rows}, func(s *attn.Scratch, a *mlaRows, task int) { a.run(s, task) })
	all := cache.Append(ws, c, rows, attn.View{})
	kept := cache.View(0)
	latents, keys := kept, kept
	latents.Dim, keys.Dim = d.r, d.dr
	if len(keys.Data) > 0 {
		keys.Data = keys.Data[d.r:]
	}
	few := false
	for i, g := range all.Segments {
		all.Segments[i].Pos0 = 0
		if g.Queries < mlaFew {
			few = few || g.Queries > 0
			continue
		}
		m.extendMany(ws, &all, i, latents, keys)
		all.Segments[i].Queries = 0
	}
	if few {
		m.extendFew(ws, &all, kept)
	}
	return nil
}

// mlaRows makes the rows that the cache keeps.
type mlaRows struct {
	mlaSizes
	call  attn.Call
	cache *tile.Cache
	rows  attn.View
}

func (a *mlaRows) run(s *attn.Scratch, task int) {
	g, turn := a.call.Segment(task), newAngles(s, a.call.Rope, a.dr)
	for j := range g.Keys {
		row := a.rows.Row(g.Row, g.Key0+j, 0)
		copy(row, a.call.K.Row(g.Row, g.Key0+j, 0))
		turn.at(a.cache.Len(g.Row) + j)
		turn.turn(row[a.r:], a.call.Extra[0].Row(g.Row, g.Key0+j, 0))
	}
}

// extendMany computes segment i with keys and values written out, as a call of one row.
func (m mla) extendMany(ws *attn.Workspace, c *attn.Call, i int, latents, keys attn.View) {
	mark := ws.Mark()
	defer ws.Release(mark)
	g := c.Segments[i]
	row := func(v attn.View) attn.View {
		v.Batch, v.Data = 1, v.Data[g.Row*v.BatchStride:]
		return v
	}
	one := *c
	one.Batch, one.KeyLen, one.Q, one.Out = 1, g.Keys, row(c.Q), row(c.Out)
	one.Segments = c.Segments[i : i+1]
	one.Segments[0].Row = 0
	p := m.expand(ws, &one, row(latents), row(keys), true)
	inner := p.inner()
	plainSoftmax.ForwardSums(ws, &inner, nil)
	one.Segments[0].Row = g.Row
}

type mlaAbsorbed struct {
	mlaSizes
	call attn.Call
	q, u attn.View // q̃, and Σ p c
}

// extendFew computes the segments in the absorbed form.
func (m mla) extendFew(ws *attn.Workspace, c *attn.Call, kept attn.View) {
	d, n := m.sizes(c.Shape), c.Batch*c.QueryLen*c.Heads
	a := mlaAbsorbed{
		mlaSizes: d, call: *c,
		q: attn.ViewAs(ws.Floats(n*(d.r+d.dr)), c.Batch, c.QueryLen, c.Heads, d.r+d.dr),
		u: attn.ViewAs(ws.Floats(n*d.r), c.Batch, c.QueryLen, c.Heads, d.r),
	}
	a.call.Saved = nil
	tasks := len(c.Segments) * c.Heads
	attn.Parallel(ws, tasks, d.turnFloats(), a, func(s *attn.Scratch, a *mlaAbsorbed, task int) { a.queries(s, task) })
	inner := a.call
	inner.KVHeads, inner.KeyDim, inner.ValueDim, inner.Q, inner.K, inner.V, inner.Out, inner.Learned = 1, d.r+d.dr, d.r, a.q, kept, kept, a.u, nil
	inner.V.Dim = d.r
	m.absorbed(c.Shape).Attend(ws, &inner)
	attn.Parallel(ws, tasks, 0, a, func(_ *attn.Scratch, a *mlaAbsorbed, task int) { a.outputs(task) })
}

// absorbed is the softmax over latents.
func (m mla) absorbed(s attn.Shape) tile.Softmax {
	return tile.Softmax{Pattern: tile.Dense{}, Scale: 1 / math.Sqrt(float64(s.KeyDim))}
}

// queries writes q̃ of a head of a segment.
func (a *mlaAbsorbed) queries(s *attn.Scratch, task int) {
	c := &a.call
	g, h := c.Segments[task/c.Heads], task%c.Heads
	turn := newAngles(s, c.Rope, a.dr)
	for i := range g.Queries {
		q, dst := c.Q.Row(g.Row, g.Query0+i, h), a.q.Row(g.Row, g.Query0+i, h)
		clear(dst[:a.r])
		tile.Combine(dst[:a.r], q[:a.dn], tile.Rows(c.Learned[0][h*a.dn*a.r:], a.r))
		turn.at(i + g.Offset())
		turn.turn(dst[a.r:], q[a.dn:])
	}
}

// outputs writes W_uv u of a head of a segment.
func (a *mlaAbsorbed) outputs(task int) {
	c := &a.call
	g, h := c.Segments[task/c.Heads], task%c.Heads
	for i := range g.Queries {
		tile.Dots(c.Out.Row(g.Row, g.Query0+i, h), a.u.Row(g.Row, g.Query0+i, h), tile.Rows(c.Learned[1][h*a.dv*a.r:], a.r), a.dv)
	}
}

// cost of a token: a latent and a rotated key; of its writing out, 2·r·(d_n+d_v) a head.
func (m mla) cost(s attn.Shape, p attn.Pass) attn.Cost {
	d := m.sizes(s)
	batch, heads, q, k := int64(s.Batch), int64(s.Heads), int64(s.QueryLen), int64(s.KeyLen)
	row := int64(d.r + d.dr)
	inner := s
	inner.KVHeads = s.Heads
	c := plainSoftmax.Cost(inner, p, s.Pairs()*heads)
	up := 2 * batch * heads * k * int64(d.r) * int64(d.dn+d.dv)
	outputs := batch * q * heads * int64(d.dv)
	switch p {
	case attn.PassForward:
		c.FLOPs += up
		c.Bytes = 4 * (batch*(q*heads*int64(d.dk)+k*row) + outputs)
		c.Shared += 4 * int64(m.expandFloats(s))
	case attn.PassBackward:
		c.FLOPs += 3 * up
		c.Bytes = 4 * (2*batch*(q*heads*int64(d.dk)+k*row) + 2*outputs + batch*q*heads)
		c.Shared += 4 * int64(m.expandFloats(s)+m.gradFloats(s))
		if s.Batch == 0 || s.QueryLen == 0 || s.KeyLen == 0 {
			c.Shared, c.PerWorker = 0, 0
		}
	case attn.PassDecode:
		c = m.decodeCost(s)
	}
	if p == attn.PassForward && c.PerWorker == 0 && s.Batch > 0 && s.KeyLen > 0 { // no queries
		c.PerWorker = 4 * int64(d.turnFloats())
	}
	c.State = 4 * batch * k * row
	c.Read = c.State
	return c
}

func (m mla) decodeCost(s attn.Shape) (c attn.Cost) {
	d := m.sizes(s)
	batch, heads, q := int64(s.Batch), int64(s.Heads), int64(s.QueryLen)
	row := int64(d.r + d.dr)
	up := 2 * int64(d.r) * int64(d.dn+d.dv) * heads
	pairs := s.Pairs() * heads
	c.Bytes = 4 * batch * (int64(s.KeyLen)*row + q*heads*int64(d.dk+d.dv))
	if q == 0 || s.Batch == 0 {
		return c
	}
	c.Shared = bytesOf(s.Batch * s.QueryLen * int(row))
	if q < mlaFew {
		inner := s
		inner.KVHeads, inner.KeyDim, inner.ValueDim = 1, int(row), d.r
		x := m.absorbed(s).Cost(inner, attn.PassDecode, pairs)
		c.FLOPs, c.PerWorker = x.FLOPs+batch*q*up, x.PerWorker
		c.Shared += x.Shared + bytesOf(s.Batch*s.QueryLen*s.Heads*int(row)) + bytesOf(s.Batch*s.QueryLen*s.Heads*d.r)
		return c
	}
	one := s
	one.Batch, one.KVHeads = 1, s.Heads
	x := plainSoftmax.Cost(one, attn.PassForward, pairs)
	c.FLOPs, c.PerWorker = batch*(x.FLOPs+int64(s.KeyLen)*up), x.PerWorker
	c.Shared += x.Shared + 4*int64(m.expandFloats(one))
	return c
}
