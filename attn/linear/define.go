package linear

import "attnbench/attn"

// defineFeatures is linear attention over n features, one query and one token at a time:
//
//	S_t = S_{t-1} + φ(k_t) v_tᵀ,  z_t = z_{t-1} + φ(k_t)
//	o_t = S_tᵀ φ(q_t) / divisor(φ(q_t)·z_t)
//
// with S [n, value dim] and z [n] zero, or Initial, at the start; without the mask t is the last token for every query. A query in
// front of the first key, or a divisor of 0, gives zeros. φ gets a query or key and its position.
func defineFeatures(c *attn.Call64, n int, phi func(key bool, x []float64, pos int) []float64, divisor func(float64) float64) {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		dv, size := c.ValueDim, n*(c.ValueDim+1)
		s := make([]float64, size)
		if c.Initial != nil {
			copy(s, c.Initial[(h.Index*c.KVHeads+h.KV)*size:])
		}
		z := s[n*dv:]
		read := func(i int) {
			q, out := phi(false, h.Q(i), h.Pos0+i+h.Offset()), h.Out(i)
			clear(out)
			read64(out, s, q, 1)
			den := divisor(dot64(q, z))
			if den == 0 {
				clear(out)
				return
			}
			for b := range out {
				out[b] /= den
			}
		}
		for j := range h.Keys {
			value := h.V(j)
			for a, x := range phi(true, h.K(j), h.Pos0+j) {
				z[a] += x
				axpy64(x, value, s[a*dv:][:dv])
			}
			if i := j - h.Offset(); c.Mask == attn.Causal && i >= 0 {
				read(i)
			}
		}
		for i := range h.Queries {
			switch {
			case c.Mask != attn.Causal:
				read(i)
			case i+h.Offset() < 0:
				clear(h.Out(i))
			}
		}
		if c.Final != nil {
			copy(c.Final[(h.Index*c.KVHeads+h.KV)*size:], s)
		}
	})
}
