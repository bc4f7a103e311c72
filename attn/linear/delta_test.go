package linear

import (
	"strings"
	"testing"

	"attnbench/attn/attntest"
)

func TestDeltaConformance(t *testing.T) {
	for _, spec := range []string{"deltanet", "deltanet:chunk=16,negative=true", "gateddeltanet", "gateddeltanet:chunk=16,negative=true", "kda", "kda:chunk=16", "rwkv7", "rwkv7:chunk=10", "mesanet"} {
		if testing.Short() && strings.Contains(spec, ":") {
			continue // one spelling of each
		}
		t.Run(spec, func(t *testing.T) {
			m := newMech(t, spec)
			attntest.Run(t, m, m.Define)
		})
	}
}
