package attn

import "math"

// Pairing says which elements of a head a rotation takes together. The two layouts are equal at
// position 0 and drift apart after it; a checkpoint means one of them.
type Pairing uint8

const (
	Halves     Pairing = iota // (p, p + dims/2), as GPT-NeoX and most Llama checkpoints
	Neighbours                // (2p, 2p+1), as the paper and Llama's original code
)

// Rope is a rotary position embedding (Su et al. 2021, arXiv:2104.09864 §3.2): pair p of a head
// turns by position·Base^(-2p/dims).
type Rope struct {
	Base    float64 // 0 means 10000
	Dims    int     // leading elements of a head that turn, even; 0 means all
	Pairing Pairing
}

// Pairs returns the number of pairs that turn in a head of the given width. An odd last element stays.
func (r *Rope) Pairs(width int) int {
	if r.Dims > 0 {
		width = min(width, r.Dims)
	}
	return width / 2
}

// Angles writes the cosines and sines of position pos for a head of the given width, Pairs(width) each.
func (r *Rope) Angles(cos, sin []float32, pos, width int) {
	base := r.Base
	if base == 0 {
		base = 10000
	}
	n := r.Pairs(width)
	for p := range n {
		s, c := math.Sincos(float64(pos) * math.Pow(base, -float64(p)/float64(n)))
		cos[p], sin[p] = float32(c), float32(s)
	}
}

// Turn rotates src into dst by the given angles; the two may be the same slice. Elements beyond
// the pairs are copied. Turning by the negated sines turns back.
func (r *Rope) Turn(dst, src, cos, sin []float32) {
	n := len(cos)
	for p := range n {
		i, j := p, p+n
		if r.Pairing == Neighbours {
			i, j = 2*p, 2*p+1
		}
		x, y := src[i], src[j]
		dst[i] = float32(x*cos[p]) - float32(y*sin[p])
		dst[j] = float32(x*sin[p]) + float32(y*cos[p])
	}
	copy(dst[2*n:], src[2*n:])
}

// Turned returns x turned to position pos in the precision of definitions; a nil rope leaves it.
func (r *Rope) Turned(x []float64, pos int) []float64 {
	y := append([]float64(nil), x...)
	if r == nil {
		return y
	}
	base, n := r.Base, r.Pairs(len(x))
	if base == 0 {
		base = 10000
	}
	for p := range n {
		s, c := math.Sincos(float64(pos) * math.Pow(base, -float64(p)/float64(n)))
		i, j := p, p+n
		if r.Pairing == Neighbours {
			i, j = 2*p, 2*p+1
		}
		y[i], y[j] = x[i]*c-x[j]*s, x[i]*s+x[j]*c
	}
	return y
}
