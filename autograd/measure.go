package autograd

import "attnbench/attn"

// measure counts what operations would take, in place of running them.
type measure struct {
	used, peak, flops int64
}

// Measure empties the tape and makes it count: operations that follow compute nothing and hold no memory, but Peak and
// FLOPs return what they would have taken, to the byte. Values are nil. Attach ends it.
func (t *Tape) Measure() {
	t.forget()
	t.dry = new(measure)
}

// FLOPs returns the floating-point operations of the products since Measure, 2 a multiply-add, masked pairs excluded.
func (t *Tape) FLOPs() int64 { return t.dry.flops }

func (m *measure) take(n int) {
	m.used += 4 * int64(attn.ScratchFloats(n))
	m.peak = max(m.peak, m.used)
}

// floats returns n floats that live until the tape's Reset.
func (t *Tape) floats(n int) []float32 {
	if t.dry != nil {
		t.dry.take(n)
		return nil
	}
	return t.arena.Floats(n)
}

// zeros is floats that are 0.
func (t *Tape) zeros(n int) []float32 {
	x := t.floats(n)
	clear(x)
	return x
}

// scratch returns n floats that live until the operation's end.
func (t *Tape) scratch(n int) []float32 {
	if t.dry != nil {
		t.dry.take(n)
		return nil
	}
	return t.ws.Floats(n)
}

// scratchMark is where an operation's scratch begins.
type scratchMark struct {
	ws   attn.Mark
	used int64
}

func (t *Tape) scratchMark() scratchMark {
	if t.dry != nil {
		return scratchMark{used: t.dry.used}
	}
	return scratchMark{ws: t.ws.Mark()}
}

func (t *Tape) scratchRelease(m scratchMark) {
	if t.dry != nil {
		t.dry.used = m.used
		return
	}
	t.ws.Release(m.ws)
}

// Measuring reports whether the tape only counts.
func (t *Tape) Measuring() bool { return t.dry != nil }
