package linear

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// TestNystromSmall: equal scores make A a projection, which is its own inverse here, so that F Z B is the mean of the values; the kernel (10, 0,
// 1) adds ten times the value before and the one behind.
func TestNystromSmall(t *testing.T) {
	for _, landmarks := range []string{"2", "4"} {
		c := testcall.Small(attn.Bidirectional, 4, 1, 1, 1, 2, 3, 6)
		c.Learned = [][]float32{{10, 0, 1}}
		testcall.Forward(t, testcall.Mechanism(t, "nystrom:conv=3,landmarks="+landmarks), c)
		testcall.Want(t, landmarks+" landmarks", c, 3+2, 3+10+3, 3+20+6, 3+30)
	}
	// Fewer queries than keys are the last ones.
	c := testcall.Small(attn.Bidirectional, 2, 1, 1, 1, 2, 3, 6)
	c.Learned = [][]float32{{10, 0, 1}}
	testcall.Forward(t, testcall.Mechanism(t, "nystrom:conv=3,landmarks=1"), c)
	testcall.Want(t, "the last two", c, 3+20+6, 3+30)
}
