package sliding

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// streaming returns the mechanism that StreamingLLM makes of a model with full attention.
func (o Sliding) streaming() (attn.Mechanism, error) {
	if o.Dilation != 1 {
		return nil, attn.OptionError("dilation", o.Dilation, "1 with positions=cache")
	}
	m := streaming{o: o, segments: new(tile.SegmentPool)}
	m.cache = tile.Softmax{Pattern: o, Window: o.Window, Sinks: o.Sinks}
	m.near, m.far = tile.Softmax{Pattern: nearby{o}}, tile.Softmax{Pattern: sinksOnly(o.Sinks)}
	m.info = &attn.Info{
		Name: attn.Spell("sliding", o), Family: "sliding", Title: "Attention sinks, positions within the cache (StreamingLLM)",
		Paper: "Xiao et al. 2023, arXiv:2309.17453", Year: 2023, Revision: 1,
		Masks: attn.Causal, Approximates: true, Budget: "window", Inference: true, RotatesInside: true, Inputs: attn.QKV(), Cost: m.cost,
	}
	return m, nil
}

// streaming is sliding-window attention with sinks, whose rotations stand for places in the cache.
type streaming struct {
	o         Sliding
	info      *attn.Info
	cache     tile.Softmax // what is kept, rotated by true positions
	near, far tile.Softmax // the window without sinks, and the sinks
	segments  *tile.SegmentPool
}

// Define computes, for each head, with the query at position t = i + Keys - Queries and R(p) the rotation of Call.Rope by position p,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(R(n-1)q[i] · R(r[j])k[j] / √d) over j in W(i)
//
// where W(i) = {j ≤ t : t-j < Window or j < Sinks} has n keys and j is number r[j] of them, in order. A query with empty W(i) gives
// zeros. Xiao et al. 2023 (arXiv:2309.17453) §3.2.
func (m streaming) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			keys := m.o.seen(h, i)
			q := c.Rope.Turned(h.Q(i), len(keys)-1)
			p := make([]float64, len(keys))
			for r, j := range keys {
				p[r] = attn.Dot(q, c.Rope.Turned(h.K(j), r)) / math.Sqrt(float64(c.KeyDim))
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for r, j := range keys {
				attn.Axpy(p[r], h.V(j), h.Out(i))
			}
		}
	})
	return nil
}

// nearby is the pattern of the window's keys that are no sinks.
type nearby struct{ Sliding }

// Next implements tile.Pattern.
func (p nearby) Next(t tile.Tile, from int) tile.Run { return p.Sliding.Next(t, max(from, p.Sinks)) }

// sinksOnly is the pattern of the first so many keys, under the causal mask.
type sinksOnly int

// Next implements tile.Pattern.
func (p sinksOnly) Next(t tile.Tile, from int) tile.Run {
	end := min(int(p), t.Last()+1)
	return tile.Run{Lo: from, Hi: end, Full: end <= t.First+1}
}

// Sees implements tile.Pattern.
func (p sinksOnly) Sees(t tile.Tile, j int) uint32 { return tile.Bits(j-t.First, tile.Lanes) }

// Info describes the mechanism.
func (m streaming) Info() attn.Info { return *m.info }

// turnedCall is a call with its queries and keys rotated. A score hangs on the distance of the two positions only. Within the window that
// is the true distance, so that keys are rotated by their true positions and queries too; a sink j stands at j, and the query
// behind at most Sinks + Window - 1.
type turnedCall struct {
	q, capped, k attn.View
}

