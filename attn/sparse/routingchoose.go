package sparse

import (
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// together is the number of clusters whose affinities are one product.
const together = 32

// side is the rows of a task: of a segment, those of a query head, or behind them of a key/value head.
func (w *routed) side(task int) (segment, kv, head int, query bool) {
	c := &w.call
	n := c.Heads + c.KVHeads
	if head = task % n; head < c.Heads {
		return task / n, c.KVHead(head), head, true
	}
	return task / n, head - c.Heads, head - c.Heads, false
}

// rowsOf returns the rows of such a task.
func (w *routed) rowsOf(task int) (rows tile.Mat, n int) {
	i, _, head, query := w.side(task)
	g := w.call.Segment(i)
	if query {
		return tile.HeadRows(&w.call.Q, g.Row, g.Query0, head), g.Queries
	}
	return tile.HeadRows(&w.call.K, g.Row, g.Key0, head), g.Keys
}

// centroids returns the μ of a key/value head.
func (w *routed) centroids(kv int) tile.Mat {
	d := w.call.KeyDim
	return tile.Rows(w.call.Buffers[0][kv*w.clusters*d:][:w.clusters*d], d)
}

// chooseFloats is the scratch of choose.
func (m routing) chooseFloats(s attn.Shape) int {
	n := max(s.QueryLen, s.KeyLen)
	k := max(1, min(m.o.Window, n))
	return attn.ScratchFloats(min(together, m.o.clusters(s))*n, n, n, tile.Lanes*s.KeyDim, tile.TopFloats(k), k)
}

// choose finds what the clusters take of the rows of a task.
func (w *routed) choose(s *attn.Scratch, task int) {
	i, kv, head, query := w.side(task)
	rows, n := w.rowsOf(task)
	most, d := max(w.call.QueryLen, w.call.KeyLen), w.call.KeyDim
	k := max(1, min(w.m.o.Window, most))
	a, inverse, near := tile.Rows(s.Floats(min(together, w.clusters)*most), most), s.Floats(most)[:n], s.Ints(most)
	panel, room, scores := s.Floats(tile.Lanes*d), s.Floats(tile.TopFloats(k)), s.Floats(k)
	for t := range inverse {
		inverse[t] = 1 / length(rows.Data[t*rows.Row:][:d])
	}
	for cluster := range w.clusters {
		to := w.keysOf(i*w.clusters+cluster, kv)
		if query {
			to = w.queriesOf(i*w.clusters+cluster, head)
		}
		if len(to) == n {
			for t := range to {
				to[t] = int32(t)
			}
			continue
		}
		mu, x := w.centroids(kv).From(cluster, 0), cluster%together
		if x == 0 {
			affinities(a, mu, min(together, w.clusters-cluster), rows, n, panel)
		}
		of := a.Data[x*most:][:n]
		tile.Times(of, inverse)
		top := tile.NewTop(room, len(to))
		top.Take(of, 0)
		top.Sorted(to, scores)
		refine(to, slices.Min(scores[:len(to)]), of, near, rows, mu.Data[:d])
	}
}

// affinities computes a[c][t] = mu[c]·rows[t] for so many clusters and n rows.
func affinities(a, mu tile.Mat, clusters int, rows tile.Mat, n int, panel []float32) {
	d := len(panel) / tile.Lanes
	for t := 0; t < n; t += tile.Lanes {
		w := min(tile.Lanes, n-t)
		tile.Pack(panel, rows.From(t, 0), w, d, 1)
		tile.Mul(clusters, w, d, mu, tile.Rows(panel, tile.Lanes), a.From(0, t))
	}
}

// refine decides as the definition does among affinities a that are too near to the least one taken for float32.
func refine(to []int32, least float32, a []float32, near []int32, rows tile.Mat, mu []float32) {
	margin := 1e-5 * length(mu)
	m := 0
	for t, x := range a {
		if x >= least-margin {
			near[m] = int32(t)
			m++
		}
	}
	if m <= len(to) {
		return // all of them are taken
	}
	n, all := 0, near[:m]
	m = 0
	for _, t := range all {
		if a[t] > least+margin {
			to[n] = t
			n++
		} else {
			near[m] = t
			m++
		}
	}
	of := func(t int32) float64 { return affinity(rows.Data[int(t)*rows.Row:][:len(mu)], mu) }
	slices.SortFunc(near[:m], func(x, y int32) int {
		switch a, b := of(x), of(y); {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return int(x - y)
	})
	copy(to[n:], near[:m])
	slices.Sort(to)
}

// affinity returns x·μ/|x| by the operations of the definition, in their order.
func affinity(x, mu []float32) float64 {
	squares, sum := 0.0, 0.0
	for _, y := range x {
		squares += float64(y) * float64(y)
	}
	size := math.Max(math.Sqrt(squares), tiny)
	for e, y := range x {
		sum += float64(y) / size * float64(mu[e])
	}
	return sum
}
