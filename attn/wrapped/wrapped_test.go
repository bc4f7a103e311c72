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
	} {
		if _, err := attn.New(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v: want %q", spec, err, want)
		}
	}
}
