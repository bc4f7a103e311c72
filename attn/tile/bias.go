package tile

import (
	"math"
	"math/bits"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Slope returns the factor of ALiBi (Press et al. 2021, arXiv:2108.12409) for a head of so many. For a power of two
//
//	m[h] = 2^(-8(h+1)/heads)
//
// else those of the largest power of two below, and then every other one, from the first on, of twice as many heads.
func Slope(head, heads int) float64 {
	p := 1 << (bits.Len(uint(heads)) - 1)
	if head < p {
		return math.Exp2(-8 * float64(head+1) / float64(p))
	}
	return math.Exp2(-8 * float64(2*(head-p)+1) / float64(2*p))
}

// bias is what is added to the scores of a head.
type bias struct {
	slope float32   // times log₂e
	rows  []float32 // [2, Lanes]: ones, and the number of each lane
	keys  []float32 // [keyBlock, 2]

	high, low []float32 // of forgetting attention
}

const biasFloats = 2*Lanes + 2*keyBlock

func (a Softmax) biasFloats() int {
	if !a.Linear && !a.Forget {
		return 0
	}
	return biasFloats
}

// newBias returns the bias of a head; room has biasFloats floats if there is one.
func (a Softmax) newBias(room []float32) (b bias) {
	if !a.Linear && !a.Forget {
		return b
	}
	b.rows, b.keys = room[:2*Lanes], room[2*Lanes:]
	for l := range Lanes {
		b.rows[l], b.rows[Lanes+l] = 1, float32(l)
	}
	return b
}

// head sets the bias to that of a query head of a segment; gates are those of the call.
func (a Softmax) head(b *bias, c *attn.Call, g attn.Segment, head int, gates []float32) {
	if a.Linear {
		b.slope = float32(Slope(head, c.Heads) * kernel.Log2E)
	}
	if a.Forget {
		b.high, b.low = gatesOf(gates, c, g, head)
	}
}

// add adds the bias to the scores of the keys lo to hi-1. On either side of the tile it is a sum of a part of the key and one of the lane.
func (b *bias) add(t Tile, lo, hi int, scores []float32) {
	if b.high != nil {
		b.forget(t, lo, hi, scores)
	}
	if b.slope == 0 {
		return
	}
	beside := func(lo, hi int, sign float32) {
		if lo >= hi {
			return
		}
		m := sign * b.slope
		for j := lo; j < hi; j++ {
			b.keys[2*(j-lo)], b.keys[2*(j-lo)+1] = m*float32(j-t.First), -m
		}
		kernel.MulAdd(hi-lo, Lanes, 2, kernel.Rows(b.keys, 2), kernel.Rows(b.rows, Lanes), kernel.Rows(scores, Lanes))
	}
	first := lo
	beside(lo, min(hi, t.First+1), 1)
	for lo = min(hi, max(lo, t.First+1)); lo < min(hi, t.Last()); lo++ {
		row := scores[(lo-first)*Lanes:][:Lanes]
		for l := range row {
			d := t.First + l - lo
			row[l] -= b.slope * float32(max(d, -d))
		}
	}
	scores = scores[(lo-first)*Lanes:]
	beside(lo, hi, -1)
}

// sink takes a head's learned score, times log₂e, into the softmax of a tile and multiplies inverse, 1/Sum, by what its
// accumulators then lack.
func sink(s *kernel.Softmax, score float32, inverse []float32) {
	for l := range s.Max {
		top := max(s.Max[l], score)
		f := float32(0)
		if s.Max[l] > kernel.NegInf {
			f = float32(math.Exp2(float64(s.Max[l] - top)))
		}
		s.Sum[l] = f*s.Sum[l] + float32(math.Exp2(float64(score-top)))
		s.Max[l] = top
		inverse[l] = f / s.Sum[l]
	}
}

// sinkArgs computes the gradient of the learned scores:
//
//	db = -Σ_i p[i]·D[i], p[i] = e^(b-lse[i]) the weight that the score has, D[i] = do[i]·o[i]
type sinkArgs struct {
	backwardArgs
	sums []float32 // [batch, heads]
}

func (a *sinkArgs) run(task int) {
	c := &a.call
	row, head := task/c.Heads, task%c.Heads
	b, sum := float64(c.Learned[0][head])*kernel.Log2E, 0.0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row != row {
			continue
		}
		for q := g.Query0; q < g.Query0+g.Queries; q++ {
			at := task*c.QueryLen + q
			sum -= math.Exp2(b-float64(a.lse[at])) * float64(a.delta[at]/a.scale)
		}
	}
	a.sums[task] = float32(sum)
}

// sinkGrad adds the gradient of the learned scores, the rows of a batch in order.
func (a *backwardArgs) sinkGrad(ws *attn.Workspace) {
	c := &a.call
	args := sinkArgs{*a, ws.Floats(c.Batch * c.Heads)}
	attn.Parallel(ws, c.Batch*c.Heads, 0, args, func(_ *attn.Scratch, a *sinkArgs, task int) { a.run(task) })
	for i, x := range args.sums {
		a.grads.Learned[0][i%c.Heads] += x
	}
}
