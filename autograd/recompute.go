package autograd

import (
	"fmt"

	"attnbench/internal/kernel"
)

// Recompute returns f(x), a value of x's shape, and keeps nothing of f's work but that: Backward runs f again (Chen et al. 2016,
// arXiv:1604.06174). It trades a second forward pass for the memory of one. f is called later, too, until the tape's Reset: it must do the same
// each time, and may ask for gradients of x and of parameters, not of other values made before.
func (t *Tape) Recompute(x Var, f func(x Var) (Var, error)) (Var, error) {
	if t.NoGrad || !t.need(x) {
		return f(x)
	}
	rows, cols := t.Dims(x)
	data := t.floats(rows * cols)
	m := t.Mark()
	calls, lstms, recurs := t.ncall, len(t.lstms), len(t.recurs)
	t.NoGrad, t.trial = true, true
	y, err := f(x)
	t.NoGrad, t.trial = false, false
	if err != nil {
		return None, err
	}
	if r, c := t.Dims(y); r != rows || c != cols {
		panic(fmt.Sprintf("autograd: recompute of %d×%d from %d×%d: want one shape", r, c, rows, cols))
	}
	copy(data, t.Value(y))
	t.rewind(m, calls, lstms, recurs)
	t.again = append(t.again, f)
	return t.resultIn(data, rows, cols, op{code: opRecompute, a: x, i: len(t.again) - 1}).out, nil
}

// Trains reports whether values are those of a training step, not of inference: dropout and the like are on.
func (t *Tape) Trains() bool { return !t.NoGrad || t.trial }

// rewind forgets what was made since m.
func (t *Tape) rewind(m Mark, calls, lstms, recurs int) {
	clear(t.nodes[m.nodes:])
	clear(t.lstms[lstms:])
	clear(t.recurs[recurs:])
	t.nodes, t.ncall, t.lstms, t.recurs = t.nodes[:m.nodes], calls, t.lstms[:lstms], t.recurs[:recurs]
	if t.dry != nil {
		t.dry.used = m.used
		return
	}
	t.arena.Release(m.arena)
}

func (t *Tape) backRecompute(o *op, g []float32) error {
	sum := t.gradSum(o.a) // lies before what is forgotten
	f := t.again[o.i]
	m, ops := t.Mark(), len(t.ops)
	calls, lstms, recurs := t.ncall, len(t.lstms), len(t.recurs)
	// Gradients of f's values take memory that ends with them.
	free := t.free
	t.free = nil
	y, err := f(o.a)
	if err != nil {
		return err
	}
	if y == o.a {
		if t.dry == nil {
			kernel.Axpy(1, g, sum)
		}
	} else {
		n := &t.nodes[y]
		n.grad, n.filled, n.ours = g, true, false
		err = t.backwardTo(ops)
	}
	clear(t.ops[ops:])
	t.ops, t.free, t.taken = t.ops[:ops], free, false
	t.rewind(m, calls, lstms, recurs)
	return err
}