// turn rotates the queries and keys of c, behind the tokens that the state has seen, nil for none.
func (m streaming) turn(ws *attn.Workspace, c *attn.Call, state attn.State, floats int) (t turnedCall) {
	fresh := func(time, heads int) attn.View {
		return attn.ViewAs(ws.Floats(c.Batch*time*heads*c.KeyDim), c.Batch, time, heads, c.KeyDim)
	}
	t = turnedCall{fresh(c.QueryLen, c.Heads), fresh(c.QueryLen, c.Heads), fresh(c.KeyLen, c.KVHeads)}
	if c.Rope == nil { // the scratch is the same
		return turnedCall{c.Q, c.Q, c.K}
	}
	a := turnArgs{call: *c, to: t, state: state, last: m.o.Sinks + m.o.Window - 1}
	a.call.Saved = nil
	attn.Parallel(ws, c.NumSegments(), max(floats, turnFloats(c.Shape)), a, func(s *attn.Scratch, a *turnArgs, task int) { a.run(s, task) })
	return t
}

func turnFloats(s attn.Shape) int { return attn.ScratchFloats(s.KeyDim, s.KeyDim) }

type turnArgs struct {
	call  attn.Call
	to    turnedCall
	state attn.State
	last  int
}

func (a *turnArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	g, n := c.Segment(task), 0
	if a.state != nil {
		n = a.state.Len(g.Row)
	}
	pairs := c.Rope.Pairs(c.KeyDim)
	cos, sin := s.Floats(c.KeyDim)[:pairs], s.Floats(c.KeyDim)[:pairs]
	for j := range g.Keys {
		c.Rope.Angles(cos, sin, n+j, c.KeyDim)
		for h := range c.KVHeads {
			c.Rope.Turn(a.to.k.Row(g.Row, g.Key0+j, h), c.K.Row(g.Row, g.Key0+j, h), cos, sin)
		}
	}
	for i := range g.Queries {
		pos := n + i + g.Offset()
		for _, x := range []struct {
			to  attn.View
			pos int
		}{{a.to.q, pos}, {a.to.capped, min(pos, a.last)}} {
			c.Rope.Angles(cos, sin, x.pos, c.KeyDim)
			for h := range c.Heads {
				c.Rope.Turn(x.to.Row(g.Row, g.Query0+i, h), c.Q.Row(g.Row, g.Query0+i, h), cos, sin)
			}
		}
	}
}

// Forward computes the output.
func (m streaming) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	if c.Batch == 0 || c.QueryLen == 0 {
		return nil
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	m.attend(ws, c, m.turn(ws, c, nil, 0))
	return nil
}

// attend computes the window and the sinks and merges them.
func (m streaming) attend(ws *attn.Workspace, c *attn.Call, t turnedCall) {
	n := c.Batch * c.Heads * c.QueryLen
	a := mergeArgs{call: *c, near: ws.Floats(n), far: ws.Floats(n)}
	a.out = attn.ViewAs(ws.Floats(n*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	a.call.Saved = nil
	d := a.call
	d.Q, d.K = t.q, t.k
	m.near.ForwardPart(ws, &d, a.near)
	d.Q, d.Out = t.capped, a.out
	m.far.ForwardPart(ws, &d, a.far)
	attn.Parallel(ws, c.NumSegments()*c.Heads, 0, a, func(_ *attn.Scratch, a *mergeArgs, task int) { a.run(task) })
}

type mergeArgs struct {
	call      attn.Call
	out       attn.View // of the sinks
	near, far []float32 // log₂ of the softmax sums
}

func (a *mergeArgs) run(task int) {
	c := &a.call
	g, h := c.Segment(task/c.Heads), task%c.Heads
	for i := g.Query0; i < g.Query0+g.Queries; i++ {
		at := (g.Row*c.Heads+h)*c.QueryLen + i
		tile.Merge(c.Out.Row(g.Row, i, h), math.Ln2*float64(a.near[at]), a.out.Row(g.Row, i, h), math.Ln2*float64(a.far[at]))
	}
}

// NewState returns an empty ring of the window's size behind the sinks.
func (m streaming) NewState(s attn.Shape) (attn.State, error) {
	if s.Mask == attn.Cross {
		return nil, fmt.Errorf("%s: state for mask %v: want causal", m.info.Name, s.Mask)
	}
	return m.cache.NewState(m.info.Name, s)
}
