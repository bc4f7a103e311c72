package sparse

import (
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("routing", Routing{Window: 64, Keep: 0.999}, Routing.New) }

// Routing holds the options of the Routing Transformer's attention, spelled routing:window=64.
type Routing struct {
	Window   int     `opt:"window"`   // tokens a cluster takes; at least 1
	Clusters int     `opt:"clusters"` // 0: as many as the longest sequence has windows
	Keep     float64 `opt:"keep"`     // how much of a centroid an update leaves; 0 to 1
}

// New returns routed attention with the options o.
func (o Routing) New() (attn.Mechanism, error) {
	switch {
	case o.Window < 1 || o.Window > most:
		return nil, attn.OptionError("window", o.Window, "an integer from 1 to 2^30")
	case o.Clusters < 0 || o.Clusters > 1<<16:
		return nil, attn.OptionError("clusters", o.Clusters, "an integer from 0 to 2^16")
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
			Spec: func(s attn.Shape) string {
				return attn.Spell("routing", Routing{max(s.KeyLen, s.MaxLen, 1), o.Clusters, o.Keep})
			},
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

// clusters is how many there are.
func (o Routing) clusters(s attn.Shape) int {
	if o.Clusters > 0 {
		return o.Clusters
	}
	n := s.MaxLen
	if n == 0 {
		n = s.KeyLen
	}
	return max(1, n/o.Window)
}

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
		take := func(x [][]float64, mu []float64) []int {
			a := make([]float64, len(x))
			for i := range a {
				a[i] = attn.Dot(x[i], mu)
			}
			return largest(a, m.o.Window)
		}
		q, k := directionsOf(h.Queries, h.Q), directionsOf(h.Keys, h.K)
		times, sums := make([]float64, h.Queries), make([][]float64, h.Queries)
		for i := range sums {
			sums[i] = make([]float64, c.ValueDim)
		}
		for _, mu := range mu {
			keys := take(k, mu)
			for _, i := range take(q, mu) {
				times[i]++
				over(h, i, keys)
				attn.Axpy(1, h.Out(i), sums[i])
			}
		}
		for i, x := range sums {
			clear(h.Out(i))
			if times[i] > 0 {
				attn.Axpy(1/times[i], x, h.Out(i))
			}
		}
		if c.Aux == nil || c.QueryLen == 0 {
			return
		}
		if h.H%(c.Heads/c.KVHeads) == 0 { // query heads have their keys in common
			q = append(q, k...)
		}
		for _, x := range q {
			best := mu[0]
			for _, mu := range mu {
				if attn.Dot(x, mu) > attn.Dot(x, best) {
					best = mu
				}
			}
			for e, y := range x {
				*c.Aux += routingLoss * (y - best[e]) * (y - best[e]) / numbers
			}
		}
	})
	return nil
}

// directionsOf returns x/|x| of n rows.
func directionsOf(n int, row func(i int) []float64) (all [][]float64) {
	for i := range n {
		x := slices.Clone(row(i))
		size := math.Max(math.Sqrt(attn.Dot(x, x)), tiny)
		for e := range x {
			x[e] /= size
		}
		all = append(all, x)
	}
	return all
}
