package linear

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("linformer", Linformer{K: 128}, Linformer.New) }

// Linformer holds the options of attention over projected keys, spelled linformer:k=256.
type Linformer struct {
	K int `opt:"k"` // keys that all keys are projected to; at least 1
}

// New returns Linformer attention with the options o.
func (o Linformer) New() (attn.Mechanism, error) {
	if o.K < 1 || o.K > 1<<16 {
		return nil, attn.OptionError("k", o.K, "an integer from 1 to 65536")
	}
	m := linformer{o: o}
	m.info = &attn.Info{
		Name: attn.Spell("linformer", o), Family: "linear", Title: "Linformer",
		Paper: "Wang et al. 2020, arXiv:2006.04768", Year: 2020, Revision: 1,
		// Each projected key mixes all keys, later ones too: no causal mask.
		Masks: attn.Bidirectional | attn.Cross, Approximates: true, Budget: "k", Inputs: attn.QKV(), Cost: m.cost,
		Tolerance: 1e-4, // projections have weights of both signs, which cancel
		Learned: []attn.Tensor{{
			Name: "e", Shape: func(s attn.Shape) []int { return []int{s.KVHeads, longest(s), o.K} }, Init: attn.Normal(0.02), Decay: true,
		}},
		CheckShape: func(s attn.Shape) error {
			if s.KeyLen > longest(s) {
				return fmt.Errorf("%d keys: want at most the max length, %d", s.KeyLen, s.MaxLen)
			}
			return nil
		},
		Limits: []attn.Limit{{
			Spec:   func(s attn.Shape) string { return attn.Spell("linformer", Linformer{K: s.KeyLen}) },
			Equals: "full",
			Prepare: func(c *attn.Call64) { // E = I
				clear(c.Learned[0])
				for h := range c.KVHeads {
					for t := range c.KeyLen {
						c.Learned[0][(h*longest(c.Shape)+t)*c.KeyLen+t] = 1
					}
				}
				c.Segments = nil
			},
			Convert: func(c *attn.Call64) *attn.Call64 {
				plain := *c
				plain.Learned = nil
				return &plain
			},
		}},
	}
	return m, nil
}

// longest is the number of positions that have a projection.
func longest(s attn.Shape) int {
	if s.MaxLen > 0 {
		return s.MaxLen
	}
	return s.KeyLen
}

type linformer struct {
	o    Linformer
	info *attn.Info
}

// Info describes the mechanism.
func (m linformer) Info() attn.Info { return *m.info }

// Define projects the keys and values of a sequence of n tokens to k of each, with a learned E of each key/value head (here E and F are
// one, stored by position, [longest, k]), and computes full attention over them:
//
//	k'[r] = Σ_{t<n} E[t,r] k[t],  v'[r] = Σ_{t<n} E[t,r] v[t],  o[i] = Σ_r softmax_r(q[i]·k'[r] / √d) v'[r]
//
// Without keys the output is 0. Wang et al. 2020 (arXiv:2006.04768) eq. 7, with key-value sharing.
func (m linformer) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachGroup(func(heads []attn.Head64) {
		h := heads[0]
		project := func(row func(t int) []float64, dim int) [][]float64 {
			p, all := make([][]float64, m.o.K), make([]float64, m.o.K*dim)
			for r := range p {
				p[r] = all[r*dim:][:dim]
			}
			for t := range h.Keys {
				x := row(t)
				for r, w := range c.Learned[0][(h.KV*longest(c.Shape)+t)*m.o.K:][:m.o.K] {
					attn.Axpy(w, x, p[r])
				}
			}
			return p
		}
		keys, values, p := project(h.K, c.KeyDim), project(h.V, c.ValueDim), make([]float64, m.o.K)
		for _, h := range heads {
			for i := range h.Queries {
				for r := range p {
					p[r] = attn.Dot(h.Q(i), keys[r]) / math.Sqrt(float64(c.KeyDim))
				}
				attn.Softmax(p)
				clear(h.Out(i))
				for r, w := range p {
					attn.Axpy(w, values[r], h.Out(i))
				}
			}
		}
	})
	return nil
}

var dense = tile.Softmax{Pattern: tile.Dense{}}

// projected is one segment as attention over the projected keys, a call of one row.
type projected struct {
	call     attn.Call // the whole one
	grads    attn.Grads
	g        attn.Segment
	k        int
	keys     attn.View // [1, k, kv heads, dim]
	values   attn.View
	dk, dv   attn.View
	dkt, dvt []float32 // their transposes, a head after the other
}

func (p *projected) e(of []float32, kv int) tile.Mat {
	return tile.Rows(of[kv*longest(p.call.Shape)*p.k:], p.k)
}

func (m linformer) project(ws *attn.Workspace, c *attn.Call, g attn.Segment) projected {
	p := projected{call: *c, g: g, k: m.o.K, keys: m.room(ws, c.KVHeads, c.KeyDim), values: m.room(ws, c.KVHeads, c.ValueDim)}
	p.call.Saved = nil
	attn.Parallel(ws, c.KVHeads, 0, p, func(_ *attn.Scratch, p *projected, kv int) {
		g, e := p.g, p.e(p.call.Learned[0], kv).T()
		tile.Mul(p.k, p.call.KeyDim, g.Keys, e, tile.HeadRows(&p.call.K, g.Row, g.Key0, kv), tile.HeadRows(&p.keys, 0, 0, kv))
		tile.Mul(p.k, p.call.ValueDim, g.Keys, e, tile.HeadRows(&p.call.V, g.Row, g.Key0, kv), tile.HeadRows(&p.values, 0, 0, kv))
	})
	return p
}

