package sparse

import (
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("routing", Routing{Window: 64, Keep: 0.999}, Routing.New) }

// Routing holds the options of the Routing Transformer's attention, spelled routing:window=64.
type Routing struct {
	Window int     `opt:"window"` // tokens a cluster takes; at least 1
	Keep   float64 `opt:"keep"`   // how much of a centroid an update leaves; 0 to 1
}

// New returns routed attention with the options o.
func (o Routing) New() (attn.Mechanism, error) {
	switch {
	case o.Window < 1 || o.Window > most:
		return nil, attn.OptionError("window", o.Window, "an integer from 1 to 2^30")
	case !(o.Keep >= 0 && o.Keep <= 1):
		return nil, attn.OptionError("keep", o.Keep, "a number from 0 to 1")
	}
	m := routing{o: o, segments: new(tile.SegmentPool)}
	m.info = &attn.Info{
		Name: attn.Spell("routing", o), Family: "sparse", Title: "Routing Transformer", Revision: 1,
		Paper: "Roy et al. 2020, arXiv:2003.05997", Year: 2020,
		// A cluster takes those of all tokens that are nearest: which early ones hangs on later ones, also where a mask hides these.
		Masks: attn.Bidirectional | attn.Cross, Approximates: true, Budget: "window", Selects: true, Aux: true, Decode: attn.DecodeNever,
		Inputs: attn.QKV(), Cost: m.cost,
		Buffers: []attn.Tensor{
			{Name: "centroids", Shape: func(s attn.Shape) []int { return []int{s.KVHeads, o.clusters(s), s.KeyDim} }, Init: directions},
			{Name: "placed", Shape: func(attn.Shape) []int { return []int{1} }}, // 1 once centroids are of tokens
		},
		Limits: []attn.Limit{{
			Spec:   func(s attn.Shape) string { return attn.Spell("routing", Routing{max(s.KeyLen, s.MaxLen, 1), o.Keep}) },
			Equals: "full",
			Convert: func(c *attn.Call64) *attn.Call64 {
				plain := *c
				plain.Buffers = nil
				return &plain
			},
		}},
	}
	return m, nil
}

// directions draws centroids of length 1.
func directions(s attn.Shape, dst []float32, r *rand.Rand) {
	attn.Normal(1)(s, dst, r)
	for x := range slices.Chunk(dst, s.KeyDim) {
		tile.Scale(1/length(x), x)
	}
}

// clusters is how many there are: as many as the longest sequence has windows.
func (o Routing) clusters(s attn.Shape) int {
	n := s.MaxLen
	if n == 0 {
		n = s.KeyLen
	}
	return max(1, n/o.Window)
}

// routingLoss is the weight of the auxiliary loss.
const routingLoss = 1e-4

type routing struct {
	o        Routing
	info     *attn.Info
	segments *tile.SegmentPool
}

// Info describes the mechanism.
func (m routing) Info() attn.Info { return *m.info }

// Define computes, with centroids μ [clusters, key dim] of each key/value head, which its query heads share,
//
//	a(x, c) = x·μ[c] / |x|
//	Q(c) = the Window queries i of largest a(q[i], c), K(c) = the Window keys j of largest a(k[j], c), of equal ones the earlier
//	o[i] = mean over the clusters c with i in Q(c) of Σ_j p[j] v[j],  p = softmax_j(q[i]·k[j] / √d) over j in K(c)
//
// and 0 for a query that no cluster takes. A sequence of fewer tokens than Window is taken whole by each. The choice has no
// gradient. To Call.Aux goes 1e-4 times the mean, over all queries, keys, heads and channels, of (x/|x| - μ[c])² with
// the c of largest a(x, c). Roy et al. 2020 (arXiv:2003.05997) §4.1, without memories, which only the causal form needs; its mask
// hides later keys from a query but not that they took the place of earlier ones, so that it is not causal, and refused here.
func (m routing) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	n := m.o.clusters(c.Shape)
	numbers := float64(routingNumbers(c))
	c.EachHead(func(h attn.Head64) {
		mu := make([][]float64, n)
		for i := range mu {
			mu[i] = c.Buffers[0][(h.KV*n+i)*c.KeyDim:][:c.KeyDim]
		}
		times := make([]float64, h.Queries)
		sums := make([][]float64, h.Queries)
		for i := range sums {
			sums[i] = make([]float64, c.ValueDim)
		}
		take := func(units [][]float64, mu []float64) []int {
			a := make([]float64, len(units))
			for i, x := range units {
				a[i] = dot(x, mu)
			}
			return largest(a, m.o.Window)
		}
		queries, keys := units(h.Queries, h.Q), units(h.Keys, h.K)
		for _, mu := range mu {
			seen := take(keys, mu)
			for _, i := range take(queries, mu) {
				times[i]++
				over(h, i, seen)
				axpy(1, h.Out(i), sums[i])
			}
		}
		for i, x := range sums {
			clear(h.Out(i))
			if times[i] > 0 {
				axpy(1/times[i], x, h.Out(i))
			}
		}
		if c.Aux == nil {
			return
		}
		loss := func(x []float64) {
			best, most := 0, math.Inf(-1)
			for i := range mu {
				if a := dot(x, mu[i]); a > most {
					best, most = i, a
				}
			}
			for e, y := range x {
				d := y - mu[best][e]
				*c.Aux += routingLoss * d * d / numbers
			}
		}
		for _, x := range queries {
			loss(x)
		}
		if h.H%(c.Heads/c.KVHeads) == 0 {
			for _, x := range keys {
				loss(x)
			}
		}
	})
	return nil
}

