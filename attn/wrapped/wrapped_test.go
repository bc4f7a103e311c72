package wrapped_test

import (
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/attn/attntest"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{"alone(full)", "alone(gla)", "bidir(gla)", "bidir(linear)", "bidir(sliding:window=5)"} {
		t.Run(spec, func(t *testing.T) {
			m, err := attn.New(spec)
			if err != nil {
				t.Fatal(err)
			}
			if m.Info().Name != spec {
				t.Errorf("name %s: want %s", m.Info().Name, spec)
			}
			attntest.Run(t, m, m.(attn.Defined).Define)
		})
	}
}

func TestErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"alone(":            "unknown mechanism",
		"alone()":           `alone: unknown mechanism ""`,
		"alon(full)":        `unknown wrapper "alon": want one of alone, bidir`,
		"bidir(slidin)":     `bidir: unknown mechanism "slidin"`,
		"bidir(full:x=1)":   "mechanism full",
		"bidir(bidir(gla))": "mask is bidirectional: want causal",
		"bidir(full)x":      "unknown mechanism",
		"alone(alone(gla))": "each token is alone already",
	} {
		if _, err := attn.New(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v: want %q", spec, err, want)
		}
	}
}

// TestNoSegments: an empty list of segments is no sequences, not whole rows.
func TestNoSegments(t *testing.T) {
	for _, spec := range []string{"alone(full)", "bidir(linear)"} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		c := &attn.Call64{Shape: attn.Shape{Batch: 1, QueryLen: 3, KeyLen: 3, Heads: 1, KVHeads: 1, KeyDim: 2, ValueDim: 2, Mask: attn.Bidirectional}, Segments: []attn.Segment{}}
		c.Q, c.K, c.V, c.Out = attn.NewView[float64](1, 3, 1, 2), attn.NewView[float64](1, 3, 1, 2), attn.NewView[float64](1, 3, 1, 2), attn.NewView[float64](1, 3, 1, 2)
		for i := range c.V.Data {
			c.V.Data[i], c.Out.Data[i] = 1, 5
		}
		if err := m.(attn.Defined).Define(c); err != nil {
			t.Fatal(err)
		}
		for i, x := range c.Out.Data {
			if x != 0 {
				t.Errorf("%s: output %d is %v: want 0, no sequence covers it", spec, i, x)
			}
		}
	}
}
