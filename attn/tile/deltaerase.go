package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// eraseRows is the number of tokens of a block where keys erase and write apart: so both fill one tile.
const eraseRows = kernel.DecayBlock

// eraseBlock is a block of one key/value head on a worker's scratch, for Delta.Erase. What its tokens write is one product, as is
// what they read:
//
//	O = s·[Q' P]·[S; V; W],  S = decayed S + [K̂ B̂]ᵀ·[V; W],  (I + A_b)·W = -(A'·S + A_k·V)
//
// with the weights P = [P_k P_b] of queries and [A_k A_b] of the keys that read for erasing, these 0 on the diagonal.
type eraseBlock struct {
	recurPlace
	from, width int // columns of the values

	s      []float32 // state before the block, [key dim, width], then v and w, [eraseRows, width] each
	q      []float32 // Q' and P of one query head, then A' and A_k A_b, [eraseRows, key dim + 2·eraseRows]
	rows   []float32 // k, then b, [2·eraseRows, key dim]
	kt     []float32 // both transposed, [key dim, lanes]
	ended  []float32 // the same with their decays to the end of the block
	e      []float32 // e^g, [eraseRows, key dim], 1 for tokens that are not there
	sums   []float32 // Σ g over the block, [key dim]
	total  []float32 // Π e^g over the block, [key dim]
	a, b   []float32 // the block's decay of the state for kernel.Decay, [key dim]
	r      []float32 // reads of a group of rows, [ruleRows, width]
	factor []float32 // [eraseRows]
	finite bool      // v and w of the block are
	ahead  kernel.Ahead
}

func (t *eraseBlock) ld() int { return t.c.KeyDim + 2*eraseRows }

// newEraseBlock lays a block out on s; eraseFloats counts the same.
func newEraseBlock(s *attn.Scratch, a *ruleArgs, from, to int) eraseBlock {
	dk, dv := a.c.KeyDim, a.c.ValueDim
	t := eraseBlock{recurPlace: recurPlace{recurArgs: &a.recurArgs}, from: from, width: to - from}
	t.q, t.rows = s.Floats(eraseRows*t.ld()), s.Floats(2*eraseRows*dk)
	t.kt, t.ended, t.e = s.Floats(dk*lanes), s.Floats(dk*lanes), s.Floats(eraseRows*dk)
	t.sums, t.total, t.a, t.b = s.Floats(dk), s.Floats(dk), s.Floats(dk), s.Floats(dk)
	t.r, t.factor = s.Floats(ruleRows*dv), s.Floats(eraseRows)
	for i := range t.factor {
		t.factor[i] = a.Scale
	}
	return t
}

func eraseFloats(s attn.Shape) int {
	dk, dv := s.KeyDim, s.ValueDim
	return attn.ScratchFloats(eraseRows*(dk+2*eraseRows), 2*eraseRows*dk, dk*lanes, dk*lanes, eraseRows*dk, dk, dk, dk, dk,
		ruleRows*dv, eraseRows, min(headsATask, s.KVHeads)*eraseWork(s))
}

// eraseWork is a state with room for v and w behind it.
func eraseWork(s attn.Shape) int { return (s.KeyDim + 2*eraseRows) * s.ValueDim }

func (t *eraseBlock) values() kernel.Mat { return kernel.Rows(t.s, t.width).From(t.c.KeyDim, 0) }

// load fills everything that keys and values give.
func (t *eraseBlock) load() {
	c, dk, n := t.c, t.c.KeyDim, t.n
	clear(t.rows)
	kernel.Copy(kernel.Rows(t.rows, dk), t.keyRows(&c.K), n, dk)
	kernel.Copy(kernel.Rows(t.rows[eraseRows*dk:], dk), t.keyRows(eraseKeys(c.Extra)), n, dk)
	kernel.Pack(t.kt, kernel.Rows(t.rows, dk), 2*eraseRows, dk, 1)
	g := t.keyRows(&c.Extra[0])
	kernel.ExpRows(kernel.Rows(t.e, dk), g, n, dk)
	for i := n * dk; i < len(t.e); i++ {
		t.e[i] = 1
	}
	clear(t.sums)
	for i := range n {
		kernel.Axpy(1, g.Data[i*g.Row:][:dk], t.sums)
	}
	fade(t.a, t.b, t.sums)
	v := t.values()
	clear(v.Data[n*t.width : 2*eraseRows*t.width])
	t.finite = kernel.CopyFinite(v, t.keyRows(&c.V).From(0, t.from), n, t.width)
}

// pairs fills the weights right of the n readers in q, and puts their decays to these; ended becomes K̂ and B̂.
func (t *eraseBlock) pairs(row0, row1 int) kernel.Mat {
	dk, q, e := t.c.KeyDim, kernel.Rows(t.q, t.ld()), kernel.Rows(t.e, t.c.KeyDim)
	for r := range eraseRows {
		if r < row0 || r >= row1 {
			clear(t.q[r*t.ld():][:dk])
		}
	}
	copy(t.ended, t.kt)
	kernel.DecayWeights(q.From(0, dk), q, e, t.ended, dk)
	kernel.DecayWeights(q.From(0, dk+eraseRows), q, e, t.ended[eraseRows:], dk)
	kernel.Cumulate(t.total, q, e, eraseRows)
	return q
}

