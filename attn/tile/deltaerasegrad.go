package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// eraseParts is what a ruleGrad needs besides for Delta.Erase.
type eraseParts struct {
	gv, de []float32  // gradients of v, [n, value dim], and of the erasers, [n, key dim]
	sets   [2]written // k with v, b with w
	reader []float32  // the erasers, [n, key dim]
}

// written is a set of keys with what they write.
type written struct {
	k, dk []float32 // keys and their gradient, [n, key dim]
	vt    []float32 // what they write, transposed, in panels
}

// addErase lays them out on s; eraseGradFloats counts the same.
func (t *ruleGrad) addErase(s *attn.Scratch) {
	n, dk, dv := t.Chunk, t.c.KeyDim, t.c.ValueDim
	t.gv, t.de, t.reader = s.Floats(n*dv), s.Floats(n*dk), s.Floats(n*dk)
	t.sets[0] = written{t.k, t.dk, t.vt}
	t.sets[1] = written{s.Floats(n * dk), s.Floats(n * dk), s.Floats(panels(n) * dv)}
}

func eraseGradFloats(n int, s attn.Shape) int {
	dk, dv := s.KeyDim, s.ValueDim
	return attn.ScratchFloats(n*dv, n*dk, n*dk, n*dk, n*dk, panels(n)*dv)
}

// use makes set i the keys of the chunk.
func (t *ruleGrad) use(i int) {
	t.k, t.dk, t.vt = t.sets[i].k, t.sets[i].dk, t.sets[i].vt
}

// loadErase fills both sets, the erasers and the decays.
func (t *ruleGrad) loadErase() {
	dk, n := t.c.KeyDim, t.n
	kernel.Copy(kernel.Rows(t.sets[0].k, dk), t.keyRows(&t.c.K), n, dk)
	kernel.Copy(kernel.Rows(t.sets[1].k, dk), t.keyRows(eraseKeys(t.c.Extra)), n, dk)
	kernel.Copy(kernel.Rows(t.reader, dk), t.keyRows(erasers(t.c.Extra)), n, dk)
	t.loadGate()
}

// eraseGradients adds the input gradients of a chunk, from the state before it, the gradient of the state after it and its w,
// and leaves what the chunk asks of the former in u. With dR = -dW,
//
//	dW = P_bᵀ·dO + B̂·dS + A_bᵀ·dR,  dV = P_kᵀ·dO + K̂·dS + A_kᵀ·dR
func (t *ruleGrad) eraseGradients(s, ds, w []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	clear(t.u)
	clear(t.dg[:n*dk])
	clear(t.sets[0].dk[:n*dk])
	clear(t.sets[1].dk[:n*dk])
	copy(t.w, w[:n*dv])
	values := [2]kernel.Mat{t.keyRows(&t.c.V), kernel.Rows(t.w, dv)}
	for i, x := range [2][]float32{t.gv, t.dv} {
		t.use(i)
		packMat(t.vt, values[i], n, dv)
		ended := t.gate.rows
		product(ended[:n*dk], t.k, t.gate.toEnd)
		clear(x[:n*dv])
		kernel.AdvanceAhead(&t.ahead, nil, nil, n, dv, dk, kernel.Rows(ended, dk), kernel.Rows(ds, dv), kernel.Rows(x, dv))
	}
	packMat(t.st, kernel.Rows(s, dv), dk, dv)
	if t.row0 < t.row1 {
		for i := range t.group() {
			h := t.queryHead(i)
			t.loadQueries(h)
			t.loadOutGrads(h)
			t.writesOf(0, t.gv)
			t.writesOf(1, t.dv)
			t.readerGradients(s, 0)
			addRows(t.queryRows(&t.g.Q, t.row0, h), t.dq[t.row0*dk:], t.row1-t.row0, dk)
		}
	}
	t.row0, t.row1 = 0, n // every key reads
	t.solveErase()
	t.readerGradients(s, 1)
	copy(t.de[:n*dk], t.dq)
	packMat(t.st, kernel.Rows(ds, dv), dk, dv)
	for i := range t.sets {
		t.use(i)
		t.throughState(values[i])
	}
	t.throughDecay(s, ds)
	t.addDecayGrads()
	addRows(t.keyRows(&t.g.K), t.sets[0].dk, n, dk)
	addRows(t.keyRows(eraseKeys(t.g.Extra)), t.sets[1].dk, n, dk)
	addRows(t.keyRows(erasers(t.g.Extra)), t.de, n, dk)
	addRows(t.keyRows(&t.g.V), t.gv, n, dv)
}

// writesOf adds to x, the gradient of what set i writes, what comes through the readers in q with the gradients do of what they read.
func (t *ruleGrad) writesOf(i int, x []float32) {
	dv := t.c.ValueDim
	t.use(i)
	t.weights(0)
	do := kernel.Rows(t.do, dv)
	upperMul(!RowsFinite(do, t.n, dv), t.n, dv, kernel.Rows(t.a, t.Chunk), do, kernel.Rows(x, dv))
}

// solveErase completes dW and dV, and makes the erasers the readers in q and dR the gradient do of what they read.
func (t *ruleGrad) solveErase() {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	copy(t.q, t.reader[:n*dk])
	t.use(1)
	t.weights(0)
	a, dw, dr := kernel.Rows(t.a, t.Chunk), kernel.Rows(t.dv, dv), kernel.Rows(t.do, dv)
	clear(t.do[:n*dv])
	for end := n; end > 0; {
		i0 := (end - 1) / ruleRows * ruleRows
		kernel.MulAdd(end-i0, dv, n-end, a.From(end, i0).T(), dr.From(end, 0), dw.From(i0, 0))
		for i := end - 1; i >= i0; i-- {
			row := t.do[i*dv:][:dv]
			kernel.Axpy(-1, t.dv[i*dv:][:dv], row)
			for j := i0; j < i; j++ {
				kernel.Axpy(t.a[i*t.Chunk+j], row, t.dv[j*dv:])
			}
		}
		end = i0
	}
	t.use(0)
	t.weights(0)
	for i := range n {
		t.a[i*t.Chunk+i] = 0
	}
	upperMul(!RowsFinite(dr, n, dv), n, dv, a, dr, kernel.Rows(t.gv, dv))
}

// readerGradients sets dq, and adds to the gradients of both sets, dg and u, for the readers in q and the gradients do of what they
// read. A reader of row i reads rows up to i - behind.
func (t *ruleGrad) readerGradients(s []float32, behind int) {
	dv, n := t.c.ValueDim, t.n
	do, da := kernel.Rows(t.do, dv), kernel.Rows(t.da, t.Chunk)
	t.contributeGrad()
	t.throughReads()
	for set := range t.sets {
		t.use(set)
		t.lowerProduct(0, n, dv, do, t.vt, da)
		t.clearUpper(0, da)
		if behind > 0 {
			for i := range n {
				t.da[i*t.Chunk+i] = 0
			}
		}
		t.pairGradients(da)
	}
}
