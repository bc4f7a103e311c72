package tile

import (
	"math"
	"math/bits"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Levels is log-linear attention: a recurrence with a decay a head whose state is apart by distance. With ℓ(i, j) the bit length of i xor j,
// positions counted from the start of the sequence,
//
//	o_i = Σ_{j≤i} λ_i[ℓ(i,j)] e^{g_{j+1}+…+g_i} (q_i·k_j) v_j
//
// λ is Call.Extra[2], [batch, query, heads, Width]; the last takes all levels beyond. Guo et al. 2025 (arXiv:2506.04761) §3.
//
// Tokens come in blocks of 32: within one the sum is taken over pairs. The blocks before block b lie in one range for each bit of b: the
// range that ends before block e, for e = b and then b without its lowest bits one after the other, is as long as the lowest bit of
// e, and its level is 6 more than that bit's number, its slot. A range is one state as it was at its end, made of its last block and of the
// ranges before it, and the sum of the log decays since.
type Levels struct {
	Recurrence
	Width int
}

// pairLevels is the number of levels within a block.
const pairLevels = 6

// NewLevels returns the recurrence over levels of log decays a head, factors of keys and skips, as state space models have them.
func NewLevels(width int) Levels {
	return Levels{Recurrence{Chunk: lanes, Decay: HeadDecay, Scale: 1, Write: true, Own: OwnSkip}, width}
}

// levelsArgs is one pass.
type levelsArgs struct {
	recurArgs
	width int
	state *LevelState
}

// levelsBlock is a block of one key/value head with the ranges before it.
type levelsBlock struct {
	recurBlock
	most   int
	ranges [64][]float32 // by slot, [key dim, value dim]
	sums   [64]float64   // of the log decays since their ends
	m      []float32     // the block itself at its end, and its values
	scaled []float32     // queries times the factors of a range, [lanes, key dim]
}

// rangesOf is the most ranges of sequences of n tokens.
func rangesOf(n int) int { return bits.Len(uint(max(0, (n+lanes-1)/lanes-1))) }

func newLevels(s *attn.Scratch, a *recurArgs, width, ranges int) levelsBlock {
	t := levelsBlock{recurBlock: newBlock(s, a, 0, a.c.ValueDim), most: width}
	t.m, t.scaled = s.Floats(a.workLen(a.c.Shape)), s.Floats(lanes*a.c.KeyDim)
	t.use(t.m)
	for z := range ranges {
		t.ranges[z] = s.Floats(a.stateLen(a.c.Shape))
	}
	return t
}

func (r *Levels) blockFloats(s attn.Shape, ranges int) int {
	return r.forwardFloats(s) - attn.ScratchFloats(min(headsATask, s.KVHeads)*r.workLen(s)) +
		attn.ScratchFloats(r.workLen(s), lanes*s.KeyDim) + ranges*attn.ScratchFloats(r.stateLen(s))
}

// Forward computes c.Out, from a call that has passed Check.
func (r *Levels) Forward(ws *attn.Workspace, c *attn.Call) {
	c.ZeroPadding()
	for i := range c.NumSegments() {
		zeroQueries(c, c.Segment(i))
	}
	mark := ws.Mark()
	a := levelsArgs{recurArgs: r.args(c), width: r.Width}
	a.plan(ws)
	if c.Saved != nil {
		a.records = c.Saved.Floats(a.keyChunks() * r.recordLen(c.Shape))
	}
	attn.Parallel(ws, a.heads(), r.blockFloats(c.Shape, rangesOf(c.KeyLen)), a, levelsTask)
	ws.Release(mark)
}

func levelsTask(s *attn.Scratch, a *levelsArgs, task int) {
	seg, kv := a.head(task)
	g := a.c.Segment(seg)
	t := newLevels(s, &a.recurArgs, a.width, rangesOf(g.Keys))
	blocks := a.chunks(g.Keys)
	for b := range blocks {
		t.at(g, kv, b*lanes, lanes)
		t.expect(g, kv, min((b+1)*lanes, g.Keys), min(lanes, max(0, g.Keys-(b+1)*lanes)))
		t.block(b)
		if b+1 == blocks {
			break
		}
		sum := t.end(b)
		z := bits.TrailingZeros(uint(b + 1))
		copy(t.ranges[z], t.m)
		for i := range z {
			kernel.Axpy(t.factor(i), t.ranges[i], t.ranges[z])
		}
		t.sums[z] = 0
		if a.records != nil {
			x := a.record(kv, int(a.keys[seg])+b)
			copy(x, t.ranges[z])
			x[len(x)-1] = sum
		}
	}
}

// leastFactor is the decay below which a range counts as forgotten: beside the block's own tokens no sum would show it, and its products would be
// subnormal numbers, each of which costs the processor a hundred others.
const leastFactor = 0x1p-80

// factor is the decay of a range since its end.
func (t *levelsBlock) factor(z int) float32 {
	if f := float32(math.Exp(t.sums[z])); f >= leastFactor || f != f {
		return f
	}
	return 0
}

// level is the level of a range by its slot.
func (t *levelsBlock) level(z int) int { return min(pairLevels+z, t.most-1) }

func (t *levelsBlock) lambda(h, r int) []float32 {
	return t.c.Extra[2].Row(t.Row, t.Query0+t.query0+r, h)
}

// block computes the outputs of block b.
func (t *levelsBlock) block(b int) {
	t.loadKeys()
	if t.row0 == t.row1 {
		return
	}
	dk, own := t.c.KeyDim, t.row1-t.row0
	for i := range t.group() {
		h := t.queryHead(i)
		q, out := kernel.Rows(t.q, t.ld(t.c.Shape)), t.queryRows(&t.c.Out, t.row0, h)
		t.feature(q.From(t.row0, 0), t.queryRows(&t.c.Q, t.row0, h), own, dk)
		t.weights(q)
		for r := t.row0; r < t.row1; r++ {
			eachLevel(r, t.most, func(level, from, to int) {
				kernel.Scale(t.lambda(h, r)[level], q.Data[r*q.Row+dk:][from:to])
			})
		}
		t.skip(q, h)
		for r := t.row0; r < t.row1; {
			end, cols := t.slice(r)
			kernel.MulAhead(&t.ahead, nil, end-r, t.width, cols, q.From(r, dk), t.values(), out.From(r-t.row0, 0))
			r = end
		}
		for e := uint(b); e != 0; e &= e - 1 {
			z := bits.TrailingZeros(e)
			f := t.factor(z)
			for r := t.row0; r < t.row1; r++ {
				row := t.scaled[(r-t.row0)*dk:][:dk]
				copy(row, q.Data[r*q.Row:])
				kernel.Scale(f*t.lambda(h, r)[t.level(z)], row)
			}
			kernel.MulAdd(own, t.width, dk, kernel.Rows(t.scaled, dk), kernel.Rows(t.ranges[z], t.width), out)
		}
	}
}

// eachLevel calls f for the keys from ≤ j < to of a block of each level that query r of the block sees, the last for all above.
func eachLevel(r, most int, f func(level, from, to int)) {
	f(0, r, r+1)
	for l := 1; l < pairLevels; l++ {
		if bit := 1 << (l - 1); r&bit != 0 {
			from := r &^ (2*bit - 1)
			f(min(l, most-1), from, from+bit)
		}
	}
}

// end computes the state of block b alone at its end, and adds the block's log decays, which it returns, to those since its ranges' ends.
func (t *levelsBlock) end(b int) float32 {
	clear(t.m[:t.c.KeyDim*t.width])
	t.update()
	sum := t.decay.sums[0]
	for e := uint(b); e != 0; e &= e - 1 {
		t.sums[bits.TrailingZeros(e)] += float64(sum)
	}
	return sum
}
