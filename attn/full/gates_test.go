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

// TestDifferentialByHand: where both halves see equal scores they leave 1-λ of the mean, of which the norm keeps the sign; one
// number a head. λ is λ_init while its vectors are 0.
func TestDifferentialByHand(t *testing.T) {
	m := testcall.Mechanism(t, "differential")
	const gain = 3
	for layer, rest := range []float64{0.8, 0.8 - 0.6*(1-math.Exp(-0.3)), 0.8 - 0.6*(1-math.Exp(-0.6))} {
		x := testcall.Small(attn.Causal, 2, 1, 1, 5, -11)
		x.Layer, x.KeyDim = layer, 2
		x.Q, x.K = attn.NewView[float32](1, 2, 2, 1), attn.NewView[float32](1, 2, 2, 1)
		x.Learned = [][]float32{{0}, {0}, {0}, {0}, {gain}}
		out := func(mean float64) float64 { return rest * gain * rest * mean / math.Sqrt(rest*rest*mean*mean+1e-5) }
		testcall.Forward(t, m, x)
		testcall.Want(t, "equal halves", x, out(5), out(-3))
		// One half that looks at the first key alone, taken λ times: (1-λ)·5 for the first query, -3-5λ for the second.
		x.Q.Data, x.K.Data = []float32{0, 100, 0, 100}, []float32{0, 100, 0, 0}
		testcall.Forward(t, m, x)
		second := -3 - 5*(1-rest)
		testcall.Want(t, "a half with a mark", x, out(5), rest*gain*second/math.Sqrt(second*second+1e-5))
	}
}

// TestLatentState: a token costs r + d_r numbers in the state of latent attention, however many heads there are.
func TestLatentState(t *testing.T) {
	m := testcall.Mechanism(t, "mla:rank=20,rotary=6")
	for _, heads := range []int{1, 8} {
		s := attn.Shape{Batch: 1, QueryLen: 1, KeyLen: 10, Heads: heads, KVHeads: heads, KeyDim: 16, ValueDim: 16, Mask: attn.Causal}
		if got := m.Info().Cost(s, attn.PassDecode).State; got != 4*10*26 {
			t.Errorf("%d heads: %d bytes for 10 tokens: want %d", heads, got, 4*10*26)
		}
	}
}
