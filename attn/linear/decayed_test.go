package linear

import (
	"testing"

	"attnbench/attn/attntest"
)

// decayed are the mechanisms whose states decay, apart from gla.
var decayed = []string{"retnet", "retnet:chunk=16", "lightning", "lightning:slopes=linear",
	"hgrn2", "hgrn2:chunk=16", "mamba2", "mamba2:chunk=16", "rwkv6", "rwkv6:chunk=16",
}

func TestDecayedConformance(t *testing.T) {
	for _, spec := range decayed {
		t.Run(spec, func(t *testing.T) {
			m := newMech(t, spec)
			attntest.Run(t, m, m.Define)
		})
	}
}
