package full

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("gated", Gated{Gate: "element"}, Gated.New) }

// Gated is softmax attention whose output a sigmoid gate multiplies, spelled gated:gate=head.
type Gated struct {
	Gate string `opt:"gate"` // element: a gate for each element of a head's output; head: one for the head
}

// New returns gated attention.
func (o Gated) New() (attn.Mechanism, error) {
	width := attn.ValueWidth
	switch o.Gate {
	case "element":
	case "head":
		width = func(attn.Shape) int { return 1 }
	default:
		return nil, attn.OptionError("gate", o.Gate, "element or head")
	}
	m := gated{full{Softmax: tile.Softmax{Pattern: tile.Dense{}}}, o}
	m.info = &attn.Info{
		Name: attn.Spell("gated", o), Family: "full", Title: "Gated attention",
		Paper: "Qiu et al. 2025, arXiv:2505.06708", Year: 2025, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Cost: m.cost,
		Inputs: append(attn.QKV(), attn.Input{Name: "g", From: attn.QuerySide, Width: width, Act: attn.Sigmoid}),
		Limits: []attn.Limit{{
			Spec:   func(attn.Shape) string { return attn.Spell("gated", o) },
			Equals: "full",
			Prepare: func(c *attn.Call64) {
				for i := range c.Extra[0].Data {
					c.Extra[0].Data[i] = 1
				}
			},
			Convert: func(c *attn.Call64) *attn.Call64 {
				plain := *c
				plain.Extra = nil
				return &plain
			},
		}},
	}
	return m, nil
}

type gated struct {
	full
	o Gated
}

// Define computes full attention and multiplies, for each head and query, with the gate g of the query's own token in (0, 1),
//
//	o[i] = g[i] ∘ Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d) over the keys j that the mask lets i see
//
// where g[i] has one number or as many as v. A query that sees no key gives zeros. Qiu et al. 2025 (arXiv:2505.06708) eq. 5, after the
// attention (G1).
func (m gated) Define(c *attn.Call64) error {
	if err := m.full.Define(c); err != nil {
		return err
	}
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			g, out := h.QuerySide(0, i), h.Out(i)
			for e := range out {
				out[e] *= g[min(e, len(g)-1)]
			}
		}
	})
	return nil
}

func (m gated) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := m.full.cost(s, p)
	outputs := s.Batch * s.QueryLen * s.Heads
	width := s.ValueDim
	if m.o.Gate == "head" {
		width = 1
	}
	gates := 4 * int64(outputs*width)
	c.Bytes += gates
	switch p {
	case attn.PassForward:
		c.Saved += bytesOf(outputs * s.ValueDim)
	case attn.PassBackward:
		c.Bytes += gates
		c.Shared += bytesOf(outputs * s.ValueDim)
	}
	return c
}

func bytesOf(n int) int64 { return 4 * int64(attn.ScratchFloats(n)) }

type gateArgs struct {
	call       attn.Call
	grads      attn.Grads // of Backward
	before, do attn.View  // the outputs before their gate, and their gradient
}

// each calls f for every query and head of the call, shared among workers.
func (a *gateArgs) each(ws *attn.Workspace, f func(a *gateArgs, row, t, h int)) {
	a.call.Saved = nil
	attn.Parallel(ws, a.call.NumSegments()*a.call.Heads, 0, gateTask{*a, f}, func(_ *attn.Scratch, a *gateTask, task int) {
		g, h := a.call.Segment(task/a.call.Heads), task%a.call.Heads
		for t := g.Query0; t < g.Query0+g.Queries; t++ {
			a.f(&a.gateArgs, g.Row, t, h)
		}
	})
}

type gateTask struct {
	gateArgs
	f func(a *gateArgs, row, t, h int)
}

// pass multiplies the outputs before their gate by it.
func (a *gateArgs) pass(row, t, h int) {
	g, out := a.call.Extra[0].Row(row, t, h), a.call.Out.Row(row, t, h)
	for e, x := range a.before.Row(row, t, h) {
		out[e] = x * g[min(e, len(g)-1)]
	}
}

// back adds the gradient of the gate and sets do to that of the output before it.
func (a *gateArgs) back(row, t, h int) {
	g, dg := a.call.Extra[0].Row(row, t, h), a.grads.Extra[0].Row(row, t, h)
	dy, do := a.grads.Out.Row(row, t, h), a.do.Row(row, t, h)
	for e, o := range a.before.Row(row, t, h) {
		at := min(e, len(g)-1)
		dg[at] += o * dy[e]
		do[e] = g[at] * dy[e]
	}
}

// Forward computes the output.
func (m gated) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	a := gateArgs{call: *c, before: c.Out}
	plain := *c
	if c.Saved != nil {
		lse := c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
		a.before = attn.ViewAs(c.Saved.Floats(c.Batch*c.QueryLen*c.Heads*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
		c.ZeroPadding()
		plain.Out = a.before
		m.ForwardSums(ws, &plain, lse)
	} else {
		m.ForwardSums(ws, c, nil)
	}
	a.each(ws, (*gateArgs).pass)
	return nil
}

// Backward adds the gradients of q, k, v and the gates.
func (m gated) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	like := func(x []float32) attn.View { return attn.ViewAs(x, c.Batch, c.QueryLen, c.Heads, c.ValueDim) }
	a := gateArgs{call: *c, grads: *g, before: like(c.Saved.Part(1)), do: like(ws.Floats(c.Batch * c.QueryLen * c.Heads * c.ValueDim))}
	a.each(ws, (*gateArgs).back)
	plain, inner := *c, *g
	plain.Out, inner.Out = a.before, a.do
	m.BackwardSums(ws, &plain, &inner, c.Saved.Part(0))
	return nil
}

// Extend appends the call's keys and values and computes its queries.
func (m gated) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := m.full.Extend(ws, s, c); err != nil {
		return err
	}
	a := gateArgs{call: *c, before: c.Out}
	a.each(ws, (*gateArgs).pass)
	return nil
}