// routingNumbers counts the numbers of all queries and keys, at least 1.
func routingNumbers[F attn.Float](c *attn.CallOf[F]) int {
	n := 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		n += g.Queries*c.Heads + g.Keys*c.KVHeads
	}
	return max(1, n*c.KeyDim)
}

// units returns n rows brought to length 1.
func units(n int, x func(i int) []float64) [][]float64 {
	rows := make([][]float64, n)
	for i := range rows {
		size := size64(x(i))
		for _, y := range x(i) {
			rows[i] = append(rows[i], y/size)
		}
	}
	return rows
}

// size64 returns |x|, not 0.
func size64[F attn.Float](x []F) float64 {
	squares := 0.0
	for _, y := range x {
		squares += float64(y) * float64(y)
	}
	return math.Max(math.Sqrt(squares), tiny)
}

// Update takes a step of k-means with the queries and keys of the call: each centroid goes a little towards the mean direction of those that
// are nearest to it. The first time, centroids are random ones of them, after 10 whole steps.
func (m routing) Update(_ *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	n, d := m.o.clusters(c.Shape), c.KeyDim
	fresh := c.Buffers[1][0] == 0
	for kv := range c.KVHeads {
		tokens := tokensOf(c, kv)
		if len(tokens) == 0 {
			continue
		}
		mu := c.Buffers[0][kv*n*d:][:n*d]
		if fresh {
			r := rand.New(rand.NewPCG(c.Seed, mix(uint64(c.Layer))^uint64(kv)))
			for to := range slices.Chunk(mu, d) {
				copy(to, tokens[r.IntN(len(tokens))])
				tile.Scale(1/length(to), to)
			}
			for range 10 {
				lloyd(mu, tokens, d, 0)
			}
			c.Buffers[1][0] = 1
		}
		lloyd(mu, tokens, d, m.o.Keep)
	}
	return nil
}

// tokensOf returns the queries and keys of a key/value head.
func tokensOf(c *attn.Call, kv int) (rows [][]float32) {
	group := c.Heads / c.KVHeads
	for i := range c.NumSegments() {
		g := c.Segment(i)
		for h := kv * group; h < (kv+1)*group; h++ {
			for t := range g.Queries {
				rows = append(rows, c.Q.Row(g.Row, g.Query0+t, h))
			}
		}
		for t := range g.Keys {
			rows = append(rows, c.K.Row(g.Row, g.Key0+t, kv))
		}
	}
	return rows
}

// lloyd moves centroids of width d to keep·μ + (1-keep)·(mean direction of the tokens nearest to μ); one that has none stays.
func lloyd(mu []float32, tokens [][]float32, d int, keep float64) {
	n := len(mu) / d
	sums, a := make([]float32, len(mu)), make([]float32, n)
	for _, x := range tokens {
		tile.Dots(a, x, tile.Rows(mu, d), n)
		if best := argmax(a); best >= 0 {
			tile.Axpy(1/length(x), x, sums[best*d:])
		}
	}
	for i := range n {
		sum, to := sums[i*d:][:d], mu[i*d:][:d]
		if size := length(sum); size > tiny && size-size == 0 {
			tile.Scale(float32(keep), to)
			tile.Axpy(float32(1-keep)/size, sum, to)
		}
	}
}

// argmax returns the place of the largest number, of equal ones the first, -1 for none.
func argmax(x []float32) int {
	best, at := float32(math.Inf(-1)), -1
	for i, y := range x {
		if y > best {
			best, at = y, i
		}
	}
	return at
}
