package explain

import (
	"math"

	"attnbench/attn"
)

// How far weights may lie from a softmax of similarities, relatively, and the least weight that is compared.
const (
	softness = 1e-3
	least    = 1e-4
)

// Similarities returns s[h][i][j] = q[i]·k[j]/√d when the weights are a softmax of them: each row sums to 1, and ln w[i,j] - s[i,j] is the same
// for all keys that the row gives a weight. ok is false when the weights are not, or when no row has two such keys to tell by.
func Similarities(c *attn.Call, w *Weights) (s [][][]float64, ok bool) {
	if !w.Linear || c.Q.Empty() || c.K.Empty() || c.Q.Dim != c.K.Dim || c.Q.Heads != c.Heads || c.K.Heads != c.KVHeads {
		return nil, false
	}
	tell := false
	for h, rows := range w.Heads {
		s = append(s, make([][]float64, len(rows)))
		for i, p := range rows {
			s[h][i] = make([]float64, len(p))
			low, high, sum, seen := math.Inf(1), math.Inf(-1), 0.0, 0
			for j := range p {
				x := dot(c.Q.Row(0, i, h), c.K.Row(0, j, c.KVHead(h))) / math.Sqrt(float64(c.KeyDim))
				s[h][i][j] = x
				sum += p[j]
				if p[j] < -least {
					return nil, false
				}
				if p[j] > least {
					shift := math.Log(p[j]) - x
					low, high = min(low, shift), max(high, shift)
					seen++
				}
			}
			if seen > 0 && (high-low > softness || math.Abs(sum-1) > softness) {
				return nil, false
			}
			tell = tell || seen > 1
		}
	}
	return s, tell
}

func dot(x, y []float32) float64 {
	s := 0.0
	for i := range x {
		s += float64(x[i]) * float64(y[i])
	}
	return s
}
