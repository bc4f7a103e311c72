package attntest

import (
	"fmt"
	"math"

	"attnbench/attn"
)

func init() {
	attn.Register("soft", soft{}, func(o soft) (attn.Mechanism, error) { return newSoft(o), nil })
}

// soft is softmax attention in plain loops: what every mechanism with scores could look like at
// first. Window and Top restrict what a query sees; fault, which a test sets, makes it wrong in one way.
type soft struct {
	Window int `opt:"window"` // last keys that a query sees, itself included; 0 for all
	Top    int `opt:"top"`    // highest scores that a query keeps, the earlier of equal ones; 0 for all
	fault  string
	info   *attn.Info
}

func (m soft) Info() attn.Info { return *m.info }

func newSoft(m soft) soft {
	i := attn.Info{
		Name: attn.Spell("soft", m), Family: "full", Title: "Softmax attention in plain loops", Year: 2017, Revision: 1,
		Masks: attn.Causal, Inputs: attn.QKV(), Cost: m.cost, Selects: m.Top > 0,
	}
	if m.Window == 0 {
		i.Masks |= attn.Bidirectional | attn.Cross
		i.Limits = []attn.Limit{{Spec: func(s attn.Shape) string { return fmt.Sprintf("soft:top=%d", max(1, s.KeyLen)) }, Equals: "soft"}}
	} else {
		i.Limits = []attn.Limit{{Spec: func(s attn.Shape) string { return fmt.Sprintf("soft:window=%d", max(1, s.KeyLen)) }, Equals: "soft"}}
	}
	m.infoFault(&i)
	m.info = &i
	return m
}

// sees is the mask and the window.
func (m soft) sees(g attn.Segment, mask attn.Mask, i, j int) bool {
	t := i + g.Offset()
	if m.fault == "causal mask aligned top-left" {
		t = i
	}
	if m.fault == "one token of the future leaks" {
		t++
	}
	if mask == attn.Causal && j > t {
		return false
	}
	return m.Window == 0 || j > t-m.Window
}

// define is the softmax over what a query sees.
func (m soft) define(c *attn.Call64) error {
	m.fault = ""
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		p := make([]float64, h.Keys)
		for i := range h.Queries {
			for j := range p {
				p[j] = math.Inf(-1)
				if m.sees(h.Segment, c.Mask, i, j) {
					p[j] = 0
					for a, q := range h.Q(i) {
						p[j] += q * h.K(j)[a]
					}
					p[j] /= math.Sqrt(float64(c.KeyDim)) // of the sum: equal sums stay equal
				}
			}
			keepTop(p, m.Top, false)
			attn.Softmax(p)
			clear(h.Out(i))
			for j := range p {
				if p[j] != 0 || m.Top == 0 && m.sees(h.Segment, c.Mask, i, j) {
					for a, v := range h.V(j) {
						h.Out(i)[a] += p[j] * v
					}
				}
			}
		}
	})
	return nil
}

// keepTop sets all but the n highest scores to -Inf. Of equal ones the earlier is higher, or
// with late the later.
func keepTop[F attn.Float](p []F, n int, late bool) {
	if n == 0 || n >= len(p) {
		return
	}
	before := func(i, j int) bool { return p[i] > p[j] || p[i] == p[j] && (i < j) != late }
	last := -1 // the lowest one kept so far
	for range n {
		next := -1
		for j := range p {
			if (last < 0 || before(last, j)) && (next < 0 || before(j, next)) {
				next = j
			}
		}
		if next < 0 {
			return // NaN among them
		}
		last = next
	}
	x := p[last]
	for j := range p {
		if p[j] < x || p[j] == x && j != last && (last < j) != late {
			p[j] = F(math.Inf(-1))
		}
	}
}

func (m soft) cost(s attn.Shape, p attn.Pass) attn.Cost {
	q, k := int64(s.Batch*s.QueryLen*s.Heads), int64(s.Batch*s.KeyLen*s.KVHeads)
	pairs := int64(s.Batch*s.Heads) * s.Pairs()
	dims := int64(s.KeyDim + s.ValueDim)
	c := attn.Cost{Bytes: 4 * (q + k) * dims}
	busy := s.Batch > 0
	switch p {
	case attn.PassForward:
		c.FLOPs = 2 * pairs * dims
		c.Saved = 4 * int64(attn.ScratchFloats(s.Batch*s.Heads*s.QueryLen))
		if busy {
			c.PerWorker = 4 * int64(attn.ScratchFloats(s.KeyLen))
		}
	case attn.PassBackward:
		c.FLOPs = 2 * pairs * int64(3*s.KeyDim+2*s.ValueDim)
		if busy {
			c.PerWorker = 4 * int64(2*attn.ScratchFloats(s.KeyLen))
		}
	case attn.PassDecode:
		c.FLOPs = 2 * pairs * dims
		c.Shared = 4 * int64(attn.ScratchFloats(m.held(s.KeyLen)))
	}
	c.State = 4 * int64(s.Batch*s.KVHeads*m.held(s.KeyLen)) * dims
	c.Read = c.State
	m.costFault(&c, p)
	return c
}

func (m soft) held(n int) int {
	if m.Window > 0 {
		return min(n, m.Window)
	}
	return n
}

