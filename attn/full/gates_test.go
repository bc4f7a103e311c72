package full

import (
	"math"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// TestForgettingByHand: with q = k = 0 a key's weight is the product of the forget gates behind it, its own left out.
func TestForgettingByHand(t *testing.T) {
	m := testcall.Mechanism(t, "forgetting")
	half, quarter := float32(math.Log(0.5)), float32(math.Log(0.25))
	for _, c := range []struct {
		name  string
		gates []float32
		want  []float64
	}{
		{"all open", []float32{0, 0, 0}, []float64{7, 3.5, 7}},
		{"the first gate counts for nobody", []float32{-1e5, 0, 0}, []float64{7, 3.5, 7}},
		{"halved each step", []float32{0, half, half}, []float64{7, 7. / 3, (7./4 + 14) / (7. / 4)}},
		{"unlike gates", []float32{0, quarter, half}, []float64{7, 7. / 5, (7./8 + 14) / (13. / 8)}},
		{"forgotten", []float32{0, -1e5, 0}, []float64{7, 0, 7}},
	} {
		x := testcall.Small(attn.Causal, 3, 1, 1, 7, 0, 14)
		x.Extra = []attn.View{attn.ViewAs(c.gates, 1, 3, 1, 1)}
		testcall.Forward(t, m, x)
		testcall.Want(t, c.name, x, c.want...)
	}
}
