package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

const lanes = kernel.Lanes

// recurBlock is a block of one key/value head on a worker's scratch. Its outputs are one product, as are the changes of its state:
//
//	O = diag(r)·[Q' A]·[S; V],  S = decayed S + K'ᵀ·V
//
// where Q' and K' are φ(q) and φ(k) with their decays since the start and to the end of the block, and A are the weights of
// pairs, 0 above the diagonal.
type recurBlock struct {
	recurPlace
	rows        int // tokens of a whole block
	from, width int // columns of the values

	s, z   []float32 // state before the block, [key dim, width] and the values of the block behind it; [key dim]
	q      []float32 // φ(q) and weights of one query head, [sixteens, ld]
	k      []float32 // φ(k) transposed, [key dim, lanes]
	sums   []float32 // Σ φ(k), [key dim]
	factor []float32 // r, [rows]
	row    []float32 // sums of the weights, [rows]
	ones   []float32 // [lanes]
	finite bool      // all values of the block are
	decay  blockDecay
	write  []float32 // factors of the keys, [lanes]
	own    []float32 // scratch of OwnBonus, [key dim]
	dual   dualBlock
	next   recurPlace
	ahead  kernel.Ahead
}

func (r *Recurrence) rows() int { return min(r.Chunk, lanes) }

// newBlock lays a block out on s; forwardFloats counts the same.
func newBlock(s *attn.Scratch, a *recurArgs, from, to int) recurBlock {
	sh := a.c.Shape
	t := recurBlock{rows: a.rows(), from: from, width: to - from}
	t.recurArgs, t.next.recurArgs = a, a
	t.q = s.Floats(sixteens(t.rows) * t.ld(sh))
	t.k, t.sums = s.Floats(sh.KeyDim*lanes), s.Floats(sh.KeyDim)
	t.factor, t.row, t.ones = s.Floats(lanes), s.Floats(lanes), s.Floats(lanes)
	for i := range t.ones {
		t.ones[i] = 1
	}
	if a.Decay != NoDecay {
		t.decay = newDecay(s, &a.Recurrence, sh)
		t.write, t.own = s.Floats(lanes), s.Floats(sh.KeyDim)
	}
	if a.Dual {
		t.dual = newDual(s, sh)
	}
	return t
}

func (r *Recurrence) forwardFloats(s attn.Shape) int {
	f := attn.ScratchFloats(sixteens(r.rows())*(s.KeyDim+sixteens(r.rows())), s.KeyDim*lanes, s.KeyDim, lanes, lanes, lanes)
	if r.Decay != NoDecay {
		f += r.decayFloats(s) + attn.ScratchFloats(lanes, s.KeyDim)
	}
	if r.Dual {
		f += dualFloats(s)
	}
	return f + attn.ScratchFloats(min(headsATask, s.KVHeads)*r.workLen(s))
}

// sixteens is n in whole sixteens, which is what kernel.DecayWeights works on.
func sixteens(n int) int { return (n + kernel.DecayBlock - 1) / kernel.DecayBlock * kernel.DecayBlock }

// ld is the row stride of q.
func (t *recurBlock) ld(s attn.Shape) int { return s.KeyDim + sixteens(t.rows) }

// expect says where the next block is, of which products then ask memory for a little at a time.
func (t *recurBlock) expect(g attn.Segment, kv, first, n int) {
	c := t.c
	own := t.row1 - t.row0
	tiles := t.group()*(kernel.MulAheadTiles(own, lanes)+kernel.MulAheadTiles(own, t.width)) + kernel.MulAheadTiles(c.KeyDim, t.width)
	t.ahead.Reset(tiles)
	if n == 0 {
		return
	}
	p := &t.next
	p.at(g, kv, first, n)
	t.ahead.Add(p.keyRows(&c.K), p.n, c.KeyDim)
	if t.Decay != NoDecay {
		t.ahead.Add(p.keyRows(&c.Extra[0]), p.n, c.Extra[0].Dim)
	}
	t.ahead.Add(p.keyRows(&c.V).From(0, t.from), p.n, t.width)
	if !t.causal() || p.row0 == p.row1 {
		return
	}
	if t.Dual {
		return
	}
	for i := range t.group() {
		t.ahead.Add(p.queryRows(&c.Q, p.row0, p.queryHead(i)), p.row1-p.row0, c.KeyDim)
		t.ahead.Add(p.queryRows(&c.Out, p.row0, p.queryHead(i)).From(0, t.from), p.row1-p.row0, t.width)
	}
}

// values are those of the block, behind the state.
func (t *recurBlock) values() kernel.Mat {
	return kernel.Rows(t.s, t.width).From(t.c.KeyDim, 0)
}

