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

func (m *TTT) backwardFloats(s attn.Shape) int {
	n, d := m.Batch*s.KeyDim, s.KeyDim
	return m.headFloats(s) + attn.ScratchFloats(n, n, m.Batch, d, d, d, d)
}

// tttGrad is a head with the gradients of its model, of what comes behind a batch and then of what comes before it.
type tttGrad struct {
	tttHead
	dw                kernel.Mat // [d, d]
	db                []float32  // [d]
	dgain, dshift, dr []float32
	dk, dg            kernel.Mat // of a batch, [Batch, d]: gradients of turned keys and of ρ∇
	dp                []float32  // [Batch]
	dz, x, y, z1      []float32  // [d]
}

// tttGradTask goes back through the batches of one head of a segment, each of which it first computes again.
func tttGradTask(s *attn.Scratch, a *tttArgs, task int) {
	t := tttGrad{tttHead: newTTTHead(s, a, task)}
	d, batch := t.d, t.Chunk
	seg, kv := a.head(task)
	each := len(a.learned) / (a.c.NumSegments() * a.c.KVHeads)
	x := a.learned[(seg*a.c.KVHeads+kv)*each:][:each]
	t.dw, t.db, x = kernel.Rows(x, d), x[d*d:][:d], x[d*d+d:]
	t.dgain, t.dshift, t.dr = x[:d], x[d:][:d], x[2*d:]
	t.dk, t.dg, t.dp = kernel.Rows(s.Floats(batch*d), d), kernel.Rows(s.Floats(batch*d), d), s.Floats(batch)
	t.dz, t.x, t.y, t.z1 = s.Floats(d), s.Floats(d), s.Floats(d), s.Floats(d)
	for i := a.chunks(t.Keys) - 1; i >= 0; i-- {
		j := i * batch
		n := min(batch, t.Keys-j)
		t.hold(a.record(kv, int(a.keys[seg])+i))
		t.learn(j, n, 0)
		if j+n < t.Keys {
			t.folded(n)
		} else {
			clear(t.dk.Data[:n*d])
			clear(t.dg.Data[:n*d])
		}
		if first := max(j, t.Offset()); first < j+n {
			for h := range a.c.Heads / a.c.KVHeads {
				t.queries(first-t.Offset(), j+n-first, first-j, kv*a.c.Heads/a.c.KVHeads+h)
			}
		}
		t.tokens(j, n)
	}
}

// folded starts the gradients of a batch from those of the model behind it, W - R Σ_j k_jᵀ g_j and b - R Σ_j g_j with g = ρ∇:
//
//	dg_j = -R(k_j dW + db),  dk_j = -R g_j dWᵀ,  dR = -Σ_j g_j·(k_j dW + db)
func (t *tttGrad) folded(n int) {
	d, r := t.d, t.steps[t.Chunk-1]
	kernel.Mul(n, d, d, t.k, t.dw, t.dg)
	for j := range n {
		dg, g, dk := rowOf(t.dg, j, d), rowOf(t.g, j, d), rowOf(t.dk, j, d)
		kernel.Add(dg, t.db)
		t.dr[t.Chunk-1] -= kernel.Dot(dg, g)
		kernel.Scale(-r, dg)
		kernel.Dots(dk, g, t.dw, d)
		kernel.Scale(-r, dk)
	}
}

// queries adds the gradients of n queries of a head from i on, the first at place at of its batch. With s_j = dz̄_i·g_j and p_j = q_i·k_j + 1,
//
//	dq_i = do_i + dz̄_i Wᵀ - r_i Σ_j s_j k_j,  dk_j -= r_i s_j q_i,  dg_j -= r_i p_j dz̄_i,  dr_i -= Σ_j p_j s_j
//	dW += q_iᵀ dz̄_i,  db += dz̄_i
func (t *tttGrad) queries(i, n, at, h int) {
	d := t.d
	t.read(i, n, at+1, at, h, false)
	for r := range n {
		do, q, z := t.tttArgs.g.Out.Row(t.Row, t.Query0+i+r, h), rowOf(t.q, r, d), rowOf(t.o, r, d)
		sd := normalise(z)
		for e, x := range do {
			t.dgain[e] += x * z[e]
			t.dz[e] = x * t.gain[e]
		}
		kernel.Add(t.dshift, do)
		project(t.dz, z)
		kernel.Scale(1/sd, t.dz)
		step, p, dp := t.steps[at+r], t.p[:at+r+1], t.dp[:at+r+1]
		t.pairs(p, q)
		kernel.Dots(dp, t.dz, t.g, len(dp))
		t.dr[at+r] -= kernel.Dot(p, dp)
		kernel.Scale(-step, p)
		kernel.Scale(-step, dp)
		kernel.Dots(t.x, t.dz, t.w, d)
		kernel.Add(t.x, do)
		kernel.Combine(t.x, dp, t.k)
		kernel.Update(t.dk, nil, dp, q)
		kernel.Update(t.dg, nil, p, t.dz)
		t.turnBack(t.y, t.x, at+r)
		kernel.Add(t.tttArgs.g.Q.Row(t.Row, t.Query0+i+r, h), t.y)
		kernel.Add(t.db, t.dz)
		copy(z, t.dz)
	}
	kernel.MulAdd(d, d, n, t.q.T(), t.o, t.dw)
}

