package full

import (
	"math"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// The error of bfloat16 against full is that of its roundings, 0.0035 of Gaussian inputs' outputs in the root mean square (see pairsTolerance),
// and that of float32 where the precision says so.
func TestPrecision(t *testing.T) {
	if got := testcall.Mechanism(t, "full:precision=f32").Info().Name; got != "full" {
		t.Errorf("f32 is spelled %q: want full", got)
	}
	for _, d := range []int{8, 64, 128} {
		s := attn.Shape{Batch: 1, QueryLen: 96, KeyLen: 300, Heads: 2, KVHeads: 1, KeyDim: d, ValueDim: d, Mask: attn.Causal}
		for _, c := range []struct {
			spec      string
			low, high float64
		}{{"full", 0, 1e-6}, {"full:precision=bf16", 0.0025, 0.0045}} {
			m := testcall.Mechanism(t, c.spec)
			call := testcall.New(s, nil, 7)
			want := testcall.Wide(call)
			if err := m.(attn.Defined).Define(want); err != nil {
				t.Fatal(err)
			}
			testcall.Forward(t, m, call)
			diff, size := 0.0, 0.0
			for i := range s.QueryLen * s.Heads {
				got := call.Out.Row(0, i/s.Heads, i%s.Heads)
				for j, x := range want.Out.Row(0, i/s.Heads, i%s.Heads) {
					e := float64(got[j]) - x
					diff, size = diff+e*e, size+x*x
				}
			}
			if e := math.Sqrt(diff / size); !(e >= c.low && e <= c.high) {
				t.Errorf("%s of width %d: error %.5f: want %g to %g", c.spec, d, e, c.low, c.high)
			}
		}
	}
	_, err := attn.New("full:precision=fp8")
	if err == nil || !strings.Contains(err.Error(), "precision=fp8: want f32 or bf16") {
		t.Errorf("precision=fp8: error %v", err)
	}
}

// A state of bfloat16 has half of the bytes, and an odd width is rounded up.
func TestPrecisionOfState(t *testing.T) {
	s := attn.Shape{Batch: 1, QueryLen: 1, KeyLen: 100, Heads: 2, KVHeads: 2, KeyDim: 64, ValueDim: 33, Mask: attn.Causal}
	for spec, want := range map[string]int64{"full": 4 * 2 * 100 * (64 + 33), "full:precision=bf16": 2 * 2 * 100 * (64 + 34)} {
		if got := testcall.Mechanism(t, spec).Info().Cost(s, attn.PassDecode).State; got != want {
			t.Errorf("%s: state of %d bytes: want %d", spec, got, want)
		}
	}
}
