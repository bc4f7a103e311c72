package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// routingLoss is the weight of the auxiliary loss.
const routingLoss = 1e-4

// routingNumbers counts the numbers of all queries and keys, at least 1.
func routingNumbers[F attn.Float](c *attn.CallOf[F]) int {
	n := 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		n += g.Queries*c.Heads + g.Keys*c.KVHeads
	}
	return max(1, n*c.KeyDim)
}

// nearest calls f for each row of a task, with the centroid that is nearest to it.
func (w *routed) nearest(a []float32, task int, f func(t int, x, mu []float32)) {
	_, kv, _, _ := w.side(task)
	rows, n := w.rowsOf(task)
	mu, d := w.centroids(kv), w.call.KeyDim
	for t := range n {
		x := rows.Data[t*rows.Row:][:d]
		tile.Dots(a, x, mu, w.clusters)
		if best := argmax(a); best >= 0 {
			f(t, x, mu.Data[best*d:][:d])
		}
	}
}

// far sums |x/|x| - μ|² over the rows x of a task.
func (w *routed) far(s *attn.Scratch, task int) {
	w.nearest(s.Floats(w.clusters), task, func(_ int, x, mu []float32) {
		size, sum := length(x), float32(0)
		for e, y := range x {
			d := y/size - mu[e]
			sum += d * d
		}
		w.loss[task] += sum
	})
}

// pull adds the gradient of the loss of the rows x of a task: of |x̂ - μ|² with x̂ = x/|x|, but for the factor 2 it is (x̂(x̂·μ) - μ)/|x|.
func (w *routed) pull(a []float32, task int, dx *attn.View, row, t0, h int) {
	w.nearest(a, task, func(t int, x, mu []float32) {
		size := length(x)
		if size <= tiny {
			return
		}
		to := dx.Row(row, t0+t, h)
		tile.Axpy(-w.aux/size, mu, to)
		tile.Axpy(w.aux*tile.Dot(x, mu)/size/size/size, x, to)
	})
}
