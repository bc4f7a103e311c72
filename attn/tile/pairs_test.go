package tile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// oddRuns lets a query see the first 5 keys and the 30 last ones up to its own: runs begin and end inside pairs of keys.
type oddRuns struct{}

const oddFirst, oddWindow = 5, 30

func (oddRuns) Next(t Tile, from int) Run {
	lo, hi := max(t.First-oddWindow+1, oddFirst), min(t.Last()+1, t.Keys)
	if from < oddFirst {
		return Run{from, oddFirst, t.First >= oddFirst}
	}
	return Run{max(from, lo), hi, false}
}

func (oddRuns) Sees(t Tile, j int) uint32 {
	if j < oddFirst {
		return Bits(j-t.First, Lanes)
	}
	return Bits(j-t.First, j-t.First+oddWindow)
}

// bfloat returns numbers with 8 bits of significand.
func bfloat(r *rand.Rand, batch, time, heads, dim int) attn.View {
	v := attn.NewView[float32](batch, time, heads, dim)
	for i := range v.Data {
		v.Data[i] = math.Float32frombits(math.Float32bits(float32(r.NormFloat64())) &^ 0xffff)
	}
	return v
}

func bfloatCall(s attn.Shape) *attn.Call {
	r := rand.New(rand.NewPCG(3, 4))
	return &attn.Call{Shape: s, Q: bfloat(r, s.Batch, s.QueryLen, s.Heads, s.KeyDim), K: bfloat(r, s.Batch, s.KeyLen, s.KVHeads, s.KeyDim),
		V: bfloat(r, s.Batch, s.KeyLen, s.KVHeads, s.ValueDim), Out: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.ValueDim)}
}

var pairShapes = []attn.Shape{
	{Batch: 2, QueryLen: 301, KeyLen: 301, Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 6, Mask: attn.Causal},
	{Batch: 1, QueryLen: 260, KeyLen: 391, Heads: 2, KVHeads: 1, KeyDim: 5, ValueDim: 33, Mask: attn.Causal},
	{Batch: 1, QueryLen: 70, KeyLen: 131, Heads: 1, KVHeads: 1, KeyDim: 64, ValueDim: 64, Mask: attn.Causal},
}

// Of inputs that bfloat16 holds only the weights are rounded, by 2⁻⁹ of themselves at most, and so the output by 2⁻⁹ of the largest value.
func TestPairsRoundWeightsAlone(t *testing.T) {
	for _, p := range []Pattern{Dense{}, oddRuns{}} {
		for _, s := range pairShapes {
			exact, got := bfloatCall(s), bfloatCall(s)
			ws := attn.NewWorkspace()
			Softmax{Pattern: p}.Forward(ws, exact)
			Softmax{Pattern: p, Pairs: true}.Forward(ws, got)
			most, worst := 0.0, 0.0
			for _, x := range exact.V.Data {
				most = max(most, math.Abs(float64(x)))
			}
			for i, x := range exact.Out.Data {
				worst = max(worst, math.Abs(float64(got.Out.Data[i]-x)))
			}
			if !(worst > 0 && worst <= 0x1p-9*most*1.001) {
				t.Errorf("%T, %d queries, %d keys: off by %g: want above 0 and at most %g", p, s.QueryLen, s.KeyLen, worst, 0x1p-9*most)
			}
		}
	}
}

// The tiles that share a walk, of which there are fewer on more cores, change no bit.
func TestPairsSameOnAnyCores(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, p := range []Pattern{Dense{}, oddRuns{}} {
		for _, s := range pairShapes {
			var want []float32
			for _, procs := range []int{1, 2, 7} {
				runtime.GOMAXPROCS(procs)
				c := bfloatCall(s)
				Softmax{Pattern: p, Pairs: true}.Forward(attn.NewWorkspace(), c)
				if want == nil {
					want = c.Out.Data
				}
				if at := differs(want, c.Out.Data); at >= 0 {
					t.Errorf("%T, %d queries, %d keys: element %d is %v on one core, %v on %d", p, s.QueryLen, s.KeyLen, at, want[at], c.Out.Data[at], procs)
				}
			}
		}
	}
}

