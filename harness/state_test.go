package harness

import (
	"errors"
	"testing"

	"attnbench/attn"
)

// What a live state retains after N tokens is what the closed form says, for every mechanism that decodes; one that does not is named.
func TestStateBytes(t *testing.T) {
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			t.Fatal(err)
		}
		info := m.Info()
		for _, n := range []int{1, 40, 513, 1300} {
			c := Case{Mech: name, N: n, Heads: 4, KVHeads: 2, Dim: 16, Causal: true}
			state, read, err := c.StateBytes()
			if errors.As(err, new(*Unsupported)) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			s := c.Shape()
			s.QueryLen = 1
			want := info.Cost(s, attn.PassDecode)
			if state != want.State || read != want.Read {
				t.Errorf("%s after %d tokens: %d bytes, %d read: the closed form says %d, %d", name, n, state, read, want.State, want.Read)
			}
		}
	}
	c := Case{Mech: "full", N: 8, Heads: 1, Dim: 8}
	if _, _, err := c.StateBytes(); !errors.As(err, new(*Unsupported)) {
		t.Errorf("bidirectional: error %v: want that it is unsupported", err)
	}
}