func (m linformer) room(ws *attn.Workspace, heads, dim int) attn.View {
	return attn.View{
		Data: ws.Floats(heads * m.o.K * dim), Batch: 1, Time: m.o.K, Heads: heads, Dim: dim,
		BatchStride: heads * m.o.K * dim, TimeStride: dim, HeadStride: m.o.K * dim,
	}
}

// inner is the attention over the projected keys.
func (p *projected) inner() attn.Call {
	c := p.call
	c.Batch, c.QueryLen, c.KeyLen, c.Mask, c.Segments, c.Learned = 1, p.g.Queries, p.k, attn.Cross, nil, nil
	c.Q, c.Out, c.K, c.V = p.queries(c.Q), p.queries(c.Out), p.keys, p.values
	return c
}

// queries returns the segment's part of a view of the query side.
func (p *projected) queries(v attn.View) attn.View {
	v.Data, v.Batch, v.Time = v.From(p.g.Row, p.g.Query0, 0), 1, p.g.Queries
	return v
}

// Forward computes the output.
func (m linformer) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	var lse []float32
	if c.Saved != nil {
		lse = c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		var sums []float32
		if lse != nil {
			sums, lse = lse[:c.Heads*g.Queries], lse[c.Heads*g.Queries:]
		}
		if g.Keys == 0 || g.Queries == 0 {
			for t := range g.Queries {
				for h := range c.Heads {
					clear(c.Out.Row(g.Row, g.Query0+t, h))
				}
			}
			continue
		}
		mark := ws.Mark()
		p := m.project(ws, c, g)
		inner := p.inner()
		dense.ForwardSums(ws, &inner, sums)
		ws.Release(mark)
	}
	return nil
}

// Backward adds the gradients of q, k, v and E; it projects again.
func (m linformer) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	lse := c.Saved.Part(0)
	for i := range c.NumSegments() {
		seg := c.Segment(i)
		var sums []float32
		sums, lse = lse[:c.Heads*seg.Queries], lse[c.Heads*seg.Queries:]
		if seg.Keys == 0 || seg.Queries == 0 {
			continue
		}
		mark := ws.Mark()
		m.segmentGrads(ws, c, g, seg, sums)
		ws.Release(mark)
	}
	return nil
}

func (m linformer) segmentGrads(ws *attn.Workspace, c *attn.Call, g *attn.Grads, seg attn.Segment, lse []float32) {
	p := m.project(ws, c, seg)
	p.grads, p.dk, p.dv = *g, m.room(ws, c.KVHeads, c.KeyDim), m.room(ws, c.KVHeads, c.ValueDim)
	p.dkt, p.dvt = ws.Floats(len(p.dk.Data)), ws.Floats(len(p.dv.Data))
	clear(p.dk.Data)
	clear(p.dv.Data)
	inner := p.inner()
	grads := attn.Grads{Out: p.queries(g.Out), Q: p.queries(g.Q), K: p.dk, V: p.dv}
	dense.BackwardSums(ws, &inner, &grads, lse)
	attn.Parallel(ws, c.KVHeads, 0, p, func(_ *attn.Scratch, p *projected, kv int) {
		p.back(kv, &p.call.K, &p.grads.K, &p.dk, p.dkt)
		p.back(kv, &p.call.V, &p.grads.V, &p.dv, p.dvt)
	})
}

// back adds the gradients of a head's keys, or values, x and of E from that of their projections: dx += E dp, dE += x dpᵀ.
func (p *projected) back(kv int, x, dx, dp *attn.View, room []float32) {
	g, d := p.g, x.Dim
	from, t := tile.HeadRows(dp, 0, 0, kv), tile.Rows(room[kv*p.k*d:], p.k)
	for r := range p.k {
		for e, y := range from.Data[r*from.Row:][:d] {
			t.Data[e*p.k+r] = y
		}
	}
	tile.MulAdd(g.Keys, d, p.k, p.e(p.call.Learned[0], kv), from, tile.HeadRows(dx, g.Row, g.Key0, kv))
	tile.MulAdd(g.Keys, p.k, d, tile.HeadRows(x, g.Row, g.Key0, kv), t, p.e(p.grads.Learned[0], kv))
}

func (m linformer) cost(s attn.Shape, p attn.Pass) attn.Cost {
	one := s
	one.Batch, one.KeyLen, one.Mask = 1, m.o.K, attn.Cross
	inner := dense.Cost(one, p, int64(s.QueryLen*m.o.K)*int64(s.Heads))
	batch, dims := int64(s.Batch), int64(s.KeyDim+s.ValueDim)
	up := 2 * int64(s.KVHeads*s.KeyLen) * int64(m.o.K) * dims
	io := batch * dims * int64(s.QueryLen*s.Heads+s.KeyLen*s.KVHeads)
	rooms := 4 * int64(attn.ScratchFloats(s.KVHeads*m.o.K*s.KeyDim, s.KVHeads*m.o.K*s.ValueDim))
	c := attn.Cost{FLOPs: batch * (inner.FLOPs + up), Bytes: 4 * io, Shared: inner.Shared + rooms, PerWorker: inner.PerWorker}
	switch p {
	case attn.PassForward:
		c.Saved = 4 * int64(attn.ScratchFloats(s.Batch*s.Heads*s.QueryLen))
	case attn.PassBackward:
		c.FLOPs, c.Bytes, c.Shared = batch*(inner.FLOPs+3*up), 8*io, inner.Shared+3*rooms
	}
	if s.Batch == 0 || s.QueryLen == 0 || s.KeyLen == 0 {
		c.Shared, c.PerWorker = 0, 0
	}
	return c
}
