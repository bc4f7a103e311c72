package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

const lanes = kernel.Lanes

// recurChunk is one chunk of one key/value head on a worker's scratch.
type recurChunk struct {
	*recurArgs
	attn.Segment
	kv     int
	n      int // keys of the chunk; without the causal mask, queries
	first  int // the first of them in the segment
	row0   int // row r of the chunk has query query0+r when r ≥ row0
	query0 int

	s, u   []float32 // state and contribution, stateLen
	k      []float32 // φ(k), [n, key dim]
	kt     []float32 // its transpose, panels of [key dim, lanes]
	q      []float32 // φ(q) of one query head
	plus   []float32 // scratch of the feature map, [n, key dim]
	a      []float32 // weights q·k of pairs, [n, Chunk], the lower triangle
	factor []float32 // r
	ones   []float32 // Chunk ones, then Chunk of scratch
	gate   recurGate
}

// newForward lays a chunk out on s; forwardFloats counts the same.
func newForward(s *attn.Scratch, a *recurArgs) recurChunk {
	sh, n := a.c.Shape, a.Chunk
	t := recurChunk{recurArgs: a}
	t.s, t.u = s.Floats(a.stateLen(sh)), s.Floats(a.stateLen(sh))
	t.k, t.q = s.Floats(n*sh.KeyDim), s.Floats(n*sh.KeyDim)
	t.kt = s.Floats(panels(n) * sh.KeyDim)
	t.plus, t.a = s.Floats(a.plusLen(n, sh)), s.Floats(n*n)
	t.factor, t.ones = s.Floats(n), s.Floats(2*n)
	for i := range n {
		t.ones[i] = 1
	}
	if a.Gated {
		t.gate = newGate(s, n, sh.KeyDim)
	}
	return t
}

func (r *Recurrence) forwardFloats(s attn.Shape) int {
	n := r.Chunk
	f := attn.ScratchFloats(r.stateLen(s), r.stateLen(s), n*s.KeyDim, n*s.KeyDim, panels(n)*s.KeyDim, r.plusLen(n, s), n*n, n, 2*n)
	if r.Gated {
		f += gateFloats(n, s.KeyDim)
	}
	return f
}

// plusLen is the scratch that the feature map of n rows takes.
func (r *Recurrence) plusLen(n int, s attn.Shape) int {
	if r.Map == ELU1 {
		return n * s.KeyDim
	}
	return 0
}

// panels is the width of n columns in whole panels.
func panels(n int) int { return (n + lanes - 1) / lanes * lanes }

// at goes to chunk i of the keys of g. Under the causal mask a chunk holds the queries at the
// positions of its keys.
func (t *recurChunk) at(g attn.Segment, kv, i int) {
	t.Segment, t.kv = g, kv
	t.first = i * t.Chunk
	t.n = min(t.Chunk, g.Keys-t.first)
	t.query0 = t.first - g.Offset()
	t.row0 = min(t.n, max(0, -t.query0))
}

// atQueries goes to chunk i of the queries of g.
func (t *recurChunk) atQueries(g attn.Segment, kv, i int) {
	t.Segment, t.kv = g, kv
	t.first, t.query0, t.row0 = i*t.Chunk, i*t.Chunk, 0
	t.n = min(t.Chunk, g.Queries-t.first)
}

func (t *recurChunk) group() int { return t.c.Heads / t.c.KVHeads }

// queryHead returns query head i of the group.
func (t *recurChunk) queryHead(i int) int { return t.kv*t.group() + i }

// rows returns the n rows of a key-side view from the chunk's first on.
func (t *recurChunk) keyRows(x attn.View) kernel.Mat {
	return kernel.Rows(x.From(t.Row, t.Key0+t.first, t.kv), x.TimeStride)
}

// queryRows returns the rows of a query-side view from chunk row r on.
func (t *recurChunk) queryRows(x attn.View, r, h int) kernel.Mat {
	return kernel.Rows(x.From(t.Row, t.Query0+t.query0+r, h), x.TimeStride)
}

// loadKeys fills k and, with a gate, the decay factors.
func (t *recurChunk) loadKeys() {
	d := t.c.KeyDim
	t.feature(t.k[:t.n*d], t.keyRows(t.c.K), d, t.plus)
	if t.Gated {
		t.gate.load(t.keyRows(t.c.Extra[0]), t.n)
	}
}

// loadQueries fills the rows of q that have a query and clears the others.
func (t *recurChunk) loadQueries(h int) {
	d := t.c.KeyDim
	clear(t.q[:t.row0*d])
	t.feature(t.q[t.row0*d:t.n*d], t.queryRows(t.c.Q, t.row0, h), d, t.plus)
}

// feature writes φ of successive rows of src to dst; plus is scratch as long as dst, for ELU1.
func (r *Recurrence) feature(dst []float32, src kernel.Mat, d int, plus []float32) {
	for o := 0; o < len(dst); o += d { // copied first: a loop over elements would wait for each row
		copy(dst[o:o+d], src.Data[o/d*src.Row:])
	}
	switch r.Map {
	case ReLU:
		for i, x := range dst {
			dst[i] = positive(x)
		}
	case ELU1: // e^min(x, 0) + max(x, 0)
		plus = plus[:len(dst)]
		for i, x := range dst {
			dst[i], plus[i] = negative(x), positive(x)
		}
		kernel.Exp(dst)
		kernel.Add(dst, plus)
	}
}

// positive and negative return x, or 0 where its sign is the other, without a branch, which would be a
// coin toss. NaN goes with its sign.
func positive(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits(b &^ uint32(int32(b)>>31))
}

func negative(x float32) float32 {
	b := math.Float32bits(x)
	return math.Float32frombits(b & uint32(int32(b)>>31))
}