// tokens adds the gradients of the keys of a batch, n from j on, from those of ρ∇. With u the gradient of the loss in ẑ and e that of ∇,
//
//	∇ = (u - mean(u) - ẑ·mean(u∘ẑ))/sd,  z = kW + b
//	du = (e - mean(e) - ẑ·mean(e∘ẑ))/sd,  dẑ = γ²∘du - (mean(u∘ẑ)e + mean(e∘ẑ)u)/sd,  dsd = -∇·e/sd
//	dz = (dẑ - mean(dẑ) - ẑ·mean(dẑ∘ẑ))/sd + dsd·ẑ/d
func (t *tttGrad) tokens(j, n int) {
	c, g, d := t.c, t.tttArgs.g, t.d
	for i := range n {
		at := t.Key0 + j + i
		k, z, v, e, dk := rowOf(t.k, i, d), rowOf(t.z, i, d), c.V.Row(t.Row, at, t.kv), rowOf(t.dg, i, d), rowOf(t.dk, i, d)
		inverse := 1 / t.sd[i]
		u, du, dz := t.x, t.y, t.dz
		t.miss(u, z, k, v)
		copy(t.z1, u)
		project(t.z1, z)
		kernel.Scale(inverse, t.z1) // ∇
		g.Extra[0].Row(t.Row, at, t.kv)[0] += t.rate * kernel.Dot(e, t.z1)
		kernel.Scale(t.rate*c.Extra[0].Row(t.Row, at, t.kv)[0], e)
		dsd := -kernel.Dot(t.z1, e) * inverse
		ofU, ofE := kernel.Dot(u, z)/float32(d)*inverse, kernel.Dot(e, z)/float32(d)*inverse
		copy(du, e)
		project(du, z)
		kernel.Scale(inverse, du)
		dv := g.V.Row(t.Row, at, t.kv)
		for a, x := range du {
			gain := t.gain[a]
			t.dgain[a] += x * (2*gain*z[a] + t.shift[a] - (v[a] - k[a]))
			t.dshift[a] += x * gain
			dz[a] = gain*gain*x - (ofU*e[a] + ofE*u[a])
			dv[a] -= x * gain
			dk[a] += x * gain
		}
		project(dz, z)
		for a, x := range z {
			z[a] = dz[a]*inverse + dsd/float32(d)*x
		}
		kernel.Dots(u, z, t.w, d)
		kernel.Add(dk, u)
		kernel.Add(t.db, z)
		t.turnBack(u, dk, i)
		kernel.Add(g.K.Row(t.Row, at, t.kv), u)
	}
	kernel.MulAdd(d, d, n, t.k.T(), t.z, t.dw)
}

// Cost returns the closed-form costs of a pass.
func (m *TTT) Cost(s attn.Shape, p attn.Pass) attn.Cost {
	b, h, kvh, d := int64(s.Batch), int64(s.Heads), int64(s.KVHeads), int64(s.KeyDim)
	floats := func(n ...int) int64 { return 4 * int64(attn.ScratchFloats(n...)) }
	r := m.recurrence()
	_, batches, _ := r.chunkCounts(s)
	before := 0
	if p == attn.PassDecode {
		before = s.KeyLen - s.QueryLen
	}
	cost := attn.Cost{State: 4 * b * kvh * int64(2*modelLen(s))}
	cost.Read = cost.State
	k := int64(s.KeyLen - before)
	cost.Bytes = 4 * b * (h*2*int64(s.QueryLen)*d + kvh*k*(2*d+1))
	for j := before; j < s.KeyLen; {
		at := j % m.Batch
		n := min(m.Batch-at, s.KeyLen-j)
		first := max(j, s.KeyLen-s.QueryLen)
		queries, pairs := int64(max(0, j+n-first)), int64(0)
		for i := first; i < j+n; i++ {
			pairs += int64(i - j + 1)
		}
		square := kvh * int64(n) // products of a row with [d, d]
		switch more := j+n < s.KeyLen; {
		case p == attn.PassBackward:
			square = 3*square + h*3*queries
			if more {
				square += 2 * kvh * int64(n)
			}
			pairs *= 7
		default:
			if more || p == attn.PassDecode {
				square *= 2
			}
			if at == 0 && j > 0 {
				square += kvh // the end of the batch before
			}
			square += h * queries
			if at > 0 {
				square += h * queries
			}
			pairs *= 2
		}
		cost.FLOPs += 2 * b * d * (square*d + h*pairs)
		j += n
	}
	cost.Shared = 4 * int64(m.tableFloats(s))
	cost.PerWorker = 4 * int64(m.forwardFloats(s))
	switch p {
	case attn.PassForward:
		cost.Shared += 4 * int64(r.planFloats(s))
		cost.Saved = floats(batches * modelLen(s))
	case attn.PassBackward:
		cost.Bytes *= 2
		cost.Shared += 4*int64(r.planFloats(s)) + floats(s.Batch*s.KVHeads*m.tttGrads(s))
		cost.PerWorker = 4 * int64(m.backwardFloats(s))
	case attn.PassDecode:
		cost.Bytes += 2 * cost.State
	}
	if s.Batch == 0 {
		cost.PerWorker = 0
	}
	return cost
}
