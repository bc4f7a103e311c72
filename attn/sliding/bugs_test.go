package sliding

import (
	"fmt"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

func count(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return v
}

// mean is the mean of lo..hi.
func mean(lo, hi int) float64 { return float64(lo+hi) / 2 }

func TestWindowCountsTheTokenItself(t *testing.T) {
	const n = 40
	for _, w := range []int{1, 2, 3, 8, 31, 32, 33, n - 1, n, n + 1} {
		m := mechanism(t, Sliding{Window: w, Dilation: 1, Positions: "absolute"})
		var causal, both []float64
		for i := range n {
			causal = append(causal, mean(max(0, i-w+1), i))
			both = append(both, mean(max(0, i-w+1), min(n-1, i+w-1)))
		}
		c := testcall.Small(attn.Causal, n, 1, 1, count(n)...)
		testcall.Forward(t, m, c)
		testcall.Want(t, fmt.Sprintf("window %d", w), c, causal...)
		c = testcall.Small(attn.Bidirectional, n, 1, 1, count(n)...)
		testcall.Forward(t, m, c)
		testcall.Want(t, fmt.Sprintf("window %d, bidirectional", w), c, both...)
		s := attn.Shape{Batch: 1, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal}
		for _, piece := range []int{1, 2, 7} {
			var pieces []int
			for range n / piece {
				pieces = append(pieces, piece)
			}
			testcall.Decode(t, m, s, pieces)
		}
	}
}

// TestRingFills decodes across the point at which the ring of 8 tokens is full, after prompts of several lengths.
func TestRingFills(t *testing.T) {
	m := mechanism(t, Sliding{Window: 8, Dilation: 1, Positions: "absolute"})
	value := func(j int) float32 { return 10 + float32(j)/10 }
	for _, prompt := range []int{0, 6, 7, 8, 9, 20} {
		st, err := m.NewState(attn.Shape{Batch: 1, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal})
		if err != nil {
			t.Fatal(err)
		}
		ws := attn.NewWorkspace()
		for j := 0; j < 30; {
			n := 1
			if j < prompt {
				n = prompt
			}
			var v []float32
			var want []float64
			for range n {
				v = append(v, value(j))
				want = append(want, 10+mean(max(0, j-7), j)/10)
				j++
			}
			c := testcall.Small(attn.Causal, n, 1, 1, v...)
			if err := m.Extend(ws, st, c); err != nil {
				t.Fatal(err)
			}
			testcall.Want(t, fmt.Sprintf("prompt %d, after token %d", prompt, j-1), c, want...)
			if got, want := st.Bytes(), int64(8*min(j, 8)); got != want {
				t.Errorf("prompt %d: %d bytes after %d tokens: want %d", prompt, got, j, want)
			}
		}
	}
}

func TestExtendRefuses(t *testing.T) {
	m := mechanism(t, Sliding{Window: 8, Dilation: 1, Positions: "absolute"})
	shape := attn.Shape{Batch: 1, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal}
	st, err := m.NewState(shape)
	if err != nil {
		t.Fatal(err)
	}
	ws := attn.NewWorkspace()
	if err := m.Extend(ws, st, testcall.Small(attn.Causal, 20, 1, 1, count(20)...)); err != nil {
		t.Fatal(err)
	}
	other, err := mechanism(t, Sliding{Window: 9, Dilation: 1, Positions: "absolute"}).NewState(shape)
	if err != nil {
		t.Fatal(err)
	}
	twice := testcall.Small(attn.Causal, 2, 1, 1, 1, 2)
	twice.Segments = []attn.Segment{{Queries: 1, Keys: 1}, {Query0: 1, Queries: 1, Key0: 1, Keys: 1}}
	for _, c := range []struct {
		name  string
		state attn.State
		call  *attn.Call
		want  string
	}{
		{"bidirectional", st, testcall.Small(attn.Bidirectional, 1, 1, 1, 1), "causal or cross"},
		{"another mechanism's state", other, testcall.Small(attn.Causal, 1, 1, 1, 1), "window=9"},
		{"no state", nil, testcall.Small(attn.Causal, 1, 1, 1, 1), "state is a <nil>"},
		{"more heads", st, testcall.Small(attn.Causal, 1, 2, 1, 1), "heads is 2"},
		{"two segments of a row", st, twice, "one a row"},
		{"queries whose keys are gone", st, testcall.Small(attn.Causal, 3, 1, 1, 1), "3 queries with 1 new keys"},
	} {
		c.call.Out.Data[0] = 77
		err := m.Extend(ws, c.state, c.call)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want %q", c.name, err, c.want)
		}
		if st.Len(0) != 20 || c.call.Out.Data[0] != 77 {
			t.Errorf("%s: something was written", c.name)
		}
	}
	if _, err := m.NewState(attn.Shape{Batch: 1, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Bidirectional}); err == nil {
		t.Error("bidirectional state: no error")
	}
}

func TestOptions(t *testing.T) {
	for spec, want := range map[string]string{
		"sliding:window=0": "window=0", "sliding:sinks=-1": "sinks=-1", "sliding:dilation=0": "dilation=0",
		"sliding:window=9223372036854775807": "2^40",
	} {
		if _, err := attn.New(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", spec, err, want)
		}
	}
}
