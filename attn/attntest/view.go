package attntest

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
)

var nan = float32(math.NaN())

// newView returns a view whose elements, gaps and the memory behind it hold NaN.
func newView(l layout, batch, time, heads, dim int) attn.View {
	v := attn.View{Batch: batch, Time: time, Heads: heads, Dim: dim}
	switch l {
	case dense:
		v.HeadStride, v.TimeStride, v.BatchStride = dim, heads*dim, time*heads*dim
	case gaps:
		v.HeadStride, v.TimeStride = dim+3, heads*(dim+3)+5
		v.BatchStride = time*v.TimeStride + 7
	case headMajor:
		v.TimeStride = dim + 1
		v.HeadStride = time*v.TimeStride + 2
		v.BatchStride = heads*v.HeadStride + 3
	}
	n := 0
	if batch > 0 && time > 0 && heads > 0 && dim > 0 {
		n = (batch-1)*v.BatchStride + (time-1)*v.TimeStride + (heads-1)*v.HeadStride + dim
	}
	v.Data = fenced(n)
	return v
}

// fenced returns n floats of NaN, with more NaN behind their end.
func fenced(n int) []float32 {
	x := make([]float32, n+64)
	for i := range x {
		x[i] = nan
	}
	return x[:n:n]
}

func eachRow[F attn.Float](v attn.ViewOf[F], f func(b, t, h int, row []F)) {
	if v.Dim == 0 {
		return
	}
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				f(b, t, h, v.Row(b, t, h))
			}
		}
	}
}

func cloneView(v attn.View) attn.View {
	if v.Data == nil {
		return v
	}
	d := fenced(len(v.Data))
	copy(d, v.Data)
	v.Data = d
	return v
}

// copyView copies the elements of src, of the same shape.
func copyView(dst, src attn.View) {
	eachRow(dst, func(b, t, h int, row []float32) { copy(row, src.Row(b, t, h)) })
}

// fillView sets every element, and no gap.
func fillView(v attn.View, x float32) {
	eachRow(v, func(_, _, _ int, row []float32) {
		for i := range row {
			row[i] = x
		}
	})
}

// clone returns the call with inputs and outputs of its own; Out and Final hold NaN.
func clone(c *attn.Call) *attn.Call {
	d := *c
	d.Q, d.K, d.V = cloneView(c.Q), cloneView(c.K), cloneView(c.V)
	d.Extra = nil
	for _, x := range c.Extra {
		d.Extra = append(d.Extra, cloneView(x))
	}
	d.Out = cloneView(c.Out)
	fillView(d.Out, nan)
	d.Learned, d.Buffers = cloneSlices(c.Learned), cloneSlices(c.Buffers)
	d.Initial = slices.Clone(c.Initial)
	if c.Final != nil {
		d.Final = fenced(len(c.Final))
	}
	if c.Saved != nil {
		d.Saved = attn.NewSaved(new(attn.Arena))
	}
	if c.Aux != nil {
		d.Aux = new(float32)
	}
	return &d
}

func cloneSlices(x [][]float32) (y [][]float32) {
	for _, s := range x {
		y = append(y, slices.Clone(s))
	}
	return y
}

// wide returns the call in float64; Out and Final hold NaN.
func wide(c *attn.Call) *attn.Call64 {
	w := &attn.Call64{Shape: c.Shape, Segments: c.Segments, Pos0: c.Pos0, Train: c.Train, Seed: c.Seed,
		EndOfPrompt: c.EndOfPrompt, Rope: c.Rope}
	w.Q, w.K, w.V = wideView(c.Q), wideView(c.K), wideView(c.V)
	for _, x := range c.Extra {
		w.Extra = append(w.Extra, wideView(x))
	}
	for _, x := range c.Learned {
		w.Learned = append(w.Learned, wideSlice(x))
	}
	for _, x := range c.Buffers {
		w.Buffers = append(w.Buffers, wideSlice(x))
	}
	w.Out = attn.NewView[float64](c.Batch, c.QueryLen, c.Heads, c.ValueDim)
	for i := range w.Out.Data {
		w.Out.Data[i] = math.NaN()
	}
	if c.Initial != nil {
		w.Initial = wideSlice(c.Initial)
	}
	if c.Final != nil {
		w.Final = wideSlice(c.Final)
	}
	if c.Aux != nil {
		w.Aux = new(float64)
	}
	return w
}

func wideSlice(x []float32) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = float64(x[i])
	}
	return y
}

func wideView(v attn.View) attn.View64 {
	if v.Empty() {
		return attn.View64{}
	}
	return attn.View64{Data: wideSlice(v.Data), Batch: v.Batch, Time: v.Time, Heads: v.Heads, Dim: v.Dim,
		BatchStride: v.BatchStride, TimeStride: v.TimeStride, HeadStride: v.HeadStride}
}

