package autograd

import (
	"fmt"

	"attnbench/internal/kernel"
)

// Reshape returns the elements of a, row by row, as [rows, cols]; it moves nothing.
func (t *Tape) Reshape(a Var, rows, cols int) Var {
	n := t.nodes[a]
	if rows*cols != n.rows*n.cols {
		panic(fmt.Sprintf("autograd: reshape of %d×%d to %d×%d: want as many elements", n.rows, n.cols, rows, cols))
	}
	return t.resultIn(n.data, rows, cols, op{code: opReshape, a: a}).out
}

// Transpose returns aᵀ.
func (t *Tape) Transpose(a Var) Var {
	n := t.nodes[a]
	o := t.result(n.cols, n.rows, op{code: opTranspose, a: a})
	t.transpose(t.nodes[o.out].data, n.data, n.rows, n.cols)
	return o.out
}

func (t *Tape) backTranspose(o *op, g []float32) {
	n := t.nodes[o.a]
	d := t.floats(n.rows * n.cols)
	t.transpose(d, g, n.cols, n.rows)
	t.giveNew(o.a, d)
}

// transpose writes the transpose of src [rows, cols] to dst.
func (t *Tape) transpose(dst, src []float32, rows, cols int) {
	if t.dry != nil {
		return
	}
	const tile = 16
	for i0 := 0; i0 < rows; i0 += tile {
		for j0 := 0; j0 < cols; j0 += tile {
			for i := i0; i < min(i0+tile, rows); i++ {
				for j := j0; j < min(j0+tile, cols); j++ {
					dst[j*rows+i] = src[i*cols+j]
				}
			}
		}
	}
}

// SliceRows returns rows lo to hi of a.
func (t *Tape) SliceRows(a Var, lo, hi int) Var {
	n := t.nodes[a]
	if lo < 0 || hi < lo || hi > n.rows {
		panic(fmt.Sprintf("autograd: rows %d to %d of %d: want them within", lo, hi, n.rows))
	}
	part := n.data
	if t.dry == nil {
		part = part[lo*n.cols : hi*n.cols]
	}
	return t.resultIn(part, hi-lo, n.cols, op{code: opSliceRows, a: a, i: lo}).out
}

// SliceCols returns columns lo to hi of a.
func (t *Tape) SliceCols(a Var, lo, hi int) Var {
	n := t.nodes[a]
	if lo < 0 || hi < lo || hi > n.cols {
		panic(fmt.Sprintf("autograd: columns %d to %d of %d: want them within", lo, hi, n.cols))
	}
	o := t.result(n.rows, hi-lo, op{code: opSliceCols, a: a, i: lo})
	out, w := t.nodes[o.out].data, hi-lo
	for i := 0; i < n.rows && t.dry == nil; i++ {
		copy(out[i*w:(i+1)*w], n.data[i*n.cols+lo:])
	}
	return o.out
}

func (t *Tape) backSlice(o *op, g []float32) {
	n, w := t.nodes[o.a], t.nodes[o.out].cols
	d := t.gradSum(o.a)
	if t.dry != nil {
		return
	}
	if o.code == opSliceRows {
		t.addTo(d[o.i*n.cols:o.i*n.cols+len(g)], g)
		return
	}
	for i := range n.rows {
		kernel.Axpy(1, g[i*w:(i+1)*w], d[i*n.cols+o.i:])
	}
}

// ConcatRows returns a with the rows of b below it.
func (t *Tape) ConcatRows(a, b Var) Var {
	na, nb := t.nodes[a], t.nodes[b]
	if na.cols != nb.cols {
		panic(fmt.Sprintf("autograd: rows of %d and %d columns: want the same", na.cols, nb.cols))
	}
	o := t.result(na.rows+nb.rows, na.cols, op{code: opConcatRows, a: a, b: b})
	out := t.nodes[o.out].data
	copy(out[copy(out, na.data):], nb.data)
	return o.out
}

// ConcatCols returns a with the columns of b to its right.
func (t *Tape) ConcatCols(a, b Var) Var {
	na, nb := t.nodes[a], t.nodes[b]
	if na.rows != nb.rows {
		panic(fmt.Sprintf("autograd: columns of %d and %d rows: want the same", na.rows, nb.rows))
	}
	o := t.result(na.rows, na.cols+nb.cols, op{code: opConcatCols, a: a, b: b})
	out := t.nodes[o.out].data
	for i := 0; i < na.rows && t.dry == nil; i++ {
		row := out[i*(na.cols+nb.cols):]
		copy(row, na.data[i*na.cols:(i+1)*na.cols])
		copy(row[na.cols:], nb.data[i*nb.cols:(i+1)*nb.cols])
	}
	return o.out
}

func (t *Tape) backConcat(o *op, g []float32) {
	na, nb := t.nodes[o.a], t.nodes[o.b]
	if o.code == opConcatRows {
		if t.dry != nil {
			t.lend(o.a, nil)
			t.lend(o.b, nil)
			return
		}
		t.lend(o.a, g[:len(na.data)])
		t.lend(o.b, g[len(na.data):])
		return
	}
	w := na.cols + nb.cols
	for _, part := range [2]struct {
		v      Var
		at, to int
	}{{o.a, 0, na.cols}, {o.b, na.cols, w}} {
		if !t.need(part.v) {
			continue
		}
		d, n := t.gradSum(part.v), part.to-part.at
		for i := 0; i < na.rows && t.dry == nil; i++ {
			kernel.Axpy(1, g[i*w+part.at:i*w+part.to], d[i*n:])
		}
	}
}

// Gather returns the rows of a that idx names, in its order: the lookup of embeddings, or the choice of
// tokens. idx may repeat, and must not change until the tape's Reset.
func (t *Tape) Gather(a Var, idx []int32) Var {
	n := t.nodes[a]
	for _, i := range idx {
		if i < 0 || int(i) >= n.rows {
			panic(fmt.Sprintf("autograd: row %d of %d: want it within", i, n.rows))
		}
	}
	o := t.result(len(idx), n.cols, op{code: opGather, a: a, idx: idx})
	out := t.nodes[o.out].data
	if t.dry != nil {
		return o.out
	}
	for r, i := range idx {
		copy(out[r*n.cols:(r+1)*n.cols], n.data[int(i)*n.cols:])
	}
	return o.out
}

func (t *Tape) backGather(o *op, g []float32) {
	cols := t.nodes[o.a].cols
	d := t.gradSum(o.a)
	if t.dry != nil {
		return
	}
	for r, i := range o.idx { // in order: rows may repeat
		kernel.Axpy(1, g[r*cols:(r+1)*cols], d[int(i)*cols:])
	}
}
