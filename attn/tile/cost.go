package tile

import "attnbench/attn"

// Cost returns the closed-form costs of a pass, given the pairs of one batch row that all its
// heads admit together.
func (a Softmax) Cost(s attn.Shape, p attn.Pass, pairs int64) attn.Cost {
	dk, dv := int64(s.KeyDim), int64(s.ValueDim)
	batch, heads, kv := int64(s.Batch), int64(s.Heads), int64(s.KVHeads)
	q := batch * int64(s.QueryLen) * heads
	k := batch * int64(s.KeyLen) * kv
	pairs *= batch
	var c attn.Cost
	switch p {
	case attn.PassForward:
		c.FLOPs = 2 * pairs * (dk + dv)
		c.Bytes = 4 * (q + k) * (dk + dv)
		c.PerWorker = a.forwardScratch(s, s.QueryLen)
		c.Saved = bytesOf(int(q))
	case attn.PassBackward:
		c.FLOPs = 2 * pairs * (3*dk + 2*dv)
		c.Bytes = 4 * (q*(2*dk+2*dv+1) + 2*k*(dk+dv)) // q, dq, o, do and the sums; k, v and their gradients
		if s.Batch > 0 && s.QueryLen > 0 && s.KeyLen > 0 {
			n := backwardSplit(s)
			c.Shared = bytesOf(int(q)) + bytesOf(n.extraQ(s)) + bytesOf(n.extraKV(s)*s.KeyDim) + bytesOf(n.extraKV(s)*s.ValueDim)
			c.PerWorker = 4 * int64(max(a.reserve, a.backwardFloats(s)))
			if a.SinkLogit {
				c.Shared += bytesOf(s.Batch * s.Heads)
			}
		}
	case attn.PassDecode:
		c = a.decodeCost(s)
		c.FLOPs = 2 * pairs * (dk + dv)
	}
	tokens := int64(s.KVHeads) * int64(a.held(s.KeyLen))
	c.State = 4 * batch * (tokens*(dk+dv) + a.summaryFloats(s, s.KeyLen))
	c.Read = 4 * batch * a.reads(s, s.KeyLen)
	return c
}

// decodeCost returns the bytes of Extend by s.QueryLen tokens.
func (a Softmax) decodeCost(s attn.Shape) (c attn.Cost) {
	before, q, dims := s.KeyLen-s.QueryLen, s.QueryLen, s.KeyDim+s.ValueDim
	state := int64(s.KVHeads)*int64(a.held(before))*int64(dims) + a.summaryFloats(s, before)
	if q == 1 {
		state = a.reads(s, before)
	}
	c.Bytes = 4 * int64(s.Batch) * (state + int64(dims)*int64(q*(s.Heads+s.KVHeads)))
	if q == 0 || s.Batch == 0 {
		return c
	}
	keys := a.held(s.KeyLen)
	if limit := a.limit(); limit > 0 && s.KeyLen > limit && q > 1 {
		keys = a.held(before) + q
		if before > 0 {
			n := s.Batch * s.KVHeads * keys
			c.Shared = bytesOf(n*s.KeyDim) + bytesOf(n*s.ValueDim)
		}
	}
	if q < few {
		c.Shared += bytesOf(decodeFloats(s, s.Batch, q, decodeParts(keys)))
		c.PerWorker = 4 * int64(max(a.reserve, decodeWorkerFloats(s, q)))
	} else {
		c.PerWorker = a.forwardScratch(s, q)
	}
	return c
}

func (a Softmax) forwardScratch(s attn.Shape, queries int) int64 {
	if s.Batch == 0 || queries == 0 {
		return 0
	}
	return 4 * int64(max(a.reserve, a.forwardFloats(s, forwardGroup(s, queries))))
}

// bytesOf returns what a workspace counts for a slice of n floats.
func bytesOf(n int) int64 { return 4 * int64(attn.ScratchFloats(n)) }
