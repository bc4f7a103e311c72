package train

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/internal/kernel"
)

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2):
//
//	m = β1·m + (1-β1)·g,  v = β2·v + (1-β2)·g²
//	p = p - lr·((m/(1-β1^t)) / (√(v/(1-β2^t)) + ε) + decay·p)
//
// Decay applies to parameters that say so. A tensor that several parameters share is updated once.
type AdamW struct {
	Beta1, Beta2, Eps, Decay float64

	step   int // updates done
	params []*autograd.Param
	m, v   [][]float32
	blocks []block
	sums   []float64 // of squares, by block
}

// block is a part of one parameter that one task updates. Their number depends on the sizes alone.
type block struct {
	param, lo, hi int
}

const blockSize = 8192

// NewAdamW returns an optimiser with β1 0.9, β2 0.999, ε 1e-8 and no decay, for params.
func NewAdamW(params []*autograd.Param) (*AdamW, error) {
	o := &AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
	first := map[*float32]*autograd.Param{}
	for _, p := range params {
		if len(p.Grad) != len(p.Data) {
			return nil, fmt.Errorf("parameter %s: gradient of %d numbers: want %d", p.Name, len(p.Grad), len(p.Data))
		}
		if len(p.Data) == 0 {
			continue
		}
		if q := first[&p.Data[0]]; q != nil {
			if len(q.Data) != len(p.Data) || &q.Grad[0] != &p.Grad[0] || q.Decay != p.Decay {
				return nil, fmt.Errorf("parameters %s and %s share data: want them to share size, gradient and decay", q.Name, p.Name)
			}
			continue
		}
		first[&p.Data[0]] = p
		for lo := 0; lo < len(p.Data); lo += blockSize {
			o.blocks = append(o.blocks, block{len(o.params), lo, min(lo+blockSize, len(p.Data))})
		}
		o.params = append(o.params, p)
		o.m = append(o.m, make([]float32, len(p.Data)))
		o.v = append(o.v, make([]float32, len(p.Data)))
	}
	o.sums = make([]float64, len(o.blocks))
	return o, nil
}

// Steps returns the number of updates done.
func (o *AdamW) Steps() int { return o.step }

// NonFiniteError reports a gradient with a NaN or an infinity in it.
type NonFiniteError struct {
	Param string
	Step  int // of training, from 1
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("step %d: gradient of %s is not finite: want finite numbers", e.Step, e.Param)
}

// Norm returns the Euclidean norm of all gradients together, summed in float64 and in a fixed order. A
// number that is not finite gives a NonFiniteError with the step that is given for it.
func (o *AdamW) Norm(ws *attn.Workspace, step int) (float64, error) {
	attn.Parallel(ws, len(o.blocks), 0, o, func(_ *attn.Scratch, a **AdamW, task int) {
		o := *a
		b := o.blocks[task]
		sum := 0.0
		for _, x := range o.params[b.param].Grad[b.lo:b.hi] {
			sum += float64(x) * float64(x)
		}
		o.sums[task] = sum
	})
	total := 0.0
	for i, s := range o.sums {
		if math.IsNaN(s) || math.IsInf(s, 0) { // squares of finite float32 do not overflow float64
			return math.NaN(), &NonFiniteError{o.params[o.blocks[i].param].Name, step}
		}
		total += s
	}
	return math.Sqrt(total), nil
}

// Step updates the parameters by their gradients times scale, and clears the gradients. The gradients must be finite, as
// Norm finds out.
func (o *AdamW) Step(ws *attn.Workspace, rate, scale float64) {
	o.step++
	attn.Parallel(ws, len(o.blocks), 0, adamArgs{o, rate, scale}, func(_ *attn.Scratch, a *adamArgs, task int) {
		o, b := a.o, a.o.blocks[task]
		p := o.params[b.param]
		g := p.Grad[b.lo:b.hi]
		if a.scale != 1 {
			for i, x := range g { // in float64: the scale of a huge gradient is subnormal in float32
				g[i] = float32(float64(x) * a.scale)
			}
		}
		step := kernel.AdamWStep{LR: a.rate, Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Step: o.step}
		if p.Decay {
			step.Decay = o.Decay
		}
		kernel.AdamW(p.Data[b.lo:b.hi], g, o.m[b.param][b.lo:b.hi], o.v[b.param][b.lo:b.hi], step)
		clear(g)
	})
}

type adamArgs struct {
	o           *AdamW
	rate, scale float64
}

// ClipScale returns the factor that brings gradients of the given norm to the limit, 1 when they are below it
// already or the limit is 0, which means none.
func ClipScale(norm, limit float64) float64 {
	if limit > 0 && norm > limit {
		return limit / norm
	}
	return 1
}

// Clear sets the gradients to 0 without an update.
func (o *AdamW) Clear() {
	for _, p := range o.params {
		clear(p.Grad)
	}
}
