package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// mesaRows is the number of tokens that are solved together. With H before the first of them, and their weights
//
//	s_i = e^{g_0+…+g_i},  w_ij = β_j e^{g_{j+1}+…+g_i} for j ≤ i, else 0
//
// the products of all of them with their own H and G, rows p and x, are
//
//	P → diag(s)·P·H + (P·Kᵀ∘w)·K + P·diag(λ),  O = diag(s)·X·G + (X·Kᵀ∘w)·V
//
// so that H is read once for all. What that is more than one product a token is 2·mesaRows/(key dim) of it.
const mesaRows = 8

// mesaBlock is the room of such tokens, one row each.
type mesaBlock struct {
	n              int
	k, v, kt       []float32 // the last transposed, [key dim, lanes]
	start, w       []float32 // s; w, [mesaRows, mesaRows]
	pairs          []float32 // [mesaRows, mesaRows]
	b, x, r, p, to []float32
	room           []float32 // [mesaRows, largest of the dims]
	top, rr        [mesaRows]float32
}

func (m *mesaBlock) lay(s *attn.Scratch, shape attn.Shape) {
	dk, dv := shape.KeyDim, shape.ValueDim
	m.k, m.v, m.kt = s.Floats(mesaRows*dk), s.Floats(mesaRows*dv), s.Floats(dk*lanes)
	m.start, m.w, m.pairs = s.Floats(mesaRows), s.Floats(mesaRows*mesaRows), s.Floats(mesaRows*mesaRows)
	m.b, m.x, m.r, m.p, m.to = s.Floats(mesaRows*dk), s.Floats(mesaRows*dk), s.Floats(mesaRows*dk), s.Floats(mesaRows*dk), s.Floats(mesaRows*dk)
	m.room = s.Floats(mesaRows * max(dk, dv))
}

func mesaBlockFloats(s attn.Shape) int {
	dk, dv, n := s.KeyDim, s.ValueDim, mesaRows
	return attn.ScratchFloats(n*dk, n*dv, dk*lanes, n, n*n, n*n, n*dk, n*dk, n*dk, n*dk, n*dk, n*max(dk, dv))
}

// blockFrom loads the tokens from j on, up to the next multiple of mesaRows, and returns their number. A token that is not finite begins a block, so that
// it reaches none before it.
func (t *mesaHead) blockFrom(j int) int {
	c, m := t.c, &t.block
	dk, dv := c.KeyDim, c.ValueDim
	m.n = min(mesaRows-j%mesaRows, t.Keys-j)
	for i := range m.n {
		at := t.Key0 + j + i
		k, v := m.k[i*dk:][:dk], m.v[i*dv:][:dv]
		copy(k, c.K.Row(t.Row, at, t.kv))
		copy(v, c.V.Row(t.Row, at, t.kv))
		g, beta := c.Extra[0].Row(t.Row, at, t.kv)[0], c.Extra[1].Row(t.Row, at, t.kv)[0]
		e := float32(math.Exp(float64(g)))
		if i > 0 && (!finite(k) || !finite(v) || e-e != 0 || beta-beta != 0) {
			m.n = i
			break
		}
		w := m.w[i*mesaRows:][:mesaRows]
		clear(w)
		m.start[i] = e
		if i > 0 {
			m.start[i] *= m.start[i-1]
			for l, x := range m.w[(i-1)*mesaRows:][:i] {
				w[l] = x * e
			}
		}
		w[i] = beta
	}
	kernel.Pack(m.kt, kernel.Rows(m.k, dk), m.n, dk, 1)
	return m.n
}

