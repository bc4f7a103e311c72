package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// tttGrads is the numbers of the gradients that a head has of what was learned: W, b, γ, δ and r.
func (m *TTT) tttGrads(s attn.Shape) int { return modelLen(s) + 2*s.KeyDim + m.Batch }

// Backward adds to the gradients in g, for calls that have passed Check, from what Forward left in c.Saved: W and b before each batch.
func (m *TTT) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) {
	mark := ws.Mark()
	a := m.args(ws, c)
	a.g = g
	a.plan(ws)
	a.records = c.Saved.Part(0)
	each, d := m.tttGrads(c.Shape), c.KeyDim
	a.learned = ws.Zeros(c.NumSegments() * c.KVHeads * each)
	floats := m.backwardFloats(c.Shape)
	if keysOverlap(c) { // segments that share keys add to the same gradients: one after the other
		for i := range c.NumSegments() {
			a.lo, a.hi = i, i+1
			attn.Parallel(ws, a.heads(), floats, a, tttGradTask)
		}
	} else {
		attn.Parallel(ws, a.heads(), floats, a, tttGradTask)
	}
	for i := range c.NumSegments() * c.KVHeads {
		x, kv := a.learned[i*each:][:each], i%c.KVHeads
		for n, size := range [4]int{d * d, d, d, d} {
			kernel.Add(g.Learned[n][kv*size:][:size], x)
			x = x[size:]
		}
		for at, dr := range x {
			if a.steps[at] > 0 {
				g.Learned[4][at] += dr
			}
		}
	}
	ws.Release(mark)
}

// tttGrad is a head with the gradient of its model: of the one behind a batch, and then of the one before it.
type tttGrad struct {
	tttHead
	dw                kernel.Mat // of W with b below, [d+1, d]
	dgain, dshift, dr []float32
	dk, dg            kernel.Mat // of the batch: gradients of its turned keys and of ρ∇, [Batch, d]
	dq, dz            kernel.Mat // of a query head: gradients of its turned queries and of z̄; dz then of the keys' z
	ds                kernel.Mat // of the pairs: dz̄_i·ρ∇_j, [Batch, Batch]
	gt                []float32  // ρ∇ transposed, panels of [d, lanes]
	wt                []float32  // W, or dW, transposed, panels of [d, lanes]
	x, y, nabla       []float32  // [d]
}

func newTTTGrad(s *attn.Scratch, a *tttArgs, task int) tttGrad {
	t := tttGrad{tttHead: newTTTHead(s, a, task)}
	d, n := t.c.KeyDim, t.Chunk
	seg, kv := a.head(task)
	each := len(a.learned) / (t.c.NumSegments() * t.c.KVHeads)
	x := a.learned[(seg*t.c.KVHeads+kv)*each:][:each]
	t.dw, x = kernel.Rows(x[:d*(d+1)], d), x[d*(d+1):]
	t.dgain, t.dshift, t.dr = x[:d], x[d:][:d], x[2*d:]
	rows := func(width int) kernel.Mat { return kernel.Rows(s.Floats(n*width), width) }
	t.dk, t.dq, t.dg, t.dz, t.ds = rows(d), rows(d), rows(d), rows(d), rows(n)
	t.gt, t.wt = s.Floats(panels(n)*d), s.Floats(panels(d)*d)
	t.x, t.y, t.nabla = s.Floats(d), s.Floats(d), s.Floats(d)
	return t
}

func (m *TTT) backwardFloats(s attn.Shape) int {
	d, n := s.KeyDim, m.Batch
	return m.headFloats(s) + attn.ScratchFloats(n*d, n*d, n*d, n*d, n*n, panels(n)*d, panels(d)*d, d, d, d)
}

// tttGradTask goes back through the batches of one head of a segment, each of which it first computes again.
func tttGradTask(s *attn.Scratch, a *tttArgs, task int) {
	t := newTTTGrad(s, a, task)
	d := t.c.KeyDim
	seg, kv := a.head(task)
	for i := a.chunks(t.Keys) - 1; i >= 0; i-- {
		t.at(t.Segment, kv, i*t.Chunk, t.Chunk)
		t.hold(a.record(kv, int(a.keys[seg])+i))
		t.learn()
		if t.first+t.n < t.Keys {
			t.folded()
		} else {
			clear(t.dk.Data[:t.n*d])
			clear(t.dg.Data[:t.n*d])
		}
		packMat(t.wt, t.w, d, d)
		if t.row0 < t.row1 {
			packMat(t.gt, t.g, t.n, d)
			for h := range t.group() {
				t.queries(t.queryHead(h))
			}
		}
		t.tokens()
	}
}

// folded starts the gradients of a batch from that of the model behind it, W - R Kᵀ G, with R the step of the batch's last token:
//
//	dG = -R K dW,  dK = -R G dWᵀ,  dR = -Σ_j g_j·(K dW)_j
func (t *tttGrad) folded() {
	d, r := t.c.KeyDim, t.args.steps[t.Chunk-1]
	packMat(t.wt, t.dw, d, d)
	kernel.Mul(t.n, d, d+1, t.k, t.dw, t.dg)
	t.dr[t.Chunk-1] -= kernel.Dot(t.dg.Data[:t.n*d], t.g.Data)
	kernel.Scale(-r, t.dg.Data[:t.n*d])
	t.mulPanels(false, t.n, d, d, t.g, t.wt, t.dk)
	kernel.Scale(-r, t.dk.Data[:t.n*d])
}

