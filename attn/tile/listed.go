package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Lists says which keys each query attends to, one by one.
type Lists struct {
	Keys []int32 // [batch, sets, queries, most]: numbers of keys within the segment, increasing
	Sets int     // of the heads: each query head has a list, or those of a key/value head share one, or all do
	Most int     // keys a list; a query that sees fewer lists those
}

// Seen returns how many keys the mask lets query i of a segment see.
func Seen(mask attn.Mask, g attn.Segment, i int) int {
	if mask != attn.Causal {
		return g.Keys
	}
	return max(0, min(g.Keys, i+g.Offset()+1))
}

// Of returns the list of query i of a head in segment g, of a call of that shape.
func (l Lists) Of(s *attn.Shape, g attn.Segment, head, i int) []int32 {
	set := head * l.Sets / s.Heads
	n := min(l.Most, Seen(s.Mask, g, i))
	return l.Keys[((g.Row*l.Sets+set)*s.QueryLen+g.Query0+i)*l.Most:][:n]
}

// Pairs counts the keys in the lists of one batch row and head at full length.
func (l Lists) Pairs(s attn.Shape) int64 {
	n, g := int64(0), attn.Segment{Queries: s.QueryLen, Keys: s.KeyLen}
	for i := range s.QueryLen {
		n += int64(min(l.Most, Seen(s.Mask, g, i)))
	}
	return n
}

// weigh computes out = Σ_j p[j] v[list[j]] for the weights p = softmax(scores), which it leaves in scores, and returns the
// logarithm of Σ e^score.
func (l Lists) weigh(out, scores []float32, list []int32, v side) float32 {
	clear(out)
	if len(list) == 0 {
		return kernel.NegInf
	}
	top := kernel.Max(scores)
	sum := kernel.ExpSum(scores, top)
	for j, key := range list {
		scores[j] /= sum
		kernel.Axpy(scores[j], v.row(int(key), len(out)), out)
	}
	return top + log(sum)
}

// Attend computes query i of a head over its list, whose scores are given, and returns the logarithm of Σ e^score.
func (l Lists) Attend(c *attn.Call, g attn.Segment, head, i int, list []int32, scores []float32) float32 {
	return l.weigh(c.Out.Row(g.Row, g.Query0+i, head), scores, list, sideOf(&c.V, g, c.KVHead(head)))
}

// Backward adds to the gradients of q, k and v, with scores scale·q·k over the lists and lse [batch, heads, queries] what Attend
// returned. The lists are held fixed. A task takes all queries of one key/value head, in order.
func (l Lists) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads, lse []float32, scale float32) {
	args := listedArgs{l, *c, *g, lse, scale}
	args.call.Saved = nil
	attn.Parallel(ws, c.Batch*c.KVHeads, listedFloats(l.Most), args, func(s *attn.Scratch, a *listedArgs, task int) { a.run(s, task) })
}

// BackwardBytes is the scratch a worker of Backward.
func (l Lists) BackwardBytes(s attn.Shape) int64 {
	if s.Batch == 0 {
		return 0
	}
	return 4 * int64(listedFloats(l.Most))
}

func listedFloats(most int) int { return attn.ScratchFloats(most, most) }

type listedArgs struct {
	Lists
	call  attn.Call
	grads attn.Grads
	lse   []float32
	scale float32
}

func (a *listedArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	row, kv, group := task/c.KVHeads, task%c.KVHeads, c.Heads/c.KVHeads
	p, ds := s.Floats(a.Most), s.Floats(a.Most)
	for n := range c.NumSegments() {
		g := c.Segment(n)
		if g.Row != row {
			continue
		}
		for i := range g.Queries {
			for head := kv * group; head < (kv+1)*group; head++ {
				a.query(p, ds, g, head, kv, i)
			}
		}
	}
}

// query takes one query of a head:
//
//	p[j] = e^(scale·q·k[j] - lse), ds[j] = scale·p[j]·(do·v[j] - do·o)
//	dv[j] += p[j] do, dq += ds[j] k[j], dk[j] += ds[j] q
func (a *listedArgs) query(p, ds []float32, g attn.Segment, head, kv, i int) {
	c := &a.call
	list, at := a.Of(&c.Shape, g, head, i), g.Query0+i
	if len(list) == 0 {
		return
	}
	q, do, dq := c.Q.Row(g.Row, at, head), a.grads.Out.Row(g.Row, at, head), a.grads.Q.Row(g.Row, at, head)
	k, v := sideOf(&c.K, g, kv), sideOf(&c.V, g, kv)
	dk, dv := sideOf(&a.grads.K, g, kv), sideOf(&a.grads.V, g, kv)
	for j, key := range list {
		p[j] = a.scale * kernel.Dot(q, k.row(int(key), len(q)))
		ds[j] = kernel.Dot(do, v.row(int(key), len(do)))
	}
	kernel.ExpSum(p[:len(list)], a.lse[(g.Row*c.Heads+head)*c.QueryLen+at])
	delta := kernel.Dot(do, c.Out.Row(g.Row, at, head))
	for j, key := range list {
		x := a.scale * p[j] * (ds[j] - delta)
		kernel.Axpy(p[j], do, dv.row(int(key), len(do)))
		kernel.Axpy(x, k.row(int(key), len(q)), dq)
		kernel.Axpy(x, q, dk.row(int(key), len(q)))
	}
}
