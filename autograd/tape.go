// Package autograd computes values and their gradients: a tape of operations on float32 matrices.
//
// Every value is a matrix [rows, cols]; tokens lie along the rows, heads side by side in the
// columns. A Tape is used again from step to step: its records, values and gradients take memory from an
// arena that Reset empties, so that a step in the steady state allocates nothing and its bytes are exact.
// Parameters live outside the tape.
//
// Operations panic when the shapes of their operands do not fit: that is a mistake of the program, not of
// its user. Results do not depend on GOMAXPROCS.
package autograd

import (
	"fmt"

	"attnbench/attn"
)

// Param is a learned tensor. Backward adds to Grad; an optimiser reads it and clears it.
type Param struct {
	Name       string
	Shape      []int // [in, out] for a projection, [width] for a gain or a bias
	Data, Grad []float32
	Decay      bool // weight decay applies
}

// NewParam returns a parameter of zeros.
func NewParam(name string, decay bool, shape ...int) *Param {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return &Param{Name: name, Shape: shape, Data: make([]float32, n), Grad: make([]float32, n), Decay: decay}
}

// Var is a value on a tape, valid until the tape's next Reset.
type Var int32

// None is no value at all: an optional operand that is not given.
const None Var = 0

// Tape records operations in the order in which they are computed and walks them back for the gradients.
// It serves one goroutine.
type Tape struct {
	NoGrad bool // inference: compute values, record nothing

	ws     *attn.Workspace
	arena  *attn.Arena
	own    attn.Arena // what arena points to, unless Attach gave another
	nodes  []node     // nodes[0] is None
	ops    []op
	one    op      // the record of an operation that is not kept
	calls  []*call // of Attention, used again
	ncall  int
	lstms  []AttentiveLSTM
	recurs []Recurrence
	again  []func(Var) (Var, error) // of Recompute
	trial  bool                     // Recompute's first run
	free   []buffer                 // gradients that are done with
	taken  bool                     // the operation that Backward is at has given its gradient away
	dry    *measure                 // set: nothing is computed, see Measure
}

// node is one value.
type node struct {
	data, grad []float32
	rows, cols int
	need       bool // a gradient is asked for
	filled     bool // grad holds a part of the gradient: the next part is added
	ours       bool // grad is the tape's, to be used again
}

// buffer is memory for n floats.
type buffer struct {
	n int
	x []float32
}

// op is the record of one operation: what Backward has to know.
type op struct {
	code       opcode
	out        Var
	a, b, c, d Var
	i, j       int
	x          float32
	seed       uint64
	u, v       []float32 // values kept for Backward, in the arena
	idx        []int32
}

type opcode uint8

// NewTape returns an empty tape whose operations take scratch and workers from ws.
func NewTape(ws *attn.Workspace) *Tape {
	t := &Tape{ws: ws, nodes: make([]node, 1)}
	t.arena = &t.own
	return t
}

// Attach empties the tape and makes it use ws for everything, values and gradients too: the form that a
// mechanism made of operations has, all of whose memory counts as scratch. The caller marks ws before and releases it after. A nil ws only lets go of the memory.
func (t *Tape) Attach(ws *attn.Workspace) {
	t.forget()
	t.ws, t.arena, t.dry = ws, &t.own, nil
	if ws != nil {
		t.arena = &ws.Arena
	}
}

// Workspace returns where the tape's operations take their scratch from.
func (t *Tape) Workspace() *attn.Workspace { return t.ws }

// Reset forgets all values and records, and gives their memory back.
func (t *Tape) Reset() {
	t.forget()
	if t.arena == &t.own {
		t.own.Reset()
	}
}

func (t *Tape) forget() {
	clear(t.nodes) // let go of the parameters
	clear(t.ops)
	clear(t.free)
	clear(t.lstms)
	clear(t.recurs)
	clear(t.again)
	t.nodes, t.ops, t.free, t.ncall, t.lstms, t.recurs, t.again = t.nodes[:1], t.ops[:0], t.free[:0], 0, t.lstms[:0], t.recurs[:0], t.again[:0]
}

// Bytes returns the bytes that values, saved tensors and gradients take now; after a forward pass
// it is what the step has to keep for its backward pass.
func (t *Tape) Bytes() int64 {
	if t.dry != nil {
		return t.dry.used
	}
	return t.arena.Used()
}

// Peak returns the largest Bytes so far.
func (t *Tape) Peak() int64 {
	if t.dry != nil {
		return t.dry.peak
	}
	return t.arena.Peak()
}

// Dims returns the shape of v.
func (t *Tape) Dims(v Var) (rows, cols int) { return t.nodes[v].rows, t.nodes[v].cols }

