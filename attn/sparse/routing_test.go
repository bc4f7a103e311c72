package sparse

import (
	"math"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/internal/testcall"
)

// routingCall has three tokens of two channels, and two centroids along these.
func routingCall(q, k []float32) *attn.Call {
	view := func(dim int, x ...float32) attn.View { return attn.ViewAs(x, 1, 3, 1, dim) }
	return &attn.Call{
		Shape: attn.Shape{Batch: 1, QueryLen: 3, KeyLen: 3, Heads: 1, KVHeads: 1, KeyDim: 2, ValueDim: 1, Mask: attn.Bidirectional, MaxLen: 2},
		Q:     view(2, q...), K: view(2, k...), V: view(1, 10, 20, 30), Out: view(1, 9, 9, 9),
		Buffers: [][]float32{{1, 0, 0, 1}, {1}},
	}
}

func want(t *testing.T, what string, got []float32, want ...float64) {
	t.Helper()
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) < 1e-6) {
			t.Errorf("%s: number %d is %v: want %v", what, i, got[i], w)
		}
	}
}

// TestRoutingSmall: each centroid takes the query and the key nearest to its direction; a query that none takes gives 0.
func TestRoutingSmall(t *testing.T) {
	c := routingCall([]float32{3, 1, 1, 5, 1, 1}, []float32{0, 1, 2, 1, 1, 1})
	testcall.Forward(t, testcall.Mechanism(t, "routing:window=1"), c)
	want(t, "outputs", c.Out.Data, 20, 10, 0)

	// The first query is nearest to both: the mean of two clusters.
	c = routingCall([]float32{1, 1, -1, 0, 0, -1}, []float32{0, 1, 2, 1, 1, 1})
	testcall.Forward(t, testcall.Mechanism(t, "routing:window=1"), c)
	want(t, "outputs", c.Out.Data, 15, 0, 0)

	c.Mask = attn.Causal
	err := testcall.Mechanism(t, "routing").Forward(attn.NewWorkspace(), c)
	if err == nil || !strings.Contains(err.Error(), "mask is causal: want bidirectional+cross") {
		t.Errorf("causal: error %v", err)
	}
}

// TestRoutingUpdate: centroids go towards the mean directions of the tokens nearest to them; the first time they become tokens.
func TestRoutingUpdate(t *testing.T) {
	x := []float32{2, 0, 0.6, 0.8, 6, 8}
	m := testcall.Mechanism(t, "routing:window=1,keep=0.5").(attn.Updater)
	c := routingCall(x, x)
	if err := m.Update(attn.NewWorkspace(), c); err != nil {
		t.Fatal(err)
	}
	want(t, "centroids", c.Buffers[0], 1, 0, 0.3, 0.9)

	// (3, 4) and (0, 1) count alike: (0.6, 1.8) is the sum of their directions, of length 0.6·√10.
	y := []float32{2, 0, 3, 4, 0, 1}
	other := routingCall(y, y)
	if err := m.Update(attn.NewWorkspace(), other); err != nil {
		t.Fatal(err)
	}
	want(t, "centroids of tokens of several lengths", other.Buffers[0], 1, 0, 0.5/math.Sqrt(10), 0.5+1.5/math.Sqrt(10))

	c.Buffers = [][]float32{{-1, 0, -1, 0}, {0}}
	if err := m.Update(attn.NewWorkspace(), c); err != nil {
		t.Fatal(err)
	}
	for _, mu := range [][]float32{c.Buffers[0][:2], c.Buffers[0][2:]} {
		if !(math.Abs(float64(length(mu)-1)) < 1e-5) || mu[0] < 0.5 {
			t.Errorf("first centroids %v: want directions of tokens", c.Buffers[0])
		}
	}
	if c.Buffers[1][0] != 1 {
		t.Errorf("centroids are not marked as placed")
	}
}
