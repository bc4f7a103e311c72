package attn

import (
	"math"
	"strings"
	"testing"
)

func TestViewCheck(t *testing.T) {
	for _, c := range []struct {
		change func(v *View)
		say    string
	}{
		{func(v *View) {}, ""},
		{func(v *View) { v.HeadStride = 0 }, ""},                                      // heads share their data
		{func(v *View) { v.BatchStride = 0 }, ""},                                     // rows share theirs
		{func(v *View) { v.TimeStride, v.HeadStride, v.BatchStride = 4, 12, 24 }, ""}, // head-major
		{func(v *View) { v.Data = v.Data[:47] }, "input k: 47 elements of data: its shape and strides want 48"},
		{func(v *View) { v.Data = nil }, "0 elements of data"},
		{func(v *View) { v.Batch = 3 }, "input k: batch is 3: want 2"},
		{func(v *View) { v.Time = 2 }, "time is 2: want 3"},
		{func(v *View) { v.Heads = 1 }, "heads is 1: want 2"},
		{func(v *View) { v.Dim = 5 }, "dim is 5: want 4"},
		{func(v *View) { v.TimeStride = -8 }, "negative stride: want strides of at least 0"},
		{func(v *View) { v.TimeStride = 16 }, "shape and strides want"},
		{func(v *View) { v.BatchStride = math.MaxInt }, "strides are too large"},
		{func(v *View) { v.TimeStride = 1 << 62 }, "strides are too large"},
		{func(v *View) { v.TimeStride, v.HeadStride = 1<<61, 1<<63-1 }, "strides are too large"},
	} {
		v := NewView[float32](2, 3, 2, 4)
		c.change(&v)
		err := v.check("input ", "k", 2, 3, 2, 4)
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("%+v: got %v, want %q", v, err, c.say)
		}
		if err == nil { // what passes can be read
			for b := range v.Batch {
				for h := range v.Heads {
					v.Row(b, v.Time-1, h)
				}
			}
		}
	}
	if err := (View{Batch: 0, Time: 3, Heads: 2, Dim: 4}).check("", "x", 0, 3, 2, 4); err != nil {
		t.Errorf("a view of nothing: %v", err)
	}
	if !(View{}).Empty() || NewView[float32](0, 0, 1, 1).Empty() {
		t.Error("a missing input is empty, one without tokens is not")
	}
}

func callInfo() *Info {
	return &Info{
		Name: "probe", Masks: Causal | Cross,
		Inputs: append(QKV(), Input{Name: "g", From: MemorySide, Optional: true, Heads: KVHeads, Width: OneWide},
			Input{Name: "b", From: QuerySide, Heads: OneHead}),
		Learned: []Tensor{{Name: "w", Shape: func(s Shape) []int { return []int{s.Heads, s.KeyDim} }}},
		Carry:   func(s Shape) int { return s.KVHeads },
	}
}

func goodCall() *Call {
	s := good()
	return &Call{
		Shape: s, Q: NewView[float32](2, 3, 6, 4), K: NewView[float32](2, 5, 2, 4), V: NewView[float32](2, 5, 2, 3),
		Extra:   []View{NewView[float32](2, 5, 2, 1), NewView[float32](2, 3, 1, 4)},
		Learned: [][]float32{make([]float32, 24)}, Out: NewView[float32](2, 3, 6, 3),
	}
}

