package autograd

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// blockFloats is how many elements a task of an elementwise operation takes: enough to be worth a task, few enough
// to stay in cache. The split depends on the shape alone.
const blockFloats = 8192

// block is one task's part of an operation: rows lo to hi.
type block struct {
	lo, hi int
	sum    []float32 // this block's part of a sum over rows, zeros at first
}

type blockArgs struct {
	t          *Tape
	o          *op
	g          []float32 // gradient of the output, in Backward
	rows, size int
	sums       []float32
	width      int
	f          blockFunc
}

type blockFunc func(t *Tape, o *op, g []float32, b block)

func blockRows(cols int) int { return max(1, blockFloats/max(cols, 1)) }

// blocks runs f over all rows of an operation of the given shape, in parallel.
func (t *Tape) blocks(o *op, g []float32, rows, cols int, f blockFunc) {
	t.run(blockArgs{t: t, o: o, g: g, rows: rows, size: blockRows(cols), f: f})
}

// blocksSum is blocks with sums over rows, added to the gradient of v in the order of the blocks.
func (t *Tape) blocksSum(o *op, g []float32, rows, cols int, v Var, f blockFunc) {
	size, width, dst := blockRows(cols), t.size(v), t.gradSum(v)
	m := t.scratchMark()
	defer t.scratchRelease(m)
	n := (rows + size - 1) / size
	sums := t.scratch(n * width)
	if t.dry != nil {
		return
	}
	clear(sums)
	t.run(blockArgs{t: t, o: o, g: g, rows: rows, size: size, sums: sums, width: width, f: f})
	for i := range n {
		kernel.Add(dst, sums[i*width:(i+1)*width])
	}
}

func (t *Tape) run(a blockArgs) {
	if t.dry != nil {
		return
	}
	attn.Parallel(t.ws, (a.rows+a.size-1)/a.size, 0, a, func(_ *attn.Scratch, a *blockArgs, task int) {
		b := block{lo: task * a.size, hi: min((task+1)*a.size, a.rows)}
		if a.sums != nil {
			b.sum = a.sums[task*a.width : (task+1)*a.width]
		}
		a.f(a.t, a.o, a.g, b)
	})
}

type pairArgs struct{ dst, src []float32 }

// addTo computes dst += src.
func (t *Tape) addTo(dst, src []float32) {
	if t.dry != nil {
		return
	}
	n := (len(dst) + blockFloats - 1) / blockFloats
	attn.Parallel(t.ws, n, 0, pairArgs{dst, src}, func(_ *attn.Scratch, a *pairArgs, task int) {
		lo, hi := task*blockFloats, min((task+1)*blockFloats, len(a.dst))
		kernel.Add(a.dst[lo:hi], a.src[lo:hi])
	})
}

// part returns rows lo to hi of the elements x of a value with cols columns.
func (b block) part(x []float32, cols int) []float32 { return x[b.lo*cols : b.hi*cols] }
