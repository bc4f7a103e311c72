package sparse

import (
	"math"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// TestMoBATies: of equal block scores the earlier blocks are chosen, in one pass and in decoding; a query never fills its quota
// from the future.
func TestMoBATies(t *testing.T) {
	m := testcall.Mechanism(t, "moba:block=2,k=2").(attn.Incremental)
	v := []float32{0, 1, 2, 3, 4, 5, 6, 7}
	want := []float64{0, 0.5, (0 + 1 + 2) / 3., (0 + 1 + 2 + 3) / 4., (0 + 1 + 4) / 3., (0 + 1 + 4 + 5) / 4., (0 + 1 + 6) / 3., (0 + 1 + 6 + 7) / 4.}
	c := testcall.Small(attn.Causal, 8, 1, 1, v...)
	testcall.Forward(t, m, c)
	testcall.Want(t, "all gates 0", c, want...)
	s, err := m.NewState(c.Shape)
	if err != nil {
		t.Fatal(err)
	}
	ws := attn.NewWorkspace()
	for i, x := range v {
		c := testcall.Small(attn.Causal, 1, 1, 1, x)
		if err := m.Extend(ws, s, c); err != nil {
			t.Fatal(err)
		}
		testcall.Want(t, "all gates 0, decoding", c, want[i])
	}
}

// TestTopKTies: equal scores go to the earlier keys, and -0 equals +0.
func TestTopKTies(t *testing.T) {
	m := testcall.Mechanism(t, "topk:k=2")
	for range 2 {
		c := testcall.Small(attn.Causal, 4, 1, 1, 0, 1, 2, 3)
		c.K.Data[1] = float32(math.Copysign(0, -1))
		c.K.Data[2] = -c.K.Data[1]
		testcall.Forward(t, m, c)
		testcall.Want(t, "all scores 0", c, 0, 0.5, 0.5, 0.5)
	}
}
