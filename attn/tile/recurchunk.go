package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// recurChunk is one chunk of one key/value head on a worker's scratch, for Backward.
type recurChunk struct {
	recurPlace
	s, u []float32 // gradient of the state, and what the chunk adds to it, stateLen
	k    []float32 // φ(k), [n, key dim]
	kt   []float32 // its transpose, panels of [key dim, lanes]
	q    []float32 // φ(q) of one query head
	a    []float32 // weights q·k of pairs, [n, Chunk], the lower triangle
	sums []float32 // of its rows, [n]
	gate recurGate
	head headGate

	next  recurPlace
	ahead kernel.Ahead
}

// newChunk lays a chunk out on s; chunkFloats counts the same.
func newChunk(s *attn.Scratch, a *recurArgs) recurChunk {
	sh, n := a.c.Shape, a.Chunk
	t := recurChunk{recurPlace: recurPlace{recurArgs: a}, next: recurPlace{recurArgs: a}}
	t.s, t.u = s.Floats(a.stateLen(sh)), s.Floats(a.stateLen(sh))
	t.k, t.q = s.Floats(n*sh.KeyDim), s.Floats(n*sh.KeyDim)
	t.kt = s.Floats(panels(n) * sh.KeyDim)
	t.a, t.sums = s.Floats(n*n), s.Floats(n)
	switch a.Decay {
	case HeadDecay:
		t.gate, t.head = newHeadGate(s, n, sh.KeyDim)
	case ChannelDecay:
		t.gate = newGate(s, n, sh.KeyDim)
	}
	return t
}

func (r *Recurrence) chunkFloats(s attn.Shape) int {
	n := r.Chunk
	f := attn.ScratchFloats(r.stateLen(s), r.stateLen(s), n*s.KeyDim, n*s.KeyDim, panels(n)*s.KeyDim, n*n, n)
	switch r.Decay {
	case HeadDecay:
		f += headGateFloats(n, s.KeyDim)
	case ChannelDecay:
		f += gateFloats(n, s.KeyDim)
	}
	return f
}

// panels is the width of n columns in whole panels.
func panels(n int) int { return (n + lanes - 1) / lanes * lanes }

// atChunk goes to chunk i of the keys of g, atQueryChunk to one of its queries.
func (t *recurChunk) atChunk(g attn.Segment, kv, i int)      { t.at(g, kv, i*t.Chunk, t.Chunk) }
func (t *recurChunk) atQueryChunk(g attn.Segment, kv, i int) { t.atQueries(g, kv, i*t.Chunk, t.Chunk) }

// loadKeys fills k and, with decays, their factors.
func (t *recurChunk) loadKeys() {
	t.feature(kernel.Rows(t.k, t.c.KeyDim), t.keyRows(&t.c.K), t.n, t.c.KeyDim)
	if t.Write {
		x := t.keyRows(&t.c.Extra[1])
		for i := range t.n {
			kernel.Scale(x.Data[i*x.Row], t.k[i*t.c.KeyDim:][:t.c.KeyDim])
		}
	}
	t.loadGate()
}

func (t *recurChunk) loadGate() {
	switch t.Decay {
	case HeadDecay:
		t.gate.sums[0] = t.head.load(t.keyRows(&t.c.Extra[0]), t.n)
	case ChannelDecay:
		t.gate.load(t.keyRows(&t.c.Extra[0]), t.n)
	}
}

// loadQueries fills the rows of q that have a query and clears the others.
func (t *recurChunk) loadQueries(h int) {
	d := t.c.KeyDim
	clear(t.q[:t.row0*d])
	clear(t.q[t.row1*d : t.n*d])
	if t.row0 < t.row1 {
		t.feature(kernel.Rows(t.q[t.row0*d:], d), t.queryRows(&t.c.Q, t.row0, h), t.row1-t.row0, d)
	}
}

// advance computes s = diag(e^g)·s + u for the chunk, with the sums g of its log decays; nil means no decay.
func (t *recurChunk) advance(s, sums, u []float32) {
	if t.Decay != NoDecay && sums != nil {
		a, b := t.gate.rows[:t.c.KeyDim], t.gate.panel[:t.c.KeyDim]
		fade(a, b, sums)
		kernel.Decay(kernel.Rows(s, t.c.ValueDim), a, b, t.c.ValueDim)
	}
	kernel.Add(s, u)
}

