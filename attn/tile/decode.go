package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

const (
	few         = 8    // from so many queries on, a segment is computed in tiles
	decodeBlock = 2048 // keys of a softmax step, the fewer the more queries share them
	mostParts   = 8    // that the keys of a sequence are split into
	firstRows   = 16   // that are asked for before a stream begins
)

// decodeParts returns how many tasks share the keys of a head: enough for several cores at long
// contexts, whatever their number, so that the result does not depend on it.
func decodeParts(keys int) int { return min(max(keys/2048, 1), mostParts) }

// decode computes the segments of less than few queries, one query at a time over the cache.
func (a Softmax) decode(ws *attn.Workspace, c *attn.Call, s *Cache) {
	queries, keys := 0, 0
	for _, g := range c.Segments {
		if g.Queries < few {
			queries, keys = max(queries, g.Queries), max(keys, g.Keys)
		}
	}
	if queries == 0 {
		return
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	args := decodeArgs{Softmax: a, call: *c, cache: s, scale: a.scale(c), queries: queries, parts: decodeParts(keys)}
	args.gates = a.gates(ws, c)
	args.partial = ws.Floats(decodeFloats(c.Shape, len(c.Segments), queries, args.parts))
	tasks := len(c.Segments) * c.KVHeads * args.parts
	attn.Parallel(ws, tasks, max(a.reserve, a.decodeWorkerFloats(c.Shape, queries)), args, func(s *attn.Scratch, a *decodeArgs, task int) {
		a.run(s, task)
	})
	args.merge()
}

func decodeFloats(s attn.Shape, segments, queries, parts int) int {
	return segments * s.Heads * queries * parts * (s.ValueDim + 2)
}

func (a Softmax) decodeWorkerFloats(s attn.Shape, queries int) int {
	return attn.ScratchFloats(queries*s.Heads/s.KVHeads*s.KeyDim, decodeBlock, decodeBlock, a.widenFloats(s))
}

type decodeArgs struct {
	Softmax
	call    attn.Call
	cache   *Cache
	scale   float32
	queries int       // most of a segment
	parts   int       // most of a sequence
	gates   []float32 // see forget.go
	partial []float32 // [segments, heads, queries, parts] of sums Σ w·v, the maximum score and Σ w
}

// part returns the partial result of query i of a head.
func (a *decodeArgs) part(segment, head, i, part int) []float32 {
	n := a.call.ValueDim + 2
	return a.partial[(((segment*a.call.Heads+head)*a.queries+i)*a.parts+part)*n:][:n]
}

// run computes one part of the keys for all query heads of a key/value head.
func (a *decodeArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	part, kv, segment := task%a.parts, task/a.parts%c.KVHeads, task/a.parts/c.KVHeads
	g := c.Segments[segment]
	parts := decodeParts(g.Keys)
	if g.Queries >= few || part >= parts {
		return
	}
	group, dk := c.Heads/c.KVHeads, c.KeyDim
	d := decodeHead{args: a, segment: g, k: sideOf(&c.K, g, kv), v: sideOf(&c.V, g, kv)}
	q := s.Floats(a.queries * group * dk)
	d.scores, d.slots, d.room = s.Floats(decodeBlock), s.Ints(decodeBlock), s.Floats(a.widenFloats(c.Shape))
	for i := range g.Queries {
		for h := range group {
			x := q[(i*group+h)*dk:][:dk]
			for e, y := range c.Q.Row(g.Row, g.Query0+i, kv*group+h) {
				x[e] = y * a.scale
			}
			r := a.part(segment, kv*group+h, i, part)
			clear(r)
			r[c.ValueDim] = kernel.NegInf
		}
	}
	from, to := g.Keys*part/parts, g.Keys*(part+1)/parts
	step := decodeBlock
	if g.Queries*group > 1 {
		step /= 4 // stays in the second-level cache for the next query
	}
	for lo := from; lo < to; lo += step {
		for i := range g.Queries {
			for h := range group {
				if a.Forget {
					d.bias.high, d.bias.low = gatesOf(a.gates, c, g, kv*group+h)
				}
				t := Tile{c.Mask, c.Layer, kv*group + h, i + g.Offset(), 1, g.Keys, segment, i, g.Pos0}
				d.block(a.part(segment, kv*group+h, i, part), q[(i*group+h)*dk:][:dk], t, lo, min(lo+step, to))
			}
		}
	}
}

// decodeHead is a worker's view of one key/value head.
type decodeHead struct {
	args    *decodeArgs
	segment attn.Segment
	k, v    side
	bias    bias
	scores  []float32
	slots   []int32
	room    []float32 // in which pairs are widened
}

// block takes the keys lo to hi-1 that the query q sees into the partial result r.
func (d *decodeHead) block(r, q []float32, t Tile, lo, hi int) {
	p := d.args.Pattern
	for run := p.Next(t, lo); run.Lo < min(run.Hi, hi); run = p.Next(t, run.Hi) {
		if !run.Full {
			d.scattered(r, q, t, run.Lo, min(run.Hi, hi))
			continue
		}
		for j := run.Lo; j < min(run.Hi, hi); {
			slot, n := d.stretch(j)
			n = min(n, min(run.Hi, hi)-j)
			// The values arrive while the keys are read, the next keys while the values are.
			kernel.Prefetch(d.v.rows(slot), min(n, firstRows), d.width(len(r)-2))
			d.dots(d.scores[:n], q, slot)
			if j+n+firstRows <= d.segment.Keys {
				kernel.Prefetch(d.k.rows(slot+n), firstRows, d.width(len(q)))
			}
			d.adjust(t, j, d.scores[:n])
			if d.weigh(r, d.scores[:n]) {
				d.combine(r[:len(r)-2], d.scores[:n], slot)
			}
			j += n
		}
	}
}

// adjust bends the scores of the keys from j on, for the tile's one query, and adds the bias.
func (d *decodeHead) adjust(t Tile, j int, scores []float32) {
	d.args.soften(scores, nil, 1)
	for i := range scores {
		if !d.args.Forget {
			break
		}
		scores[i] += d.bias.between(t.First, j+i)
	}
	if !d.args.Linear {
		return
	}
	m := float32(Slope(t.Head, d.args.call.Heads))
	for i := range scores {
		x := t.First - j - i
		scores[i] -= m * float32(max(x, -x))
	}
}

// scattered takes those of the keys that the query sees.
func (d *decodeHead) scattered(r, q []float32, t Tile, lo, hi int) {
	n := 0
	for j := lo; j < hi; j++ {
		if d.args.Pattern.Sees(t, j)&1 == 0 {
			continue
		}
		slot, _ := d.stretch(j)
		d.slots[n] = int32(slot)
		if d.args.inPairs {
			d.dots(d.scores[n:n+1], q, slot)
		} else {
			d.scores[n] = kernel.Dot(q, d.k.row(slot, len(q)))
		}
		d.adjust(t, j, d.scores[n:n+1])
		n++
	}
	if !d.weigh(r, d.scores[:n]) {
		return
	}
	for i, slot := range d.slots[:n] {
		if d.args.inPairs {
			d.combine(r[:len(r)-2], d.scores[i:i+1], int(slot))
		} else {
			kernel.Axpy(d.scores[i], d.v.row(int(slot), len(r)-2), r)
		}
	}
}

// width returns the floats that a row of so many numbers takes.
func (d *decodeHead) width(dim int) int {
	if d.args.inPairs {
		return kernel.PairsOf(dim)
	}
	return dim
}

// dots computes the scores of keys that lie from slot on.
func (d *decodeHead) dots(scores, q []float32, slot int) {
	if d.args.inPairs {
		kernel.DotsPairs(scores, q, kernel.Words(d.k.data[slot*d.k.stride:]), d.room)
		return
	}
	kernel.Dots(scores, q, d.k.rows(slot), len(scores))
}

// combine adds the values from slot on, times their weights.
func (d *decodeHead) combine(acc, weights []float32, slot int) {
	if d.args.inPairs {
		kernel.CombinePairs(acc, weights, kernel.Words(d.v.data[slot*d.v.stride:]), d.room)
		return
	}
	kernel.Combine(acc, weights, d.v.rows(slot))
}

// weigh replaces scores by their weights under the new maximum and rescales r; false when there is none.
func (d *decodeHead) weigh(r, scores []float32) bool {
	acc, top, sum := r[:len(r)-2], &r[len(r)-2], &r[len(r)-1]
	m := kernel.Max(scores)
	if !(m <= *top) {
		if *sum != 0 {
			f := float32(math.Exp(float64(*top - m)))
			*sum *= f
			for i := range acc {
				acc[i] *= f
			}
		}
		*top = m
	}
	if *top == kernel.NegInf {
		return false
	}
	*sum += kernel.ExpSum(scores, *top)
	return true
}

// stretch returns where key j of the sequence lies and how many keys from it on lie in a row.
func (d *decodeHead) stretch(j int) (slot, n int) {
	s, g := d.args.cache, d.segment
	if d.args.Window == 0 {
		return j, g.Keys - j
	}
	if length := s.length[g.Row]; s.softmax.Window > 0 && length > s.softmax.limit() && g.Keys == s.softmax.limit() {
		slot = s.heldSlot(length, j)
		if j < s.softmax.Sinks {
			return slot, s.softmax.Sinks - j
		}
		return slot, g.Keys - slot
	}
	return j, g.Keys - j
}

// merge writes the output from the partial results, in the order of the keys.
func (a *decodeArgs) merge() {
	c := &a.call
	for segment, g := range c.Segments {
		if g.Queries >= few {
			continue
		}
		for i := range g.Queries {
			for head := range c.Heads {
				out, lse := c.Out.Row(g.Row, g.Query0+i, head), math.Inf(-1)
				clear(out)
				if a.SinkLogit {
					lse = float64(c.Learned[0][head])
				}
				for part := range decodeParts(g.Keys) {
					r := a.part(segment, head, i, part)
					acc, top, sum := r[:c.ValueDim], r[c.ValueDim], r[c.ValueDim+1]
					if sum == 0 {
						continue
					}
					for e := range acc {
						acc[e] /= sum
					}
					lse = Merge(out, lse, acc, float64(top)+math.Log(float64(sum)))
				}
			}
		}
	}
}
