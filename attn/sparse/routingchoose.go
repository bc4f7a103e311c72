package sparse

import (
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// chooseFloats is the scratch of choose, and of the others.
func (m routing) chooseFloats(s attn.Shape) int {
	n := max(s.QueryLen, s.KeyLen)
	k := min(m.o.Window, n)
	return attn.ScratchFloats(min(together, m.o.clusters(s))*n, s.KeyDim*tile.Lanes, n, n, tile.TopFloats(max(k, 1)), max(k, m.o.clusters(s)))
}

// together is how many centroids have their affinities computed at a time.
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

// choose finds what the clusters take.
func (w *routed) choose(s *attn.Scratch, task int) {
	i, kv, head, query := w.side(task)
	rows, n := w.rowsOf(task)
	most, d := max(w.call.QueryLen, w.call.KeyLen), w.call.KeyDim
	affinities, columns := s.Floats(min(together, w.clusters)*most), s.Floats(d*tile.Lanes)
	inverse, near := s.Floats(most), s.Ints(most)
	k := min(w.m.o.Window, most)
	room, scores := s.Floats(tile.TopFloats(max(k, 1))), s.Floats(max(k, w.clusters))
	for t := range n {
		inverse[t] = 1 / length(rows.Data[t*rows.Row:][:d])
	}
	for cluster := range w.clusters {
		var to []int32
		if query {
			to = w.queriesOf(i*w.clusters+cluster, head)
		} else {
			to = w.keysOf(i*w.clusters+cluster, kv)
		}
		switch {
		case len(to) == 0:
			continue
		case len(to) == n:
			for t := range to {
				to[t] = int32(t)
			}
			continue
		}
		if cluster%together == 0 {
			mu := tile.Rows(w.call.Buffers[0][(kv*w.clusters+cluster)*d:], d)
			for t := 0; t < n; t += tile.Lanes {
				lanes := min(tile.Lanes, n-t)
				tile.Pack(columns, rows.From(t, 0), lanes, d, 1)
				tile.Mul(min(together, w.clusters-cluster), lanes, d, mu, tile.Rows(columns, tile.Lanes), tile.Rows(affinities[t:], most))
			}
		}
		a := affinities[cluster%together*most:][:n]
		tile.Times(a, inverse)
		top := tile.NewTop(room, len(to))
		top.Take(a, 0)
		top.Sorted(to, scores)
		refine(to, scores, a, near, rows, w.centroid(kv, cluster))
	}
}

// refine decides among affinities that are too near to the least one taken for float32, as a definition would.
func refine(to []int32, scores, a []float32, near []int32, rows tile.Mat, mu []float32) {
	least := slices.Min(scores[:len(to)])
	margin := 1e-5 * length(mu)
	sure, m := 0, 0
	for t, x := range a {
		if x > least+margin {
			sure++
		} else if x >= least-margin {
			near[m] = int32(t)
			m++
		}
	}
	if m <= len(to)-sure {
		return // all of them are taken
	}
	of := func(t int32) (sum float64) {
		x := rows.Data[int(t)*rows.Row:][:len(mu)]
		size := size64(x)
		for e, y := range x {
			sum += float64(y) / size * float64(mu[e])
		}
		return sum
	}
	slices.SortFunc(near[:m], func(x, y int32) int {
		switch a, b := of(x), of(y); {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return int(x - y)
	})
	n := 0
	for t, x := range a {
		if x > least+margin {
			to[n] = int32(t)
			n++
		}
	}
	copy(to[n:], near[:m])
	slices.Sort(to)
}
