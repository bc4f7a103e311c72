package sparse

import (
	"iter"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// firstSteps is the number of whole steps of k-means before the first update.
const firstSteps = 10

// directions draws centroids of length 1.
func directions(s attn.Shape, dst []float32, r *rand.Rand) {
	attn.Normal(1)(s, dst, r)
	for x := range slices.Chunk(dst, s.KeyDim) {
		tile.Scale(1/length(x), x)
	}
}

// Update takes a step of k-means with the queries and keys of the call: each centroid goes a little towards the mean direction of those that
// are nearest to it. The first time, centroids are random ones of them, after firstSteps whole steps.
func (m routing) Update(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	n, d, placed := m.o.clusters(c.Shape), c.KeyDim, &c.Buffers[1][0]
	mark := ws.Mark()
	defer ws.Release(mark)
	k := kMeans{width: d, sums: ws.Floats(n * d), affinities: ws.Floats(n)}
	for kv := range c.KVHeads {
		tokens, mu := tokensOf(c, kv), c.Buffers[0][kv*n*d:][:n*d]
		if *placed == 0 {
			all := slices.Collect(tokens)
			if len(all) == 0 {
				return nil
			}
			r := rand.New(rand.NewPCG(c.Seed, mix(uint64(c.Layer))^uint64(kv)))
			for to := range slices.Chunk(mu, d) {
				copy(to, all[r.IntN(len(all))])
				tile.Scale(1/length(to), to)
			}
			for range firstSteps {
				k.step(mu, tokens, 0)
			}
		}
		k.step(mu, tokens, m.o.Keep)
	}
	*placed = 1
	return nil
}

// tokensOf goes through the queries and keys of a key/value head.
func tokensOf(c *attn.Call, kv int) iter.Seq[[]float32] {
	return func(yield func([]float32) bool) {
		group := c.Heads / c.KVHeads
		for i := range c.NumSegments() {
			g := c.Segment(i)
			for h := kv * group; h < (kv+1)*group; h++ {
				for t := range g.Queries {
					if !yield(c.Q.Row(g.Row, g.Query0+t, h)) {
						return
					}
				}
			}
			for t := range g.Keys {
				if !yield(c.K.Row(g.Row, g.Key0+t, kv)) {
					return
				}
			}
		}
	}
}

// kMeans is the room for steps of k-means.
type kMeans struct {
	width      int
	sums       []float32 // [clusters, width]: of the directions of a cluster's tokens
	affinities []float32 // [clusters]
}

// step moves each centroid to keep·μ + (1-keep)·(mean direction of the tokens nearest to μ); one that has none stays (Lloyd 1982).
func (k *kMeans) step(mu []float32, tokens iter.Seq[[]float32], keep float64) {
	clear(k.sums)
	for x := range tokens {
		tile.Dots(k.affinities, x, tile.Rows(mu, k.width), len(k.affinities))
		if best := argmax(k.affinities); best >= 0 {
			tile.Axpy(1/length(x), x, k.sums[best*k.width:])
		}
	}
	for i := range k.affinities {
		sum, to := k.sums[i*k.width:][:k.width], mu[i*k.width:][:k.width]
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
