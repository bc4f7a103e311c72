package sparse

import "attnbench/attn"

func (m routing) cost(s attn.Shape, p attn.Pass) attn.Cost {
	inner := m.innerShape(s, s.Batch, s.QueryLen, s.KeyLen)
	c := dense.Cost(inner, p, int64(s.Heads*inner.QueryLen)*int64(inner.KeyLen))
	// Queries, keys and values are read where they lie, and outputs written: what is taken of them lies in scratch.
	c.Bytes = 4 * int64(s.Batch) * int64(s.KeyDim+s.ValueDim) * int64(s.QueryLen*s.Heads+s.KeyLen*s.KVHeads)
	floats := func(n ...int) int64 { return 4 * int64(attn.ScratchFloats(n...)) }
	rows, keys := inner.Batch*inner.QueryLen*s.Heads, inner.Batch*inner.KeyLen*s.KVHeads
	kept := floats(rows, rows*s.ValueDim, rows, keys)
	taken := floats(rows*s.KeyDim, keys*s.KeyDim, keys*s.ValueDim)
	shared := c.Shared
	c.Shared, c.PerWorker, c.Saved, c.State, c.Read = 0, 0, 0, 0, 0
	if s.Batch == 0 || s.QueryLen == 0 || p == attn.PassDecode {
		return c
	}
	c.PerWorker = 4 * int64(m.workerFloats(s, p))
	if p == attn.PassBackward {
		c.Bytes = 2*c.Bytes + kept
		// Sums over the clusters, which go to the gradients.
		c.FLOPs += 2 * int64(rows+keys) * int64(s.KeyDim+s.ValueDim)
		c.FLOPs += 2 * int64(s.Batch) * int64(s.QueryLen*s.Heads*s.KeyDim+s.KeyLen*s.KVHeads*(s.KeyDim+s.ValueDim))
		c.Shared = 2*taken + floats(rows*s.ValueDim) + shared
		return c
	}
	c.Saved = kept
	c.Shared = taken + kept + floats(s.Batch*(s.Heads+s.KVHeads)) + shared
	c.FLOPs += 2 * int64(rows) * int64(s.ValueDim) // means over the clusters
	// Lengths, and affinities but of what each cluster takes whole.
	for _, side := range [2][2]int{{s.QueryLen, s.Heads}, {s.KeyLen, s.KVHeads}} {
		of := 1
		if side[0] > m.o.Window {
			of += m.o.clusters(s)
		}
		c.FLOPs += 2 * int64(s.Batch) * int64(of) * int64(side[0]) * int64(side[1]) * int64(s.KeyDim)
	}
	return c
}
