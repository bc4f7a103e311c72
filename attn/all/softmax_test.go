package all

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// softmaxes are the softmax mechanisms at options that cut through tiles, and at which full attention's answers hold
// for up to 200 keys where whole is set.
var softmaxes = []struct {
	spec  string
	whole bool
}{
	{"full", true}, {"naive", true},
	{"sliding:window=200", true}, {"sliding:window=40,sinks=3", false}, {"sliding:window=70,sinks=1,dilation=3", false},
	{"blocksparse:block=16,stride=1", true}, {"blocksparse:block=16,local=2,stride=3", false},
	{"bigbird:block=200", true}, {"bigbird:block=16,random=1", false}, {"bigbird:block=7,global=0,window=1,random=1", false},
}

func eachWhole(t *testing.T, f func(t *testing.T, m attn.Mechanism)) {
	for _, s := range softmaxes {
		if s.whole {
			t.Run(s.spec, func(t *testing.T) { f(t, testcall.Mechanism(t, s.spec)) })
		}
	}
}

func TestCausalIsBottomRight(t *testing.T) {
	eachWhole(t, func(t *testing.T, m attn.Mechanism) {
		for _, c := range []struct {
			name    string
			queries int
			v       []float32
			want    []float64
		}{
			{"chunk behind a prefix", 2, []float32{0, 1, 2, 3, 4}, []float64{1.5, 2}},
			{"more queries than keys", 5, []float32{10, 20}, []float64{0, 0, 0, 10, 15}},
			{"last query", 1, []float32{0, 1, 2, 3, 4}, []float64{2}},
		} {
			x := testcall.Small(attn.Causal, c.queries, 1, 1, c.v...)
			testcall.Forward(t, m, x)
			testcall.Want(t, c.name, x, c.want...)
		}
		s := attn.Shape{Batch: 2, QueryLen: 1, KeyLen: 150, Heads: 4, KVHeads: 2, KeyDim: 7, ValueDim: 5, Mask: attn.Causal}
		causal, both := testcall.New(s, nil, 1), testcall.New(s, nil, 1)
		both.Mask = attn.Bidirectional
		testcall.Forward(t, m, causal)
		testcall.Forward(t, m, both)
		same(t, "one query, causal and not", &causal.Out, &both.Out)
	})
}

// same fails unless two views hold the same bits.
func same(t *testing.T, what string, a, b *attn.View) {
	t.Helper()
	if !slices.Equal(bits(a), bits(b)) {
		t.Errorf("%s: different bits", what)
	}
}

func bits(v *attn.View) []uint32 {
	var b []uint32
	testcall.Each(v, func(x *float32) { b = append(b, math.Float32bits(*x)) })
	return b
}

func TestRowWithoutKeys(t *testing.T) {
	eachWhole(t, func(t *testing.T, m attn.Mechanism) {
		c := testcall.Small(attn.Causal, 3, 1, 1, 5)
		c.Saved = attn.NewSaved(new(attn.Arena))
		testcall.Forward(t, m, c)
		testcall.Want(t, "output", c, 0, 0, 5)
		g := testcall.NewGrads(c, 1)
		testcall.Each(&g.Out, func(x *float32) { *x = 1 })
		if err := m.(attn.Differentiable).Backward(attn.NewWorkspace(), c, g); err != nil {
			t.Fatal(err)
		}
		if g.V.Data[0] != 1 || g.K.Data[0] != 0 || slices.ContainsFunc(g.Q.Data, func(x float32) bool { return x != 0 }) {
			t.Errorf("dq %v, dk %v, dv %v: want 0, 0, 1", g.Q.Data, g.K.Data, g.V.Data)
		}
		if lse := c.Saved.Part(0); m.Info().Name != "naive" && (!math.IsInf(float64(lse[0]), -1) || !math.IsInf(float64(lse[1]), -1)) {
			t.Errorf("log-sum-exp %v: want -Inf in front", lse)
		}
	})
	for _, x := range softmaxes { // a batch whose second sequence is empty, or has queries and no keys
		m := testcall.Mechanism(t, x.spec)
		s := attn.Shape{Batch: 2, QueryLen: 40, KeyLen: 50, Heads: 2, KVHeads: 1, KeyDim: 3, ValueDim: 2, Mask: attn.Causal}
		for _, q := range []int{0, 40} {
			testcall.Check(t, m.(attn.Defined), testcall.New(s, attn.Lengths([]int{40, q}, []int{50, 0}), 1))
		}
	}
}

