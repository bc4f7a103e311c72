package nn

import (
	"math/rand/v2"

	"attnbench/autograd"
)

// Dropper leaves out elements in training with probability P (Srivastava et al. 2014), each time others: Seed is that of a step, and
// moves on with each place that it is applied at.
type Dropper struct {
	P    float32
	Seed uint64
}

func (d *Dropper) on(t *autograd.Tape) bool { return d.P > 0 && t.Trains() }

// next returns the seed of the next place.
func (d *Dropper) next() uint64 {
	d.Seed += 1 << 40 // beyond the indices of elements
	return d.Seed
}

// Apply returns x with elements left out, or x itself outside training.
func (d *Dropper) Apply(t *autograd.Tape, x autograd.Var) autograd.Var {
	if !d.on(t) {
		return x
	}
	return t.Dropout(x, d.P, d.next())
}

// Residual joins a sublayer f to the residual stream: x + f(norm(x)), or with Post norm(x + f(x)) as in Vaswani et al. 2017.
type Residual struct {
	Post bool
	// Skip is the probability that a training step leaves f out: stochastic depth (Huang et al. 2016, arXiv:1603.09382 §3). Where f
	// is taken, it counts 1/(1-Skip), so that nothing changes outside training.
	Skip float32
}

// Join returns x with f added. f adds its result to what it is given as add, unless that is None. d drops elements of f's result, and
// draws whether f is left out.
func (r Residual) Join(t *autograd.Tape, n Norm, x autograd.Var, d *Dropper, f func(h, add autograd.Var) (autograd.Var, error)) (autograd.Var, error) {
	skips := r.Skip > 0 && t.Trains()
	if skips && rand.New(rand.NewPCG(d.next(), 1)).Float32() < r.Skip {
		if r.Post {
			return n.Forward(t, x), nil
		}
		return x, nil
	}
	h, add := x, x
	if !r.Post {
		h = n.Forward(t, x)
	}
	if skips || d.on(t) {
		add = autograd.None
	}
	y, err := f(h, add)
	if err != nil {
		return autograd.None, err
	}
	if add == autograd.None {
		y = d.Apply(t, y)
		if skips {
			y = t.Scale(y, 1/(1-r.Skip))
		}
		y = t.Add(x, y)
	}
	if r.Post {
		y = n.Forward(t, y)
	}
	return y, nil
}
