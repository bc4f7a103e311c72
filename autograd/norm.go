package autograd

import (
	"fmt"
	"math"

	"attnbench/internal/kernel"
)

// RMSNorm returns x/rms(x)∘gain over each group of width columns (Zhang & Sennrich 2019, arXiv:1910.07467), rms² = mean(x²) + eps. width
// divides the columns of x: all of them for a layer's norm, a head's for a norm per head. gain [1, width] may be None.
func (t *Tape) RMSNorm(x, gain Var, width int, eps float32) Var {
	return t.norm(opRMSNorm, x, gain, None, width, eps)
}

// LayerNorm returns (x-mean)/√(variance+eps)∘gain + bias over the columns (Ba et al. 2016, arXiv:1607.06450); gain and
// bias [1, cols] may be None.
func (t *Tape) LayerNorm(x, gain, bias Var, eps float32) Var {
	return t.norm(opLayerNorm, x, gain, bias, t.nodes[x].cols, eps)
}

// L2Norm returns x/√(Σx² + eps²) over each group of width columns.
func (t *Tape) L2Norm(x Var, width int, eps float32) Var {
	return t.norm(opL2Norm, x, None, None, width, eps)
}

func (t *Tape) norm(code opcode, x, gain, bias Var, width int, eps float32) Var {
	n := t.nodes[x]
	if width < 1 || n.cols%width != 0 || gain != None && t.size(gain) != width || bias != None && t.size(bias) != width {
		panic(fmt.Sprintf("autograd: norm of %d columns in groups of %d: want a divisor, and a gain and bias of that width", n.cols, width))
	}
	o := t.result(n.rows, n.cols, op{code: code, a: x, b: gain, c: bias, i: width, x: eps})
	groups := n.rows * (n.cols / width)
	if t.keeps(o) {
		o.u = t.floats(groups) // 1/norm
		if code == opLayerNorm {
			o.v = t.floats(groups) // mean
		}
	}
	t.blocks(o, nil, groups, width, normBlock)
	return o.out
}

func normBlock(t *Tape, o *op, _ []float32, b block) {
	w := o.i
	gain, bias := t.nodes[o.b].data, t.nodes[o.c].data
	for i := b.lo; i < b.hi; i++ {
		x, out := t.nodes[o.a].data[i*w:(i+1)*w], t.nodes[o.out].data[i*w:(i+1)*w]
		var mean, inv float32
		copy(out, x)
		switch o.code {
		case opRMSNorm:
			inv = rsqrt(kernel.SumSquares(x)/float32(w) + o.x)
		case opL2Norm:
			inv = rsqrt(kernel.SumSquares(x) + o.x*o.x)
		case opLayerNorm:
			mean = kernel.Sum(x) / float32(w)
			for j := range out {
				out[j] -= mean
			}
			inv = rsqrt(kernel.SumSquares(out)/float32(w) + o.x)
		}
		kernel.Scale(inv, out)
		if gain != nil {
			kernel.Times(out, gain)
		}
		if bias != nil {
			kernel.Add(out, bias)
		}
		if o.u != nil {
			o.u[i] = inv
		}
		if o.v != nil {
			o.v[i] = mean
		}
	}
}

func rsqrt(x float32) float32 { return float32(1 / math.Sqrt(float64(x))) }

// backNorm: with y = (x-mean)·inv and h = g∘gain, dx = inv·(h - mean(h) - y·mean(h∘y)); the RMS form has no mean,
// the L2 form sums in place of the second mean.
func (t *Tape) backNorm(o *op, g []float32) {
	n := t.nodes[o.a]
	w := o.i
	groups := n.rows * (n.cols / w)
	if t.need(o.c) {
		t.blocksSum(o, g, groups, w, o.c, func(t *Tape, o *op, g []float32, b block) {
			for i := b.lo; i < b.hi; i++ {
				kernel.Add(b.sum, g[i*o.i:(i+1)*o.i])
			}
		})
	}
	if t.need(o.b) {
		t.blocksSum(o, g, groups, w, o.b, normGainBlock)
	}
	if t.need(o.a) {
		t.blocks(o, g, groups, w, normGradBlock)
		t.give(o.a, g)
	}
}

func normGainBlock(t *Tape, o *op, g []float32, b block) {
	w := o.i
	for i := b.lo; i < b.hi; i++ {
		x, gi := t.nodes[o.a].data[i*w:(i+1)*w], g[i*w:(i+1)*w]
		inv, mean := o.u[i], float32(0)
		if o.v != nil {
			mean = o.v[i]
		}
		for j, v := range x {
			b.sum[j] += gi[j] * (v - mean) * inv
		}
	}
}

// normGradBlock turns g into the gradient of the input.
func normGradBlock(t *Tape, o *op, g []float32, b block) {
	w := o.i
	gain := t.nodes[o.b].data
	for i := b.lo; i < b.hi; i++ {
		x, h := t.nodes[o.a].data[i*w:(i+1)*w], g[i*w:(i+1)*w]
		if gain != nil {
			kernel.Times(h, gain)
		}
		inv := o.u[i]
		var mean, shift float32
		if o.v != nil {
			mean = o.v[i]
			shift = kernel.Sum(h) / float32(w)
		}
		hy := kernel.Dot(h, x)
		if mean != 0 {
			hy -= mean * kernel.Sum(h)
		}
		c := hy * inv * inv
		if o.code != opL2Norm {
			c /= float32(w)
		}
		kernel.Axpy(-c, x, h)
		if o.v != nil {
			for j := range h {
				h[j] += mean*c - shift
			}
		}
		kernel.Scale(inv, h)
	}
}