// product sets each row of to to that row of x times the matrix of its token: of H or G, which lies in the state from column at on, and of what the
// block's tokens add to it, k yᵀ.
func (t *mesaHead) product(to, x, y []float32, at, cols int) {
	m, dk := &t.block, t.c.KeyDim
	pairs := kernel.Rows(m.pairs, mesaRows)
	dst := kernel.Rows(to, cols)
	kernel.Mul(m.n, cols, dk, kernel.Rows(x, dk), t.state().From(0, at), dst)
	kernel.ScaleRows(m.start[:m.n], dst, cols)
	kernel.Mul(m.n, m.n, dk, kernel.Rows(x, dk), kernel.Rows(m.kt, lanes), pairs)
	for i := range m.n {
		kernel.Times(m.pairs[i*mesaRows:][:i+1], m.w[i*mesaRows:])
		clear(m.pairs[i*mesaRows+i+1:][:m.n-i-1])
	}
	kernel.MulAdd(m.n, cols, m.n, pairs, kernel.Rows(y, cols), dst)
}

// apply is product with H + diag(λ).
func (t *mesaHead) apply(to, x []float32) {
	m, dk := &t.block, t.c.KeyDim
	n := m.n * dk
	t.product(to, x, m.k, 0, dk)
	copy(m.room[:n], x)
	kernel.TimesRows(t.lambda, kernel.Rows(m.room, dk), m.n)
	kernel.Add(to[:n], m.room)
}

// solveBlock is solve for the rows of b, side by side.
func (t *mesaHead) solveBlock() {
	m, dk, ld := &t.block, t.c.KeyDim, t.c.KeyDim+t.c.ValueDim
	n := m.n * dk
	copy(m.room[:n], m.k)
	kernel.Times(m.room[:n], m.k)
	kernel.Mul(m.n, dk, m.n, kernel.Rows(m.w, mesaRows), kernel.Rows(m.room, dk), kernel.Rows(m.to, dk))
	for i := range m.n {
		b, x, own := m.b[i*dk:][:dk], m.x[i*dk:][:dk], m.to[i*dk:][:dk]
		top := float32(0)
		for _, y := range b {
			top = max(top, y, -y) // NaN if one is
		}
		m.top[i] = top
		if top == 0 {
			top = 1
		}
		for c, y := range b {
			b[c] = y / top
			x[c] = b[c] / (m.start[i]*t.s[c*ld+c] + own[c] + t.lambda[c])
		}
	}
	t.apply(m.to, m.x)
	kernel.Scale(-1, m.to[:n])
	copy(m.r[:n], m.b)
	kernel.Add(m.r[:n], m.to)
	copy(m.p[:n], m.r)
	for i := range m.n {
		m.rr[i] = kernel.Dot(m.r[i*dk:][:dk], m.r[i*dk:])
	}
	for range t.steps {
		t.apply(m.to, m.p)
		for i := range m.n {
			m.rr[i] = descend(m.x[i*dk:][:dk], m.r[i*dk:][:dk], m.p[i*dk:][:dk], m.to[i*dk:][:dk], m.rr[i])
		}
	}
	for i := range m.n {
		kernel.Scale(m.top[i], m.x[i*dk:][:dk])
	}
}

// emitBlock computes the outputs of the queries of the block from key j on, from the state before it.
func (t *mesaHead) emitBlock(j int) {
	c, m, group := t.c, &t.block, t.c.Heads/t.c.KVHeads
	dk, dv := c.KeyDim, c.ValueDim
	first := max(0, t.Offset()-j) // rows without a query
	for h := t.kv * group; h < (t.kv+1)*group; h++ {
		clear(m.b[:first*dk])
		for i := first; i < m.n; i++ {
			copy(m.b[i*dk:][:dk], c.Q.Row(t.Row, t.Query0+j+i-t.Offset(), h))
		}
		t.solveBlock()
		t.product(m.room, m.x, m.v, dk, dv)
		for i := first; i < m.n; i++ {
			q := t.Query0 + j + i - t.Offset()
			if !t.mesaArgs.x.Empty() {
				copy(t.mesaArgs.x.Row(t.Row, q, h), m.x[i*dk:][:dk])
			}
			copy(c.Out.Row(t.Row, q, h), m.room[i*dv:][:dv])
		}
	}
}
