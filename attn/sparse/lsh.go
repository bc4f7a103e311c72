package sparse

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("lsh", LSH{Bucket: 64, Rounds: 4}, LSH.New) }

// LSH holds the options of the Reformer's attention, spelled lsh:bucket=64,rounds=4.
type LSH struct {
	Bucket int `opt:"bucket"` // tokens a chunk of the sorted sequence; at least 1
	Rounds int `opt:"rounds"` // of hashing; 1 to 64
}

// New returns attention by locality-sensitive hashing with the options o.
func (o LSH) New() (attn.Mechanism, error) {
	switch {
	case o.Bucket < 1 || o.Bucket > most:
		return nil, attn.OptionError("bucket", o.Bucket, "an integer from 1 to 2^30")
	case o.Rounds < 1 || o.Rounds > 64:
		return nil, attn.OptionError("rounds", o.Rounds, "an integer from 1 to 64")
	}
	m := lsh{o: o, segments: new(tile.SegmentPool), engine: tile.Softmax{Pattern: neighbours(o.Bucket)}}
	inputs := attn.QKV()
	inputs[1].Tied, inputs[1].Heads, inputs[2].Heads = "q", attn.QueryHeads, attn.QueryHeads
	m.info = &attn.Info{
		Name: attn.Spell("lsh", o), Family: "sparse", Title: "Reformer, attention by locality-sensitive hashing", Revision: 1,
		Paper: "Kitaev et al. 2020, arXiv:2001.04451", Year: 2020,
		Masks: attn.Bidirectional, Selects: true, RotatesInside: true, Decode: attn.DecodeNever, Inputs: inputs, Cost: m.cost,
		CheckShape: func(s attn.Shape) error {
			switch {
			case s.KVHeads != s.Heads:
				return fmt.Errorf("%d key/value heads for %d heads: queries and keys are the same, want as many", s.KVHeads, s.Heads)
			case s.QueryLen != s.KeyLen:
				return fmt.Errorf("%d queries and %d keys: queries and keys are the same, want as many", s.QueryLen, s.KeyLen)
			}
			return nil
		},
	}
	return m, nil
}

type lsh struct {
	o        LSH
	info     *attn.Info
	segments *tile.SegmentPool
	engine   tile.Softmax // over a sorted sequence
}

// Define computes, for each head of a sequence of T tokens x (queries and keys are the same), in rounds r with Gaussian matrices R[r]
// of u = ⌈n/2⌉ columns, drawn from the call's seed and the layer, n = ⌈T/Bucket⌉,
//
//	h[i] = argmax of [x[i]R, -x[i]R], of equal ones the first
//
// The tokens, sorted by (h, position), are cut in n chunks of Bucket tokens, the last shorter. Token i sees the tokens of its own chunk
// and of the one before (before the first is the last) but for itself; alone in its sequence it sees itself. Over all rounds, a pair
// counting as often as it meets,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(R(i)x[i] · R(j)x[j] / (√d·|x[j]|))
//
// with R(i) the rotation of Call.Rope, for the scores alone. Sorting has no gradient. Chunks hang on later tokens also where a mask would
// hide these, so that there is no causal form. Kitaev et al. 2020 (arXiv:2001.04451) §2 and eq. 2 to 6; the paper sorts T tokens
// into as many buckets as chunks, and lets the first chunk of a round look at the last of the round before.
func (m lsh) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		n := min(h.Queries, h.Keys)
		for i := range h.Queries {
			clear(h.Out(i))
		}
		scores, keys := make([][]float64, n), make([][]int, n)
		q, k := make([][]float64, n), make([][]float64, n)
		for i := range n {
			q[i], k[i] = c.Rope.Turned(h.Q(i), i), c.Rope.Turned(h.K(i), i)
			length := math.Max(math.Sqrt(attn.Dot(k[i], k[i])), tiny)
			for e := range k[i] {
				k[i][e] /= length
			}
		}
		for r := range m.o.Rounds {
			order := m.o.sorted(h, r, n)
			for x, i := range order {
				for _, y := range m.o.sees(x, n) {
					j := order[y]
					scores[i] = append(scores[i], attn.Dot(q[i], k[j])/math.Sqrt(float64(c.KeyDim)))
					keys[i] = append(keys[i], j)
				}
			}
		}
		for i := range n {
			attn.Softmax(scores[i])
			for x, j := range keys[i] {
				attn.Axpy(scores[i][x], h.V(j), h.Out(i))
			}
		}
	})
	return nil
}

// tiny is what a key's length counts for at least.
const tiny = 1e-12

// chunks returns how many chunks n tokens are cut into.
func (o LSH) chunks(n int) int { return ceil(n, o.Bucket) }

