package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

// rwkvArgs are a call, the rule's call made from it, and their gradients.
type rwkvArgs struct {
	c *attn.Call
	d *ruleCall
	g *attn.Grads
	o attn.View // what the rule gave, before the norm, [batch, query, heads, value dim]; empty if it is not kept
}

// rwkvRows is the number of tokens that the maps take at once, so that what they hold stays in the nearest cache.
const rwkvRows = 32

// derive returns the call of the rule. Its k and v are k̃ and v', its extra inputs the log decay, κ̂/e^w, since the rule erases from the
// decayed state, and κ̂∘η. Its memory is that of ws since now: the tokens of a head lie together in it.
func (m rwkv7) derive(ws *attn.Workspace, c *attn.Call) *ruleCall {
	d := openRule(ws, c)
	view := func(like attn.View) attn.View {
		return byHeads(ws.Floats(like.Batch*like.Time*like.Heads*like.Dim), like.Batch, like.Time, like.Heads, like.Dim)
	}
	d.call.K = view(c.K)
	d.x = [3]attn.View{c.Extra[rwkvW], view(c.K), view(c.K)}
	d.call.V = view(c.V)
	d.call.Extra = d.x[:3]
	attn.Parallel(ws, c.Batch*rwkvBlocks(c.KeyLen), rwkvFloats(c.Shape), rwkvArgs{c: c, d: d}, rwkvTokenTask)
	return d
}

func rwkvBlocks(tokens int) int { return (tokens + rwkvRows - 1) / rwkvRows }

// rwkvFloats is the scratch of rwkvTokenTask, and of rwkvOutTask.
func rwkvFloats(s attn.Shape) int {
	n := rwkvRows * max(s.KeyDim, s.ValueDim)
	return attn.ScratchFloats(n, n, s.KeyDim, rwkvRows)
}

// rwkvTokenTask computes the rule's inputs for some tokens of a row, head after head: those of a token lie together.
func rwkvTokenTask(s *attn.Scratch, t *rwkvArgs, task int) {
	c := t.c
	b, j := task/rwkvBlocks(c.KeyLen), task%rwkvBlocks(c.KeyLen)*rwkvRows
	width := rwkvRows * max(c.KeyDim, c.ValueDim)
	x, y, rest, inv := s.Floats(width), s.Floats(width), s.Floats(c.KeyDim), s.Floats(rwkvRows)
	n := min(rwkvRows, c.KeyLen-j)
	for h := range c.KVHeads {
		t.tokens(x, y, rest, inv[:n], b, j, h)
	}
}

// tokens does the tokens of a head from j on, one for each of inv.
func (t *rwkvArgs) tokens(x, y, rest, inv []float32, b, j, h int) {
	c, dk, n := t.c, t.c.KeyDim, len(inv)
	kk, ka := c.Learned[rwkvKK][h*dk:][:dk], c.Learned[rwkvKA][h*dk:][:dk]
	for a := range rest {
		rest[a] = 1 - ka[a]
	}
	// in copies the rows of an input to dst.
	in := func(dst []float32, v *attn.View) []float32 {
		kernel.Copy(kernel.Rows(dst, v.Dim), tile.HeadRows(v, b, j, h), n, v.Dim)
		return dst[:n*v.Dim]
	}
	key, by, erase := in(t.d.call.K.From(b, j, h), &c.K), in(t.d.x[2].From(b, j, h), &c.Extra[rwkvA]), t.d.x[1].From(b, j, h)[:n*dk]
	units(erase, key, kk, inv)
	copy(x, key) // k̃ = k∘(1-k_a) + k∘η∘k_a
	kernel.Times(x[:n*dk], by)
	kernel.TimesRows(ka, kernel.Rows(x, dk), n)
	kernel.TimesRows(rest, kernel.Rows(key, dk), n)
	kernel.Add(key, x)
	kernel.Times(by, erase)
	negativeExp(x, tile.HeadRows(&c.Extra[rwkvW], b, j, h), n, dk)
	kernel.Times(erase, x)

	v, first, mix := in(t.d.call.V.From(b, j, h), &c.V), in(x, &c.Extra[rwkvV1]), in(y, &c.Extra[rwkvM])
	kernel.Times(first, mix) // v' = v + v1∘m - v∘m
	kernel.Times(mix, v)
	kernel.Scale(-1, mix)
	kernel.Add(v, first)
	kernel.Add(v, mix)
}

