package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Forgetting attention adds to the score of query i and key j the sum of the log decays of the tokens between them,
//
//	F[i] - F[j] = Σ_{j<t≤i} g[t],  g ≤ 0
//
// F is summed in float64 and kept as two float32, the second what the first rounds off: a difference of two such is as exact as
// the sum of the decays between them, however strong those before them were. A decay below gateFloor counts as that one,
// which no score comes back from; so F stays finite where decays are.
const gateFloor = -1e8

// gateFloats is the size of F for a call: [batch, heads, 2, keys].
func (a Softmax) gateFloats(s attn.Shape) int {
	if !a.Forget {
		return 0
	}
	return 2 * s.Batch * s.Heads * s.KeyLen
}

type gateArgs struct {
	call attn.Call
	sums []float32
}

// gates computes F for the keys of all segments, which must not share any.
func (a Softmax) gates(ws *attn.Workspace, c *attn.Call) []float32 {
	if !a.Forget {
		return nil
	}
	args := gateArgs{*c, ws.Floats(a.gateFloats(c.Shape))}
	attn.Parallel(ws, c.NumSegments()*c.Heads, 0, args, func(_ *attn.Scratch, a *gateArgs, task int) {
		g, h := a.call.Segment(task/a.call.Heads), task%a.call.Heads
		x, stride := a.call.Extra[0].From(g.Row, g.Key0, h), a.call.Extra[0].TimeStride
		high, low := gatesOf(a.sums, &a.call, g, h)
		sum := 0.0
		for j := range high {
			if j > 0 { // the first token's own decay lies between no two tokens
				sum += max(float64(x[j*stride]), gateFloor)
			}
			high[j] = float32(sum)
			low[j] = float32(sum - float64(high[j]))
		}
	})
	return args.sums
}

// gatesOf returns the two parts of F for the keys of a segment.
func gatesOf(sums []float32, c *attn.Call, g attn.Segment, head int) (high, low []float32) {
	at := sums[(g.Row*c.Heads+head)*2*c.KeyLen:]
	return at[g.Key0:][:g.Keys], at[c.KeyLen+g.Key0:][:g.Keys]
}

// forget adds the decays to the scores of the keys lo to hi-1. Keys in front of the tile's first query take a sum of two
// numbers of one sign, key to first query and first query to lane; those inside the tile, each pair its own.
func (b *bias) forget(t Tile, lo, hi int, scores []float32) {
	at := max(t.First, 0)
	if beside := min(hi, at+1); lo < beside {
		for l := range Lanes {
			i := min(t.First+l, t.Last(), len(b.high)-1)
			b.rows[Lanes+l] = 0
			if i > at {
				b.rows[Lanes+l] = kernel.Log2E * b.between(i, at)
			}
		}
		for j := lo; j < beside; j++ {
			b.keys[2*(j-lo)], b.keys[2*(j-lo)+1] = kernel.Log2E*b.between(at, j), 1
		}
		kernel.MulAdd(beside-lo, Lanes, 2, kernel.Rows(b.keys, 2), kernel.Rows(b.rows, Lanes), kernel.Rows(scores, Lanes))
	}
	for j := max(lo, at+1); j < hi; j++ {
		row := scores[(j-lo)*Lanes:][:Lanes]
		for l := j - t.First; l < t.Rows; l++ {
			row[l] += kernel.Log2E * b.between(t.First+l, j)
		}
	}
}

// between returns F[i] - F[j].
func (b *bias) between(i, j int) float32 { return (b.high[i] - b.high[j]) + (b.low[i] - b.low[j]) }

// addGates adds to gf, one a key of the block, the sums of the gradients of its scores, times scale; those of hidden pairs are 0.
func (b *backwardHead) addGates(blk block) {
	sums := b.gf[blk.lo-b.lo:][:blk.hi-blk.lo]
	kernel.Dots(b.row[:len(sums)], b.ones, kernel.Rows(b.ds, Lanes), len(sums))
	kernel.Add(sums, b.row)
}

// forgetFloats are those of a worker of Backward: the sums of a block, of a step, and ones.
func (a Softmax) forgetFloats(s attn.Shape) (block, step, ones int) {
	if !a.Forget {
		return 0, 0, 0
	}
	return backKeys(s), keyBlock, Lanes
}

// forgetSums is the size of the sums of Backward over all blocks: [batch, heads, keys].
func (a Softmax) forgetSums(s attn.Shape) int {
	if !a.Forget {
		return 0
	}
	return s.Batch * s.Heads * s.KeyLen
}

// gateGrads adds the gradients of the log decays. A token's decay is in the scores of all pairs around it. The gradients of
// the scores of one query sum to 0, so those of the pairs before it and around it are minus those of the keys from it on:
//
//	dg[t] = Σ_{j<t≤i} ds[i,j] = -Σ_{j≥t} Σ_i ds[i,j]
func (a *backwardArgs) gateGrads(ws *attn.Workspace) {
	attn.Parallel(ws, a.call.Batch*a.call.Heads, 0, gateGradArgs{*a}, func(_ *attn.Scratch, a *gateGradArgs, task int) { a.run(task) })
}

type gateGradArgs struct{ backwardArgs }

func (a *gateGradArgs) run(task int) {
	c := &a.call
	row, head := task/c.Heads, task%c.Heads
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		sum := 0.0
		for j := g.Key0 + g.Keys - 1; j > g.Key0; j-- {
			sum += float64(a.df[task*c.KeyLen+j])
			a.grads.Extra[0].Row(row, j, head)[0] -= float32(sum / float64(a.scale))
		}
	}
}
