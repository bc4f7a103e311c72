package tile

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Delta is linear attention whose state unlearns before it learns, the delta rule, computed chunk by chunk:
//
//	S'_t = diag(e^{g_t}) S_{t-1}                  [key dim, value dim], one a key/value head
//	w_t  = β_t (v_t - S'_tᵀ k_t)                  what is new in the value
//	S_t  = S'_t + k_t w_tᵀ
//	o_t  = S_tᵀ q_t / √(key dim)                  read after write
//
// β is [batch, key, kv heads, 1], the last of Call.Extra; g_t ≤ 0 is the log decay as in Recurrence, Call.Extra[0] if there is one.
// Under the causal mask only.
//
// Given the w, this is a Recurrence with w in place of v: so it runs on the blocks, decays and gradients of one. Within a block
// of up to 32 tokens the w solve a triangular system (the WY or UT form: Yang et al. 2024, arXiv:2406.06484 §3.2; with
// decays Yang et al. 2024, arXiv:2412.06464 §3.3),
//
//	(I + diag(β)·A) W = diag(β)·(V - K'·S),  A_ij = Σ_c k_ic k_jc e^{g_{j+1,c}+…+g_{i,c}} for j < i
//
// where K' are the keys with their decays since the start of the block. It is solved for the values at hand, by substitution: the
// inverse is not needed, as blocks follow one another.
//
// The state of a segment, in Call.Initial and Call.Final, is S of each key/value head in turn.
//
// Forward runs in deltaforward.go (who does what) and deltablock.go (a block); Backward in deltagrad.go, by chunks; decoding in
// deltastate.go.
type Delta struct {
	Chunk int     // tokens between the states that Forward keeps for Backward, at least 1; a block has no more
	Decay Decay   // which g there is
	Scale float32 // of the outputs; 0 means 1/√(key dim)

	// Erase: keys erase and write apart. Call.Extra is g, a and b, all [batch, key, kv heads, key dim], there is no β, and
	//
	//	w_t = -S'_tᵀ a_t,  S_t = S'_t + b_t w_tᵀ + k_t v_tᵀ
	//
	// It wants ChannelDecay; deltaerase.go and deltaerasegrad.go have it.
	Erase bool
}

// erasers and eraseKeys are the views a and b of Erase.
func erasers(extra []attn.View) *attn.View   { return &extra[1] }
func eraseKeys(extra []attn.View) *attn.View { return &extra[2] }

// recurrence is the one that the rule is, given the w.
func (d *Delta) recurrence() Recurrence {
	return Recurrence{Chunk: d.Chunk, Decay: d.Decay, Scale: d.Scale}
}

// Check reports a rule that cannot be computed.
func (d *Delta) Check() error {
	if d.Erase && d.Decay != ChannelDecay {
		return fmt.Errorf("delta rule: erasing apart: want a decay for each channel")
	}
	r := d.recurrence()
	return r.Check()
}

// Carry returns the numbers of state of one segment.
func (d *Delta) Carry(s attn.Shape) int { return s.KVHeads * s.KeyDim * s.ValueDim }

// ruleArgs is one pass over segments of a call.
type ruleArgs struct {
	recurArgs
	erase  bool
	errors []float32 // [kv heads, key chunks, Chunk, value dim]: v - S'ᵀk of each token, for Backward; with Erase the w
}

func (d *Delta) args(c *attn.Call) ruleArgs {
	r := d.recurrence()
	return ruleArgs{recurArgs: r.args(c), erase: d.Erase}
}

// beta is the view of β of a call, or of its gradient.
func beta(extra []attn.View) *attn.View { return &extra[len(extra)-1] }

// errorsOf returns the errors of a chunk, nil if none are kept.
func (a *ruleArgs) errorsOf(kv, chunk int) []float32 {
	if a.errors == nil {
		return nil
	}
	n := a.Chunk * a.c.ValueDim
	return a.errors[(kv*last(a.keys)+chunk)*n:][:n]
}

// Cost returns the closed-form costs of a pass.
func (d *Delta) Cost(s attn.Shape, p attn.Pass) attn.Cost {
	r := d.recurrence()
	cost := r.Cost(s, p)
	keys, width := int64(s.Batch)*int64(s.KVHeads)*int64(s.KeyLen), int64(s.KeyDim)*int64(s.ValueDim)
	if p == attn.PassDecode {
		keys = int64(s.Batch) * int64(s.KVHeads) * int64(s.QueryLen)
	}
	// Beside its write, a key reads the state of its head once.
	extra, bytes := 2*keys*width, 4*keys
	if d.Erase { // and writes twice
		extra, bytes = 2*extra, 4*keys*2*int64(s.KeyDim)
	}
	_, chunks, _ := r.chunkCounts(s)
	floats := func(n int) int64 { return 4 * int64(n) }
	none := s.Batch == 0
	switch p {
	case attn.PassForward:
		cost.PerWorker = floats(d.forwardFloats(s))
		cost.Saved += floats(attn.ScratchFloats(chunks * d.Chunk * s.ValueDim))
	case attn.PassBackward:
		extra, bytes = 2*extra, 2*bytes
		cost.Shared, cost.PerWorker = floats(r.planFloats(s)), floats(d.backwardFloats(s))
	case attn.PassDecode:
		cost.PerWorker = floats(d.stepFloats(s))
		if s.QueryLen >= recurStep {
			cost.PerWorker = floats(d.forwardFloats(s))
		}
	}
	if none {
		cost.PerWorker = 0
	}
	cost.FLOPs += extra
	cost.Bytes += bytes
	return cost
}

// ruleRows is the number of rows of a block that are solved one by one; from one such group to the next the substitution is a
// product.
const ruleRows = 8

// scaleByBeta multiplies row i of m by β of token i of the place.
func scaleByBeta(t *recurPlace, m kernel.Mat, cols int) {
	b := t.keyRows(beta(t.c.Extra))
	for i := range t.n {
		kernel.Scale(b.Data[i*b.Row], m.Data[i*m.Row:][:cols])
	}
}
