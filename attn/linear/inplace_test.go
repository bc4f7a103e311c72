package linear

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"attnbench/attn"
)

// TestExtendOneHead: a chunk taken into the state of a single head, whose columns many cores could share, gives the same bits each time.
func TestExtendOneHead(t *testing.T) {
	s := attn.Shape{Batch: 1, QueryLen: 64, KeyLen: 64, Heads: 1, KVHeads: 1, KeyDim: 32, ValueDim: 256, Mask: attn.Causal}
	for _, spec := range []string{"linear", "gla"} {
		m := newMech(t, spec)
		run := func() []float32 {
			state, err := m.NewState(s)
			if err != nil {
				t.Fatal(err)
			}
			ws := attn.NewWorkspace()
			var all []float32
			for i := range 3 {
				c := newCall(m, s, uint64(i), 0.5)
				if err := m.Extend(ws, state, c); err != nil {
					t.Fatal(err)
				}
				all = append(all, c.Out.Data...)
			}
			return all
		}
		procs(t, 1)
		want := run()
		procs(t, 8)
		for range 300 {
			runtime.Gosched()
			if got := run(); !slices.EqualFunc(got, want, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
				t.Fatalf("%s: other bits on 8 cores than on one", spec)
			}
		}
	}
}
