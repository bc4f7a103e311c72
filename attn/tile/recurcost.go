package tile

import "attnbench/attn"

// Cost returns the closed-form costs of a pass.
func (r *Recurrence) Cost(s attn.Shape, p attn.Pass) attn.Cost {
	b, h, kvh := int64(s.Batch), int64(s.Heads), int64(s.KVHeads)
	dk, dv, q, k := int64(s.KeyDim), int64(s.ValueDim), int64(s.QueryLen), int64(s.KeyLen)
	state := 4 * b * int64(r.Carry(s))
	reads := q // queries that see a key
	if p == attn.PassDecode {
		k = q // new keys
	} else if s.Mask == attn.Causal {
		reads = min(q, k)
	}
	width := dk * dv
	if r.Normalize {
		width += dk
	}
	cost := attn.Cost{State: state, Read: state}
	// A key is written to the state of its head once, a query reads it once.
	cost.FLOPs = 2 * b * (kvh*k + h*reads) * width
	switch r.Own {
	case OwnSkip:
		cost.FLOPs += 2 * b * h * reads * dv
	case OwnBonus:
		cost.FLOPs += 2 * b * h * reads * (dk + dv)
	}
	in := b * (h*q*dk + kvh*k*(dk+dv))
	if !r.Fixed {
		in += b * kvh * k * int64(r.Decay.width(s))
	}
	if r.Write {
		in += b * kvh * k
	}
	out := b * h * q * dv
	cost.Bytes = 4 * (in + out)
	switch p {
	case attn.PassForward:
		cost.Shared, cost.PerWorker = r.forwardScratch(s)
		cost.Saved = r.savedBytes(s)
	case attn.PassBackward:
		// The gradients of q and k and v, and that of the state, by the same two products each.
		cost.FLOPs *= 2
		cost.Bytes = 4 * (2*in + 2*out)
		cost.Shared, cost.PerWorker = r.backwardScratch(s)
	case attn.PassDecode:
		cost.Bytes += 2 * state
		cost.Shared, cost.PerWorker = 0, 4*int64(r.stepFloats(s))
		if s.QueryLen >= recurStep || s.Mask != attn.Causal {
			s.KeyLen = s.QueryLen
			cost.Shared, cost.PerWorker = r.forwardScratch(s)
		}
	}
	if s.Batch == 0 {
		cost.PerWorker = 0 // there is no task
	}
	return cost
}

// sizes of a call at full length, as plan and forward lay them out.
func (r *Recurrence) chunkCounts(s attn.Shape) (heads, keyChunks, queryChunks int) {
	up := func(n int) int { return (n + r.Chunk - 1) / r.Chunk }
	return s.Batch * s.KVHeads, s.Batch * s.KVHeads * up(s.KeyLen), s.Batch * s.KVHeads * up(s.QueryLen)
}

func (r *Recurrence) planFloats(s attn.Shape) int {
	if s.Mask == attn.Causal {
		return attn.ScratchFloats(s.Batch + 1)
	}
	return attn.ScratchFloats(s.Batch+1, s.Batch+1)
}

func (r *Recurrence) forwardScratch(s attn.Shape) (shared, worker int64) {
	heads, _, _ := r.chunkCounts(s)
	f := r.planFloats(s)
	if s.Mask != attn.Causal {
		f += attn.ScratchFloats(heads * r.stateLen(s))
	}
	return 4 * int64(f), 4 * int64(r.forwardFloats(s))
}

func (r *Recurrence) savedBytes(s attn.Shape) int64 {
	heads, chunks, _ := r.chunkCounts(s)
	n := attn.ScratchFloats(heads * r.stateLen(s))
	if s.Mask == attn.Causal {
		n = attn.ScratchFloats(chunks * r.recordLen(s))
	}
	if r.Normalize {
		n += attn.ScratchFloats(s.Batch * s.Heads * s.QueryLen)
	}
	return 4 * int64(n)
}

func (r *Recurrence) backwardScratch(s attn.Shape) (shared, worker int64) {
	heads, chunks, queryChunks := r.chunkCounts(s)
	f := r.planFloats(s)
	split := heads < recurSplit
	if s.Mask == attn.Causal {
		if split {
			f += attn.ScratchFloats(chunks * r.stateLen(s))
		}
	} else {
		f += attn.ScratchFloats(heads * r.stateLen(s))
		if split {
			f += attn.ScratchFloats(queryChunks * r.stateLen(s))
		}
	}
	if r.Own != OwnNothing {
		f += attn.ScratchFloats(s.Batch * s.Heads * r.Own.width(s))
	}
	return 4 * int64(f), 4 * int64(r.backwardFloats(s))
}
