package tile

import (
	"math/bits"

	"attnbench/attn"
)

// merges is the number of ranges, or levels, that are added to another before position i.
func merges(i int) int {
	if i == 0 {
		return 0
	}
	return bits.TrailingZeros(uint(i))
}

// Cost returns the closed-form costs of a pass; its Bytes count only the state that decoding reads.
func (r *Levels) Cost(s attn.Shape, p attn.Pass) attn.Cost {
	held := s.KeyLen
	cost := attn.Cost{}
	state := 2 * int64(s.KeyDim) * int64(s.ValueDim)
	heads, groups := int64(s.Batch)*int64(s.Heads), int64(s.Batch)*int64(s.KVHeads)
	if p == attn.PassDecode {
		before := s.KeyLen - s.QueryLen
		for i := before; i < s.KeyLen; i++ { // a query reads its own token and the levels before; a token is one, and merges others
			cost.FLOPs += heads*(state*int64(bits.OnesCount(uint(i)))+2*int64(s.KeyDim+2*s.ValueDim)) + groups*state*int64(1+merges(i))
		}
		cost.State, cost.Read = int64(s.Batch)*int64(levelsOf(held))*levelBytes(s), int64(s.Batch)*int64(usedOf(held))*levelBytes(s)
		cost.Bytes = int64(s.Batch) * int64(usedOf(before)) * levelBytes(s)
		s.KeyLen = s.QueryLen
		cost.PerWorker = 4 * int64(r.extendFloats(s))
		if s.Batch == 0 {
			cost.PerWorker = 0
		}
		return cost
	}
	cost.State, cost.Read = int64(s.Batch)*int64(levelsOf(held))*levelBytes(s), int64(s.Batch)*int64(usedOf(held))*levelBytes(s)
	for i := max(0, s.KeyLen-s.QueryLen); i < s.KeyLen; i++ { // pairs within the block, ranges before it, and the skip
		cost.FLOPs += heads * (2*int64(i%lanes+1)*int64(s.KeyDim+s.ValueDim) + state*int64(bits.OnesCount(uint(i/lanes))) + 2*int64(s.ValueDim))
	}
	if whole := (s.KeyLen - 1) / lanes * lanes; s.KeyLen > 0 { // the last block's keys are in no range
		cost.FLOPs += groups * int64(whole) * state
		for b := 1; b <= whole/lanes; b++ {
			cost.FLOPs += groups * state * int64(merges(b))
		}
	}
	blocks := s.Batch * s.KVHeads * ((s.KeyLen + lanes - 1) / lanes)
	plan := r.planFloats(s)
	switch p {
	case attn.PassForward:
		cost.Saved = 4 * int64(attn.ScratchFloats(blocks*r.recordLen(s)))
		cost.Shared, cost.PerWorker = 4*int64(plan), 4*int64(r.blockFloats(s, rangesOf(s.KeyLen)))
	case attn.PassBackward:
		cost.FLOPs *= 2
		cost.Shared = 4 * int64(plan+attn.ScratchFloats(s.Batch*s.Heads*r.Own.width(s)))
		cost.PerWorker = 4 * int64(r.gradFloats(s, rangesOf(s.KeyLen)))
	}
	if s.Batch == 0 {
		cost.PerWorker = 0
	}
	return cost
}
