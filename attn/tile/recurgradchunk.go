package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// recurGrad is a chunk with what its backward pass needs besides. Rows without a query are zeros
// in q, do and e.
type recurGrad struct {
	recurChunk
	do  []float32 // r·(gradient of the output) of one query head, [n, value dim]
	e   []float32 // gradient of the denominator of each query
	da  []float32 // gradient of a
	dq  []float32 // gradients of φ(q), φ(k), v and g, [n, dim]
	dk  []float32
	dv  []float32
	dg  []float32
	dx  []float32 // gradient of the gate's rows, [n, key dim]
	run []float32 // a running sum over channels
	vt  []float32 // v transposed, in panels
	st  []float32 // the state, or its gradient, transposed, in panels
}

// newBackward lays a chunk out on s; backwardFloats counts the same.
func newBackward(s *attn.Scratch, a *recurArgs) recurGrad {
	sh, n := a.c.Shape, a.Chunk
	t := recurGrad{recurChunk: newChunk(s, a)}
	t.do, t.e, t.da = s.Floats(n*sh.ValueDim), s.Floats(n), s.Floats(n*n)
	t.dq, t.dk, t.dv = s.Floats(n*sh.KeyDim), s.Floats(n*sh.KeyDim), s.Floats(n*sh.ValueDim)
	t.vt, t.st = s.Floats(panels(n)*sh.ValueDim), s.Floats(panels(sh.KeyDim)*sh.ValueDim)
	if a.Decay != NoDecay {
		t.dg, t.dx, t.run = s.Floats(n*sh.KeyDim), s.Floats(n*sh.KeyDim), s.Floats(sh.KeyDim)
	}
	return t
}

func (r *Recurrence) backwardFloats(s attn.Shape) int {
	n := r.Chunk
	f := r.chunkFloats(s) + (min(headsATask, s.KVHeads)-1)*attn.ScratchFloats(r.stateLen(s)) + attn.ScratchFloats(n*s.ValueDim, n, n*n, n*s.KeyDim, n*s.KeyDim, n*s.ValueDim,
		panels(n)*s.ValueDim, panels(s.KeyDim)*s.ValueDim)
	if r.Decay != NoDecay {
		f += attn.ScratchFloats(n*s.KeyDim, n*s.KeyDim, s.KeyDim)
	}
	return f
}

// expect says where the next chunk is, chunk i of head kv or none for i < 0, for products to ask memory for it.
func (t *recurGrad) expect(kv, i int) {
	c, n := t.c, t.n
	rows := t.group()*(kernel.MulAheadTiles(n, c.KeyDim)+2*kernel.MulAheadTiles(n, n)) + kernel.MulAheadTiles(n, c.KeyDim+c.ValueDim)
	if t.Decay == NoDecay {
		rows += t.group() * kernel.MulAheadTiles(n, c.KeyDim)
	}
	t.ahead.Reset(rows)
	if i < 0 {
		return
	}
	p := &t.next
	p.at(t.Segment, kv, i*t.Chunk, t.Chunk)
	t.ahead.Add(p.keyRows(&c.K), p.n, c.KeyDim)
	t.ahead.Add(p.keyRows(&c.V), p.n, c.ValueDim)
	t.ahead.Add(p.keyRows(&t.g.K), p.n, c.KeyDim)
	t.ahead.Add(p.keyRows(&t.g.V), p.n, c.ValueDim)
	if t.Decay != NoDecay {
		t.ahead.Add(p.keyRows(&c.Extra[0]), p.n, c.Extra[0].Dim)
		if !t.Fixed {
			t.ahead.Add(p.keyRows(&t.g.Extra[0]), p.n, c.Extra[0].Dim)
		}
	}
	for h := range t.group() {
		if h, own := p.queryHead(h), p.row1-p.row0; own > 0 {
			t.ahead.Add(p.queryRows(&c.Q, p.row0, h), own, c.KeyDim)
			t.ahead.Add(p.queryRows(&t.g.Out, p.row0, h), own, c.ValueDim)
			t.ahead.Add(p.queryRows(&t.g.Q, p.row0, h), own, c.KeyDim)
			if t.Normalize {
				t.ahead.Add(p.queryRows(&c.Out, p.row0, h), own, c.ValueDim)
			}
		}
	}
}