// queries adds the gradients of the batch's queries of a head. With the steps r, the weights P of pairs and S = dZ̄ Gᵀ of pairs,
//
//	dQ = dO + dZ̄ Wᵀ - diag(r) S K,  dK -= Sᵀ diag(r) Q,  dG -= Pᵀ diag(r) dZ̄,  dr_i = -Σ_j P_ij S_ij,  dW += Qᵀ dZ̄
func (t *tttGrad) queries(h int) {
	d, row0, n := t.c.KeyDim, t.row0, t.row1-t.row0
	t.read(h)
	grads, dq := t.queryRows(&t.args.g.Out, row0, h), t.queryRows(&t.args.g.Q, row0, h)
	for r := row0; r < t.row1; r++ {
		do, z, dz := rowOf(grads, r-row0, d), rowOf(t.o, r, d), rowOf(t.dz, r, d)
		sd := t.args.normalise(z)
		copy(dz, do)
		kernel.Times(dz, z)
		kernel.Add(t.dgain, dz)
		kernel.Add(t.dshift, do)
		copy(dz, do)
		kernel.Times(dz, t.gain)
		t.args.project(dz, z)
		kernel.Scale(1/sd, dz)
	}
	q, dz := t.q.From(row0, 0), t.dz.From(row0, 0)
	t.mulPanels(false, n, d, d, dz, t.wt, t.dq.From(row0, 0))
	t.lowerProduct(row0, t.n, d, t.dz, t.gt, t.ds)
	t.clearUpper(row0, t.ds)
	for r := row0; r < t.row1; r++ {
		p, s, step := rowOf(t.p, r, r+1), rowOf(t.ds, r, r+1), t.args.steps[r]
		t.dr[r] -= kernel.Dot(p, s)
		kernel.Scale(-step, p)
		kernel.Scale(-step, s)
	}
	t.lowerMul(!RowsFinite(t.k, t.n, d), row0, t.n, d, t.ds, t.k, t.dq.From(row0, 0))
	for r := range row0 { // tokens that do not ask
		clear(rowOf(t.q, r, d))
		clear(rowOf(t.dz, r, d))
		clear(rowOf(t.p, r, t.n))
		clear(rowOf(t.ds, r, t.n))
	}
	guard := !RowsFinite(q, n, d) || !RowsFinite(dz, n, d)
	upperMul(guard, t.n, d, t.ds, t.q, t.dk)
	upperMul(guard, t.n, d, t.p, t.dz, t.dg)
	kernel.MulAdd(d+1, d, n, q.T(), dz, t.dw)
	for r := range n {
		kernel.Add(rowOf(t.dq, row0+r, d), rowOf(grads, r, d))
		t.args.turnBack(t.x, rowOf(t.dq, row0+r, d), row0+r)
		kernel.Add(rowOf(dq, r, d), t.x)
	}
}

// tokens adds the gradients of the batch's keys and values from those of ρ∇.
func (t *tttGrad) tokens() {
	d, g := t.c.KeyDim, t.args.g
	for i := range t.n {
		t.token(i)
	}
	t.mulPanels(true, t.n, d, d, t.dz, t.wt, t.dk)
	kernel.MulAdd(d+1, d, t.n, t.k.T(), t.dz, t.dw)
	dk := t.keyRows(&g.K)
	for i := range t.n {
		t.args.turnBack(t.x, rowOf(t.dk, i, d), i)
		kernel.Add(rowOf(dk, i, d), t.x)
	}
}

// token sets dz of a token. With u the gradient of its loss in ẑ and e that of ∇,
//
//	∇ = (u - mean(u) - ẑ·mean(u∘ẑ))/sd,  z = kW + b
//	du = (e - mean(e) - ẑ·mean(e∘ẑ))/sd,  dẑ = γ²∘du - (mean(u∘ẑ)e + mean(e∘ẑ)u)/sd,  dsd = -∇·e/sd
//	dz = (dẑ - mean(dẑ) - ẑ·mean(dẑ∘ẑ))/sd + dsd·ẑ/d
func (t *tttGrad) token(i int) {
	d, width, g := t.c.KeyDim, float32(t.c.KeyDim), t.args.g
	k, z, v, e := rowOf(t.k, i, d), rowOf(t.z, i, d), rowOf(t.keyRows(&t.c.V), i, d), rowOf(t.dg, i, d)
	dk, dv, dz := rowOf(t.dk, i, d), rowOf(t.keyRows(&g.V), i, d), rowOf(t.dz, i, d)
	eta, deta := t.keyRows(&t.c.Extra[0]), t.keyRows(&g.Extra[0])
	u, du, nabla, inverse := t.x, t.y, t.nabla, 1/t.sd[i]
	t.miss(u, z, k, v)
	copy(nabla, u)
	t.args.project(nabla, z)
	kernel.Scale(inverse, nabla)
	deta.Data[i*deta.Row] += t.args.rate * kernel.Dot(e, nabla)
	kernel.Scale(t.args.rate*eta.Data[i*eta.Row], e)
	dsd := -kernel.Dot(nabla, e) * inverse
	ofU, ofE := kernel.Dot(u, z)/width*inverse, kernel.Dot(e, z)/width*inverse
	copy(du, e)
	t.args.project(du, z)
	kernel.Scale(inverse, du)
	for a, x := range du {
		gain := t.gain[a]
		t.dgain[a] += x * (2*gain*z[a] + t.shift[a] - (v[a] - k[a]))
		t.dshift[a] += x * gain
		dz[a] = gain*gain*x - (ofU*e[a] + ofE*u[a])
		dv[a] -= x * gain
		dk[a] += x * gain
	}
	t.args.project(dz, z)
	kernel.Scale(inverse, dz)
	kernel.Axpy(dsd/width, z, dz)
}
