package sparse

import (
	"math"
	"slices"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// cut returns tokens at to at+n-1 of a call.
func cut(c *attn.Call, at, n int) *attn.Call {
	d := *c
	part := func(v attn.View) attn.View {
		v.Time, v.Data = n, v.Data[at*v.TimeStride:]
		return v
	}
	d.QueryLen, d.KeyLen = n, n
	d.Q, d.K, d.V, d.Out = part(c.Q), part(c.K), part(c.V), part(c.Out)
	return &d
}

// simulate is a policy as its paper tells it, in float64: which tokens each key/value head keeps after each token, and the outputs.
type simulate struct {
	w    *attn.Call64
	kept [][]int // by key/value head
	sum  [][]float64
	out  [][]float64 // by head, of the token at hand
}

// look computes the weights of query t over what is kept, and the outputs.
func (s *simulate) look(t int) [][]float64 {
	all := make([][]float64, s.w.Heads)
	s.out = make([][]float64, s.w.Heads)
	for h := range all {
		kv := s.w.KVHead(h)
		p := make([]float64, len(s.kept[kv]))
		for n, j := range s.kept[kv] {
			p[n] = attn.Dot(s.w.Q.Row(0, t, h), s.w.K.Row(0, j, kv)) / math.Sqrt(float64(s.w.KeyDim))
		}
		attn.Softmax(p)
		s.out[h] = make([]float64, s.w.ValueDim)
		for n, j := range s.kept[kv] {
			attn.Axpy(p[n], s.w.V.Row(0, j, kv), s.out[h])
		}
		all[h] = p
	}
	return all
}

// leave keeps the n of largest weight but for the last ones, which stay; of equal ones the later, or the earlier.
func leave(kept []int, weight []float64, n, last int, later bool) []int {
	order := make([]int, len(kept)-last)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case weight[a] > weight[b]:
			return -1
		case weight[a] < weight[b]:
			return 1
		}
		if later {
			return b - a
		}
		return a - b
	})
	order = order[:max(0, min(len(order), n-last))]
	slices.Sort(order)
	var stay []int
	for _, i := range order {
		stay = append(stay, kept[i])
	}
	return append(stay, kept[len(kept)-last:]...)
}

// TestPolicies decodes behind a prompt, token by token and several at once, and holds outputs and bytes against the simulation.
func TestPolicies(t *testing.T) {
	const prompt, all = 31, 53
	for _, c := range []struct {
		spec   string
		keep   int
		evict  func(s *simulate, t int, w [][]float64)
		steady bool
		extra  int // floats a token beside key and value
	}{
		{"h2o:heavy=5,recent=4", 9, nil, true, 1},
		{"h2o:heavy=1,recent=1", 2, nil, true, 1},
		{"h2o:heavy=30,recent=9", 39, nil, true, 1},
		{"tova:keep=7", 7, nil, true, 0},
		{"tova:keep=40", 40, nil, true, 0},
		{"snapkv:keep=12,window=5,kernel=3", 12, nil, false, 0},
		{"snapkv:keep=12,window=5,kernel=5,pool=max", 12, nil, false, 0},
		{"snapkv:keep=31,window=5", 31, nil, false, 0},
	} {
		for _, pieces := range [][]int{{1}, {3}} {
			t.Run(c.spec, func(t *testing.T) {
				m := testcall.Mechanism(t, c.spec).(attn.Incremental)
				shape := attn.Shape{Batch: 1, QueryLen: all, KeyLen: all, Heads: 4, KVHeads: 2, KeyDim: 6, ValueDim: 5, Mask: attn.Causal}
				call := testcall.New(shape, nil, 5)
				sim := &simulate{w: testcall.Wide(call), kept: make([][]int, 2), sum: make([][]float64, 2)}
				state, err := m.NewState(shape)
				if err != nil {
					t.Fatal(err)
				}
				ws := attn.NewWorkspace()
				first := cut(call, 0, prompt)
				first.EndOfPrompt = true
				if err := m.Extend(ws, state, first); err != nil {
					t.Fatal(err)
				}
				var last [][][]float64 // weights of all queries of the prompt
				for i := range prompt {
					for kv := range sim.kept {
						sim.kept[kv] = append(sim.kept[kv], i)
					}
					last = append(last, sim.look(i))
					near(t, i, call, sim.out)
				}
				sim.evictPrompt(m, last)
				for i := prompt; i < all; {
					n := min(pieces[0], all-i)
					if err := m.Extend(ws, state, cut(call, i, n)); err != nil {
						t.Fatal(err)
					}
					for range n {
						for kv := range sim.kept {
							sim.kept[kv] = append(sim.kept[kv], i)
						}
						sim.evictLater(m, sim.look(i))
						near(t, i, call, sim.out)
						i++
					}
					if got, want := state.Bytes(), int64(4*2*len(sim.kept[0])*(6+5+c.extra)); got != want {
						t.Fatalf("%d tokens: state of %d bytes: want %d", i, got, want)
					}
					for kv := range sim.kept {
						k, _ := state.(*kept).views()
						for slot, j := range sim.kept[kv] {
							if got, want := k.Row(0, slot, kv)[0], call.K.Row(0, j, kv)[0]; got != want {
								t.Fatalf("%d tokens: slot %d of head %d holds another key than that of token %d", i, slot, kv, j)
							}
						}
					}
				}
			})
		}
	}
}

