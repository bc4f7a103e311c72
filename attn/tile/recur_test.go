package tile

import (
	"math"
	"math/rand/v2"
	"testing"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// BUGS 12: no decay factor exceeds 1, and the two factors of a pair multiply to the decay of exactly
// the tokens between them, however strong the tokens before it decay.
func TestGateFactors(t *testing.T) {
	const chunk, d = 64, 3
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 2, 3, 31, 32, 33, 63, 64} {
		src := make([]float32, n*d)
		for i := range src {
			src[i] = float32(-math.Exp(12*r.Float64() - 9)) // -20 to -0.0001
			if r.IntN(9) == 0 {
				src[i] = -20000
			}
		}
		run(func(s *attn.Scratch) {
			g := newGate(s, chunk, d)
			g.load(kernel.Rows(src, d), n)
			between := func(from, to, c int) float64 { // the decay of tokens from ≤ t < to
				sum := 0.0
				for t := from; t < to; t++ {
					sum += float64(src[t*d+c])
				}
				return math.Exp(sum)
			}
			check := func(what string, i, j, c int, got float32, want float64) {
				if got > 1 || math.Abs(float64(got)-want) > 3e-7*(2-math.Log(want+1e-40))*want+1e-37 {
					t.Errorf("length %d, %s of tokens %d and %d, channel %d: %v: want %v", n, what, i, j, c, got, want)
				}
			}
			for c := range d {
				for i := range n {
					check("decay from the start", 0, i, c, g.row(g.fromStart, i)[c], between(0, i+1, c))
					check("decay to the end", i, n, c, g.row(g.toEnd, i)[c], between(i+1, n, c))
					for j := range i {
						level := 0
						for i>>(level+1) != j>>(level+1) {
							level++
						}
						f := g.levels[level*g.size:]
						check("decay", i, j, c, g.row(f, i)[c]*g.row(f, j)[c], between(j+1, i+1, c))
						if g.row(f, i)[c] > 1 || g.row(f, j)[c] > 1 {
							t.Errorf("length %d: a factor of tokens %d and %d is above 1", n, i, j)
						}
					}
				}
			}
		}, gateFloats(chunk, d))
	}
}

type runArgs struct{ f func(s *attn.Scratch) }

func run(f func(s *attn.Scratch), floats int) {
	attn.Parallel(attn.NewWorkspace(), 1, floats, runArgs{f}, func(s *attn.Scratch, a *runArgs, _ int) { a.f(s) })
}

func TestFind(t *testing.T) {
	starts := []int32{0, 0, 3, 3, 4, 4}
	for i, want := range [][2]int{{1, 0}, {1, 1}, {1, 2}, {3, 0}} {
		if s, c := find(starts, i); s != want[0] || c != want[1] {
			t.Errorf("chunk %d: segment %d, chunk %d: want %v", i, s, c, want)
		}
	}
}

func TestRecurrenceCheck(t *testing.T) {
	for _, r := range []Recurrence{{}, {Chunk: -1}, {Chunk: 1 << 20}, {Chunk: 1, Decay: ChannelDecay, Normalize: true}} {
		if r.Check() == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}