// narrow returns a float64 call, as a limit makes it, in float32; Out and Final hold NaN.
func narrow(w *attn.Call64) *attn.Call {
	c := &attn.Call{Shape: w.Shape, Segments: w.Segments, Pos0: w.Pos0, Train: w.Train, Seed: w.Seed,
		EndOfPrompt: w.EndOfPrompt, Rope: w.Rope}
	c.Q, c.K, c.V = narrowView(w.Q), narrowView(w.K), narrowView(w.V)
	for _, x := range w.Extra {
		c.Extra = append(c.Extra, narrowView(x))
	}
	for _, x := range w.Learned {
		c.Learned = append(c.Learned, narrowSlice(x))
	}
	for _, x := range w.Buffers {
		c.Buffers = append(c.Buffers, narrowSlice(x))
	}
	if w.Initial != nil {
		c.Initial = narrowSlice(w.Initial)
	}
	if w.Final != nil {
		c.Final = fenced(len(w.Final))
	}
	c.Out = newView(dense, w.Batch, w.QueryLen, w.Heads, w.ValueDim)
	return c
}

func narrowSlice(x []float64) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = float32(x[i])
	}
	return y
}

func narrowView(v attn.View64) attn.View {
	if v.Empty() {
		return attn.View{}
	}
	return attn.View{Data: narrowSlice(v.Data), Batch: v.Batch, Time: v.Time, Heads: v.Heads, Dim: v.Dim,
		BatchStride: v.BatchStride, TimeStride: v.TimeStride, HeadStride: v.HeadStride}
}

// times returns the part of a view from time lo to hi.
func times(v attn.View, lo, hi int) attn.View {
	if v.Empty() {
		return v
	}
	v.Time = hi - lo
	v.Data = v.Data[min(lo*v.TimeStride, len(v.Data)):]
	return v
}

// row returns the part of a view that is batch row b.
func row(v attn.View, b int) attn.View {
	if v.Empty() {
		return v
	}
	v.Batch = 1
	v.Data = v.Data[min(b*v.BatchStride, len(v.Data)):]
	return v
}

// input returns the i-th declared input of a call.
func (k *kit) input(c *attn.Call, i int) attn.View { return c.Input(&k.info, i) }

// put sets the i-th declared input; inputs are put in their order the first time.
func (k *kit) put(c *attn.Call, i int, v attn.View) {
	*inputOf(&k.info, i, &c.Q, &c.K, &c.V, &c.Extra) = v
}

// inputOf returns where a call, or its gradients, keep the i-th declared input.
func inputOf[V any](info *attn.Info, i int, q, k, v *V, extra *[]V) *V {
	switch info.Inputs[i].Name {
	case "q":
		return q
	case "k":
		return k
	case "v":
		return v
	}
	n := 0
	for _, in := range info.Inputs[:i] {
		if in.Name != "q" && in.Name != "k" && in.Name != "v" {
			n++
		}
	}
	for len(*extra) <= n {
		*extra = append(*extra, *new(V))
	}
	return &(*extra)[n]
}

// slice returns the call over batch rows [b, b+batch) — all when b is -1 —, queries q0 to q1 and keys k0 to k1 of c,
// with the memory of c. Segments and states are left out.
func (k *kit) slice(c *attn.Call, b, q0, q1, k0, k1 int) *attn.Call {
	d := *c
	d.Segments, d.Initial, d.Final, d.Saved = nil, nil, nil, nil
	d.QueryLen, d.KeyLen = q1-q0, k1-k0
	if d.MaxLen == 0 {
		d.MaxLen = c.KeyLen // what 0 means there
	}
	if b >= 0 {
		d.Batch = 1
	}
	cut := func(v attn.View, query bool) attn.View {
		if b >= 0 {
			v = row(v, b)
		}
		if query {
			return times(v, q0, q1)
		}
		return times(v, k0, k1)
	}
	d.Extra = nil
	for i, in := range k.info.Inputs {
		k.put(&d, i, cut(k.input(c, i), in.From == attn.QuerySide))
	}
	d.Out = cut(c.Out, true)
	return &d
}

// sameBits names the first element in which two views of one shape differ, "" if none does.
// Rows that skip (unless nil) names are left out.
func sameBits(a, b attn.View, skip func(b, t, h int) bool) (where string) {
	eachRow(a, func(n, t, h int, row []float32) {
		if where != "" || skip != nil && skip(n, t, h) {
			return
		}
		for i, x := range b.Row(n, t, h) {
			if math.Float32bits(x) != math.Float32bits(row[i]) {
				where = fmt.Sprintf("[batch %d, time %d, head %d, element %d]: %g and %g", n, t, h, i, row[i], x)
				return
			}
		}
	})
	return where
}

func sameSlice(a, b []float32) (where string) {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return fmt.Sprintf("[%d]: %g and %g", i, a[i], b[i])
		}
	}
	return ""
}
