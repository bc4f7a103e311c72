package attntest

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"attnbench/attn"
)

// longTolerance is what float32 may lose over 100,000 tokens, relative to the largest output.
const longTolerance = 2e-4

// mostScratch bounds the memory of a long pass: a mechanism that takes more gets half the tokens.
const mostScratch = 1 << 30

func (k *kit) note(format string, args ...any) {
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

// checkStability computes long passes: with inputs as drawn, and where there are gates with weak, strong and mixed ones.
func checkStability(k *kit) {
	if !k.causal() {
		k.note("not causal: no long pass")
		return
	}
	n := k.tokens
	for n > 64 && k.info.Cost != nil {
		c := k.info.Cost(shape(attn.Causal, 1, n, n, 2, 1, 8, 8), attn.PassForward)
		if c.Shared+int64(runtime.GOMAXPROCS(0))*c.PerWorker <= mostScratch {
			break
		}
		n /= 2
	}
	gates := map[string]float64{}
	for i := range k.info.Inputs {
		if in := &k.info.Inputs[i]; gate(in) {
			gates[in.Name] = 1
		}
	}
	cases := []string{"inputs as drawn"}
	if len(gates) > 0 {
		cases = append(cases, "gate logits about 16", "gate logits about -20", "weak and very strong gates")
	}
	for i, what := range cases {
		p := &plan{Shape: shape(attn.Causal, 1, n, n, 2, 1, 8, 5), present: k.every(), grid: k.info.Selects, what: what, strong: i == 3}
		p.MaxLen = n
		if i == 1 || i == 2 {
			p.shift = map[string]float64{}
			for name := range gates {
				p.shift[name] = []float64{0, 16, -20}[i]
			}
		}
		if k.begin(p) {
			k.longPass(p)
		} else {
			k.note("%s: CheckShape refuses %d tokens", what, n)
		}
	}
}

// longPass computes one call, looks at every output, and compares the last ones with the definition and with decoding.
func (k *kit) longPass(p *plan) {
	c := k.draw(p)
	if !k.forward(c) {
		return
	}
	if where := notFinite(c.Out); where != "" {
		k.failf("a pass over %d tokens: %s", p.KeyLen, where)
		return
	}
	const last = 8
	n := c.KeyLen
	out := cloneView(c.Out)
	tail := k.slice(c, -1, n-last, n, 0, n)
	if k.selfOnly() || k.info.Inference || k.info.CheckShape != nil && k.info.CheckShape(tail.Shape) != nil {
		k.note("%s: %d tokens, finite; the definition of the last ones alone is another one's", p.what, n)
	} else if w, ok := k.want(tail); ok {
		if s := off(tail.Out, w.Out, max(longTolerance, k.rounding())); s != "" {
			k.failf("the last %d of %d tokens against the definition: %s", last, n, s)
		}
		k.note("%s: %d tokens, finite, the last %d %s", p.what, n, last, distance(tail.Out, w.Out))
	}
	inc, ok := k.m.(attn.Incremental)
	if !ok || k.info.Decode != attn.DecodeAlways || k.full() {
		return
	}
	s, ok := k.newSession(inc, c)
	if !ok {
		return
	}
	for i := 0; s.at < n-last; i++ {
		piece := min([]int{4093, 1, 640, 64, 2, 8191}[i%6], n-last-s.at)
		asks := 1
		if k.info.Selects {
			asks = piece // what is kept may hang on the queries
		}
		if !s.feed(piece, asks) {
			return
		}
	}
	for range last {
		if !s.feed(1, 1) {
			return
		}
	}
	want := wideView(times(out, n-last, n))
	got := times(c.Out, n-last, n)
	if s := off(got, want, max(longTolerance, k.rounding())); s != "" {
		k.failf("decoding %d tokens in mixed pieces against one pass: %s", n, s)
	}
	k.note("%s: decoded in mixed pieces, the last %d %s", p.what, last, distance(got, want))
}

// distance describes how far an output is from what it should be.
func distance(got attn.View, want attn.View64) string {
	s, _, _ := strings.Cut(off(got, want, 0), ",")
	if s == "" {
		return "as they should be to the bit"
	}
	return s
}

func notFinite(v attn.View) (where string) {
	eachRow(v, func(b, t, h int, row []float32) {
		for i, x := range row {
			if where == "" && x-x != 0 {
				where = fmt.Sprintf("%g at [batch %d, time %d, head %d, element %d]", x, b, t, h, i)
			}
		}
	})
	return where
}

// checkStream puts tokens one by one into a state whose size does not grow.
func checkStream(k *kit) {
	inc, ok := k.m.(attn.Incremental)
	if !ok || !k.causal() {
		k.note("it does not decode")
		return
	}
	const ring = 1024 // tokens that are drawn, and come again and again
	s := shape(attn.Causal, 1, ring, ring, 2, 1, 8, 5)
	s.MaxLen = k.stream
	p := &plan{Shape: s, present: k.every(), what: "stream"}
	if !k.begin(p) {
		k.note("CheckShape refuses the shape")
		return
	}
	if bytes := func(n int) int64 {
		s := p.Shape
		s.QueryLen, s.KeyLen = 1, n
		return k.info.Cost(s, attn.PassDecode).State
	}; k.info.Cost == nil || bytes(k.stream) != bytes(k.stream/16) {
		k.note("its state grows with the context: nothing to stream")
		return
	}
	length := k.stream
	if k.info.Appends {
		length = min(length, 4*ring)
	}
	c := k.draw(p)
	state, err := inc.NewState(c.Shape)
	if err != nil {
		k.failf("new state for a good shape: %v", err)
		return
	}
	var tokens []*attn.Call
	for i := range ring {
		tokens = append(tokens, k.slice(c, -1, i, i+1, i, i+1))
	}
	tokens[0].EndOfPrompt = true
	early, heap := int64(0), uint64(0)
	eighth := max(1, length/8)
	var starts [3]time.Time // of the second eighth, the third, the last
	for t := range length {
		switch t {
		case eighth:
			starts[0] = time.Now()
		case 2 * eighth:
			starts[1] = time.Now()
		case 7 * eighth:
			starts[2] = time.Now()
		}
		if t == length/16 {
			early, heap = state.Bytes(), liveHeap()
		}
		d := tokens[t%ring]
		if err := inc.Extend(k.ws, state, d); err != nil {
			k.failf("token %d: %v", t, err)
			return
		}
		if where := notFinite(d.Out); where != "" {
			k.failf("token %d: %s", t, where)
			return
		}
	}
	last := time.Since(starts[2]) / time.Duration(eighth)
	if k.info.Appends {
		if got := state.Bytes(); got <= early {
			k.failf("it declares to keep all tokens behind the prompt, and retains %d bytes after %d tokens, %d after %d: want more", got, length, early, length/16)
		}
		k.note("it keeps all tokens behind the prompt: no state of constant size to stream into")
		return
	}
	if got := state.Bytes(); got != early {
		k.failf("the state retains %d bytes after %d tokens, %d after %d: want no more", got, length, early, length/16)
	}
	if got := state.Len(0); got != length {
		k.failf("length after %d tokens: %d", length, got)
	}
	if now := liveHeap(); float64(now) > float64(heap)+math.Pow(2, 18) {
		k.failf("the heap holds %d bytes more after %d tokens than after %d: want no more", now-heap, length, length/16)
	}
	runtime.KeepAlive(state)
	k.note("%d tokens one by one, finite; the state retains %d bytes from token %d on; a token took %v in the second eighth, %v in the last", length, early,
		length/16, starts[1].Sub(starts[0])/time.Duration(eighth), last)
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
