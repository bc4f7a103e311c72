package tile

import "attnbench/attn"

// Cost returns the closed-form costs of a pass, given the pairs of one batch row that all its
// heads admit together.
func (a Softmax) Cost(s attn.Shape, p attn.Pass, pairs int64) attn.Cost {
	dk, dv := int64(s.KeyDim), int64(s.ValueDim)
	batch := int64(s.Batch)
	q := batch * int64(s.QueryLen) * int64(s.Heads)
	k := batch * int64(s.KeyLen) * int64(s.KVHeads)
	pairs *= batch
	gates := int64(0) // bytes of the log decays
	if a.Forget {
		gates = 4 * batch * int64(s.KeyLen) * int64(s.Heads)
	}
	var c attn.Cost
	switch p {
	case attn.PassForward:
		c.FLOPs = 2 * pairs * (dk + dv)
		c.Bytes = 4*(q+k)*(dk+dv) + gates
		c.Saved = bytesOf(int(q))
	case attn.PassBackward:
		c.FLOPs = 2 * pairs * (3*dk + 2*dv)
		c.Bytes = 4*(q*(2*dk+2*dv+1)+2*k*(dk+dv)) + 2*gates // q, dq, o, do and the sums; k, v and their gradients
	case attn.PassDecode:
		c.FLOPs = 2 * pairs * (dk + dv)
		before := s.KeyLen - s.QueryLen
		state := int64(a.held(before))*int64(s.KVHeads)*a.tokenFloats(s) + a.summaryFloats(s, before)
		if s.QueryLen == 1 {
			state = a.reads(s, before)
		}
		c.Bytes = 4*batch*(state+(dk+dv)*int64(s.QueryLen*(s.Heads+s.KVHeads))) + gates
	}
	c.Shared, c.PerWorker = a.Scratch(s, p)
	tokens := int64(s.KVHeads) * int64(a.held(s.KeyLen))
	c.State = 4*batch*(tokens*a.tokenFloats(s)+a.summaryFloats(s, s.KeyLen)) + gates
	c.Read = 4*batch*a.reads(s, s.KeyLen) + gates
	return c
}

// Scratch returns what a pass takes of the workspace, in bytes: shared, and for each worker.
func (a Softmax) Scratch(s attn.Shape, p attn.Pass) (shared, worker int64) {
	switch p {
	case attn.PassForward:
		if worker = a.forwardScratch(s, s.QueryLen); worker > 0 {
			shared = bytesOf(a.gateFloats(s))
		}
		return shared, worker
	case attn.PassDecode:
		return a.decodeScratch(s)
	}
	if s.Batch == 0 || s.QueryLen == 0 || s.KeyLen == 0 {
		return 0, 0
	}
	n := backwardSplit(s)
	shared = bytesOf(s.Batch*s.QueryLen*s.Heads) + bytesOf(n.extraQ(s)) + bytesOf(n.extraKV(s)*s.KeyDim) + bytesOf(n.extraKV(s)*s.ValueDim)
	shared += bytesOf(a.gateFloats(s)) + bytesOf(a.forgetSums(s))
	if a.SinkLogit {
		shared += bytesOf(s.Batch * s.Heads)
	}
	return shared, 4 * int64(max(a.reserve, a.backwardFloats(s)))
}

// decodeScratch returns the bytes of Extend by s.QueryLen tokens.
func (a Softmax) decodeScratch(s attn.Shape) (shared, worker int64) {
	before, q := s.KeyLen-s.QueryLen, s.QueryLen
	if q == 0 || s.Batch == 0 {
		return 0, 0
	}
	keys := a.held(s.KeyLen)
	if limit := a.limit(); limit > 0 && s.KeyLen > limit && q > 1 {
		keys = a.held(before) + q
		if before > 0 {
			n := s.Batch * s.KVHeads * keys
			shared = bytesOf(n*s.KeyDim) + bytesOf(n*s.ValueDim)
		}
	}
	shared += bytesOf(a.gateFloats(s))
	if q >= few {
		return shared, a.forwardScratch(s, q)
	}
	return shared + bytesOf(decodeFloats(s, s.Batch, q, decodeParts(keys))), 4 * int64(max(a.reserve, a.decodeWorkerFloats(s, q)))
}

func (a Softmax) forwardScratch(s attn.Shape, queries int) int64 {
	if s.Batch == 0 || queries == 0 {
		return 0
	}
	return 4 * int64(max(a.reserve, a.forwardFloats(s, forwardGroup(s, queries))))
}

// bytesOf returns what a workspace counts for a slice of n floats.
func bytesOf(n int) int64 { return 4 * int64(attn.ScratchFloats(n)) }
