package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// blockDecay holds the decays of a block. Every factor between two tokens is a product of decays of just the tokens
// between them, and no sum of log decays is a difference of others: nothing overflows while log decays are ≤ 0, and a weak
// decay beside a strong one keeps its digits.
type blockDecay struct {
	e     []float32 // e^g: [sixteens, key dim], 1 for tokens that are not there; HeadDecay [lanes]
	sums  []float32 // Σ g over the block, [width]
	a, b  []float32 // the block's decay of the state for kernel.Decay, [key dim]
	total []float32 // ChannelDecay: Π e over the first and second half, [2, key dim]
	keys  []float32 // ChannelDecay with more than one query head: φ(k) as loaded

	between    []float32 // HeadDecay: Π e from each key to each query of the block, [lanes, lanes]
	start, end []float32 // HeadDecay: Π e from the start to each query, from each key to the end, [lanes]
}

func newDecay(s *attn.Scratch, r *Recurrence, sh attn.Shape) blockDecay {
	d, rows := blockDecay{}, sixteens(r.rows())
	d.sums = s.Floats(r.Decay.width(sh))
	d.a, d.b = s.Floats(sh.KeyDim), s.Floats(sh.KeyDim)
	if r.Decay == HeadDecay {
		d.e, d.start, d.end, d.between = s.Floats(lanes), s.Floats(lanes), s.Floats(lanes), s.Floats(lanes*lanes)
		return d
	}
	d.e, d.total = s.Floats(rows*sh.KeyDim), s.Floats(2*sh.KeyDim)
	if sh.Heads > sh.KVHeads {
		d.keys = s.Floats(sh.KeyDim * lanes)
	}
	return d
}

func (r *Recurrence) decayFloats(s attn.Shape) int {
	n := attn.ScratchFloats(r.Decay.width(s), s.KeyDim, s.KeyDim)
	if r.Decay == HeadDecay {
		return n + attn.ScratchFloats(lanes, lanes, lanes, lanes*lanes)
	}
	n += attn.ScratchFloats(sixteens(r.rows())*s.KeyDim, 2*s.KeyDim)
	if s.Heads > s.KVHeads {
		n += attn.ScratchFloats(s.KeyDim * lanes)
	}
	return n
}

// loadDecay fills the decays of the block.
func (t *recurBlock) loadDecay() {
	d, dk := &t.decay, t.c.KeyDim
	g, width := t.keyRows(&t.c.Extra[0]), t.Decay.width(t.c.Shape)
	clear(d.sums)
	kernel.Combine(d.sums, t.ones[:t.n], g)
	if t.Decay == HeadDecay {
		kernel.ExpRows(kernel.Rows(d.e, 1), g, t.n, 1)
		t.loadBetween()
		return
	}
	kernel.ExpRows(kernel.Rows(d.e, width), g, t.n, width)
	for i := t.n * dk; i < sixteens(t.n)*dk; i++ {
		d.e[i] = 1
	}
	if d.keys != nil {
		copy(d.keys, t.k)
	}
	if t.row0 == t.row1 && !t.Dual { // no query will come, and the keys are to be decayed
		t.channelWeights(kernel.Rows(t.q, t.ld(t.c.Shape)))
	}
}

// channelWeights fills the weights of pairs, turns q to Q' and k to K'. The pairs within each half of the block come
// from kernel.DecayWeights, which also decays the keys to the end of their half; those of queries of the second
// and keys of the first half are a product.
func (t *recurBlock) channelWeights(q kernel.Mat) {
	const half = kernel.DecayBlock
	d, dk := &t.decay, t.c.KeyDim
	if d.keys != nil {
		copy(t.k, d.keys)
	}
	for r := range t.row0 {
		clear(q.Data[r*q.Row:][:dk])
	}
	for r := t.row1; r < sixteens(t.n); r++ {
		clear(q.Data[r*q.Row:][:dk])
	}
	e := kernel.Rows(d.e, dk)
	for i := 0; i < t.n; i += half {
		kernel.DecayWeights(q.From(i, dk+i), q.From(i, 0), e.From(i, 0), t.k[i:], dk)
		kernel.Cumulate(d.total[i/half*dk:][:dk], q.From(i, 0), e.From(i, 0), half)
	}
	if t.n > half {
		kernel.Mul(t.n-half, half, dk, q.From(half, 0), kernel.Rows(t.k, lanes), q.From(half, dk))
		kernel.TimesRows(d.total[:dk], q.From(half, 0), t.n-half)
		kernel.ScaleRows(d.total[dk:][:dk], kernel.Rows(t.k, lanes), half)
		clear(q.Data[(half-1)*q.Row+dk+half:][:half]) // see slice
	}
}

// loadBetween fills between, start and end.
func (t *recurBlock) loadBetween() {
	d := &t.decay
	start := float32(1)
	for i, e := range d.e[:t.n] {
		row := d.between[i*lanes:][:lanes]
		clear(row)
		if i > 0 {
			for j, x := range d.between[(i-1)*lanes:][:i] {
				row[j] = x * e
			}
		}
		row[i] = 1
		start *= e
		d.start[i] = start
	}
	copy(d.end, d.between[(t.n-1)*lanes:][:lanes])
}

// headWeights puts the decays to the weights of pairs and to q.
func (t *recurBlock) headWeights(q kernel.Mat) {
	d, dk := &t.decay, t.c.KeyDim
	for r := t.row0; r < t.row1; r++ {
		kernel.Times(q.Data[r*q.Row+dk:][:r+1], d.between[r*lanes:])
	}
	kernel.ScaleRows(d.start[t.row0:t.row1], q.From(t.row0, 0), dk)
}

// stateDecay returns the decay of the state over the block, nil for none, and decays keys that share a decay to the end of it.
func (t *recurBlock) stateDecay() (a, b []float32) {
	d := &t.decay
	if t.Decay == NoDecay {
		return nil, nil
	}
	fade(d.a, d.b, d.sums)
	if t.Decay == HeadDecay {
		kernel.TimesRows(d.end, kernel.Rows(t.k, lanes), t.c.KeyDim)
	}
	return d.a, d.b
}