// decaySums returns the sums of the log decays over the chunk, nil without a gate.
func (t *recurChunk) decaySums() []float32 {
	if !t.Gated {
		return nil
	}
	return t.gate.sums
}

// contribute writes what the chunk adds to the state.
func (t *recurChunk) contribute(u []float32) {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	k := t.k
	if t.Gated {
		k = t.gate.rows
		product(k[:t.n*dk], t.k, t.gate.toEnd)
	}
	kernel.Mul(dk, dv, t.n, kernel.Rows(k, dk).T(), t.keyRows(t.c.V), kernel.Rows(u, dv))
	if t.Normalize {
		z := u[dk*dv:]
		clear(z)
		kernel.Combine(z, t.ones[:t.n], kernel.Rows(k, dk))
	}
}

// emit computes the outputs of the chunk's queries from the state before it.
func (t *recurChunk) emit(s []float32) {
	dk, dv, rows := t.c.KeyDim, t.c.ValueDim, t.n-t.row0
	guard := false
	if t.causal() {
		guard = !RowsFinite(t.keyRows(t.c.V), t.n, dv)
		if !t.Gated {
			packRows(t.kt, t.k, t.n, dk)
		}
	}
	for i := range t.group() {
		h := t.queryHead(i)
		t.loadQueries(h)
		out := t.queryRows(t.c.Out, t.row0, h)
		q := kernel.Rows(t.q[t.row0*dk:], dk)
		if t.Gated {
			q = kernel.Rows(t.gate.rows, dk)
			product(t.gate.rows[:rows*dk], t.q[t.row0*dk:], t.gate.fromStart[t.row0*dk:])
		}
		kernel.Mul(rows, dv, dk, q, kernel.Rows(s, dv), out)
		factor := t.factor
		if t.factors != nil {
			factor = t.factorRow(t.Segment, h)[t.query0+t.row0:]
		}
		factor = factor[:rows]
		if t.Normalize {
			kernel.Dots(factor, s[dk*dv:], q, rows)
		}
		if t.causal() {
			t.weights(t.row0)
			lowerMul(guard, t.row0, t.n, dv, kernel.Rows(t.a, t.Chunk), t.keyRows(t.c.V), out)
		}
		if t.Normalize {
			t.normalise(factor)
		}
		for r := range rows {
			f := t.Scale
			if t.Normalize {
				f = factor[r]
			}
			kernel.Scale(f, out.Data[r*out.Row:][:dv])
		}
	}
}

// normalise turns the denominators from earlier chunks into the factors r.
func (t *recurChunk) normalise(factor []float32) {
	if t.causal() {
		sums := t.ones[t.Chunk:]
		for i := t.row0; i < t.n; {
			end := min(t.n, (i/lanes+1)*lanes)
			kernel.Dots(sums[i:end], t.ones[:end], kernel.Rows(t.a[i*t.Chunk:], t.Chunk), end-i)
			i = end
		}
		for i := range factor {
			factor[i] += sums[t.row0+i]
		}
	}
	for i, x := range factor {
		if x += t.Eps; x != 0 {
			x = 1 / x
		}
		factor[i] = x
	}
}

// weights fills the lower triangle of a, from row row0 on, with the weights of the chunk's own
// pairs. In each block of lanes the triangle is filled up with zeros.
func (t *recurChunk) weights(row0 int) {
	dk := t.c.KeyDim
	if t.Gated {
		t.gate.weights(t.a, t.Chunk, t.q, t.k, row0)
	} else {
		lowerProduct(row0, t.n, dk, kernel.Rows(t.q, dk), t.kt, kernel.Rows(t.a, t.Chunk))
	}
	clearUpper(row0, t.n, kernel.Rows(t.a, t.Chunk))
}

// lowerProduct computes C = A·Bᵀ over the blocks of lanes on and below the diagonal, rows row0 to n; bt is
// B transposed, in panels.
func lowerProduct(row0, n, k int, a kernel.Mat, bt []float32, c kernel.Mat) {
	for j := 0; j < n; j += lanes {
		i := max(j, row0)
		kernel.Mul(n-i, min(lanes, n-j), k, a.From(i, 0), kernel.Rows(bt[j*k:], lanes), c.From(i, j))
	}
}

// clearUpper clears what lies above the diagonal in its blocks.
func clearUpper(row0, n int, a kernel.Mat) {
	for i := row0; i < n; i++ {
		end := min(n, (i/lanes+1)*lanes)
		clear(a.Data[i*a.Row+i+1 : i*a.Row+end])
	}
}

// lowerMul computes C += A·B for a lower triangular A whose rows are row0 to n; C starts at row
// row0. Zeros above the diagonal meet B only unless guard: 0·NaN is NaN.
func lowerMul(guard bool, row0, n, cols int, a, b, c kernel.Mat) {
	step := lanes
	if guard {
		step = 1
	}
	for i := row0; i < n; {
		end := min(n, (i/step+1)*step)
		kernel.MulAdd(end-i, cols, end, a.From(i, 0), b, c.From(i-row0, 0))
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
func mulPanels(add bool, m, n, k int, a kernel.Mat, b []float32, c kernel.Mat) {
	for j := 0; j < n; j += lanes {
		p, w := kernel.Rows(b[j*k:], lanes), min(lanes, n-j)
		if add {
			kernel.MulAdd(m, w, k, a, p, c.From(0, j))
		} else {
			kernel.Mul(m, w, k, a, p, c.From(0, j))
		}
	}
}

// product computes dst = x∘y.
func product(dst, x, y []float32) {
	copy(dst, x)
	kernel.Times(dst, y[:len(dst)])
}
