package kernel

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func drawFloats(t *rapid.T, name string, n int) []float32 {
	return rapid.SliceOfN(rapid.Float32Range(-8, 8), n, n).Draw(t, name)
}

// TestStepSplit: a softmax over any cut of the keys equals the softmax over all of them.
func TestStepSplit(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			rows := rapid.IntRange(1, 12).Draw(t, "rows")
			x := drawFloats(t, "scores", rows*Lanes)
			for i := range x {
				if rapid.IntRange(0, 3).Draw(t, "masked") == 0 {
					x[i] = NegInf
				}
			}
			whole := append([]float32(nil), x...)
			var one, parts Softmax
			one.Reset()
			parts.Reset()
			one.Step(whole, rows)
			cut := rapid.IntRange(0, rows).Draw(t, "cut")
			parts.Step(x[:cut*Lanes], cut)
			parts.Step(x[cut*Lanes:], rows-cut)
			var a, b [Lanes]float32
			one.LogSum2(a[:])
			parts.LogSum2(b[:])
			for i := range a {
				if a[i] != b[i] && math.Abs(float64(a[i]-b[i])) > 1e-5 {
					t.Fatalf("lane %d: log-sum %v in one step, %v in two", i, a[i], b[i])
				}
			}
		})
	})
}

// TestPackRoundTrip: what Pack lays out, Unpack puts back to the bit.
func TestPackRoundTrip(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			rows, cols := rapid.IntRange(0, Lanes).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "cols")
			ld := cols + rapid.IntRange(0, 5).Draw(t, "pad")
			src := drawFloats(t, "src", max(1, rows*ld))
			packed, back := make([]float32, cols*Lanes), make([]float32, max(1, rows*ld))
			Pack(packed, Rows(src, ld), rows, cols, 1)
			Unpack(Rows(back, ld), packed, rows, cols, nil)
			for i, v := range src {
				if i%ld < cols && i < rows*ld && back[i] != v {
					t.Fatalf("element %d: %v came back as %v", i, v, back[i])
				}
			}
		})
	})
}

// TestRowKernelsAgree: Combine is the product wᵀM, Update the product k·vᵀ, to the bit.
func TestRowKernelsAgree(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			rows, n := rapid.IntRange(1, 20).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "n")
			m, w, acc := drawFloats(t, "m", rows*n), drawFloats(t, "w", rows), drawFloats(t, "acc", n)
			want := append([]float32(nil), acc...)
			MulAdd(1, n, rows, Rows(w, rows), Rows(m, n), Rows(want, n))
			Combine(acc, w, Rows(m, n))
			for i := range want {
				if acc[i] != want[i] {
					t.Fatalf("Combine gives %v, the product %v", acc[i], want[i])
				}
			}
			state := append([]float32(nil), m...)
			MulAdd(rows, n, 1, Rows(w, 1), Rows(acc, n), Rows(state, n))
			Update(Rows(m, n), nil, w, acc)
			for i := range state {
				if m[i] != state[i] {
					t.Fatalf("Update gives %v, the product %v", m[i], state[i])
				}
			}
		})
	})
}