func near(t *testing.T, i int, c *attn.Call, want [][]float64) {
	t.Helper()
	for h, row := range want {
		for e, x := range row {
			if got := float64(c.Out.Row(0, i, h)[e]); !(math.Abs(got-x) < 1e-5) {
				t.Fatalf("token %d, head %d: got %v, want %v", i, h, got, x)
			}
		}
	}
}

// evictPrompt keeps what the mechanism's policy says, given the weights of each query of the prompt by head.
func (s *simulate) evictPrompt(m attn.Mechanism, w [][][]float64) {
	n := len(w)
	switch m := m.(type) {
	case h2o:
		for kv := range s.kept {
			s.sum[kv] = make([]float64, n)
			for _, heads := range w {
				for h := 2 * kv; h < 2*kv+2; h++ {
					attn.Axpy(1, heads[h], s.sum[kv])
				}
			}
			s.drop(kv, m.policy.budget, s.recent(m))
		}
	case tova:
		sum := make([]float64, n)
		for h := range 4 {
			attn.Axpy(1, w[n-1][h], sum)
		}
		for kv := range s.kept {
			s.kept[kv] = leave(s.kept[kv], sum, m.policy.budget, 0, true)
		}
	case snapKV:
		o := optionsOf(m)
		for kv := range s.kept {
			sum := make([]float64, n)
			for i := n - o.Window; i < n; i++ {
				for h := 2 * kv; h < 2*kv+2; h++ {
					attn.Axpy(1, w[i][h], sum)
				}
			}
			pooled := make([]float64, n)
			for j := range n - o.Window {
				for x := j - o.Kernel/2; x <= j+o.Kernel/2; x++ {
					if x < 0 || x >= n-o.Window {
						continue
					}
					if o.Pool == "max" {
						pooled[j] = max(pooled[j], sum[x])
					} else {
						pooled[j] += sum[x] / float64(o.Kernel)
					}
				}
			}
			s.kept[kv] = leave(s.kept[kv], pooled, o.Keep, o.Window, false)
		}
	}
}

func (s *simulate) recent(m h2o) int {
	for _, o := range []H2O{{5, 4}, {1, 1}, {30, 9}} {
		if attn.Spell("h2o", o) == m.info.Name {
			return o.Recent
		}
	}
	panic(m.info.Name)
}

func optionsOf(m snapKV) SnapKV {
	for _, o := range []SnapKV{{12, 5, 3, "avg"}, {12, 5, 5, "max"}, {31, 5, 5, "avg"}} {
		if attn.Spell("snapkv", o) == m.info.Name {
			return o
		}
	}
	panic(m.info.Name)
}

