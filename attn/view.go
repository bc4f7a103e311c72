package attn

import (
	"fmt"
	"math"
)

// Float is the element type of a call: float32 for mechanisms, float64 for definitions.
type Float interface{ float32 | float64 }

// ViewOf is a strided view of shape [Batch, Time, Heads, Dim] into a slice. The elements of one
// head at one time lie together; the other strides are free, so that the output of a projection
// ([batch, time, heads·dim]) or a head-major cache ([batch, heads, time, dim]) is used where it lies.
type ViewOf[F Float] struct {
	Data                                []F
	Batch, Time, Heads, Dim             int
	BatchStride, TimeStride, HeadStride int // in elements
}

// View is a float32 view, the form that mechanisms compute on.
type View = ViewOf[float32]

// View64 is a float64 view, the form that definitions compute on.
type View64 = ViewOf[float64]

// NewView returns a view of fresh zeros laid out [batch, time, heads, dim] without gaps.
func NewView[F Float](batch, time, heads, dim int) ViewOf[F] {
	return ViewAs(make([]F, batch*time*heads*dim), batch, time, heads, dim)
}

// ViewAs returns data, laid out [batch, time, heads, dim] without gaps, as a view.
func ViewAs[F Float](data []F, batch, time, heads, dim int) ViewOf[F] {
	return ViewOf[F]{
		Data: data, Batch: batch, Time: time, Heads: heads, Dim: dim,
		BatchStride: time * heads * dim, TimeStride: heads * dim, HeadStride: dim,
	}
}

// Row returns the Dim elements of head h at time t of batch row b.
func (v ViewOf[F]) Row(b, t, h int) []F {
	o := b*v.BatchStride + t*v.TimeStride + h*v.HeadStride
	return v.Data[o : o+v.Dim : o+v.Dim]
}

// From returns the data from head h at time t of batch row b on; successive times lie TimeStride
// elements apart. It returns nil where the view has no such element.
func (v ViewOf[F]) From(b, t, h int) []F {
	if t >= v.Time || v.Dim == 0 {
		return nil
	}
	return v.Data[b*v.BatchStride+t*v.TimeStride+h*v.HeadStride:]
}

// Empty reports whether the view holds no data at all, as an input that is not given.
func (v ViewOf[F]) Empty() bool { return v.Data == nil && v.Dim == 0 }

// check compares the view, an input or the like by that name, with what is wanted and names the first difference.
func (v ViewOf[F]) check(kind, name string, batch, time, heads, dim int) error {
	for _, d := range []struct {
		axis      string
		got, want int
	}{{"batch", v.Batch, batch}, {"time", v.Time, time}, {"heads", v.Heads, heads}, {"dim", v.Dim, dim}} {
		if d.got != d.want {
			return fmt.Errorf("%s%s: %s is %d: want %d", kind, name, d.axis, d.got, d.want)
		}
	}
	if v.BatchStride < 0 || v.TimeStride < 0 || v.HeadStride < 0 {
		return fmt.Errorf("%s%s: negative stride: want strides of at least 0", kind, name)
	}
	if batch == 0 || time == 0 || heads == 0 || dim == 0 {
		return nil
	}
	last := dim
	for _, a := range []struct{ n, stride int }{{batch, v.BatchStride}, {time, v.TimeStride}, {heads, v.HeadStride}} {
		if a.n > 1 && a.stride > (math.MaxInt-last)/(a.n-1) {
			return fmt.Errorf("%s%s: strides are too large: want them to fit its data", kind, name)
		}
		last += (a.n - 1) * a.stride
	}
	if last > len(v.Data) {
		return fmt.Errorf("%s%s: %d elements of data: its shape and strides want %d", kind, name, len(v.Data), last)
	}
	return nil
}