func TestLengthsThatFillNoTile(t *testing.T) {
	eachWhole(t, func(t *testing.T, m attn.Mechanism) {
		for _, n := range []int{1, 31, 33, 63, 64, 65, 127, 129, 191} {
			v := slices.Repeat([]float32{1}, n)
			for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
				c := testcall.Small(mask, n, 1, 1, v...)
				c.Saved = attn.NewSaved(new(attn.Arena))
				testcall.Forward(t, m, c)
				for i, x := range c.Out.Data[:n] {
					if m.Info().Name != "naive" && x != 1 || math.Abs(float64(x)-1) > 1e-6 {
						t.Errorf("%d keys, query %d: %v: want 1", n, i, x)
					}
				}
				g := testcall.NewGrads(c, 1)
				if err := m.(attn.Differentiable).Backward(attn.NewWorkspace(), c, g); err != nil {
					t.Fatal(err)
				}
				for _, x := range slices.Concat(g.Q.Data, g.K.Data, g.V.Data) {
					if x != x {
						t.Fatalf("%d keys: NaN gradient", n)
					}
				}
			}
		}
	})
}

func TestKeyValueHeadOfQueryHead(t *testing.T) {
	eachWhole(t, func(t *testing.T, m attn.Mechanism) {
		six := testcall.Small(attn.Causal, 1, 6, 2, 1, 2)
		testcall.Forward(t, m, six)
		testcall.Want(t, "6 over 2", six, 1, 1, 1, 2, 2, 2)
		twelve := testcall.Small(attn.Causal, 1, 12, 4, 1, 2, 3, 4)
		testcall.Forward(t, m, twelve)
		testcall.Want(t, "12 over 4", twelve, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)
		err := m.Forward(attn.NewWorkspace(), testcall.Small(attn.Causal, 1, 6, 4, 1, 2, 3, 4))
		if err == nil || !strings.Contains(err.Error(), "6") || !strings.Contains(err.Error(), "4") {
			t.Errorf("6 heads over 4: %v: want an error with both", err)
		}
	})
}

// TestNonFinite puts a NaN or an Inf in one token and looks for it in rows that do not see the token, which must
// keep their bits, in outputs and gradients.
func TestNonFinite(t *testing.T) {
	bad := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
	for _, x := range softmaxes {
		m := testcall.Mechanism(t, x.spec)
		t.Run(x.spec, func(t *testing.T) {
			for n, at := range []int{37, 64, 0, 63, 100, 149} {
				if testing.Short() && n == 2 {
					break
				}
				for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
					s := attn.Shape{Batch: 1, QueryLen: 150, KeyLen: 150, Heads: 2, KVHeads: 1, KeyDim: 6, ValueDim: 5, Mask: mask}
					sees := visibility(t, m, s)
					for _, input := range []string{"k", "v", "q", "do"} {
						poisoned(t, m, s, input, at, bad[n%len(bad)], sees)
					}
				}
			}
		})
	}
}

// visibility returns which pairs of each head the definition gives weight to: values are unit vectors.
func visibility(t *testing.T, m attn.Mechanism, s attn.Shape) [][][]bool {
	s.ValueDim = s.KeyLen
	c := testcall.Wide(testcall.New(s, nil, 7))
	for j := range s.KeyLen {
		for h := range s.KVHeads {
			clear(c.V.Row(0, j, h))
			c.V.Row(0, j, h)[j] = 1
		}
	}
	if err := m.(attn.Defined).Define(c); err != nil {
		t.Fatal(err)
	}
	sees := make([][][]bool, s.Heads)
	for h := range sees {
		sees[h] = make([][]bool, s.QueryLen)
		for i := range sees[h] {
			for _, p := range c.Out.Row(0, i, h) {
				sees[h][i] = append(sees[h][i], p != 0)
			}
		}
	}
	return sees
}