// negativeExp writes e^-w of n rows to dst, one after the other.
func negativeExp(dst []float32, w kernel.Mat, n, cols int) {
	m := kernel.Rows(dst, cols)
	kernel.Copy(m, w, n, cols)
	kernel.Scale(-1, dst[:n*cols])
	kernel.ExpRows(m, m, n, cols)
}

// units sets the rows of dst to κ̂ = k∘kk / ‖k∘kk‖ and inv to 1/‖k∘kk‖ of each.
func units(dst, k, kk, inv []float32) {
	copy(dst, k)
	m := kernel.Rows(dst, len(kk))
	kernel.TimesRows(kk, m, len(inv))
	for i := range inv {
		row := dst[i*len(kk):][:len(kk)]
		norm := float64(kernel.SumSquares(row))
		if norm > 1e30 { // or beyond float32
			norm = 0
			for _, x := range row {
				norm += float64(x) * float64(x)
			}
		}
		inv[i] = float32(1 / math.Sqrt(1e-12+norm))
	}
	kernel.ScaleRows(inv, m, len(kk))
}

// rwkvTokenGradTask adds the gradients of one head's inputs, from those of the rule's inputs. A token without gradient, as in
// padding, is not looked at.
func rwkvTokenGradTask(s *attn.Scratch, t *rwkvArgs, h int) {
	c, g, dk := t.c, t.g, t.c.KeyDim
	kk, ka := c.Learned[rwkvKK][h*dk:][:dk], c.Learned[rwkvKA][h*dk:][:dk]
	dkk, dka := g.Learned[rwkvKK][h*dk:][:dk], g.Learned[rwkvKA][h*dk:][:dk]
	e, de, grow := s.Floats(dk), s.Floats(dk), s.Floats(dk)
	var inv [1]float32
	for b := range c.Batch {
		for j := range c.KeyLen {
			dkey, derase, dby, dv := t.d.grads.K.Row(b, j, h), t.d.dx[1].Row(b, j, h), t.d.dx[2].Row(b, j, h), t.d.grads.V.Row(b, j, h)
			if zeros(dkey) && zeros(derase) && zeros(dby) && zeros(dv) {
				continue
			}
			k, w, eta := c.K.Row(b, j, h), c.Extra[rwkvW].Row(b, j, h), c.Extra[rwkvA].Row(b, j, h)
			gk, gw, ga := g.K.Row(b, j, h), g.Extra[rwkvW].Row(b, j, h), g.Extra[rwkvA].Row(b, j, h)
			units(e, k, kk, inv[:])
			negativeExp(grow, kernel.Rows(w, dk), 1, dk)
			dot := float32(0)
			for a, x := range e {
				decayed := derase[a] * grow[a]
				gw[a] -= decayed * x
				de[a] = decayed + dby[a]*eta[a]
				ga[a] += dby[a]*x + dkey[a]*k[a]*ka[a]
				gk[a] += dkey[a] * (1 + (eta[a]-1)*ka[a])
				dka[a] += dkey[a] * k[a] * (eta[a] - 1)
				dot += de[a] * x
			}
			for a, x := range e {
				du := (de[a] - x*dot) * inv[0]
				gk[a] += du * kk[a]
				dkk[a] += du * k[a]
			}
			v, v1, m := c.V.Row(b, j, h), c.Extra[rwkvV1].Row(b, j, h), c.Extra[rwkvM].Row(b, j, h)
			gv, gv1, gm := g.V.Row(b, j, h), g.Extra[rwkvV1].Row(b, j, h), g.Extra[rwkvM].Row(b, j, h)
			for i, x := range dv {
				gv[i] += x * (1 - m[i])
				gv1[i] += x * m[i]
				gm[i] += x * (v1[i] - v[i])
			}
		}
	}
}

func zeros(x []float32) bool {
	for _, v := range x {
		if v != 0 {
			return false
		}
	}
	return true
}
