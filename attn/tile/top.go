package tile

import (
	"math"
	"slices"
	"unsafe"

	"attnbench/internal/kernel"
)

// A Top collects the largest of a row of scores, no more than it has room for. Of equal scores those of lower index are
// larger, -0 equals +0, and a NaN is smaller than all else. What it holds does not depend on how the row is cut into pieces.
type Top struct {
	heap []uint64 // once full, the smallest first; a score's order above, the complement of its index below
	n    int
}

// TopFloats is the room that a Top of k needs.
func TopFloats(k int) int { return 2 * k }

// NewTop returns an empty Top for k scores, k at least 1, in memory of TopFloats(k) floats that begins at a multiple of 8 bytes.
func NewTop(room []float32, k int) Top {
	return Top{heap: unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(room[:2*k]))), k)}
}

// strip is the number of scores that are compared with the smallest held at once.
const strip = 64

// rank returns a number that is larger for a larger score.
func rank(x float32) uint64 {
	if x != x {
		return 0
	}
	b := math.Float32bits(x + 0) // -0 + 0 is +0
	if b>>31 != 0 {
		return uint64(^b)
	}
	return uint64(b | 1<<31)
}

func unrank(r uint64) float32 {
	if b := uint32(r); b>>31 != 0 {
		return math.Float32frombits(b &^ (1 << 31))
	} else if b != 0 {
		return math.Float32frombits(^b)
	}
	return float32(math.NaN())
}

// Take takes scores, of which the first has the given index; indices increase from call to call.
func (t *Top) Take(scores []float32, first int) {
	for len(scores) > 0 && t.n < len(t.heap) {
		t.heap[t.n] = rank(scores[0])<<32 | uint64(^uint32(first))
		if t.n++; t.n == len(t.heap) {
			for i := len(t.heap)/2 - 1; i >= 0; i-- {
				t.sift(i)
			}
		}
		scores, first = scores[1:], first+1
	}
	for len(scores) > 0 {
		n := min(strip, len(scores))
		least := unrank(t.heap[0] >> 32)
		if !(kernel.Max(scores[:n]) <= least) { // an equal score has a higher index than all that are held
			for i, x := range scores[:n] {
				if x <= least {
					continue
				}
				if key := rank(x)<<32 | uint64(^uint32(first+i)); key > t.heap[0] {
					t.heap[0] = key
					t.sift(0)
					least = unrank(t.heap[0] >> 32)
				}
			}
		}
		scores, first = scores[n:], first+n
	}
}

// sift moves element i down to where it belongs.
func (t *Top) sift(i int) {
	for {
		c := 2*i + 1
		if c >= len(t.heap) {
			return
		}
		if c+1 < len(t.heap) && t.heap[c+1] < t.heap[c] {
			c++
		}
		if t.heap[i] <= t.heap[c] {
			return
		}
		t.heap[i], t.heap[c] = t.heap[c], t.heap[i]
		i = c
	}
}

// Sorted writes the indices held, in increasing order, and their scores (unless nil), and returns their number. The Top is empty afterwards.
func (t *Top) Sorted(index []int32, scores []float32) int {
	held := t.heap[:t.n]
	for i, key := range held {
		held[i] = uint64(^uint32(key))<<32 | key>>32
	}
	slices.Sort(held)
	for i, key := range held {
		index[i] = int32(key >> 32)
		if scores != nil {
			scores[i] = unrank(key & (1<<32 - 1))
		}
	}
	t.n = 0
	return len(held)
}
