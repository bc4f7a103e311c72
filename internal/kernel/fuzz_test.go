package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// fuzzLevels runs f at every level of this machine with the same random source.
func fuzzLevels(t *testing.T, seed uint64, f func(r *rand.Rand)) {
	for l := range highest() + 1 {
		setLevel(t, l)
		f(rand.New(rand.NewPCG(seed, 1)))
	}
}

func FuzzMul(f *testing.F) {
	f.Add(uint64(1), uint8(7), uint8(17), uint8(5), uint8(0))
	f.Add(uint64(2), uint8(130), uint8(31), uint8(64), uint8(2))
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k, mode uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			checkMul(t, r, modes[int(mode)%len(modes)], int(m)%131, int(n)%131, int(k)%131, normal(r))
		})
	})
}

// FuzzStep feeds raw bits: every NaN, subnormal and infinity may come. A lane that holds both NaN and +Inf is
// only asked to be NaN.
func FuzzStep(f *testing.F) {
	f.Add(uint64(1), uint8(3))
	f.Add(uint64(9), uint8(64))
	f.Fuzz(func(t *testing.T, seed uint64, rows uint8) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			n := int(rows) % 131
			var got, want Softmax
			got.Reset()
			want.Reset()
			g := tileOf(r, n, func(lane int) float32 {
				if lane%4 == 0 {
					return math.Float32frombits(r.Uint32())
				}
				return special[r.IntN(len(special))]
			})
			twin := append([]float32(nil), g.x...)
			for lane := 0; lane < Lanes; lane += 4 {
				for i := lane; i < len(twin); i += Lanes {
					if math.IsInf(float64(twin[i]), 1) {
						g.x[i], twin[i] = 0, 0
					}
				}
			}
			got.Step(g.x, n)
			want.stepGeneric(twin)
			sameSoftmax(t, &got, &want, g.x, twin)
			g.unhurt(t, nil)
		})
	})
}

func FuzzExpSum(f *testing.F) {
	f.Add(uint64(1), uint8(20), float32(0))
	f.Add(uint64(2), uint8(9), float32(88))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8, max float32) {
		fuzzLevels(t, seed, func(r *rand.Rand) {
			g := guardedSlice(r, int(n), func() float32 { return math.Float32frombits(r.Uint32()) })
			want := append([]float32(nil), g.x...)
			expSumGeneric(want, max)
			got := ExpSum(g.x, max)
			sum := float32(0)
			for i, w := range want {
				if v := g.x[i]; !same(v, w) && math.Abs(float64(v-w)) > 4e-7*math.Abs(float64(w)) || v == 0 != (w == 0) {
					t.Fatalf("x[%d] = %v, want %v", i, v, w)
				}
				sum += g.x[i]
			}
			if (got != got) != (sum != sum) {
				t.Fatalf("sum %v, want %v", got, sum)
			}
			g.unhurt(t, nil)
		})
	})
}