// decaySums returns the sums of the log decays over the chunk, nil without decay.
func (t *recurChunk) decaySums() []float32 {
	if t.Decay == NoDecay {
		return nil
	}
	return t.gate.sums[:t.Decay.width(t.c.Shape)]
}

// weights fills the lower triangle of a, from row row0 on, with the weights of the chunk's own
// pairs. In each block of lanes the triangle is filled up with zeros.
func (t *recurChunk) weights(row0 int) {
	dk := t.c.KeyDim
	if t.Decay == ChannelDecay {
		t.gate.weights(t.a, t.Chunk, t.q, t.k, row0)
	} else {
		t.lowerProduct(row0, t.n, dk, kernel.Rows(t.q, dk), t.kt, kernel.Rows(t.a, t.Chunk))
	}
	if t.Decay == HeadDecay {
		t.head.times(kernel.Rows(t.a, t.Chunk), row0, t.n)
	}
	t.clearUpper(row0, kernel.Rows(t.a, t.Chunk))
}

// clearUpper clears what lies above the diagonal in its blocks.
func (t *recurChunk) clearUpper(row0 int, a kernel.Mat) {
	for i := row0; i < t.n; {
		j := i / lanes * lanes
		end := min(t.n, j+lanes)
		kernel.Lower(t.sums[i:end], a.From(i, j), i+1-j, end-j)
		i = end
	}
}

// lowerProduct computes C = A·Bᵀ over the blocks of lanes on and below the diagonal, rows row0 to n; bt is
// B transposed, in panels.
func (t *recurChunk) lowerProduct(row0, n, k int, a kernel.Mat, bt []float32, c kernel.Mat) {
	for j := 0; j < n; j += lanes {
		i := max(j, row0)
		kernel.MulAhead(&t.ahead, nil, n-i, min(lanes, n-j), k, a.From(i, 0), kernel.Rows(bt[j*k:], lanes), c.From(i, j))
	}
}

// lowerMul computes C += A·B for a lower triangular A whose rows are row0 to n; C starts at row
// row0. Zeros above the diagonal meet B only unless guard: 0·NaN is NaN.
func (t *recurChunk) lowerMul(guard bool, row0, n, cols int, a, b, c kernel.Mat) {
	step := lanes
	if guard {
		step = 1
	}
	for i := row0; i < n; {
		end := min(n, (i/step+1)*step)
		kernel.AdvanceAhead(&t.ahead, nil, nil, end-i, cols, end, a.From(i, 0), b, c.From(i-row0, 0))
		i = end
	}
}

// upperMul computes C += Aᵀ·B for a lower triangular A.
func upperMul(guard bool, n, cols int, a, b, c kernel.Mat) {
	step := lanes
	if guard {
		step = 1
	}
	for j := 0; j < n; j += step {
		kernel.MulAdd(min(step, n-j), cols, n-j, a.From(j, j).T(), b.From(j, 0), c.From(j, 0))
	}
}

// packRows writes the transpose of x [n, d] to dst in panels of [d, lanes].
func packRows(dst, x []float32, n, d int) { packMat(dst, kernel.Rows(x, d), n, d) }

func packMat(dst []float32, x kernel.Mat, n, d int) {
	for j := 0; j < n; j += lanes {
		kernel.Pack(dst[j*d:], x.From(j, 0), min(lanes, n-j), d, 1)
	}
}

// mulPanels computes C [m, n] = A·B (or += with add), B [k, n] in panels.
func (t *recurChunk) mulPanels(add bool, m, n, k int, a kernel.Mat, b []float32, c kernel.Mat) {
	for j := 0; j < n; j += lanes {
		p, w := kernel.Rows(b[j*k:], lanes), min(lanes, n-j)
		if add {
			kernel.AdvanceAhead(&t.ahead, nil, nil, m, w, k, a, p, c.From(0, j))
		} else {
			kernel.MulAhead(&t.ahead, nil, m, w, k, a, p, c.From(0, j))
		}
	}
}

// product computes dst = x∘y.
func product(dst, x, y []float32) {
	copy(dst, x)
	kernel.Times(dst, y[:len(dst)])
}
