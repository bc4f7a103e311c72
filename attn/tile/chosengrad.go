package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// share returns the number of tasks that share a key/value head, by its blocks.
func (a Chosen) share(s attn.Shape) split {
	return split{1, max(1, min(ceil(8, max(1, s.Batch*s.KVHeads)), ceil(s.KeyLen, a.Size)))}
}

func (a Chosen) backwardFloats(s attn.Shape) int {
	sets := a.Sets(s) / s.KVHeads
	return attn.ScratchFloats(a.Softmax.backwardFloats(s), sets*s.QueryLen*a.Most, sets*ceil(s.KeyLen, a.Size), Lanes*s.KeyDim)
}

// BackwardSums adds to the gradients of q, k and v, from what ForwardSums computed: c.Out, lse and the choices, which are held fixed. lse is
// the first part that the call saved.
func (a Chosen) BackwardSums(ws *attn.Workspace, c *attn.Call, g *attn.Grads, lse []float32, choice []int32) {
	if c.Batch == 0 || c.QueryLen == 0 || c.KeyLen == 0 {
		return
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	a.reserve = max(a.reserve, a.backwardFloats(c.Shape))
	n := a.share(c.Shape)
	args := chosenGradArgs{Chosen: a, choice: choice, backwardArgs: backwardArgs{
		Softmax: a.Softmax, call: *c, grads: *g, scale: a.scale(c), lse: lse, parts: n,
		delta: ws.Floats(c.Batch * c.Heads * c.QueryLen), dq: ws.Floats(n.extraQ(c.Shape)),
	}}
	args.call.Saved = nil
	a.Softmax.BackwardSums(ws, c, g, lse)
	attn.Parallel(ws, c.Batch*c.Heads, 0, deltaArgs{args.backwardArgs}, func(_ *attn.Scratch, a *deltaArgs, task int) { a.run(task) })
	attn.Parallel(ws, c.Batch*c.KVHeads*n.blocks, a.reserve, args, func(s *attn.Scratch, a *chosenGradArgs, task int) { a.run(s, task) })
	if n.blocks > 1 {
		attn.Parallel(ws, c.Batch*c.KVHeads, 0, mergeArgs{args.backwardArgs}, func(_ *attn.Scratch, a *mergeArgs, task int) { a.run(task) })
	}
}

type chosenGradArgs struct {
	Chosen
	backwardArgs
	choice []int32
}

// run takes the blocks of a key/value head whose number leaves the task's part as the remainder, each past all queries that chose it.
func (a *chosenGradArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	part, kv, row := task%a.parts.blocks, task/a.parts.blocks%c.KVHeads, task/a.parts.blocks/c.KVHeads
	group, blocks := c.Heads/c.KVHeads, ceil(c.KeyLen, a.Size)
	sets := a.Sets(c.Shape) / c.KVHeads
	b := a.backwardArgs.newHead(s)
	b.p = Dense{}
	items, ends := s.Ints(sets*c.QueryLen*a.Most), s.Ints(sets*blocks)
	back := s.Floats(Lanes * c.KeyDim)
	for head := kv * group; part > 0 && head < (kv+1)*group; head++ {
		clear(a.sumQ(row, head, part))
	}
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		n := ceil(g.Keys, a.Size)
		for set := range sets {
			a.gather(items[set*c.QueryLen*a.Most:], ends[set*blocks:][:n], a.choice, &c.Shape, g, kv*sets+set, 0, g.Queries)
		}
		b.k, b.v = sideOf(&c.K, g, kv), sideOf(&c.V, g, kv)
		for block := part; block < n; block += a.parts.blocks {
			end := min((block+1)*a.Size, g.Keys)
			for lo := block * a.Size; lo < end; lo += keyBlock {
				b.load(lo, min(lo+keyBlock, end))
				any := false
				for set := range sets {
					from := int32(0)
					if block > 0 {
						from = ends[set*blocks+block-1]
					}
					chose := items[set*c.QueryLen*a.Most:][from:ends[set*blocks+block]]
					any = any || len(chose) > 0
					a.block(&b, back, g, chose, (kv*sets+set)*group/sets, group/sets, part)
				}
				if any {
					a.store(&b, g, kv, 0)
				}
			}
		}
	}
}

// block takes the loaded keys for the queries that chose them, each heads from head on.
func (a *chosenGradArgs) block(b *backwardHead, back []float32, g attn.Segment, items []int32, head, each, part int) {
	c := &a.call
	dq := kernel.Rows(back, b.dk)
	for lo := 0; lo < len(items)*each; lo += Lanes {
		n := min(Lanes, len(items)*each-lo)
		for l := range n {
			i, h := g.Query0+int(items[(lo+l)/each]), head+(lo+l)%each
			copy(b.qRow.Data[l*b.dk:][:b.dk], c.Q.Row(g.Row, i, h))
			copy(b.dRow.Data[l*b.dv:][:b.dv], a.grads.Out.Row(g.Row, i, h))
			b.lse[l], b.delta[l] = a.lse[(g.Row*c.Heads+h)*c.QueryLen+i], a.delta[(g.Row*c.Heads+h)*c.QueryLen+i]
		}
		for l := n; l < Lanes; l++ {
			b.lse[l], b.delta[l] = kernel.NegInf, 0
		}
		b.t = Tile{Mask: attn.Cross, Rows: n, Keys: b.hi}
		kernel.Pack(b.qt, b.qRow, n, b.dk, a.scale*kernel.Log2E)
		kernel.Pack(b.dot, b.dRow, n, b.dv, a.scale)
		clear(b.dqt)
		b.step(block{lo: b.lo, hi: b.hi})
		kernel.Unpack(dq, b.dqt, n, b.dk, nil)
		for l := range n {
			i, h := g.Query0+int(items[(lo+l)/each]), head+(lo+l)%each
			to := a.grads.Q.Row(g.Row, i, h)
			if part > 0 {
				to = a.sumQ(g.Row, h, part)[i*b.dk:][:b.dk]
			}
			kernel.Add(to, back[l*b.dk:][:b.dk])
		}
	}
}