// loadOutGrads fills do and e. With o = r·num and r = 1/den, the gradient of num is r·do and that
// of den is -r·(do·o).
func (t *recurGrad) loadOutGrads(h int) {
	d := t.c.ValueDim
	clear(t.do[:t.row0*d])
	clear(t.e[:t.row0])
	clear(t.do[t.row1*d : t.n*d])
	clear(t.e[t.row1:t.n])
	grads, out := t.queryRows(&t.g.Out, t.row0, h), t.queryRows(&t.c.Out, t.row0, h)
	for r := t.row0; r < t.row1; r++ {
		src := grads.Data[(r-t.row0)*grads.Row:][:d]
		f := t.Scale
		t.e[r] = 0
		if t.Normalize {
			f = t.factorRow(t.Segment, h)[t.query0+r]
			if !t.floored(f) {
				t.e[r] = -f * kernel.Dot(src, out.Data[(r-t.row0)*out.Row:])
			}
		}
		do := t.do[r*d:][:d]
		copy(do, src)
		kernel.Scale(f, do)
	}
}

// contributeGrad adds to u the gradient of the state before the chunk, from one query head.
func (t *recurGrad) contributeGrad() {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	q := t.q
	if t.Decay != NoDecay {
		q = t.gate.rows
		if t.Decay == HeadDecay {
			copy(q, t.q[:t.n*dk])
			kernel.ScaleRows(t.head.start[:t.n], kernel.Rows(q, dk), dk)
		} else {
			product(q[:t.n*dk], t.q, t.gate.fromStart)
		}
	}
	kernel.MulAdd(dk, dv, t.n, kernel.Rows(q, dk).T(), kernel.Rows(t.do, dv), kernel.Rows(t.u, dv))
	if t.Normalize {
		kernel.Combine(t.u[dk*dv:], t.e[:t.n], kernel.Rows(t.q, dk))
	}
}

// gradients adds the input gradients of a chunk of the causal mask, from the state before it and
// the gradient of the state after it, and leaves what the chunk asks of the former in u.
func (t *recurGrad) gradients(s, ds []float32) {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	clear(t.u)
	clear(t.dk[:t.n*dk])
	clear(t.dv[:t.n*dv])
	if t.Decay != NoDecay {
		clear(t.dg[:t.n*dk])
	}
	if t.row0 < t.row1 {
		v := t.keyRows(&t.c.V)
		packMat(t.vt, v, t.n, dv)
		packMat(t.st, kernel.Rows(s, dv), dk, dv)
		if t.Decay != ChannelDecay {
			packRows(t.kt, t.k, t.n, dk)
		}
		guard := !RowsFinite(kernel.Rows(t.k, dk), t.n, dk) || !RowsFinite(v, t.n, dv)
		for i := range t.group() {
			t.headGradients(t.queryHead(i), guard, s)
		}
	}
	t.writeGradients(s, ds)
}

// headGradients adds what one query head gives: to the gradient of its queries, and to dk, dv,
// dg and u.
func (t *recurGrad) headGradients(h int, guard bool, s []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	t.loadQueries(h)
	t.loadOutGrads(h)
	q, do := kernel.Rows(t.q, dk), kernel.Rows(t.do, dv)
	guard = guard || !RowsFinite(q, n, dk) || !RowsFinite(do, n, dv)
	t.weights(0)
	a, da := kernel.Rows(t.a, t.Chunk), kernel.Rows(t.da, t.Chunk)
	upperMul(guard, n, dv, a, do, kernel.Rows(t.dv, dv))

	t.lowerProduct(0, n, dv, do, t.vt, da)
	if t.Normalize {
		for i, e := range t.e[:n] {
			row := t.da[i*t.Chunk:][:i+1]
			for j := range row {
				row[j] += e
			}
		}
	}
	t.clearUpper(0, da)
	t.contributeGrad()
	switch t.Decay {
	case ChannelDecay:
		t.gatedGradients(da)
	case HeadDecay:
		t.headDecayGradients(da, guard)
	default:
		t.readGradients(s)
		t.lowerMul(guard, 0, n, dk, da, kernel.Rows(t.k, dk), kernel.Rows(t.dq, dk))
		upperMul(guard, n, dk, da, q, kernel.Rows(t.dk, dk))
	}
	t.chain(t.queryRows(&t.g.Q, t.row0, h), t.dq[t.row0*dk:], t.q[t.row0*dk:], t.row1-t.row0)
}

