package autograd

import "fmt"

// Backward adds the gradients of loss, a [1, 1] value, to those of all parameters and inputs. It runs once a Reset.
func (t *Tape) Backward(loss Var) error {
	n := &t.nodes[loss]
	if n.rows != 1 || n.cols != 1 {
		panic(fmt.Sprintf("autograd: backward from a value of %d×%d: want 1×1", n.rows, n.cols))
	}
	if !n.need {
		return nil // depends on no parameter
	}
	if g := t.gradSum(loss); t.dry == nil {
		g[0]++
	}
	return t.BackwardAll()
}

// BackwardAll is Backward from gradients that the caller has added by SeedGrad.
func (t *Tape) BackwardAll() error { return t.backwardTo(0) }

// backwardTo walks the records back to the one of index first.
func (t *Tape) backwardTo(first int) error {
	for i := len(t.ops) - 1; i >= first; i-- {
		o := &t.ops[i]
		if !t.nodes[o.out].filled {
			continue // nothing depends on it
		}
		t.taken = false
		if err := t.back(o, t.nodes[o.out].grad); err != nil {
			return err
		}
		n := &t.nodes[o.out]
		if n.ours && !t.taken {
			t.free = append(t.free, buffer{n.rows * n.cols, n.grad})
		}
		n.grad = nil
	}
	return nil
}

// SeedGrad returns the gradient of v for the caller to add to, before BackwardAll; nil when v asks for none.
func (t *Tape) SeedGrad(v Var) []float32 {
	if !t.need(v) {
		return nil
	}
	return t.gradSum(v)
}

// newGrad makes the gradient of n, of undefined content. Memory of gradients that are done with comes first.
func (t *Tape) newGrad(n *node) {
	n.filled, n.ours = true, true
	size := n.rows * n.cols
	for i := len(t.free) - 1; i >= 0; i-- {
		if t.free[i].n == size {
			n.grad = t.free[i].x
			t.free = append(t.free[:i], t.free[i+1:]...)
			return
		}
	}
	n.grad = t.floats(size)
}

// gradSum returns the gradient of v to be added to, zeros at first.
func (t *Tape) gradSum(v Var) []float32 {
	n := &t.nodes[v]
	if !n.filled {
		t.newGrad(n)
		clear(n.grad)
	}
	return n.grad
}

// gradSpace returns the gradient of v and whether it already holds a part: if so the caller adds, if not
// it writes every element.
func (t *Tape) gradSpace(v Var) (g []float32, add bool) {
	n := &t.nodes[v]
	if !n.filled {
		t.newGrad(n)
		return n.grad, false
	}
	return n.grad, true
}

// give adds g, the gradient of the operation's output, to the gradient of v, an operand. g may become that gradient: the operation
// does not use it afterwards.
func (t *Tape) give(v Var, g []float32) {
	n := &t.nodes[v]
	if n.need && !n.filled {
		t.taken = true
	}
	t.giveNew(v, g)
}

// giveNew is give of memory that the operation itself made.
func (t *Tape) giveNew(v Var, g []float32) {
	n := &t.nodes[v]
	switch {
	case !n.need:
	case !n.filled:
		n.grad, n.filled, n.ours = g, true, true
	default:
		t.addTo(n.grad, g)
	}
}

// lend adds g to the gradient of v, and leaves g to its owner.
func (t *Tape) lend(v Var, g []float32) {
	n := &t.nodes[v]
	switch {
	case !n.need:
	case !n.filled:
		t.newGrad(n)
		copy(n.grad, g)
	default:
		t.addTo(n.grad, g)
	}
}