// loadKeys fills k, sums and the values, and loads the decays.
func (t *recurBlock) loadKeys() {
	src, dk := t.keyRows(&t.c.K), t.c.KeyDim
	clear(t.sums)
	if t.Map == ELU1 {
		kernel.PackELU1(t.k, t.sums, src, t.n)
	} else {
		kernel.Pack(t.k, src, t.n, dk, 1)
		if t.Map == ReLU {
			relu(t.k)
		}
		if t.Normalize {
			kernel.Dots(t.sums, t.ones, kernel.Rows(t.k, lanes), dk)
		}
	}
	if t.Write {
		x := t.keyRows(&t.c.Extra[1])
		for i := range t.n {
			t.write[i] = x.Data[i*x.Row]
		}
		clear(t.write[t.n:])
		kernel.TimesRows(t.write, kernel.Rows(t.k, lanes), dk)
	}
	t.finite = kernel.CopyFinite(t.values(), t.keyRows(&t.c.V).From(0, t.from), t.n, t.width)
	if t.Decay != NoDecay {
		t.loadDecay()
	}
}

// emit computes the outputs of the block's queries.
func (t *recurBlock) emit() {
	if t.row0 == t.row1 {
		return
	}
	for i := range t.group() {
		h := t.queryHead(i)
		q, dk := kernel.Rows(t.q, t.ld(t.c.Shape)), t.c.KeyDim
		t.feature(q.From(t.row0, 0), t.queryRows(&t.c.Q, t.row0, h), t.row1-t.row0, dk)
		if t.causal() {
			t.weights(q)
		}
		t.setFactors(q, h)
		out := t.queryRows(&t.c.Out, t.row0, h).From(0, t.from)
		for r := t.row0; r < t.row1; {
			end, cols := t.slice(r)
			kernel.MulAhead(&t.ahead, t.factor[r:end], end-r, t.width, dk+cols, q.From(r, 0), kernel.Rows(t.s, t.width), out.From(r-t.row0, 0))
			r = end
		}
		if t.Own != OwnNothing {
			for q := t.query0 + t.row0; q < t.query0+t.row1; q++ {
				t.addOwn(t.own, t.Segment, t.kv, h, q, t.from, t.width)
			}
		}
	}
}

// slice returns the end of a slice of rows from r on, and the number of keys that these rows see, or that are
// close enough to take with them; weights that far are set. Values that are not finite would spread through
// zeros, so then each row is a slice with the keys that it sees.
func (t *recurBlock) slice(r int) (end, keys int) {
	half := kernel.DecayBlock
	switch {
	case !t.causal():
		return t.row1, 0
	case !t.finite:
		return r + 1, r + 1
	}
	// The last row of the first half may go with the second for the sake of whole register tiles.
	if cut := half / kernel.TileRows() * kernel.TileRows(); r < cut {
		return min(cut, t.row1), min(half, t.n)
	}
	return t.row1, t.n
}

// weights fills, right of φ(q), the weights of the block's own pairs.
func (t *recurBlock) weights(q kernel.Mat) {
	if t.Decay == ChannelDecay {
		t.channelWeights(q)
		return
	}
	dk := t.c.KeyDim
	for r := t.row0; r < t.row1; {
		end, cols := t.slice(r)
		kernel.MulAhead(&t.ahead, nil, end-r, cols, dk, q.From(r, 0), kernel.Rows(t.k, lanes), q.From(r, dk))
		kernel.Lower(t.row[r:end], q.From(r, dk), r+1, cols)
		r = end
	}
	if t.Decay == HeadDecay {
		t.headWeights(q)
	}
}

// setFactors sets the factors r of the block's queries.
func (t *recurBlock) setFactors(q kernel.Mat, h int) {
	f := t.factor[t.row0:t.n]
	if !t.Normalize {
		for i := range f {
			f[i] = t.Scale
		}
		return
	}
	kernel.Dots(f, t.z, q.From(t.row0, 0), len(f))
	for i, x := range f {
		if t.causal() {
			x += t.row[t.row0+i]
		}
		f[i] = t.Recurrence.factor(x)
	}
	if t.factors != nil && t.from == 0 {
		copy(t.factorRow(t.Segment, h)[t.query0+t.row0:], f)
	}
}

// update takes the block's keys and values into the state.
func (t *recurBlock) update() {
	dk := t.c.KeyDim
	a, b := t.stateDecay()
	kernel.AdvanceAhead(&t.ahead, a, b, dk, t.width, t.n, kernel.Rows(t.k, lanes), t.values(), kernel.Rows(t.s, t.width))
	t.flush(t.s[:dk*t.width], t.before(t.Segment, t.first), t.n)
	kernel.Add(t.z, t.sums)
}

// feature writes φ of rows of src to dst.
func (r *Recurrence) feature(dst, src kernel.Mat, rows, d int) {
	if r.Map == ELU1 {
		kernel.ELU1(dst, src, rows, d)
		return
	}
	kernel.Copy(dst, src, rows, d)
	if r.Map == ReLU {
		for i := range rows {
			relu(dst.Data[i*dst.Row:][:d])
		}
	}
}

// relu sets negative numbers to 0 and leaves NaN; a branch would be a coin toss.
func relu(x []float32) {
	for i, v := range x {
		x[i] = max(v, 0)
	}
}
