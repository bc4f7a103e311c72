package tile

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// ruleBlock is a block of one key/value head on a worker's scratch: a recurBlock whose values become the w.
type ruleBlock struct {
	recurBlock
	k2 []float32 // K' and A, [sixteens, ld], as q has Q' and the weights of its pairs
	kt []float32 // ChannelDecay: the keys transposed, for kernel.DecayWeights to change, [key dim, lanes]
	r  []float32 // S'ᵀk of a group of rows, [ruleRows, width]
}

// newRuleBlock lays a block out on s; forwardFloats counts the same.
func newRuleBlock(s *attn.Scratch, a *ruleArgs, from, to int) ruleBlock {
	sh := a.c.Shape
	t := ruleBlock{recurBlock: newBlock(s, &a.recurArgs, from, to)}
	t.k2 = s.Floats(sixteens(t.rows) * t.ld(sh))
	t.r = s.Floats(ruleRows * sh.ValueDim)
	if a.Decay == ChannelDecay {
		t.kt = s.Floats(sh.KeyDim * lanes)
	}
	return t
}

func (d *Delta) forwardFloats(s attn.Shape) int {
	if d.Erase {
		return eraseFloats(s)
	}
	r := d.recurrence()
	n := sixteens(r.rows())
	f := r.forwardFloats(s) + attn.ScratchFloats(n*(s.KeyDim+n), ruleRows*s.ValueDim)
	if d.Decay == ChannelDecay {
		f += attn.ScratchFloats(s.KeyDim * lanes)
	}
	return f
}

// solve turns the values of the block to its w. Unless errors is nil, it receives v - S'ᵀk, [n, value dim].
func (t *ruleBlock) solve(errors []float32) {
	dk, ld := t.c.KeyDim, t.ld(t.c.Shape)
	k := kernel.Rows(t.k2, ld)
	kernel.Copy(k, t.keyRows(&t.c.K), t.n, dk)
	t.pairs(k)
	w, b := t.values(), t.keyRows(beta(t.c.Extra))
	for i0 := 0; i0 < t.n; i0 += ruleRows {
		end := min(i0+ruleRows, t.n)
		// The w so far lie behind the state: what both hold for these rows is one product.
		kernel.MulAhead(&t.ahead, nil, end-i0, t.width, dk+i0, k.From(i0, 0), kernel.Rows(t.s, t.width), kernel.Rows(t.r, t.width))
		for i := i0; i < end; i++ {
			read, row := t.r[(i-i0)*t.width:][:t.width], w.Data[i*w.Row:][:t.width]
			kernel.Combine(read, t.k2[i*ld+dk+i0:i*ld+dk+i], w.From(i0, 0))
			kernel.Axpy(-1, read, row)
			if errors != nil {
				copy(errors[i*t.c.ValueDim+t.from:], row)
			}
			kernel.Scale(b.Data[i*b.Row], row)
		}
	}
	t.finite = RowsFinite(w, t.n, t.width)
}

// pairs fills A right of the keys, and turns them to K'. What lies on and above the diagonal is of no meaning.
func (t *ruleBlock) pairs(k kernel.Mat) {
	const half = kernel.DecayBlock
	dk, n := t.c.KeyDim, t.n
	if t.Decay != ChannelDecay {
		top := min(half, n)
		kernel.MulAhead(&t.ahead, nil, top, top, dk, k, kernel.Rows(t.k, lanes), k.From(0, dk))
		kernel.MulAhead(&t.ahead, nil, n-top, n, dk, k.From(top, 0), kernel.Rows(t.k, lanes), k.From(top, dk))
		if t.Decay == HeadDecay {
			for i := range n {
				kernel.Times(k.Data[i*k.Row+dk:][:i], t.decay.between[i*lanes:])
			}
			kernel.ScaleRows(t.decay.start[:n], k, dk)
		}
		return
	}
	kernel.Pack(t.kt, t.keyRows(&t.c.K), n, dk, 1) // those of the block may have their decays already
	for r := n; r < sixteens(n); r++ {
		clear(k.Data[r*k.Row:][:dk])
	}
	d := &t.decay
	e := kernel.Rows(d.e, dk)
	for i := 0; i < n; i += half {
		kernel.DecayWeights(k.From(i, dk+i), k.From(i, 0), e.From(i, 0), t.kt[i:], dk)
		kernel.Cumulate(d.total[i/half*dk:][:dk], k.From(i, 0), e.From(i, 0), half)
	}
	if n > half {
		kernel.Mul(n-half, half, dk, k.From(half, 0), kernel.Rows(t.kt, lanes), k.From(half, dk))
		kernel.TimesRows(d.total[:dk], k.From(half, 0), n-half)
	}
}
