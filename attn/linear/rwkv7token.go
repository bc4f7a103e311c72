package linear

import (
	"math"

	"attnbench/attn"
)

// rwkvArgs are a call, the rule's call made from it, and their gradients.
type rwkvArgs struct {
	c *attn.Call
	d *ruleCall
	g *attn.Grads
	o attn.View // what the rule gave, before the norm, [batch, query, heads, value dim]; empty if it is not kept
}

// derive returns the call of the rule. Its k and v are k̃ and v', its extra inputs the log decay, κ̂/e^w, since the rule erases from the
// decayed state, and κ̂∘η. Its memory is that of ws since now.
func (m rwkv7) derive(ws *attn.Workspace, c *attn.Call) *ruleCall {
	d := openRule(ws, c)
	view := func(like attn.View) attn.View {
		return attn.ViewAs(ws.Floats(like.Batch*like.Time*like.Heads*like.Dim), like.Batch, like.Time, like.Heads, like.Dim)
	}
	d.call.K = view(c.K)
	d.x = [3]attn.View{c.Extra[rwkvW], view(c.K), view(c.K)}
	d.call.V = view(c.V)
	d.call.Extra = d.x[:3]
	attn.Parallel(ws, c.Batch*c.KVHeads, 0, rwkvArgs{c: c, d: d}, rwkvTokenTask)
	return d
}

// rwkvTokenTask computes the rule's inputs for one head of a row.
func rwkvTokenTask(_ *attn.Scratch, t *rwkvArgs, task int) {
	c := t.c
	b, h, dk := task/c.KVHeads, task%c.KVHeads, c.KeyDim
	kk, ka := c.Learned[rwkvKK][h*dk:][:dk], c.Learned[rwkvKA][h*dk:][:dk]
	for j := range c.KeyLen {
		k, w, eta := c.K.Row(b, j, h), c.Extra[rwkvW].Row(b, j, h), c.Extra[rwkvA].Row(b, j, h)
		key, erase, by := t.d.call.K.Row(b, j, h), t.d.x[1].Row(b, j, h), t.d.x[2].Row(b, j, h)
		unit(erase, k, kk)
		for a, x := range erase {
			key[a] = k[a] * (1 + (eta[a]-1)*ka[a])
			by[a] = x * eta[a]
			erase[a] = x * exp32(-w[a])
		}
		v1, m, out := c.Extra[rwkvV1].Row(b, j, h), c.Extra[rwkvM].Row(b, j, h), t.d.call.V.Row(b, j, h)
		for i, v := range c.V.Row(b, j, h) {
			out[i] = v + (v1[i]-v)*m[i]
		}
	}
}

func exp32(x float32) float32 { return float32(math.Exp(float64(x))) }

// unit sets dst to κ̂ = k∘kk / ‖k∘kk‖ and returns 1/‖k∘kk‖.
func unit(dst, k, kk []float32) float32 {
	norm := 1e-12
	for a := range dst {
		dst[a] = k[a] * kk[a]
		norm += float64(dst[a]) * float64(dst[a])
	}
	inv := float32(1 / math.Sqrt(norm))
	for a := range dst {
		dst[a] *= inv
	}
	return inv
}

// rwkvTokenGradTask adds the gradients of one head's inputs, from those of the rule's inputs. A token without gradient, as in
// padding, is not looked at.
func rwkvTokenGradTask(s *attn.Scratch, t *rwkvArgs, h int) {
	c, g, dk := t.c, t.g, t.c.KeyDim
	kk, ka := c.Learned[rwkvKK][h*dk:][:dk], c.Learned[rwkvKA][h*dk:][:dk]
	dkk, dka := g.Learned[rwkvKK][h*dk:][:dk], g.Learned[rwkvKA][h*dk:][:dk]
	e, de := s.Floats(dk), s.Floats(dk)
	for b := range c.Batch {
		for j := range c.KeyLen {
			dkey, derase, dby, dv := t.d.grads.K.Row(b, j, h), t.d.dx[1].Row(b, j, h), t.d.dx[2].Row(b, j, h), t.d.grads.V.Row(b, j, h)
			if zeros(dkey) && zeros(derase) && zeros(dby) && zeros(dv) {
				continue
			}
			k, w, eta := c.K.Row(b, j, h), c.Extra[rwkvW].Row(b, j, h), c.Extra[rwkvA].Row(b, j, h)
			gk, gw, ga := g.K.Row(b, j, h), g.Extra[rwkvW].Row(b, j, h), g.Extra[rwkvA].Row(b, j, h)
			inv, dot := unit(e, k, kk), float32(0)
			for a, x := range e {
				decayed := derase[a] * exp32(-w[a])
				gw[a] -= decayed * x
				de[a] = decayed + dby[a]*eta[a]
				ga[a] += dby[a]*x + dkey[a]*k[a]*ka[a]
				gk[a] += dkey[a] * (1 + (eta[a]-1)*ka[a])
				dka[a] += dkey[a] * k[a] * (eta[a] - 1)
				dot += de[a] * x
			}
			for a, x := range e {
				du := (de[a] - x*dot) * inv
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
