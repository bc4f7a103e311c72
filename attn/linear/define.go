package linear

import "attnbench/attn"

// defineFeatures is linear attention over n features, one query and one token at a time:
//
//	S_t = S_{t-1} + φ(k_t) v_tᵀ,  z_t = z_{t-1} + φ(k_t)
//	o_t = S_tᵀ φ(q_t) / divisor(φ(q_t)·z_t)
//
// with S [n, value dim] and z [n] zero, or Initial, at the start; without the mask t is the last token for every query. A query in
// front of the first key, or a divisor of 0, gives zeros. φ fills f [n] with the
// features of a query or key and its position.
func defineFeatures(c *attn.Call64, n int, phi func(f []float64, key bool, x []float64, pos int), divisor func(float64) float64) {
	c.ZeroPadding()
	dv, size := c.ValueDim, n*(c.ValueDim+1)
	s, f := make([]float64, size), make([]float64, n)
	c.EachGroup(func(heads []attn.Head64) {
		h := heads[0]
		clear(s)
		if c.Initial != nil {
			copy(s, c.Initial[(h.Index*c.KVHeads+h.KV)*size:])
		}
		z := s[n*dv:]
		read := func(i int) {
			for _, h := range heads {
				out := h.Out(i)
				clear(out)
				phi(f, false, h.Q(i), h.Pos0+i+h.Offset())
				den := divisor(attn.Dot(f, z))
				if den == 0 {
					continue
				}
				read64(out, s, f, 1)
				for b := range out {
					out[b] /= den
				}
			}
		}
		for j := range h.Keys {
			value := h.V(j)
			phi(f, true, h.K(j), h.Pos0+j)
			for a, x := range f {
				z[a] += x
				attn.Axpy(x, value, s[a*dv:][:dv])
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
				for _, h := range heads {
					clear(h.Out(i))
				}
			}
		}
		if c.Final != nil {
			copy(c.Final[(h.Index*c.KVHeads+h.KV)*size:], s)
		}
	})
}
