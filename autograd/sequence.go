package autograd

import (
	"fmt"
	"sync"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// The operations below look at neighbouring tokens. back[i] says how many tokens of the same sequence lie directly
// above row i: 0 at the start of a sequence or document, so that nothing is read across it. It must not change until the tape's Reset.

// ShortConv returns the causal depthwise convolution of x [rows, channels] with w [width, channels]:
//
//	y[i] = bias + Σ_{j<width, j≤back[i]} w[j]∘x[i-j]
//
// bias [1, channels] may be None.
func (t *Tape) ShortConv(x, w, bias Var, back []int32) Var {
	nx, nw := t.nodes[x], t.nodes[w]
	if nx.cols != nw.cols || len(back) != nx.rows || bias != None && t.size(bias) != nx.cols {
		panic(fmt.Sprintf("autograd: short convolution of %d×%d by %d×%d: want as many channels, and a back a row", nx.rows, nx.cols, nw.rows, nw.cols))
	}
	o := t.result(nx.rows, nx.cols, op{code: opShortConv, a: x, b: w, c: bias, idx: back})
	t.blocks(o, nil, nx.rows, nx.cols, func(t *Tape, o *op, _ []float32, b block) {
		nw, nx, out := &t.nodes[o.b], &t.nodes[o.a], t.nodes[o.out].data
		c := nx.cols
		for i := b.lo; i < b.hi; i++ {
			ConvTap(out[i*c:(i+1)*c], t.nodes[o.c].data, nil, nil)
			for j := range min(nw.rows, int(o.idx[i])+1) {
				ConvTap(out[i*c:(i+1)*c], nil, nw.data[j*c:(j+1)*c], nx.data[(i-j)*c:(i-j+1)*c])
			}
		}
	})
	return o.out
}

// ConvTap is one term of a ShortConv, shared with decoding so that both give the same bits: a nil w starts y with the bias, else
// y += w∘x.
func ConvTap(y, bias, w, x []float32) {
	if w == nil {
		if bias == nil {
			clear(y)
		} else {
			copy(y, bias)
		}
		return
	}
	kernel.AddTimes(y, w, x)
}

func (t *Tape) backShortConv(o *op, g []float32) {
	nx := t.nodes[o.a]
	if t.need(o.c) {
		t.blocksSum(o, g, nx.rows, nx.cols, o.c, sumRowsBlock)
	}
	if t.need(o.b) {
		t.blocksSum(o, g, nx.rows, nx.cols, o.b, func(t *Tape, o *op, g []float32, b block) {
			nw, nx := &t.nodes[o.b], &t.nodes[o.a]
			c := nx.cols
			for i := b.lo; i < b.hi; i++ {
				for j := range min(nw.rows, int(o.idx[i])+1) {
					ConvTap(b.sum[j*c:(j+1)*c], nil, g[i*c:(i+1)*c], nx.data[(i-j)*c:])
				}
			}
		})
	}
	if t.need(o.a) {
		o.u = t.gradSum(o.a)
		t.blocks(o, g, nx.rows, nx.cols, func(t *Tape, o *op, g []float32, b block) {
			nw, nx := &t.nodes[o.b], &t.nodes[o.a]
			c := nx.cols
			for i := b.lo; i < b.hi; i++ { // of x: read by the rows below that reach back to it
				for j := 0; j < nw.rows && i+j < nx.rows && int(o.idx[i+j]) >= j; j++ {
					ConvTap(o.u[i*c:(i+1)*c], nil, nw.data[j*c:(j+1)*c], g[(i+j)*c:])
				}
			}
		})
	}

}

// TokenShift returns x[i] + mix∘(x[i-1] - x[i]) for mix [1, cols]; the token before a sequence's first is 0.
func (t *Tape) TokenShift(x, mix Var, back []int32) Var {
	n := t.nodes[x]
	if t.size(mix) != n.cols || len(back) != n.rows {
		panic(fmt.Sprintf("autograd: token shift of %d×%d: want a mix a column, and a back a row", n.rows, n.cols))
	}
	o := t.result(n.rows, n.cols, op{code: opTokenShift, a: x, b: mix, idx: back})
	t.blocks(o, nil, n.rows, n.cols, func(t *Tape, o *op, _ []float32, b block) {
		n, out := &t.nodes[o.a], t.nodes[o.out].data
		c := n.cols
		for i := b.lo; i < b.hi; i++ {
			var prev []float32
			if o.idx[i] > 0 {
				prev = n.data[(i-1)*c : i*c]
			}
			ShiftToken(out[i*c:(i+1)*c], n.data[i*c:(i+1)*c], prev, t.nodes[o.b].data)
		}
	})
	return o.out
}

// ShiftToken is one row of a TokenShift; a nil prev is 0.
func ShiftToken(y, x, prev, mix []float32) {
	for c, m := range mix {
		var p float32
		if prev != nil {
			p = prev[c]
		}
		y[c] = x[c] + float32(m*(p-x[c]))
	}
}

func (t *Tape) backTokenShift(o *op, g []float32) {
	n := t.nodes[o.a]
	if t.need(o.b) {
		t.blocksSum(o, g, n.rows, n.cols, o.b, func(t *Tape, o *op, g []float32, b block) {
			n := &t.nodes[o.a]
			c := n.cols
			for i := b.lo; i < b.hi; i++ {
				for j := range c {
					d := -n.data[i*c+j]
					if o.idx[i] > 0 {
						d += n.data[(i-1)*c+j]
					}
					b.sum[j] += g[i*c+j] * d
				}
			}
		})
	}
	if t.need(o.a) {
		o.u = t.gradSum(o.a)
		t.blocks(o, g, n.rows, n.cols, func(t *Tape, o *op, g []float32, b block) {
			n, mix := &t.nodes[o.a], t.nodes[o.b].data
			c := n.cols
			for i := b.lo; i < b.hi; i++ {
				d := o.u[i*c : (i+1)*c]
				for j, m := range mix {
					d[j] += g[i*c+j] * (1 - m)
					if i+1 < n.rows && o.idx[i+1] > 0 {
						d[j] += g[(i+1)*c+j] * m
					}
				}
			}
		})
	}
}

// RopeTable holds the cosines and sines of a rotary embedding by absolute position, for heads of one width. It
// grows as positions are asked for and is safe for concurrent use.
type RopeTable struct {
	Rope  attn.Rope
	Width int

	mu       sync.Mutex
	cos, sin []float32 // [positions, pairs]
}

// rows returns tables that cover the positions below n; what an earlier call returned stays valid.
func (r *RopeTable) rows(n int) (cos, sin []float32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.Rope.Pairs(r.Width)
	if have := len(r.cos) / max(p, 1); p > 0 && have < n {
		n = max(n, min(2*have, have+4096))
		c, s := make([]float32, n*p), make([]float32, n*p)
		copy(c, r.cos)
		copy(s, r.sin)
		for i := have; i < n; i++ {
			r.Rope.Angles(c[i*p:(i+1)*p], s[i*p:(i+1)*p], i, r.Width)
		}
		r.cos, r.sin = c, s
	}
	return r.cos, r.sin
}

// Rope returns x [rows, heads·width] with each head turned by the angles of the row's absolute position pos[i] ≥ 0. pos must not change until
// the tape's Reset.
func (t *Tape) Rope(x Var, r *RopeTable, pos []int32) Var {
	n := t.nodes[x]
	if n.cols%r.Width != 0 || len(pos) != n.rows {
		panic(fmt.Sprintf("autograd: rotation of %d×%d in heads %d wide: want a multiple, and a position a row", n.rows, n.cols, r.Width))
	}
	top := int32(-1)
	for _, p := range pos {
		top = max(top, p)
	}
	o := t.result(n.rows, n.cols, op{code: opRope, a: x, i: r.Width, j: int(r.Rope.Pairing), idx: pos})
	o.u, o.v = r.rows(int(top) + 1)
	if p := r.Rope.Pairs(r.Width); p > 0 {
		o.seed = uint64(p)
	}
	t.blocks(o, n.data, n.rows, n.cols, ropeBlock)
	return o.out
}

// ropeBlock turns src into the output; Backward turns the gradient back in place, by the negated sines.
func ropeBlock(t *Tape, o *op, src []float32, b block) { t.turn(o, t.nodes[o.out].data, src, b, 1) }

func ropeGradBlock(t *Tape, o *op, g []float32, b block) { t.turn(o, g, g, b, -1) }

func (t *Tape) turn(o *op, dst, src []float32, b block, sign float32) {
	cols, w, pairs := t.nodes[o.a].cols, o.i, int(o.seed)
	near, far := 1, pairs // step between pairs, and between the two of a pair
	if attn.Pairing(o.j) == attn.Neighbours {
		near, far = 2, 1
	}
	for i := b.lo; i < b.hi; i++ {
		at := int(o.idx[i]) * pairs
		cos, sin := o.u[at:at+pairs], o.v[at:at+pairs]
		for h := i * cols; h < (i+1)*cols; h += w {
			x, y := src[h:h+w], dst[h:h+w]
			for p, c := range cos {
				s := sign * sin[p]
				l, r := p*near, p*near+far
				a, b := x[l], x[r]
				y[l] = float32(a*c) - float32(b*s)
				y[r] = float32(a*s) + float32(b*c)
			}
			copy(y[2*pairs:], x[2*pairs:])
		}
	}
}

func (t *Tape) backRope(o *op, g []float32) {
	n := t.nodes[o.a]
	t.blocks(o, g, n.rows, n.cols, ropeGradBlock)
	t.give(o.a, g)
}

// Dropout returns x with each element set to 0 with probability p and the others scaled by 1/(1-p). Which ones depends on
// the seed and the element's index alone. Outside training the caller leaves it out.
func (t *Tape) Dropout(x Var, p float32, seed uint64) Var {
	if p <= 0 {
		return x
	}
	n := t.nodes[x]
	o := t.result(n.rows, n.cols, op{code: opDropout, a: x, x: min(p, 1), seed: seed})
	t.blocks(o, n.data, n.rows, n.cols, func(t *Tape, o *op, src []float32, b block) {
		t.drop(o, t.nodes[o.out].data, src, b)
	})
	return o.out
}

func (t *Tape) drop(o *op, dst, src []float32, b block) {
	cols := t.nodes[o.a].cols
	keep := float32(0)
	if o.x < 1 {
		keep = 1 / (1 - o.x)
	}
	for i := b.lo * cols; i < b.hi*cols; i++ {
		y := float32(0)
		if float32(mix(o.seed+uint64(i)*0x9e3779b97f4a7c15)>>40)*(1.0/(1<<24)) >= o.x {
			y = src[i] * keep
		}
		dst[i] = y
	}
}

// mix is the finaliser of SplitMix64 (Steele et al. 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (t *Tape) backDropout(o *op, g []float32) {
	n := t.nodes[o.a]
	t.blocks(o, g, n.rows, n.cols, func(t *Tape, o *op, g []float32, b block) { t.drop(o, g, g, b) })
	t.give(o.a, g)
}