type softArgs struct {
	m   soft
	c   *attn.Call
	g   *attn.Grads
	lse []float32 // [batch, query, heads], nil at inference
}

func (m soft) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := m.check(m.info, c); err != nil {
		if m.fault == "errors not returned" {
			return nil
		}
		return err
	}
	c.ZeroPadding()
	a := softArgs{m: m, c: c}
	if c.Saved != nil {
		a.lse = c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
	}
	m.forwardFault(ws, c)
	attn.Parallel(ws, c.NumSegments()*c.Heads, c.KeyLen, a, func(s *attn.Scratch, a *softArgs, task int) {
		seg, h := task/a.c.Heads, task%a.c.Heads
		g := a.c.Segment(seg)
		p := s.Floats(g.Keys)
		kv := a.m.kvHead(a.c.Shape, h)
		for i := range g.Queries {
			lse := a.m.weights(p, a.c, g, h, kv, i)
			if a.lse != nil {
				a.lse[(g.Row*a.c.QueryLen+g.Query0+i)*a.c.Heads+h] = lse
			}
			out := a.c.Out.Row(g.Row, g.Query0+i, h)
			clear(out)
			for j, w := range p {
				if w < 0 { // not seen
					continue
				}
				for n, x := range a.c.V.Row(g.Row, g.Key0+j, kv) {
					out[n] += w * x
				}
			}
			if a.m.fault == "NaN on a row without keys" && math.IsInf(float64(lse), -1) {
				out[0] = nan
			}
		}
	})
	m.afterFault(c)
	return nil
}

// weights fills p with the softmax weights of query i, -1 where it does not see, and returns
// the logarithm of their sum.
func (m soft) weights(p []float32, c *attn.Call, g attn.Segment, h, kv, i int) float32 {
	q := c.Q.Row(g.Row, g.Query0+i, h)
	root := float32(math.Sqrt(float64(c.KeyDim)))
	inf := float32(math.Inf(-1))
	for j := range p {
		p[j] = inf
		if m.sees(g, c.Mask, i, j) || m.fault == "chosen future block" && m.Top > 0 {
			p[j] = dot(q, c.K.Row(g.Row, g.Key0+j, kv)) / root
			if !m.sees(g, c.Mask, i, j) {
				p[j] -= 1e4 // "masked"
			}
		}
	}
	keepTop(p, m.Top, m.fault == "ties broken differently")
	if m.fault == "chosen future block" {
		for j := range p {
			if !m.sees(g, c.Mask, i, j) {
				p[j] = inf
			}
		}
	}
	return softmax(p)
}

// softmax turns scores into weights, -Inf into -1.
func softmax(p []float32) float32 {
	inf := float32(math.Inf(-1))
	top := inf
	for _, x := range p {
		if x > top || x != x {
			top = x
		}
	}
	sum := 0.0
	for j, x := range p {
		if x == inf {
			p[j] = -1
			continue
		}
		p[j] = float32(math.Exp(float64(x - top)))
		sum += float64(p[j])
	}
	if sum == 0 {
		return inf
	}
	for j := range p {
		if p[j] != -1 {
			p[j] = float32(float64(p[j]) / sum)
		}
	}
	return top + float32(math.Log(sum))
}

func dot(x, y []float32) float32 {
	var s float32
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

func (m soft) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := m.check(m.info, c); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.beforeBackward(g)
	a := softArgs{m: m, c: c, g: g, lse: c.Saved.Part(0)}
	attn.Parallel(ws, c.NumSegments()*c.KVHeads, attn.ScratchFloats(c.KeyLen, c.KeyLen), a, func(s *attn.Scratch, a *softArgs, task int) {
		c, m := a.c, a.m
		seg, kv := task/c.KVHeads, task%c.KVHeads
		g := c.Segment(seg)
		p, dp := s.Floats(g.Keys), s.Floats(g.Keys)
		root := float32(math.Sqrt(float64(c.KeyDim)))
		group := c.Heads / c.KVHeads
		for h := kv * group; h < (kv+1)*group; h++ {
			for i := range g.Queries {
				m.weights(p, c, g, h, kv, i)
				do := a.g.Out.Row(g.Row, g.Query0+i, h)
				dq, q := a.g.Q.Row(g.Row, g.Query0+i, h), c.Q.Row(g.Row, g.Query0+i, h)
				var sum float32
				for j, w := range p {
					if w > 0 {
						dp[j] = dot(do, c.V.Row(g.Row, g.Key0+j, kv))
						sum += w * dp[j]
					}
				}
				for j, w := range p {
					if !(w > 0) {
						continue
					}
					ds := w * (dp[j] - sum) / root
					k, dk := c.K.Row(g.Row, g.Key0+j, kv), a.g.K.Row(g.Row, g.Key0+j, kv)
					for n := range q {
						dq[n] += ds * k[n]
						if m.fault != "gradient of k missing" {
							dk[n] += ds * q[n]
						}
					}
					dv := a.g.V.Row(g.Row, g.Key0+j, kv)
					for n, x := range do {
						dv[n] += w * x
					}
				}
			}
		}
	})
	return nil
}