// drop keeps n tokens of a head by their sums.
func (s *simulate) drop(kv, n, last int) {
	if len(s.kept[kv]) <= n {
		return
	}
	stay := leave(s.kept[kv], s.sum[kv], n, last, true)
	var sum []float64
	for i, j := range s.kept[kv] {
		if slices.Contains(stay, j) {
			sum = append(sum, s.sum[kv][i])
		}
	}
	s.kept[kv], s.sum[kv] = stay, sum
}

func (s *simulate) evictLater(m attn.Mechanism, w [][]float64) {
	switch m := m.(type) {
	case h2o:
		for kv := range s.kept {
			s.sum[kv] = append(s.sum[kv], 0)
			attn.Axpy(1, w[2*kv], s.sum[kv])
			attn.Axpy(1, w[2*kv+1], s.sum[kv])
			s.drop(kv, m.policy.budget, s.recent(m))
		}
	case tova:
		sum := make([]float64, len(w[0]))
		for h := range w {
			attn.Axpy(1, w[h], sum)
		}
		for kv := range s.kept {
			if len(s.kept[kv]) > m.policy.budget {
				s.kept[kv] = leave(s.kept[kv], sum, m.policy.budget, 0, true)
			}
		}
	}
}

// TestHeavyHitters: with equal scores the first tokens gather the most weight and the last ones are recent; a policy without recent tokens,
// which would drop each new one, is refused.
func TestHeavyHitters(t *testing.T) {
	m := testcall.Mechanism(t, "h2o:heavy=2,recent=2").(attn.Incremental)
	s, err := m.NewState(attn.Shape{Batch: 1, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal})
	if err != nil {
		t.Fatal(err)
	}
	ws := attn.NewWorkspace()
	c := testcall.Small(attn.Causal, 6, 1, 1, 0, 1, 2, 3, 4, 5)
	c.EndOfPrompt = true
	if err := m.Extend(ws, s, c); err != nil {
		t.Fatal(err)
	}
	c = testcall.Small(attn.Causal, 1, 1, 1, 6)
	if err := m.Extend(ws, s, c); err != nil {
		t.Fatal(err)
	}
	testcall.Want(t, "after the prompt", c, (0+1+4+5+6)/5.) // of tokens 0, 1, 4, 5 and its own
	if _, err := attn.New("h2o:recent=0"); err == nil {
		t.Error("no recent tokens: want an error")
	}
}

// TestChoose: the kept slots are in the order of the tokens.
func TestChoose(t *testing.T) {
	kept := make([]int32, 2)
	for _, later := range []bool{false, true} {
		chooseLargest(0, later)(kept, []float32{0.8, 0.1, 0.9, 0.3})
		if !slices.Equal(kept, []int32{0, 2}) {
			t.Errorf("kept %v: want 0, 2", kept)
		}
	}
	chooseLargest(0, false)(kept, []float32{1, 1, 1, 1})
	if !slices.Equal(kept, []int32{0, 1}) {
		t.Errorf("kept %v: want 0, 1", kept)
	}
	chooseLargest(0, true)(kept, []float32{1, 1, 1, 1})
	if !slices.Equal(kept, []int32{2, 3}) {
		t.Errorf("kept %v: want 2, 3", kept)
	}
}

// TestSnapKVBytes: one set a key/value head, not a query head.
func TestSnapKVBytes(t *testing.T) {
	m := testcall.Mechanism(t, "snapkv:keep=320,window=64")
	s := attn.Shape{Batch: 1, QueryLen: 1, KeyLen: 4096, Heads: 32, KVHeads: 8, KeyDim: 128, ValueDim: 128, Mask: attn.Causal}
	if got := m.Info().Cost(s, attn.PassDecode).State; got != 2621440 {
		t.Errorf("state of %d bytes: want 2621440", got)
	}
}
