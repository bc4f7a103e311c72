package tile

import (
	"math"
	"math/bits"
	"slices"
	"unsafe"

	"attnbench/internal/kernel"
)

// A Top collects the largest of a row of scores, no more than it is asked for. Of equal scores those of lower index are
// larger, -0 equals +0, and a NaN is smaller than all else. What it gives does not depend on how the row is cut into pieces.
//
// It has room for more than it must give: only when that is full are the smallest dropped, all at once.
type Top struct {
	held  []uint64 // a score's order above, the complement of its index below
	n, k  int
	least uint64 // the smallest that was kept when some were dropped: what is smaller is none of the largest; 0 before
}

// topRoom is the number of scores held.
func topRoom(k int) int { return k + max(k, 96) }

// TopFloats is the room that a Top of k needs.
func TopFloats(k int) int { return 2 * topRoom(k) }

// NewTop returns an empty Top for k scores, k at least 1, in memory of TopFloats(k) floats that begins at a multiple of 8 bytes.
func NewTop(room []float32, k int) Top {
	return Top{held: unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(room[:TopFloats(k)]))), topRoom(k)), k: k}
}

// rank returns a number that is larger for a larger score.
func rank(x float32) uint64 {
	if x != x {
		return 0
	}
	return order(x)
}

// order is rank of a number.
func order(x float32) uint64 {
	b := math.Float32bits(x + 0) // -0 + 0 is +0
	return uint64(b ^ (uint32(int32(b)>>31) | 1<<31))
}

func unrank(r uint64) float32 {
	if b := uint32(r); b>>31 != 0 {
		return math.Float32frombits(b &^ (1 << 31))
	} else if b != 0 {
		return math.Float32frombits(^b)
	}
	return float32(math.NaN())
}

// strip is the number of scores that are compared with the smallest kept at once.
const strip = 256

// Take takes scores, of which the first has the given index; indices increase from call to call.
func (t *Top) Take(scores []float32, first int) {
	for len(scores) > 0 {
		n := min(strip, len(scores))
		if t.least>>32 == 0 { // none, or a NaN, than which every number is larger
			n = min(n, len(t.held)-t.n)
			for i, x := range scores[:n] {
				t.add(x, first+i)
			}
		} else {
			var above [strip / 64]uint64
			kernel.Above(above[:], scores[:n], unrank(t.least>>32)) // an equal score has a higher index than all that are held
			for w, m := range above {
				for ; m != 0; m &= m - 1 {
					i := w*64 + bits.TrailingZeros64(m)
					t.held[t.n] = order(scores[i])<<32 | uint64(^uint32(first+i))
					if t.n++; t.n == len(t.held) {
						t.drop()
					}
				}
			}
		}
		scores, first = scores[n:], first+n
	}
}

// add takes one score.
func (t *Top) add(x float32, index int) {
	key := rank(x)<<32 | uint64(^uint32(index))
	if key <= t.least {
		return
	}
	t.held[t.n] = key
	if t.n++; t.n == len(t.held) {
		t.drop()
	}
}

// drop leaves the k largest.
func (t *Top) drop() {
	if t.n <= t.k {
		return
	}
	for x, k := t.held[:t.n], t.k; ; {
		n := len(x) - 1
		a, b, c := x[0], x[n/2], x[n]
		pivot := max(min(a, b), min(max(a, b), c))
		switch pivot {
		case a:
			x[0], x[n] = c, a
		case b:
			x[n/2], x[n] = c, b
		}
		j := 0 // the larger ones so far, brought to the front without a branch: none could be foreseen
		for i, y := range x[:n] {
			x[i], x[j] = x[j], y
			_, larger := bits.Sub64(pivot, y, 0)
			j += int(larger)
		}
		x[j], x[n] = x[n], x[j]
		switch {
		case j+1 == k:
			t.n, t.least = t.k, pivot
			return
		case j >= k:
			x = x[:j]
		default:
			x, k = x[j+1:], k-j-1
		}
	}
}

// Held writes the indices of the largest in no order, and returns their number. The Top is empty afterwards.
func (t *Top) Held(index []int32) int {
	t.drop()
	n := t.n
	for i, key := range t.held[:n] {
		index[i] = int32(^uint32(key))
	}
	t.n, t.least = 0, 0
	return n
}

// Sorted writes the indices of the largest, in increasing order, and their scores (unless nil), and returns their number. The Top is empty afterwards.
func (t *Top) Sorted(index []int32, scores []float32) int {
	t.drop()
	held := t.held[:t.n]
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
	t.n, t.least = 0, 0
	return len(held)
}
