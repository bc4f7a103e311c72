package tile

import (
	"fmt"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Recurrence is linear attention over a matrix state, computed chunk by chunk:
//
//	S_t = diag(e^{g_t}) S_{t-1} + φ(k_t) v_tᵀ      [key dim, value dim], one a key/value head
//	z_t = z_{t-1} + φ(k_t)                         [key dim], with Normalize
//	o_t = r_t S_tᵀ φ(q_t)                          read after write
//
// where r_t is Scale, or 1/(φ(q_t)·z_t + Eps) with Normalize (0 where that sum is 0), and g_t ≤ 0 is
// the log decay, one for all channels of a head or one a channel, if Decay says so. Within a block of up to 32 tokens
// the sum is taken over pairs, as in attention; from block to block through S (Hua et al. 2022, arXiv:2202.10447 §3.3; Yang
// et al. 2023, arXiv:2312.06635 §4). With Write, each key is multiplied by a factor of its token. With Before, a query reads S_{t-1}, and
// Own adds what its own token gives.
//
// Queries and keys may have fewer heads than Shape says (groups that share them); gradients want one for each.
//
// The state of a segment, in Call.Initial and Call.Final, is S and z of each key/value head in turn.
// Numbers of decayed states below 1e-30 become 0 every 256 tokens, so that none stays subnormal.
//
// Forward runs in recurforward.go (who does what), recurblock.go (a block) and recurdecay.go (its decays); Backward
// in recurgrad.go, by chunks; decoding in recurstate.go.
type Recurrence struct {
	Chunk     int     // tokens between the states that Forward keeps for Backward, at least 1; a block has no more
	Map       Feature // φ, on queries and keys
	Normalize bool    // only without decay
	Eps       float32
	Floor     float32 // with Normalize, the least that is divided by; 0 for none
	Scale     float32 // of the outputs, without Normalize; 0 means 1/√(key dim)
	Decay     Decay   // which g there is, in Call.Extra[0]; causal only
	Fixed     bool    // g is not an input: it lies anywhere, and has no gradient
	Write     bool    // Call.Extra[1], [batch, key, kv heads, 1], multiplies keys; causal only
	Before    bool    // a query reads before its own token decays and writes; causal only
	Own       Own     // what a query's own token gives besides; causal only
	Dual      bool    // o_t = r_t S_t q_t: queries are as wide as values, outputs as keys; ChannelDecay only, and no Backward

	Part    int // the first part of Call.Saved that is the recurrence's
	Reserve int // floats of scratch that each worker takes at least
}

// Feature is an elementwise feature map.
type Feature uint8

const (
	Identity Feature = iota
	ELU1             // elu(x) + 1: x+1 above 0, e^x below
	ReLU
)

// Decay is how a state fades before each write.
type Decay uint8

const (
	NoDecay      Decay = iota
	HeadDecay          // g is [batch, key, kv heads, 1]: one factor for the whole state of a head
	ChannelDecay       // g is [batch, key, kv heads, key dim]: one a row of the state
)

// Own is what the token of a query gives to its output, whatever the state holds.
type Own uint8

const (
	OwnNothing Own = iota
	OwnSkip        // d_h v_t, with d [heads] in Call.Learned[0]
	OwnBonus       // (Σ_c q_tc u_hc k_tc) v_t, with u [heads, key dim] in Call.Learned[0]
)

// width is the number of learned numbers of a head.
func (o Own) width(s attn.Shape) int {
	switch o {
	case OwnSkip:
		return 1
	case OwnBonus:
		return s.KeyDim
	}
	return 0
}

// width is the number of log decays of a token and head.
func (d Decay) width(s attn.Shape) int {
	switch d {
	case HeadDecay:
		return 1
	case ChannelDecay:
		return s.KeyDim
	}
	return 0
}

// recurSplit is the number of (segment, head) pairs from which on each is one task of Backward; below it,
// chunks run in parallel too. Both ways give the same bits.
const recurSplit = 8

// Carry returns the numbers of state of one segment.
func (r *Recurrence) Carry(s attn.Shape) int { return s.KVHeads * r.stateLen(s) }

func (r *Recurrence) stateLen(s attn.Shape) int {
	n := s.KeyDim * s.ValueDim
	if r.Normalize {
		n += s.KeyDim
	}
	return n
}

// recordLen is what one chunk keeps: a state, and the sums of the log decays over the chunk.
func (r *Recurrence) recordLen(s attn.Shape) int {
	return r.stateLen(s) + r.Decay.width(s)
}

// recurArgs is one pass over the segments lo ≤ i < hi of a call. Chunks are counted over all its segments.
type recurArgs struct {
	Recurrence
	c       *attn.Call
	g       *attn.Grads
	lo, hi  int
	keys    []int32   // first key chunk of each segment, of all key chunks of a head; one more at the end
	queries []int32   // the same for query chunks, unless causal
	records []float32 // [kv heads, key chunks, recordLen]: the state before each chunk (causal)
	sums    []float32 // [segments of the call, kv heads, stateLen]: the state of all keys (not causal)
	factors []float32 // [batch, heads, query]: r, for Backward
	grads   []float32 // [kv heads, chunks, stateLen]: gradient of the state after each chunk (causal)
	dsums   []float32 // as sums, its gradient
	down    []float32 // [segments of the call, heads, Own.width]: gradients of what Own learned
	initial []float32
	final   []float32
	lens    []int // tokens that the state of a row holds, when decoding
	byRow   bool  // initial and final are the states of batch rows, not of segments

	groups, panels int // tasks of a segment in forward: of heads, and of columns of the values
}

func (a *recurArgs) causal() bool { return a.c.Mask == attn.Causal }

// plan lays out the chunks of all segments.
func (a *recurArgs) plan(ws *attn.Workspace) {
	n := a.c.NumSegments()
	a.keys = ws.Ints(n + 1)
	a.keys[0] = 0
	for i := range n {
		a.keys[i+1] = a.keys[i] + int32(a.chunks(a.c.Segment(i).Keys))
	}
	if a.causal() {
		return
	}
	a.queries = ws.Ints(n + 1)
	a.queries[0] = 0
	for i := range n {
		a.queries[i+1] = a.queries[i] + int32(a.chunks(a.c.Segment(i).Queries))
	}
}

// heads, keyChunks and queryChunks are the numbers of tasks of the segments lo to hi.
func (a *recurArgs) heads() int       { return (a.hi - a.lo) * a.c.KVHeads }
func (a *recurArgs) keyChunks() int   { return int(a.keys[a.hi]-a.keys[a.lo]) * a.c.KVHeads }
func (a *recurArgs) queryChunks() int { return int(a.queries[a.hi]-a.queries[a.lo]) * a.c.KVHeads }

// head returns the segment and the key/value head of a task that is one of heads.
func (a *recurArgs) head(task int) (segment, kv int) {
	return a.lo + task/a.c.KVHeads, task % a.c.KVHeads
}

// chunk returns the key/value head and the chunk of a task that is one of keyChunks or queryChunks.
func (a *recurArgs) chunk(starts []int32, task int) (kv, chunk int) {
	first := int(starts[a.lo])
	n := int(starts[a.hi]) - first
	return task / n, first + task%n
}

func (a *recurArgs) chunks(tokens int) int { return (tokens + a.Chunk - 1) / a.Chunk }

// find returns the segment and the chunk in it of chunk i.
func find(starts []int32, i int) (segment, chunk int) {
	lo, hi := 0, len(starts)-1 // starts[lo] ≤ i < starts[hi]
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; int(starts[mid]) <= i {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, i - int(starts[lo])
}

func last(starts []int32) int { return int(starts[len(starts)-1]) }

func (a *recurArgs) record(kv, chunk int) []float32 {
	n := a.recordLen(a.c.Shape)
	i := (kv*last(a.keys) + chunk) * n
	return a.records[i : i+n]
}

func (a *recurArgs) sum(of []float32, segment, kv int) []float32 {
	n := a.stateLen(a.c.Shape)
	i := (segment*a.c.KVHeads + kv) * n
	return of[i : i+n]
}

// state returns head kv's part of carried states x, nil for nil.
func (a *recurArgs) state(x []float32, segment, kv int) []float32 {
	if x == nil {
		return nil
	}
	if a.byRow {
		segment = a.c.Segment(segment).Row
	}
	return a.sum(x, segment, kv)
}

// factorRow returns the saved factors of query head h of a segment.
func (a *recurArgs) factorRow(g attn.Segment, h int) []float32 {
	i := (g.Row*a.c.Heads+h)*a.c.QueryLen + g.Query0
	return a.factors[i : i+g.Queries]
}

// Check reports a recurrence that cannot be computed.
func (r *Recurrence) Check() error {
	if r.Chunk < 1 || r.Chunk > 1<<12 {
		return attn.OptionError("chunk", r.Chunk, "an integer from 1 to 4096")
	}
	if r.Decay != NoDecay && r.Normalize {
		return fmt.Errorf("recurrence: decayed and normalised: want one of them")
	}
	if r.Decay == NoDecay && (r.Fixed || r.Write || r.Before || r.Own != OwnNothing) {
		return fmt.Errorf("recurrence: an option of decayed recurrences without decay")
	}
	if r.Dual && (r.Decay != ChannelDecay || r.Write || r.Before || r.Own != OwnNothing || r.Map != Identity) {
		return fmt.Errorf("recurrence: a dual one with more than a decay a channel")
	}
	return nil
}

// reserve is what Parallel is to reserve for tasks that take n floats.
func (r *Recurrence) reserve(n int) int { return max(n, r.Reserve) }

// weakDecay is the log decay from which on a state loses digits when it is multiplied by e^g: rounded to the same side
// again and again, e^g would wear it off at another rate. s + s·(e^g-1) does not round e^g.
const weakDecay = -0.25

// decayFactors sets a and b to what kernel.Decay takes for the log decays g.
func decayFactors(a, b, g []float32) {
	copy(a, g)
	kernel.Exp(a)
	for i, x := range g {
		b[i] = 0
		if x > weakDecay && x <= 0 {
			a[i] = 1
			b[i] = x * (1 + x*(1./2+x*(1./6+x*(1./24+x*(1./120+x*(1./720+x*(1./5040)))))))
		}
	}
}

// fade sets a and b, one a key channel, for the log decays g of one step: one a channel, or one for all.
func fade(a, b, g []float32) {
	n := len(g)
	decayFactors(a[:n], b[:n], g)
	for i := n; i < len(a); i++ {
		a[i], b[i] = a[0], b[0]
	}
}

// recurTiny is where a decayed state ends: subnormal numbers are slow on some processors, and a
// decay that rounds back to the same number would keep them for ever. A state is looked at each
// time that its length passes a multiple of recurFlush tokens.
const (
	recurTiny  = 1e-30
	recurFlush = 256
)

// flush sets the tiny numbers of a state to 0 when n more tokens after the first before pass a
// multiple of recurFlush.
func (r *Recurrence) flush(s []float32, before, n int) {
	if r.Decay != NoDecay && before/recurFlush != (before+n)/recurFlush {
		kernel.FlushBelow(recurTiny, s)
	}
}

// before returns the number of tokens in front of token t of segment g.
func (a *recurArgs) before(g attn.Segment, t int) int {
	if a.lens != nil {
		t += a.lens[g.Row]
	}
	return t
}

// recurPlace is a run of tokens of one key/value head: a chunk, or a block of one.
type recurPlace struct {
	*recurArgs
	attn.Segment
	kv     int
	n      int // keys of the run; without the causal mask, queries
	first  int // the first of them in the segment
	row0   int // row r of the run has query query0+r when row0 ≤ r < row1
	row1   int
	query0 int
}

// at goes to up to n keys of g from the first on. Under the causal mask a run holds the queries whose last key is
// one of its own: those at the positions of its keys, with Before those at the next.
func (t *recurPlace) at(g attn.Segment, kv, first, n int) {
	t.Segment, t.kv, t.first = g, kv, first
	t.n = min(n, g.Keys-first)
	t.query0 = first - g.Offset()
	if t.Before {
		t.query0++
	}
	t.row0 = min(t.n, max(0, -t.query0))
	t.row1 = max(t.row0, min(t.n, g.Queries-t.query0))
}

// atQueries goes to up to n queries of g from the first on.
func (t *recurPlace) atQueries(g attn.Segment, kv, first, n int) {
	t.Segment, t.kv = g, kv
	t.first, t.query0, t.row0 = first, first, 0
	t.n = min(n, g.Queries-first)
	t.row1 = t.n
}

func (t *recurPlace) group() int { return t.c.Heads / t.c.KVHeads }

// queryHead returns query head i of the group.
func (t *recurPlace) queryHead(i int) int { return t.kv*t.group() + i }

// keyRows returns the n rows of a key-side view from the run's first on.
func (t *recurPlace) keyRows(x *attn.View) kernel.Mat {
	return kernel.Rows(x.From(t.Row, t.Key0+t.first, t.kv*x.Heads/t.c.KVHeads), x.TimeStride)
}

// queryRows returns the rows of a query-side view from row r on.
func (t *recurPlace) queryRows(x *attn.View, r, h int) kernel.Mat {
	return kernel.Rows(x.From(t.Row, t.Query0+t.query0+r, h*x.Heads/t.c.Heads), x.TimeStride)
}
