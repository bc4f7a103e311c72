package train

import (
	"fmt"
	"math"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
)

// Optimiser updates parameters by their gradients, by one of the Rules. Weight decay is decoupled, p -= lr·decay·p, and
// applies to parameters that say so (matrices, not norms, biases and embeddings), but in adam, where it is part of the
// gradient. A tensor that several parameters share is updated once.
type Optimiser struct {
	Beta1, Beta2, Eps, Decay float64

	rule   rule
	step   int // updates done
	params []*autograd.Param
	m, v   [][]float32 // what the rule keeps of each parameter; empty where it keeps nothing
	blocks []block
	sums   []float64 // of squares, by block
}

// block is a part of one parameter that one task updates. Their number depends on the sizes alone.
type block struct {
	param, lo, hi int
}

const blockSize = 8192

// NewAdamW returns AdamW with β1 0.9, β2 0.999, ε 1e-8 and no decay, for params.
func NewAdamW(params []*autograd.Param) (*Optimiser, error) { return NewOptimiser("adamw", params) }

// NewOptimiser returns an optimiser that works by the named rule, with the rule's own constants and no decay.
func NewOptimiser(name string, params []*autograd.Param) (*Optimiser, error) {
	r, ok := rules[name]
	if !ok {
		return nil, fmt.Errorf("optimiser %q: want one of %s", name, strings.Join(Rules(), ", "))
	}
	o := &Optimiser{Beta1: r.beta1, Beta2: r.beta2, Eps: r.eps, rule: r}
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
		m, v := r.state(p)
		o.m = append(o.m, make([]float32, m))
		o.v = append(o.v, make([]float32, v))
	}
	o.sums = make([]float64, len(o.blocks))
	return o, nil
}

// Steps returns the number of updates done.
func (o *Optimiser) Steps() int { return o.step }

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
func (o *Optimiser) Norm(ws *attn.Workspace, step int) (float64, error) {
	attn.Parallel(ws, len(o.blocks), 0, o, func(_ *attn.Scratch, a **Optimiser, task int) {
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
func (o *Optimiser) Step(ws *attn.Workspace, rate, scale float64) {
	o.step++
	args := updateArgs{o, rate, scale}
	attn.Parallel(ws, len(o.blocks), 0, args, func(_ *attn.Scratch, a *updateArgs, task int) {
		b := a.o.blocks[task]
		p := a.o.params[b.param]
		g := p.Grad[b.lo:b.hi]
		if a.scale != 1 {
			for i, x := range g { // in float64: the scale of a huge gradient is subnormal in float32
				g[i] = float32(float64(x) * a.scale)
			}
		}
		if !a.o.rule.whole(p) {
			a.o.rule.update(a, b)
			clear(g)
		}
	})
	floats, any := 0, false
	for _, p := range o.params {
		if o.rule.whole(p) {
			floats, any = max(floats, o.rule.scratch(p)), true
		}
	}
	if !any {
		return
	}
	attn.Parallel(ws, len(o.params), floats, args, func(s *attn.Scratch, a *updateArgs, task int) {
		p := a.o.params[task]
		if a.o.rule.whole(p) {
			a.o.rule.matrix(s, a, task)
			clear(p.Grad)
		}
	})
}

type updateArgs struct {
	o           *Optimiser
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
func (o *Optimiser) Clear() {
	for _, p := range o.params {
		clear(p.Grad)
	}
}
