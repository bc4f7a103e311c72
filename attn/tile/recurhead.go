package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// headGate holds the decay factors of one chunk for Backward, with one log decay g a token: then the weights of pairs are those without
// decay times between.
type headGate struct {
	between    []float32 // e^{g_{j+1}+…+g_i} of query i and key j ≤ i, [Chunk, Chunk]
	start, end []float32 // e^{g_0+…+g_t} and e^{g_{t+1}+…}, [Chunk]
	ld         int
}

func newHeadGate(s *attn.Scratch, chunk, d int) (recurGate, headGate) {
	g := recurGate{d: d, sums: s.Floats(d), rows: s.Floats(chunk * d), panel: s.Floats(d)}
	return g, headGate{s.Floats(chunk * chunk), s.Floats(chunk), s.Floats(chunk), chunk}
}

func headGateFloats(chunk, d int) int {
	return attn.ScratchFloats(d, chunk*d, d, chunk*chunk, chunk, chunk)
}

// load computes the factors of n tokens and returns the sum of their log decays.
func (g *headGate) load(src kernel.Mat, n int) (sum float32) {
	for i := range n {
		row, x := g.between[i*g.ld:][:n], src.Data[i*src.Row]
		if i > 0 {
			for j, before := range g.between[(i-1)*g.ld:][:i] {
				row[j] = before + x
			}
		}
		clear(row[i:])
		sum += x
		g.start[i] = sum
	}
	copy(g.end[:n], g.between[(n-1)*g.ld:])
	for i := range n {
		kernel.Exp(g.between[i*g.ld:][:i+1])
	}
	kernel.Exp(g.start[:n])
	kernel.Exp(g.end[:n])
	return sum
}

// times puts the factors of pairs to a, from row row0 on.
func (g *headGate) times(a kernel.Mat, row0, n int) {
	for i := row0; i < n; i++ {
		kernel.Times(a.Data[i*a.Row:][:i+1], g.between[i*g.ld:])
	}
}

// headDecayGradients sets dq and adds to dk and dg, as gatedGradients does. A decay's gradient is a sum over the pairs with the token between
// them, and never the difference of two sums.
func (t *recurGrad) headDecayGradients(da kernel.Mat, guard bool) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	t.mulPanels(false, n, dk, dv, kernel.Rows(t.do, dv), t.st, kernel.Rows(t.dq, dk))
	kernel.ScaleRows(t.head.start[:n], kernel.Rows(t.dq, dk), dk)
	if !t.Fixed {
		through := float32(0)
		for i := n - 1; i >= 0; i-- { // the state before the chunk decays by the tokens up to the query's own
			through += kernel.Dot(t.q[i*dk:][:dk], t.dq[i*dk:])
			t.dg[i] += through
		}
		for i := t.row0; i < n; i++ {
			sum, a, da := float32(0), t.a[i*t.Chunk:], da.Data[i*da.Row:]
			for j := range i { // token j+1 lies between the keys up to j and the query
				sum += a[j] * da[j]
				t.dg[j+1] += sum
			}
		}
	}
	t.head.times(da, 0, n)
	t.lowerMul(guard, 0, n, dk, da, kernel.Rows(t.k, dk), kernel.Rows(t.dq, dk))
	upperMul(guard, n, dk, da, kernel.Rows(t.q, dk), kernel.Rows(t.dk, dk))
}

// throughHead adds to dk and dg what comes through the state after the chunk, where v was written, and leaves k with its decays to the end in the gate's rows.
func (t *recurGrad) throughHead(v kernel.Mat, s, ds []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	rows, x := t.gate.rows[:n*dk], t.dx[:n*dk]
	t.mulPanels(false, n, dk, dv, v, t.st, kernel.Rows(x, dk))
	kernel.ScaleRows(t.head.end[:n], kernel.Rows(x, dk), dk)
	kernel.Add(t.dk[:n*dk], x)
	if !t.Fixed {
		before := t.head.start[n-1] * kernel.Dot(s[:dk*dv], ds)
		for i := range n {
			t.dg[i] += before
			before += kernel.Dot(t.k[i*dk:][:dk], x[i*dk:])
		}
	}
	copy(rows, t.k[:n*dk])
	kernel.ScaleRows(t.head.end[:n], kernel.Rows(rows, dk), dk)
}
