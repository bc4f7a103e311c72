package tile

import "attnbench/internal/kernel"

// A gradient of the log decay at token t is a sum over the pairs (i, j) with j < t ≤ i, of the pair's
// weight times its gradient. It is summed over just these pairs, level by level: the difference
// of two sums over all pairs, Σ q·dq - k·dk, would lose weak decays.

// gatedGradients sets dq and adds to dk and dg, from the gradient da of the pairs' weights and
// the gradient of the state before the chunk.
func (t *recurGrad) gatedGradients(da kernel.Mat) {
	t.throughReads()
	t.pairGradients(da)
}

// throughReads sets dq and adds to dg what comes through the state before the chunk: contributeGrad left q∘fromStart in the
// gate's rows.
func (t *recurGrad) throughReads() {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	g := &t.gate
	t.mulPanels(false, n, dk, dv, kernel.Rows(t.do, dv), t.st, kernel.Rows(t.dx, dk))
	product(t.dq[:n*dk], t.dx[:n*dk], g.fromStart)
	kernel.Times(g.rows[:n*dk], t.dx[:n*dk])
	t.fromEnd(0, n)
}

// pairGradients adds to dq, dk and dg what comes through the weights of pairs.
func (t *recurGrad) pairGradients(da kernel.Mat) {
	dk, n := t.c.KeyDim, t.n
	g := &t.gate
	for i := range n {
		w := da.Data[i*da.Row+i]
		kernel.Axpy(w, g.row(t.k, i), g.row(t.dq, i))
		kernel.Axpy(w, g.row(t.q, i), g.row(t.dk, i))
	}
	for level, h := 0, 1; h < n; level, h = level+1, 2*h {
		x, f := g.tilde(level, h, t.q, t.k), g.levels[level*g.size:]
		for b := 0; b+h < n; b += 2 * h {
			m, end := b+h, min(b+2*h, n)
			keys, queries := kernel.Rows(x[b*dk:], dk), kernel.Rows(x[m*dk:], dk)
			kernel.Mul(end-m, dk, h, da.From(m, b), keys, kernel.Rows(t.dx[m*dk:], dk))
			kernel.Mul(h, dk, end-m, da.From(m, b).T(), queries, kernel.Rows(t.dx[b*dk:], dk))
			kernel.Times(x[b*dk:end*dk], t.dx[b*dk:end*dk])
			kernel.Times(t.dx[b*dk:end*dk], f[b*dk:end*dk])
			kernel.Add(t.dq[m*dk:end*dk], t.dx[m*dk:end*dk])
			kernel.Add(t.dk[b*dk:m*dk], t.dx[b*dk:m*dk])
			t.fromEnd(m, end)
			t.fromBegin(b, m)
		}
	}
}

// throughState adds to dk and dg what comes through the state after the chunk, where v was written, and leaves
// k∘toEnd in the gate's rows.
func (t *recurGrad) throughState(v kernel.Mat) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	g := &t.gate
	t.mulPanels(false, n, dk, dv, v, t.st, kernel.Rows(t.dx, dk))
	product(g.rows[:n*dk], t.k, g.toEnd)
	kernel.Times(g.rows[:n*dk], t.dx[:n*dk])
	t.fromBegin(0, n)
	kernel.Times(t.dx[:n*dk], g.toEnd[:n*dk])
	kernel.Add(t.dk[:n*dk], t.dx[:n*dk])
	product(g.rows[:n*dk], t.k, g.toEnd)
}

// throughDecay adds to dg what the decay of the state over the chunk gives.
func (t *recurGrad) throughDecay(s, ds []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	g := &t.gate
	for c, d := range g.row(g.fromStart, n-1) {
		t.run[c] = d * kernel.Dot(s[c*dv:][:dv], ds[c*dv:])
	}
	for i := range n {
		kernel.Axpy(1, t.run[:dk], g.row(t.dg, i))
	}
}

// fromEnd adds to dg, for each token of [b, end), the rows of the gate from it on: there they hold the
// gradients of the logarithms of queries' factors.
func (t *recurGrad) fromEnd(b, end int) {
	if t.Fixed {
		return
	}
	run := t.run[:t.c.KeyDim]
	clear(run)
	for i := end - 1; i >= b; i-- {
		kernel.Add(run, t.gate.row(t.gate.rows, i))
		kernel.Add(t.gate.row(t.dg, i), run)
	}
}

// fromBegin adds to dg, for each token of [b, end), the rows before it: those of keys' factors.
func (t *recurGrad) fromBegin(b, end int) {
	if t.Fixed {
		return
	}
	run := t.run[:t.c.KeyDim]
	clear(run)
	for i := b; i < end; i++ {
		kernel.Add(t.gate.row(t.dg, i), run)
		kernel.Add(run, t.gate.row(t.gate.rows, i))
	}
}