func poisoned(t *testing.T, m attn.Mechanism, s attn.Shape, input string, at int, x float32, sees [][][]bool) {
	t.Helper()
	run := func(poison bool) (*attn.Call, *attn.Grads) {
		c := testcall.New(s, nil, 3)
		c.Saved = attn.NewSaved(new(attn.Arena))
		g := testcall.NewGrads(c, 4)
		if poison {
			map[string]*attn.View{"q": &c.Q, "k": &c.K, "v": &c.V, "do": &g.Out}[input].Row(0, at, 0)[1] = x
		}
		ws := attn.NewWorkspace()
		if err := m.Forward(ws, c); err != nil {
			t.Fatal(err)
		}
		if err := m.(attn.Differentiable).Backward(ws, c, g); err != nil {
			t.Fatal(err)
		}
		return c, g
	}
	want, wantG := run(false)
	got, gotG := run(true)
	hitRow := func(h, i int) bool { // the poison reaches the output row
		switch input {
		case "k", "v":
			return sees[h][i][at]
		case "q":
			return i == at && h == 0
		}
		return false
	}
	check := func(what string, a, b []float32, where ...int) {
		t.Helper()
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("%s: %s of token %d %v: %s at %v was %v, is %v", m.Info().Name, input, at, x, what, where, a, b)
			}
		}
	}
	for h := range s.Heads {
		for i := range s.QueryLen {
			if !hitRow(h, i) {
				check("output", want.Out.Row(0, i, h), got.Out.Row(0, i, h), h, i)
				if input != "do" || i != at || h != 0 {
					check("dq", wantG.Q.Row(0, i, h), gotG.Q.Row(0, i, h), h, i)
				}
			}
		}
	}
	for j := range s.KeyLen {
		hit := false // some row that the poison reaches sees key j
		for h := range s.Heads {
			for i := range s.QueryLen {
				hit = hit || sees[h][i][j] && (hitRow(h, i) || input == "do" && i == at && h == 0)
			}
		}
		if !hit {
			check("dk", wantG.K.Row(0, j, 0), gotG.K.Row(0, j, 0), j)
			check("dv", wantG.V.Row(0, j, 0), gotG.V.Row(0, j, 0), j)
		}
	}
}

// TestSameBits runs every mechanism with different numbers of workers, and from goroutines that
// share the mechanism from its first call on.
func TestSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, x := range softmaxes {
		t.Run(x.spec, func(t *testing.T) {
			m := testcall.Mechanism(t, x.spec)
			s := attn.Shape{Batch: 2, QueryLen: 300, KeyLen: 300, Heads: 4, KVHeads: 2, KeyDim: 9, ValueDim: 5, Mask: attn.Causal}
			run := func() string {
				c := testcall.New(s, nil, 3)
				c.Saved = attn.NewSaved(new(attn.Arena))
				g, ws := testcall.NewGrads(c, 4), attn.NewWorkspace()
				if err := m.Forward(ws, c); err != nil {
					return err.Error()
				}
				if err := m.(attn.Differentiable).Backward(ws, c, g); err != nil {
					return err.Error()
				}
				return fmt.Sprint(bits(&c.Out), bits(&g.Q), bits(&g.K), bits(&g.V))
			}
			var wait sync.WaitGroup
			var two [2]string
			for i := range two {
				wait.Go(func() { two[i] = run() })
			}
			wait.Wait()
			for _, procs := range []int{1, 2, 3, 7, 64} {
				runtime.GOMAXPROCS(procs)
				if got := run(); got != two[0] || got != two[1] {
					t.Errorf("GOMAXPROCS %d: other bits", procs)
				}
			}
		})
	}
}

// TestStateDoesNotDependOnTheSplit decodes 97 tokens in several cuts and compares the states' bytes.
func TestStateDoesNotDependOnTheSplit(t *testing.T) {
	for _, x := range softmaxes {
		t.Run(x.spec, func(t *testing.T) {
			m := testcall.Mechanism(t, x.spec).(attn.Incremental)
			s := attn.Shape{Batch: 1, QueryLen: 97, KeyLen: 97, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
			first := ""
			for _, pieces := range [][]int{{97}, {1, 2, 3, 5, 8, 13, 21, 44}, {96, 1}, slices.Repeat([]int{1}, 97)} {
				st := testcall.Decode(t, m, s, pieces)
				b, err := st.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				if first == "" {
					first = string(b)
				} else if string(b) != first {
					t.Errorf("pieces %v: another state", pieces)
				}
			}
		})
	}
}

// TestHostileLogits holds scores of up to ±1e4 against the definition.
func TestHostileLogits(t *testing.T) {
	for _, x := range softmaxes {
		m := testcall.Mechanism(t, x.spec)
		s := attn.Shape{Batch: 1, QueryLen: 90, KeyLen: 90, Heads: 1, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
		c := testcall.New(s, nil, 8)
		testcall.Each(&c.Q, func(x *float32) { *x = float32(math.Round(float64(*x)*4) * 512) })
		testcall.Each(&c.K, func(x *float32) { *x = float32(math.Round(float64(*x) * 2)) })
		testcall.Forward(t, m, c)
		w := testcall.Wide(c)
		if err := m.(attn.Defined).Define(w); err != nil {
			t.Fatal(err)
		}
		if d := testcall.Diff(&c.Out, &w.Out); !(d < 1e-3) {
			t.Errorf("%s: off by %g", x.spec, d)
		}
	}
}
