package sparse

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// TestTopKTies: equal scores go to the earlier keys, and -0 equals +0.
func TestTopKTies(t *testing.T) {
	m := testcall.Mechanism(t, "topk:k=2")
	for range 2 {
		c := testcall.Small(attn.Causal, 4, 1, 1, 0, 1, 2, 3)
		c.K.Data[1] = float32(-0.0)
		c.K.Data[2] = -c.K.Data[1]
		testcall.Forward(t, m, c)
		testcall.Want(t, "all scores 0", c, 0, 0.5, 0.5, 0.5)
	}
}
