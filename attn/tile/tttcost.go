package tile

import "attnbench/attn"

// Cost returns the closed-form costs of a pass.
func (m *TTT) Cost(s attn.Shape, p attn.Pass) attn.Cost {
	r := m.recurrence()
	_, batches, _ := r.chunkCounts(s)
	floats := func(n ...int) int64 { return 4 * int64(attn.ScratchFloats(n...)) }
	cost := attn.Cost{State: 4 * int64(s.Batch*s.KVHeads) * int64(2*modelLen(s)), Shared: 4 * int64(m.tableFloats(s))}
	cost.Read = cost.State
	before := 0
	if p == attn.PassDecode {
		before = s.KeyLen - s.QueryLen
	}
	keys := int64(s.KeyLen - before)
	cost.Bytes = 4 * int64(s.Batch) * (int64(s.Heads*2*s.QueryLen)*int64(s.KeyDim) + int64(s.KVHeads)*keys*int64(2*s.KeyDim+1))
	cost.FLOPs = m.flops(s, p, before)
	worker := m.forwardFloats(s)
	switch p {
	case attn.PassForward:
		cost.Shared += 4 * int64(r.planFloats(s))
		cost.Saved = floats(batches * modelLen(s))
	case attn.PassBackward:
		cost.Bytes *= 2
		cost.Shared += 4*int64(r.planFloats(s)) + floats(s.Batch*s.KVHeads*m.tttGrads(s))
		worker = m.backwardFloats(s)
	case attn.PassDecode:
		cost.Bytes += 2 * cost.State
	}
	if s.Batch > 0 {
		cost.PerWorker = 4 * int64(worker)
	}
	return cost
}

// flops counts the products of a row with W and others of its size, those of pairs of a query and a key of its batch, and the sums over a row
// that norms and the gradient take, behind so many tokens.
func (m *TTT) flops(s attn.Shape, p attn.Pass, before int) int64 {
	d, group := int64(s.KeyDim), int64(s.Heads/s.KVHeads)
	var full, square, pairs, rows int64 // products with [d+1, d], with [d, d], of pairs, of a row
	for j := before; j < s.KeyLen; {
		place := j % m.Batch
		n := min(m.Batch-place, s.KeyLen-j)
		first := max(j, s.KeyLen-s.QueryLen)
		tokens, queries := int64(n), group*int64(max(0, j+n-first))
		behind := j+n < s.KeyLen
		for i := first; i < j+n; i++ {
			pairs += group * int64(i-j+1)
		}
		full += tokens + queries // W
		rows += 5*tokens + queries
		if p == attn.PassBackward {
			full += tokens + queries // their gradients go into W's, and come through it
			square += tokens + queries
			rows += 15*tokens + 3*queries
			if behind { // and through what the batch gave to the model behind it
				full += tokens
				square += tokens
			}
		} else {
			if place > 0 {
				full += queries // U
			}
			if behind || p == attn.PassDecode {
				full += tokens
			}
			if place == 0 && j > 0 {
				full++ // the batch before goes into W
			}
		}
		j += n
	}
	pair := 2*d + 1
	if p == attn.PassBackward {
		pair = 6*d + 1
	}
	return 2 * int64(s.Batch*s.KVHeads) * (full*d*(d+1) + square*d*d + pairs*pair + rows*d)
}
