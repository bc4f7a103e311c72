package attn

import "math"

// HeadOf is one query head of one segment, the unit that a definition computes.
type HeadOf[F Float] struct {
	Call *CallOf[F]
	Segment
	Index int // of the segment in the call
	H, KV int // query head and its key/value head
}

// Head64 is what definitions walk over.
type Head64 = HeadOf[float64]

// EachHead calls f for every query head of every segment, in order.
func (c *CallOf[F]) EachHead(f func(h HeadOf[F])) {
	for i := range c.NumSegments() {
		for h := range c.Heads {
			f(HeadOf[F]{Call: c, Segment: c.Segment(i), Index: i, H: h, KV: c.KVHead(h)})
		}
	}
}

// EachGroup calls f for every key/value head of every segment, in order, with the query heads that read it: what a definition computes of keys
// and values alone is theirs in common.
func (c *CallOf[F]) EachGroup(f func(heads []HeadOf[F])) {
	var group []HeadOf[F]
	c.EachHead(func(h HeadOf[F]) {
		if group = append(group, h); h.H+1 == c.Heads || c.KVHead(h.H+1) != h.KV {
			f(group)
			group = group[:0]
		}
	})
}

// Q returns query i of the head, 0 ≤ i < Queries.
func (h HeadOf[F]) Q(i int) []F { return h.Call.Q.Row(h.Row, h.Query0+i, h.H) }

// K returns key j of the head, 0 ≤ j < Keys.
func (h HeadOf[F]) K(j int) []F { return h.Call.K.Row(h.Row, h.Key0+j, h.KV) }

// V returns value j of the head, 0 ≤ j < Keys.
func (h HeadOf[F]) V(j int) []F { return h.Call.V.Row(h.Row, h.Key0+j, h.KV) }

// Out returns output i of the head, 0 ≤ i < Queries.
func (h HeadOf[F]) Out(i int) []F { return h.Call.Out.Row(h.Row, h.Query0+i, h.H) }

// KeySide returns the row of the n-th extra input, one that lies on the memory side, at key j:
// that of the query head, the key/value head or the only head, as the input has them.
func (h HeadOf[F]) KeySide(n, j int) []F {
	x := h.Call.Extra[n]
	return x.Row(h.Row, h.Key0+j, h.headIn(x.Heads))
}

// QuerySide returns the row of the n-th extra input, one that lies on the query side, at query i.
func (h HeadOf[F]) QuerySide(n, i int) []F {
	x := h.Call.Extra[n]
	return x.Row(h.Row, h.Query0+i, h.headIn(x.Heads))
}

func (h HeadOf[F]) headIn(heads int) int {
	switch heads {
	case h.Call.Heads:
		return h.H
	case h.Call.KVHeads:
		return h.KV
	}
	return 0
}

// Sees reports whether the call's mask lets query i see key j.
func (h HeadOf[F]) Sees(i, j int) bool {
	return h.Call.Mask != Causal || j <= i+h.Offset()
}

// Softmax replaces the scores p by their softmax; a row that is -Inf throughout becomes zeros.
// It subtracts the maximum, since e^710 overflows float64 too.
func Softmax(p []float64) {
	top := math.Inf(-1)
	for _, x := range p {
		top = max(top, x)
	}
	sum := 0.0
	for i, x := range p {
		if math.IsInf(x, -1) {
			p[i] = 0
			continue
		}
		p[i] = math.Exp(x - top)
		sum += p[i]
	}
	for i := range p {
		if p[i] != 0 {
			p[i] /= sum
		}
	}
}

// Dot returns Σ x_i y_i.
func Dot(x, y []float64) float64 {
	s := 0.0
	for i, v := range x {
		s += v * y[i]
	}
	return s
}

// Axpy adds a·x to y.
func Axpy(a float64, x, y []float64) {
	for i, v := range x {
		y[i] += a * v
	}
}
