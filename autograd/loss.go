package autograd

import (
	"fmt"
	"math"

	"attnbench/internal/kernel"
)

// Ignored is the label of a row that takes no part in a loss.
const Ignored int32 = -1

// CrossEntropy returns the mean over labelled rows of -Σ_c target[c]·log softmax(logits)[c], [1, 1], in nats; 0 when no row is labelled. The target is
// 1 at the label, smoothed: (1-smoothing)·one-hot + smoothing/classes. Rows labelled Ignored count nowhere. labels must not
// change until the tape's Reset.
//
// The gradient is computed with the loss, while a row of logits is in cache.
func (t *Tape) CrossEntropy(logits Var, labels []int32, smoothing float32) Var {
	n := t.nodes[logits]
	if len(labels) != n.rows {
		panic(fmt.Sprintf("autograd: cross-entropy of %d rows with %d labels: want one a row", n.rows, len(labels)))
	}
	count := 0
	for _, l := range labels {
		if l != Ignored {
			if l < 0 || int(l) >= n.cols {
				panic(fmt.Sprintf("autograd: cross-entropy: label %d: want less than %d, or -1", l, n.cols))
			}
			count++
		}
	}
	o := t.result(1, 1, op{code: opCrossEntropy, a: logits, i: count, x: smoothing, idx: labels})
	kept := t.keeps(o)
	if kept {
		o.u = t.floats(n.rows * n.cols)
	}
	m := t.scratchMark()
	rows := t.scratch(n.rows)
	o.v = rows
	t.blocks(o, nil, n.rows, n.cols, crossEntropyBlock)
	total := 0.0
	for _, x := range rows {
		total += float64(x)
	}
	o.v = nil
	t.scratchRelease(m)
	if t.dry == nil {
		t.nodes[o.out].data[0] = float32(total / float64(max(count, 1)))
	}
	return o.out
}

// crossEntropyBlock writes the loss of each row to o.v and, when kept, the gradient of the mean to o.u.
func crossEntropyBlock(t *Tape, o *op, _ []float32, b block) {
	n := &t.nodes[o.a]
	c := n.cols
	for i := b.lo; i < b.hi; i++ {
		o.v[i] = 0
		label := int(o.idx[i])
		if label < 0 {
			if o.u != nil {
				clear(o.u[i*c : (i+1)*c])
			}
			continue
		}
		x := n.data[i*c : (i+1)*c]
		if o.u == nil {
			o.v[i] = negLogProb(x, label, o.x)
			continue
		}
		top := kernel.Max(x)
		p := o.u[i*c : (i+1)*c]
		copy(p, x)
		sum := kernel.ExpSum(p, top)
		o.v[i] = lossOf(x, label, o.x, top, sum)
		scale := 1 / float32(o.i)
		kernel.Scale(scale/sum, p)
		if o.x != 0 {
			even := scale * o.x / float32(c)
			for j := range p {
				p[j] -= even
			}
		}
		p[label] -= scale * (1 - o.x)
	}
}

func negLogProb(x []float32, label int, smoothing float32) float32 {
	top := kernel.Max(x)
	var buf [256]float32
	sum := float32(0)
	for r := x; len(r) > 0; {
		k := copy(buf[:], r)
		sum += kernel.ExpSum(buf[:k], top)
		r = r[k:]
	}
	return lossOf(x, label, smoothing, top, sum)
}

func lossOf(x []float32, label int, smoothing, top, sum float32) float32 {
	lse := float64(top) + math.Log(float64(sum))
	loss := lse - float64(x[label])
	if smoothing != 0 {
		mean := 0.0
		for _, v := range x {
			mean += float64(v)
		}
		loss = float64(1-smoothing)*loss + float64(smoothing)*(lse-mean/float64(len(x)))
	}
	return float32(loss)
}

func (t *Tape) backCrossEntropy(o *op, g []float32) {
	if t.dry == nil && g[0] != 1 {
		o.v = g
		n := t.nodes[o.a]
		t.blocks(o, o.u, n.rows, n.cols, func(t *Tape, o *op, d []float32, b block) {
			kernel.Scale(o.v[0], b.part(d, t.nodes[o.a].cols))
		})
	}
	t.giveNew(o.a, o.u)
}

// RowLosses writes to nll the negative log likelihood, in nats, that each row of logits gives to its label (NaN for
// Ignored), and to best the class with the largest logit, the lowest of equals. Either may be nil.
func (t *Tape) RowLosses(logits Var, labels []int32, nll []float32, best []int32) {
	n := t.nodes[logits]
	for i := range n.rows {
		x := n.data[i*n.cols : (i+1)*n.cols]
		if nll != nil {
			nll[i] = float32(math.NaN())
			if labels[i] != Ignored {
				nll[i] = negLogProb(x, int(labels[i]), 0)
			}
		}
		if best != nil {
			best[i] = 0
			for c, v := range x {
				if v > x[best[i]] {
					best[i] = int32(c)
				}
			}
		}
	}
}
