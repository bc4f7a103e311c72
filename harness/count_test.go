package harness

import (
	"testing"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// TestCounts holds the operations and bytes that Info declares against those that the kernels are asked for. What is declared
// is what the method needs; what is done may be more by the pairs of tiles and chunks that a mask hides.
func TestCounts(t *testing.T) {
	between := func(t *testing.T, what string, got, declared int64, low, high float64) {
		t.Helper()
		if r := float64(got) / float64(declared); !(low <= r && r <= high) {
			t.Errorf("%s: %d counted, %d declared: ratio %.3f, want %.2f to %.2f", what, got, declared, r, low, high)
		}
	}
	for _, name := range attn.Names() {
		t.Run(name, func(t *testing.T) {
			m, err := attn.New(name)
			if err != nil {
				t.Fatal(err)
			}
			info := m.Info()
			for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
				if info.Masks&mask == 0 {
					continue
				}
				high := 1.05
				if mask == attn.Causal {
					high = 2.2 // half of a square of scores is hidden
				}
				const n = 1024
				s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 2, KVHeads: 2, KeyDim: 64, ValueDim: 64, Mask: mask}
				c := newCall(&info, s, 1)
				ws := attn.NewWorkspace()
				c.Saved = attn.NewSaved(new(attn.Arena))
				ops := kernel.CountFLOPs(func() { err = m.Forward(ws, c) })
				if err != nil {
					t.Fatal(err)
				}
				between(t, mask.String()+", forward", ops, info.Cost(s, attn.PassForward).FLOPs, 0.97, high)
				if d, ok := m.(attn.Differentiable); ok {
					g := newGrads(&info, c, 1)
					ops := kernel.CountFLOPs(func() { err = d.Backward(ws, c, g) })
					if err != nil {
						t.Fatal(err)
					}
					between(t, mask.String()+", backward", ops, info.Cost(s, attn.PassBackward).FLOPs, 0.97, high)
				}
				d, ok := m.(attn.Incremental)
				if !ok || mask != attn.Causal {
					continue
				}
				state, err := d.NewState(s)
				if err != nil {
					t.Fatal(err)
				}
				c.Saved = nil
				if err := d.Extend(ws, state, c); err != nil {
					t.Fatal(err)
				}
				one := s
				one.QueryLen, one.KeyLen = 1, 1
				x := newCall(&info, one, 2)
				one.KeyLen = n + 1
				var read int64
				ops = kernel.CountFLOPs(func() { err = d.Extend(ws, state, x) })
				if err == nil {
					read = kernel.CountRead(func() { err = d.Extend(ws, state, x) })
				}
				if err != nil {
					t.Fatal(err)
				}
				cost := info.Cost(one, attn.PassDecode)
				between(t, "decode", ops, cost.FLOPs, 0.9, 1.05) // a key that lies alone is read by Dot, which does not count
				// A recurrence goes through its state twice, to change it and to read it; a product of a block of scores is not
				// counted as reading.
				between(t, "bytes read in decoding", read, cost.Read, 0.45, 2.05)
				if held := state.Bytes(); cost.Read > held+held/100+4096 {
					t.Errorf("decoding reads %d bytes of a state that holds %d", cost.Read, held)
				}
			}
		})
	}
}