// sees returns the places that the token at place x of the sorted sequence sees.
func (o LSH) sees(x, n int) (places []int) {
	if n == 1 {
		return []int{0}
	}
	own, all := x/o.Bucket, o.chunks(n)
	for _, chunk := range slices.Compact([]int{own, (own + all - 1) % all}) {
		for y := chunk * o.Bucket; y < min((chunk+1)*o.Bucket, n); y++ {
			if y != x {
				places = append(places, y)
			}
		}
	}
	return places
}

// sorted returns the tokens of a head by (bucket, position).
func (o LSH) sorted(h attn.Head64, round, n int) []int {
	u := ceil(o.chunks(n), 2)
	planes := make([][]float64, u)
	for p := range planes {
		planes[p] = make([]float64, h.Call.KeyDim)
		draw := newPlane(h.Call.Seed, h.Call.Layer, round, p)
		for e := range planes[p] {
			planes[p][e] = float64(draw.next())
		}
	}
	order, bucket := make([]int, n), make([]int, n)
	for i := range order {
		order[i] = i
		best := math.Inf(-1)
		for b := range 2 * u {
			x := attn.Dot(h.Q(i), planes[b%u])
			if b >= u {
				x = -x
			}
			if x > best {
				best, bucket[i] = x, b
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return bucket[a] - bucket[b] })
	return order
}

// plane draws the numbers of one column of R, the same for all lengths of a sequence.
type plane struct{ pcg rand.PCG }

func newPlane(seed uint64, layer, round, column int) (p plane) {
	p.pcg.Seed(seed, mix(mix(mix(uint64(layer))^uint64(round))^uint64(column)))
	return p
}

// next returns a normal number (Box & Muller 1958).
func (p *plane) next() float32 {
	u := (float64(p.pcg.Uint64()>>11) + 0.5) / (1 << 53)
	v := float64(p.pcg.Uint64()>>11) / (1 << 53)
	return float32(math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v))
}

// neighbours is the pattern of a sorted sequence: a query sees its own chunk of so many keys and the one before, but for itself.
type neighbours int

// span returns the keys of the chunk before that of place x as a range, and whether that lies before.
func (p neighbours) before(x, keys int) (lo, hi int) {
	b := int(p)
	all := ceil(keys, b)
	chunk := (x/b + all - 1) % all
	return chunk * b, min((chunk+1)*b, keys)
}

// Next implements tile.Pattern.
func (p neighbours) Next(t tile.Tile, from int) tile.Run {
	at, end := t.Keys, t.Keys // the nearest stretch that begins at from or later
	for x := t.First; x <= t.Last(); x = (x/int(p) + 1) * int(p) {
		lo, hi := p.before(x, t.Keys)
		own := x / int(p) * int(p)
		for _, r := range [2][2]int{{lo, hi}, {own, min(own+int(p), t.Keys)}} {
			if lo := max(from, r[0]); lo < r[1] && lo < at {
				at, end = lo, r[1]
			}
		}
	}
	// Tested pair by pair where the tile's queries see unlike keys: where it is not of one chunk, and around the queries themselves.
	if t.First/int(p) != t.Last()/int(p) || t.Keys == 1 {
		return tile.Run{Lo: at, Hi: end}
	}
	switch {
	case at >= end || end <= t.First || at > t.Last():
		return tile.Run{Lo: at, Hi: end, Full: true}
	case at < t.First:
		return tile.Run{Lo: at, Hi: t.First, Full: true}
	}
	if at <= t.Last() {
		end = min(end, t.Last()+1)
	}
	return tile.Run{Lo: at, Hi: end}
}

// Sees implements tile.Pattern.
func (p neighbours) Sees(t tile.Tile, j int) uint32 {
	if t.Keys == 1 {
		return tile.Bits(0, tile.Lanes)
	}
	b := int(p)
	own := j / b * b
	seen := tile.Bits(own-t.First, own+b-t.First)
	next := (j/b + 1) % ceil(t.Keys, b) * b // the chunk that sees that of j as the one before
	seen |= tile.Bits(next-t.First, next+b-t.First)
	return seen &^ tile.Bits(j-t.First, j-t.First+1)
}

// pairs counts the pairs of one head and round at n tokens.
func (o LSH) pairs(n int) int64 {
	if n == 1 {
		return 1
	}
	all, sum := o.chunks(n), int64(0)
	size := func(chunk int) int { return min(o.Bucket, n-chunk*o.Bucket) }
	for chunk := range all {
		see := size(chunk) - 1
		if all > 1 {
			see += size((chunk + all - 1) % all)
		}
		sum += int64(size(chunk)) * int64(see)
	}
	return sum
}

// Info describes the mechanism.
func (m lsh) Info() attn.Info { return *m.info }