// Value returns the elements of v, row by row, in the tape's own memory.
func (t *Tape) Value(v Var) []float32 { return t.nodes[v].data }

// Scalar returns the element of a [1, 1] value.
func (t *Tape) Scalar(v Var) float32 { return t.nodes[v].data[0] }

// Grad returns the gradient of v after Backward, nil when there is none. Only inputs keep theirs.
func (t *Tape) Grad(v Var) []float32 { return t.nodes[v].grad }

// Param brings a parameter onto the tape: [in, out] as it is, [width] as one row.
func (t *Tape) Param(p *Param) Var {
	rows, cols := 1, len(p.Data)
	if len(p.Shape) > 1 {
		rows = p.Shape[0]
		cols = len(p.Data) / max(rows, 1)
	}
	return t.Input(p.Data, p.Grad, rows, cols)
}

// Input brings outside memory onto the tape as a value [rows, cols]; Backward adds to grad. A nil grad
// asks for no gradient.
func (t *Tape) Input(data, grad []float32, rows, cols int) Var {
	if t.dry == nil && (len(data) != rows*cols || grad != nil && len(grad) != len(data)) {
		panic(fmt.Sprintf("autograd: input of %d numbers, %d of gradient: want %d×%d", len(data), len(grad), rows, cols))
	}
	return t.push(node{data: data, grad: grad, rows: rows, cols: cols, need: grad != nil && !t.NoGrad, filled: true})
}

// Const brings outside memory onto the tape as a value without a gradient.
func (t *Tape) Const(data []float32, rows, cols int) Var { return t.Input(data, nil, rows, cols) }

// Copy returns a value [rows, cols] of its own memory, copied from src, whose rows lie stride apart. With need, Backward computes
// its gradient, for Grad.
func (t *Tape) Copy(src []float32, stride, rows, cols int, need bool) Var {
	v := t.push(node{data: t.floats(rows * cols), rows: rows, cols: cols, need: need && !t.NoGrad})
	for i := 0; i < rows && t.dry == nil; i++ {
		copy(t.nodes[v].data[i*cols:(i+1)*cols], src[i*stride:])
	}
	return v
}

// Zeros returns a fresh value of zeros. It has a gradient: an operation may add to the value, as an auxiliary loss.
func (t *Tape) Zeros(rows, cols int) Var {
	return t.push(node{data: t.zeros(rows * cols), rows: rows, cols: cols, need: !t.NoGrad})
}

func (t *Tape) push(n node) Var {
	t.nodes = append(t.nodes, n)
	return Var(len(t.nodes) - 1)
}

// result makes the output of the operation o, whose elements the caller fills in, and records o if one of its operands
// asks for a gradient. The record is valid until the next one.
func (t *Tape) result(rows, cols int, o op) *op {
	return t.resultIn(t.floats(rows*cols), rows, cols, o)
}

func (t *Tape) resultIn(data []float32, rows, cols int, o op) *op {
	need := !t.NoGrad && (t.nodes[o.a].need || t.nodes[o.b].need || t.nodes[o.c].need || t.nodes[o.d].need)
	o.out = t.push(node{data: data, rows: rows, cols: cols, need: need})
	if !need {
		t.one = o
		return &t.one
	}
	t.ops = append(t.ops, o)
	return &t.ops[len(t.ops)-1]
}

func (t *Tape) size(v Var) int { return t.nodes[v].rows * t.nodes[v].cols }

func (t *Tape) need(v Var) bool { return t.nodes[v].need }

// keeps reports whether o's record stays for Backward.
func (t *Tape) keeps(o *op) bool { return o != &t.one }

// Mark and Release let inference give back the memory of intermediate values: everything made since the mark is
// gone after Release. They do nothing while the tape records.
func (t *Tape) Mark() Mark {
	if t.dry != nil {
		return Mark{nodes: len(t.nodes), used: t.dry.used}
	}
	return Mark{arena: t.arena.Mark(), nodes: len(t.nodes)}
}

// Mark is a point of a tape.
type Mark struct {
	arena attn.Mark
	nodes int
	used  int64
}

// Release gives back what was made since m but y, whose elements move to the memory of x, a value of the
// same shape made before m and not needed any more. It returns y's new handle. While the tape records it returns y and does nothing else.
func (t *Tape) Release(m Mark, x, y Var) Var {
	if !t.NoGrad {
		return y
	}
	copy(t.nodes[x].data, t.nodes[y].data)
	t.nodes = t.nodes[:m.nodes]
	t.ncall = 0
	if t.dry != nil {
		t.dry.used = m.used
		return x
	}
	t.arena.Release(m.arena)
	return x
}

// Ints returns n integers of undefined content that live until the tape's next Reset: indices for operations that keep them.
func (t *Tape) Ints(n int) []int32 { return t.arena.Ints(n) }