// readGradients sets dq to the gradient that comes through the state s, whose transpose is in st.
func (t *recurGrad) readGradients(s []float32) {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	t.mulPanels(false, t.n, dk, dv, kernel.Rows(t.do, dv), t.st, kernel.Rows(t.dq, dk))
	if t.Normalize {
		for i, e := range t.e[:t.n] {
			kernel.Axpy(e, s[dk*dv:][:dk], t.dq[i*dk:])
		}
	}
}

// queryGradients adds the query gradients of a chunk that reads the state of all keys, and
// leaves what it asks of that state in u.
func (t *recurGrad) queryGradients(s []float32) {
	dk, dv := t.c.KeyDim, t.c.ValueDim
	clear(t.u)
	packMat(t.st, kernel.Rows(s, dv), dk, dv)
	for i := range t.group() {
		h := t.queryHead(i)
		t.loadQueries(h)
		t.loadOutGrads(h)
		t.contributeGrad()
		t.readGradients(s)
		t.chain(t.queryRows(&t.g.Q, 0, h), t.dq, t.q, t.n)
	}
}

// writeGradients adds to dk, dv and dg what comes through the gradient ds of the state after the
// chunk, and then adds them to the call's gradients.
func (t *recurGrad) writeGradients(s, ds []float32) {
	dk, dv, n := t.c.KeyDim, t.c.ValueDim, t.n
	packMat(t.st, kernel.Rows(ds, dv), dk, dv)
	v, k := t.keyRows(&t.c.V), t.k
	if t.Decay != NoDecay {
		k = t.gate.rows
		if t.Decay == HeadDecay {
			t.throughHead(v, s, ds)
		} else {
			t.throughState(v)
			t.throughDecay(s, ds)
		}
	} else {
		t.mulPanels(true, n, dk, dv, v, t.st, kernel.Rows(t.dk, dk))
	}
	if t.Normalize {
		for i := range n {
			kernel.Axpy(1, ds[dk*dv:][:dk], t.dk[i*dk:])
		}
	}
	kernel.AdvanceAhead(&t.ahead, nil, nil, n, dv, dk, kernel.Rows(k, dk), kernel.Rows(ds, dv), kernel.Rows(t.dv, dv))
	if t.Write {
		t.writeFactors()
	}
	t.chain(t.keyRows(&t.g.K), t.dk, t.k, n)
	addRows(t.keyRows(&t.g.V), t.dv, n, dv)
	if t.Decay != NoDecay && !t.Fixed {
		t.addDecayGrads()
	}
}

// writeFactors adds to the gradients of the factors of keys, and turns dk to the gradient of the keys before them.
func (t *recurGrad) writeFactors() {
	dk := t.c.KeyDim
	keys, x, dx := t.keyRows(&t.c.K), t.keyRows(&t.c.Extra[1]), t.keyRows(&t.g.Extra[1])
	for i := range t.n {
		row := t.dk[i*dk:][:dk]
		dx.Data[i*dx.Row] += kernel.Dot(row, keys.Data[i*keys.Row:])
		kernel.Scale(x.Data[i*x.Row], row)
	}
}

// addDecayGrads adds dg to the call's gradients: one number a token where channels share a decay.
func (t *recurGrad) addDecayGrads() {
	dst, d := t.keyRows(&t.g.Extra[0]), t.c.KeyDim
	if t.Decay == ChannelDecay {
		addRows(dst, t.dg, t.n, d)
		return
	}
	for r := range t.n {
		dst.Data[r*dst.Row] += t.dg[r]
	}
}

// chain adds d∘φ'(x) to rows of dst, where f holds φ(x), and overwrites d.
func (t *recurGrad) chain(dst kernel.Mat, d, f []float32, rows int) {
	dim := t.c.KeyDim
	d, f = d[:rows*dim], f[:rows*dim]
	switch t.Map {
	case ELU1: // e^x is its own derivative; x+1 is above 1
		kernel.ELU1Grad(d, f)
	case ReLU:
		for i, f := range f {
			if f == 0 {
				d[i] = 0
			}
		}
	}
	addRows(dst, d, rows, dim)
}

func addRows(dst kernel.Mat, x []float32, rows, d int) {
	for r := range rows {
		kernel.Axpy(1, x[r*d:][:d], dst.Data[r*dst.Row:])
	}
}
