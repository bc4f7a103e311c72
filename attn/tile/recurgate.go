package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// recurGate holds the decay factors of one chunk, with a log decay g of its own for every token
// and channel. (With one decay a head only sums, rows and panel are there: see headGate.)
//
// The weight of the pair (i, j), j < i, has the factor e^{g_{j+1}+…+g_i} in each channel. The chunk is
// halved again and again: at the level with halves of h tokens, a query in the second half of
// its block and a key in the first half have a middle m between them, and the factor is
// e^{g_m+…+g_i}·e^{g_{j+1}+…+g_{m-1}}, one for the query and one for the key, so that the whole half
// block is one product. Every pair belongs to one level. No sum of log decays is ever the difference of
// two others, and no factor exceeds 1 while log decays are ≤ 0: nothing overflows, and a weak
// decay beside a strong one keeps its digits.
type recurGate struct {
	n, d      int
	levels    []float32 // [levels, Chunk, d]: the factor of each token at each level
	fromStart []float32 // [Chunk, d]: e^{g_0+…+g_t}, from the state before the chunk to the query
	toEnd     []float32 // [Chunk, d]: e^{g_{t+1}+…}, from the key to the state after the chunk
	sums      []float32 // [d]: g_0+…, over the chunk
	rows      []float32 // [Chunk, d] of scratch
	panel     []float32 // [d, lanes] of scratch
	size      int       // Chunk·d
}

func gateLevels(chunk int) int {
	n := 0
	for h := 1; h < chunk; h *= 2 {
		n++
	}
	return n
}

func newGate(s *attn.Scratch, chunk, d int) recurGate {
	return recurGate{
		d: d, size: chunk * d,
		levels:    s.Floats(gateLevels(chunk) * chunk * d),
		fromStart: s.Floats(chunk * d), toEnd: s.Floats(chunk * d),
		sums: s.Floats(d), rows: s.Floats(chunk * d), panel: s.Floats(lanes * d),
	}
}

func gateFloats(chunk, d int) int {
	return attn.ScratchFloats(gateLevels(chunk)*chunk*d, chunk*d, chunk*d, d, chunk*d, lanes*d)
}

func (g *recurGate) row(x []float32, t int) []float32 { return x[t*g.d:][:g.d] }

// load computes all factors from the n log decays in src, one a channel. fromStart and toEnd hold sums over the
// block that a token is in, from its start and to its end, while blocks double.
func (g *recurGate) load(src kernel.Mat, n int) {
	g.n = n
	for t := range n {
		copy(g.row(g.fromStart, t), src.Data[t*src.Row:])
	}
	clear(g.toEnd[:n*g.d])
	for level, h := 0, 1; h < n; level, h = level+1, 2*h {
		f := g.levels[level*g.size:]
		for a := 0; a < n; a += 2 * h {
			m, end := min(a+h, n), min(a+2*h, n)
			copy(f[a*g.d:m*g.d], g.toEnd[a*g.d:])
			copy(f[m*g.d:end*g.d], g.fromStart[m*g.d:])
			if m == end {
				continue
			}
			second, first := g.row(g.fromStart, end-1), g.row(g.fromStart, m-1)
			for t := a; t < m; t++ {
				kernel.Axpy(1, second, g.row(g.toEnd, t))
			}
			for t := m; t < end; t++ {
				kernel.Axpy(1, first, g.row(g.fromStart, t))
			}
		}
		kernel.Exp(f[:n*g.d])
	}
	copy(g.sums, g.row(g.fromStart, n-1))
	kernel.Exp(g.fromStart[:n*g.d])
	kernel.Exp(g.toEnd[:n*g.d])
}

// tilde returns the rows of one level: keys in first halves, queries in second halves, each times
// its factor.
func (g *recurGate) tilde(level, h int, q, k []float32) []float32 {
	copy(g.rows[:g.n*g.d], g.levels[level*g.size:])
	for a := 0; a < g.n; a += 2 * h {
		m, end := min(a+h, g.n)*g.d, min(a+2*h, g.n)*g.d
		kernel.Times(g.rows[a*g.d:m], k[a*g.d:m])
		kernel.Times(g.rows[m:end], q[m:end])
	}
	return g.rows
}

// packedFrom is the half length from which on the pairs of a block are one product of packed
// panels, not dots of rows.
const packedFrom = 16

// weights writes the weights of all pairs j ≤ i, row0 ≤ i, to a with row stride ld.
func (g *recurGate) weights(a []float32, ld int, q, k []float32, row0 int) {
	d, n := g.d, g.n
	for i := row0; i < n; i++ {
		a[i*ld+i] = kernel.Dot(g.row(q, i), g.row(k, i))
	}
	for level, h := 0, 1; h < n; level, h = level+1, 2*h {
		x := g.tilde(level, h, q, k)
		for b := 0; b+h < n; b += 2 * h {
			m, end := b+h, min(b+2*h, n)
			i0 := max(m, row0)
			if h < packedFrom {
				for i := i0; i < end; i++ {
					kernel.Dots(a[i*ld+b:i*ld+m], g.row(x, i), kernel.Rows(x[b*d:], d), h)
				}
				continue
			}
			for j := b; j < m && i0 < end; j += lanes {
				w := min(lanes, m-j)
				kernel.Pack(g.panel, kernel.Rows(x[j*d:], d), w, d, 1)
				kernel.Mul(end-i0, w, d, kernel.Rows(x[i0*d:], d), kernel.Rows(g.panel, lanes), kernel.Rows(a[i0*ld+j:], ld))
			}
		}
	}
}