func TestCallCheck(t *testing.T) {
	for _, c := range []struct {
		change func(c *Call)
		say    string
	}{
		{func(c *Call) {}, ""},
		{func(c *Call) { c.Mask = Cross }, ""},
		{func(c *Call) { c.Extra[0] = View{} }, ""},
		{func(c *Call) { c.Initial, c.Final = make([]float32, 4), make([]float32, 4) }, ""},
		{func(c *Call) { c.Segments, c.Final = []Segment{{Queries: 1, Keys: 1}}, make([]float32, 2) }, ""},
		{func(c *Call) { c.Mask = Bidirectional }, "probe: mask is bidirectional: want causal+cross"},
		{func(c *Call) { c.Heads = 5 }, "probe: shape: 5 heads over 2"},
		{func(c *Call) { c.Q = View{} }, "probe: input q: batch is 0: want 2"},
		{func(c *Call) { c.Extra[1] = View{} }, "probe: input b:"},
		{func(c *Call) { c.Extra = c.Extra[:1] }, "input b is missing"},
		{func(c *Call) { c.Extra = append(c.Extra, View{}) }, "3 extra inputs: want 2"},
		{func(c *Call) { c.Extra[0].Dim = 2 }, "input g: dim is 2: want 1"},
		{func(c *Call) { c.Out.Data = c.Out.Data[1:] }, "output: 107 elements of data"},
		{func(c *Call) { c.Learned = nil }, "0 learned tensors: want 1"},
		{func(c *Call) { c.Learned[0] = c.Learned[0][1:] }, "learned tensor w has 23 numbers: want 24"},
		{func(c *Call) { c.Buffers = [][]float32{nil} }, "1 buffers: want 0"},
		{func(c *Call) { c.Initial = make([]float32, 3) }, "initial state of 3 numbers: want 4"},
		{func(c *Call) { c.Final = []float32{} }, "final state of 0 numbers: want 4"},
		{func(c *Call) { c.Segments, c.Final = []Segment{}, make([]float32, 4) }, "final state of 4 numbers: want 0"},
		{func(c *Call) { c.Segments = []Segment{{Row: 9}} }, "segment 0: row is 9"},
	} {
		call := goodCall()
		c.change(call)
		err := call.Check(callInfo())
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("got %v, want %q", err, c.say)
		}
	}
	call, info := goodCall(), callInfo()
	for i, want := range []*View{&call.Q, &call.K, &call.V, &call.Extra[0], &call.Extra[1]} {
		if got := call.Input(info, i); &got.Data[0] != &want.Data[0] {
			t.Errorf("input %d is another", i)
		}
	}
}

// Check runs before every pass and allocates nothing itself; only a tensor's Shape does.
func TestCheckAllocatesNothing(t *testing.T) {
	call, info := goodCall(), callInfo()
	call.Learned, info.Learned = nil, nil
	call.Saved = NewSaved(new(Arena))
	g := &Grads{Out: call.Out, Q: call.Q, K: call.K, V: call.V, Extra: call.Extra}
	n := testing.AllocsPerRun(20, func() {
		if call.Check(info) != nil || g.Check(info, call) != nil {
			t.Fatal("good call refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGradsCheck(t *testing.T) {
	for _, c := range []struct {
		change func(c *Call, g *Grads)
		say    string
	}{
		{func(c *Call, g *Grads) {}, ""},
		{func(c *Call, g *Grads) { c.Extra[0], g.Extra[0] = View{}, View{} }, ""},
		{func(c *Call, g *Grads) { c.Initial, g.Initial = make([]float32, 4), make([]float32, 4) }, ""},
		{func(c *Call, g *Grads) { c.Final, g.Final = make([]float32, 4), make([]float32, 4) }, ""},
		{func(c *Call, g *Grads) { c.Saved = nil }, "backward without what forward saved"},
		{func(c *Call, g *Grads) { g.Out = View{} }, "gradient of output: batch is 0"},
		{func(c *Call, g *Grads) { g.K = View{} }, "gradient of input k"},
		{func(c *Call, g *Grads) { g.Extra[1].Data = nil }, "gradient of input b"},
		{func(c *Call, g *Grads) { g.Extra = nil }, "gradient of extra inputs: 0: want 2"},
		{func(c *Call, g *Grads) { g.Learned = nil }, "gradient of 0 learned tensors: want 1"},
		{func(c *Call, g *Grads) { c.Initial = make([]float32, 4) }, "initial state: 0 numbers: want 4"},
		{func(c *Call, g *Grads) { g.Final = make([]float32, 4) }, "final state: 4 numbers: want 0"},
	} {
		call := goodCall()
		call.Saved = NewSaved(new(Arena))
		o := goodCall()
		g := &Grads{Out: o.Out, Q: o.Q, K: o.K, V: o.V, Extra: o.Extra, Learned: o.Learned}
		c.change(call, g)
		err := g.Check(callInfo(), call)
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("got %v, want %q", err, c.say)
		}
	}
	if err := (*Grads)(nil).Check(callInfo(), goodCall()); err == nil {
		t.Error("no gradients: want an error")
	}
}