// solve fills the w, and copies them to kept, [n, value dim], unless it is nil.
func (t *eraseBlock) solve(kept []float32) {
	dk, ld := t.c.KeyDim, t.ld()
	kernel.Copy(kernel.Rows(t.q, ld), t.keyRows(erasers(t.c.Extra)), t.n, dk)
	q := t.pairs(0, t.n)
	s, w := kernel.Rows(t.s, t.width), t.values().From(eraseRows, 0)
	for i := range t.n {
		q.Data[i*ld+dk+i] = 0 // a token erases before it writes
	}
	step := ruleRows
	if !t.finite {
		step = 1
	}
	for i0 := 0; i0 < t.n; i0 += step {
		end := min(i0+step, t.n)
		if t.finite {
			kernel.MulAhead(&t.ahead, nil, end-i0, t.width, dk+eraseRows+i0, q.From(i0, 0), s, kernel.Rows(t.r, t.width))
		} else { // what is not finite would spread through zeros
			kernel.MulAhead(&t.ahead, nil, 1, t.width, dk+i0, q.From(i0, 0), s, kernel.Rows(t.r, t.width))
			kernel.Combine(t.r[:t.width], t.q[i0*ld+dk+eraseRows:][:i0], w)
		}
		for i := i0; i < end; i++ {
			read, row := t.r[(i-i0)*t.width:][:t.width], w.Data[i*w.Row:][:t.width]
			kernel.Combine(read, t.q[i*ld+dk+eraseRows+i0:][:i-i0], w.From(i0, 0))
			kernel.Axpy(-1, read, row)
			if kept != nil {
				copy(kept[i*t.c.ValueDim+t.from:], row)
			}
		}
	}
	t.finite = t.finite && RowsFinite(w, t.n, t.width)
}

// emit computes the outputs of the block's queries.
func (t *eraseBlock) emit() {
	if t.row0 == t.row1 {
		return
	}
	dk, s := t.c.KeyDim, kernel.Rows(t.s, t.width)
	for i := range t.group() {
		h := t.queryHead(i)
		kernel.Copy(kernel.Rows(t.q, t.ld()).From(t.row0, 0), t.queryRows(&t.c.Q, t.row0, h), t.row1-t.row0, dk)
		q, out := t.pairs(t.row0, t.row1), t.queryRows(&t.c.Out, t.row0, h).From(0, t.from)
		if t.finite {
			kernel.MulAhead(&t.ahead, t.factor[t.row0:t.row1], t.row1-t.row0, t.width, dk+2*eraseRows, q.From(t.row0, 0), s, out)
			continue
		}
		for r := t.row0; r < t.row1; r++ {
			o := out.Data[(r-t.row0)*out.Row:][:t.width]
			kernel.MulAhead(&t.ahead, nil, 1, t.width, dk+r+1, q.From(r, 0), s, kernel.Rows(o, t.width))
			kernel.Combine(o, q.Data[r*q.Row+dk+eraseRows:][:r+1], t.values().From(eraseRows, 0))
			kernel.Scale(t.Scale, o)
		}
	}
}

// update takes the block's writes into the state.
func (t *eraseBlock) update() {
	dk := t.c.KeyDim
	kernel.AdvanceAhead(&t.ahead, t.a, t.b, dk, t.width, 2*eraseRows, kernel.Rows(t.ended, lanes), t.values(), kernel.Rows(t.s, t.width))
	t.flush(t.s[:dk*t.width], t.before(t.Segment, t.first), t.n)
}

// move copies the block's columns between its state and x, [key dim, value dim].
func (t *eraseBlock) move(x []float32, out bool) {
	a, b := kernel.Rows(t.s, t.width), kernel.Rows(x, t.c.ValueDim).From(0, t.from)
	if out {
		a, b = b, a
	}
	kernel.Copy(a, b, t.c.KeyDim, t.width)
}

// eraseSegment is segment for Delta.Erase.
func (a *ruleArgs) eraseSegment(s *attn.Scratch, seg, kv0, kv1, from, to int) {
	t := newEraseBlock(s, a, from, to)
	g, n, size := a.c.Segment(seg), eraseWork(a.c.Shape), a.c.KeyDim*a.c.ValueDim
	states := s.Floats(min(headsATask, a.c.KVHeads) * n)
	use := func(kv int) { t.s = states[(kv-kv0)*n:][:n] }
	for kv := kv0; kv < kv1; kv++ {
		if use(kv); a.initial == nil {
			clear(t.s)
		} else {
			t.move(a.state(a.initial, seg, kv), false)
		}
	}
	for first := 0; first < g.Keys; {
		chunk := first / a.Chunk
		n := min(eraseRows, (chunk+1)*a.Chunk-first)
		for kv := kv0; kv < kv1; kv++ {
			use(kv)
			t.at(g, kv, first, n)
			t.load()
			kept := a.errorsOf(kv, int(a.keys[seg])+chunk)
			if a.records != nil {
				x, start := a.record(kv, int(a.keys[seg])+chunk), first == chunk*a.Chunk
				if start {
					t.move(x[:size], true)
				}
				if start && from == 0 {
					clear(x[size:])
				}
				if from == 0 {
					kernel.Add(x[size:], t.sums)
				}
				kept = kept[(first-chunk*a.Chunk)*a.c.ValueDim:]
			}
			t.solve(kept)
			t.emit()
			t.update()
		}
		first += n
	}
	for kv := kv0; kv < kv1; kv++ {
		if use(kv); a.final != nil {
			t.move(a.state(a.final, seg, kv), true)
		}
	}
}