func differs(x, y []float32) int {
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			return i
		}
	}
	return -1
}

// A NaN behind the odd end of a run, the other half of a pair with a key that is seen, reaches only those who see it.
func TestPairsNaNOfTheOtherHalf(t *testing.T) {
	s := pairShapes[0]
	nan := float32(math.NaN())
	clean := bfloatCall(s)
	a := Softmax{Pattern: oddRuns{}, Pairs: true}
	a.Forward(attn.NewWorkspace(), clean)
	for _, j := range []int{oddFirst, oddFirst + 1, 130, 131} {
		c := bfloatCall(s)
		c.K.Row(0, j, 0)[3], c.V.Row(0, j, 0)[1] = nan, nan
		a.Forward(attn.NewWorkspace(), c)
		for i := range s.QueryLen {
			sees := i >= j && i < j+oddWindow
			for h := range s.Heads {
				out := c.Out.Row(0, i, h)
				if sees && h < s.Heads/s.KVHeads {
					if out[0] == out[0] {
						t.Errorf("NaN at key %d: query %d of head %d does not see it", j, i, h)
					}
				} else if at := differs(clean.Out.Row(0, i, h), out); at >= 0 {
					t.Fatalf("NaN at key %d reaches query %d of head %d: %v", j, i, h, out)
				}
			}
		}
	}
}

// Decoding reads the pairs that the cache keeps, also where a query sees some keys of a run only.
func TestPairsDecode(t *testing.T) {
	for _, p := range []Pattern{Dense{}, oddRuns{}} {
		for _, s := range pairShapes[:2] {
			s.KeyLen = s.QueryLen
			a := Softmax{Pattern: p, Pairs: true}
			whole := bfloatCall(s)
			ws := attn.NewWorkspace()
			a.Forward(ws, whole)
			c := bfloatCall(s)
			st, err := a.NewState("odd", s)
			if err != nil {
				t.Fatal(err)
			}
			for at, piece := 0, 1; at < s.QueryLen; at, piece = at+piece, min(piece%40+7, s.QueryLen-at-piece) {
				part := *c
				part.QueryLen, part.KeyLen = piece, piece
				for _, v := range []*attn.View{&part.Q, &part.K, &part.V, &part.Out} {
					v.Time, v.Data = piece, v.Data[at*v.TimeStride:]
				}
				if err := a.ExtendOver(ws, "odd", st, &part); err != nil {
					t.Fatal(err)
				}
			}
			if want := int64(4 * s.Batch * s.KVHeads * s.QueryLen * (kernel.PairsOf(s.KeyDim) + kernel.PairsOf(s.ValueDim))); st.Bytes() != want {
				t.Errorf("%T: state of %d bytes: want %d", p, st.Bytes(), want)
			}
			for i, x := range whole.Out.Data {
				if d := math.Abs(float64(c.Out.Data[i] - x)); !(d < 0x1p-7) {
					t.Fatalf("%T, %d queries: decoded element %d is %v, in one pass %v", p, s.QueryLen, i, c.Out.Data[i], x)
				}
			}
		}
	}
}

func ExampleSoftmax_pairs() {
	// Of 1 + 2⁻⁸ and 3 bfloat16 keeps 1 and 3: the mean is 2.
	c := &attn.Call{Shape: attn.Shape{Batch: 1, QueryLen: 1, KeyLen: 2, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Cross},
		Q: attn.NewView[float32](1, 1, 1, 1), K: attn.NewView[float32](1, 2, 1, 1),
		V: attn.ViewAs([]float32{1 + 0x1p-8, 3}, 1, 2, 1, 1), Out: attn.NewView[float32](1, 1, 1, 1)}
	for _, pairs := range []bool{false, true} {
		Softmax{Pattern: Dense{}, Pairs: pairs}.Forward(attn.NewWorkspace(), c)
		fmt.Println(c.Out.Data[0])
	}
	// Output:
	// 2.0019531
	// 2
}
