package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

// finish turns what the rule gave in c.Out to the outputs. It keeps the former for Backward if the call saves.
func (m rwkv7) finish(ws *attn.Workspace, c *attn.Call, d *ruleCall) {
	a := rwkvArgs{c: c, d: d}
	if c.Saved != nil {
		a.o = attn.ViewAs(c.Saved.Floats(c.Batch*c.QueryLen*c.Heads*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	}
	attn.Parallel(ws, c.NumSegments()*rwkvBlocks(c.QueryLen), rwkvFloats(c.Shape), a, rwkvOutTask)
}

// groupNorm sets dst to (o - mean)/deviation and returns 1/deviation.
func groupNorm(dst, o []float32) float32 {
	n := float32(len(o))
	mean := kernel.Sum(o) / n
	copy(dst, o)
	for i := range dst {
		dst[i] -= mean
	}
	inv := float32(1 / math.Sqrt(float64(kernel.SumSquares(dst)/n)+groupEps*float64(n)))
	kernel.Scale(inv, dst)
	return inv
}

// bonus is Σ_c r_c k̃_c r_kc.
func bonus(r, k, rk []float32) float32 {
	s := float32(0)
	for a, x := range r {
		s += x * k[a] * rk[a]
	}
	return s
}

// rwkvOutTask does some queries of a segment, head after head.
func rwkvOutTask(scratch *attn.Scratch, t *rwkvArgs, task int) {
	c, blocks := t.c, rwkvBlocks(t.c.QueryLen)
	s, first := c.Segment(task/blocks), task%blocks*rwkvRows
	width := rwkvRows * max(c.KeyDim, c.ValueDim)
	x, y, own := scratch.Floats(width), scratch.Floats(width), scratch.Floats(rwkvRows)
	end := min(first+rwkvRows, s.Queries)
	first = max(first, -s.Offset())
	if first < end {
		for h := range c.Heads {
			t.outs(x, y, own[:end-first], s, first, h)
		}
	}
}

// outs does the queries of a head from i on, one for each of own.
func (t *rwkvArgs) outs(x, y, own []float32, s attn.Segment, i, h int) {
	c, dk, dv, n := t.c, t.c.KeyDim, t.c.ValueDim, len(own)
	rk, gain, bias := c.Learned[rwkvRK][h*dk:][:dk], c.Learned[rwkvGain][h*dv:][:dv], c.Learned[rwkvBias][h*dv:][:dv]
	at, j, kv := s.Query0+i, s.Key0+i+s.Offset(), c.KVHead(h)
	out, o := tile.HeadRows(&c.Out, s.Row, at, h), kernel.Rows(x, dv)
	kernel.Copy(o, out, n, dv)
	if !t.o.Empty() {
		kernel.Copy(tile.HeadRows(&t.o, s.Row, at, h), o, n, dv)
	}
	kernel.Copy(kernel.Rows(y, dk), tile.HeadRows(&c.Q, s.Row, at, h), n, dk)
	kernel.Times(y[:n*dk], t.d.call.K.From(s.Row, j, kv))
	kernel.TimesRows(rk, kernel.Rows(y, dk), n)
	for i := range own {
		own[i] = kernel.Sum(y[i*dk:][:dk])
		row := x[i*dv:][:dv]
		groupNorm(row, row)
		kernel.Times(row, gain)
		kernel.Add(row, bias)
	}
	copy(y[:n*dv], t.d.call.V.From(s.Row, j, kv))
	kernel.ScaleRows(own, kernel.Rows(y, dv), dv)
	kernel.Add(x[:n*dv], y)
	kernel.Copy(kernel.Rows(y, dv), tile.HeadRows(&c.Extra[rwkvG], s.Row, at, h), n, dv)
	kernel.Times(x[:n*dv], y[:n*dv])
	kernel.Copy(out, o, n, dv)
}

// rwkvOutGradTask does the query heads of one key/value head: it adds the gradients of gate, norm and bonus, and writes that of what the rule
// gave.
func rwkvOutGradTask(scratch *attn.Scratch, t *rwkvArgs, kv int) {
	c, group := t.c, t.c.Heads/t.c.KVHeads
	x := scratch.Floats(c.ValueDim)
	for n := range c.NumSegments() {
		s := c.Segment(n)
		for i := max(0, -s.Offset()); i < s.Queries; i++ {
			for h := kv * group; h < (kv+1)*group; h++ {
				t.outGrad(x, s, i, h, kv)
			}
		}
	}
}

// outGrad does query i of head h; x is scratch, [value dim].
func (t *rwkvArgs) outGrad(x []float32, s attn.Segment, i, h, kv int) {
	c, g, dk, dv := t.c, t.g, t.c.KeyDim, t.c.ValueDim
	rk, drk := c.Learned[rwkvRK][h*dk:][:dk], g.Learned[rwkvRK][h*dk:][:dk]
	gain, bias := c.Learned[rwkvGain][h*dv:][:dv], c.Learned[rwkvBias][h*dv:][:dv]
	dgain, dbias := g.Learned[rwkvGain][h*dv:][:dv], g.Learned[rwkvBias][h*dv:][:dv]
	j, at := s.Key0+i+s.Offset(), s.Query0+i
	r, dr := c.Q.Row(s.Row, at, h), g.Q.Row(s.Row, at, h)
	k, v, dkey, dval := t.d.call.K.Row(s.Row, j, kv), t.d.call.V.Row(s.Row, j, kv), t.d.grads.K.Row(s.Row, j, kv), t.d.grads.V.Row(s.Row, j, kv)
	gate, dgate := c.Extra[rwkvG].Row(s.Row, at, h), g.Extra[rwkvG].Row(s.Row, at, h)
	do := t.d.grads.Out.Row(s.Row, at, h)

	inv, own := groupNorm(x, t.o.Row(s.Row, at, h)), bonus(r, k, rk)
	down, mean, dot := float32(0), float32(0), float32(0)
	for b, y := range g.Out.Row(s.Row, at, h) {
		dgate[b] += y * (x[b]*gain[b] + bias[b] + own*v[b])
		y *= gate[b]
		dgain[b] += y * x[b]
		dbias[b] += y
		down += y * v[b]
		dval[b] += y * own
		do[b] = y * gain[b]
		mean += do[b]
		dot += do[b] * x[b]
	}
	mean, dot = mean/float32(dv), dot/float32(dv)
	for b := range do {
		do[b] = (do[b] - mean - x[b]*dot) * inv
	}
	for a := range r {
		dr[a] += down * k[a] * rk[a]
		dkey[a] += down * r[a] * rk[a]
		drk[a] += down * r[a] * k[a]
	}
}
