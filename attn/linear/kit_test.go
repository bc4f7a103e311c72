package linear

import (
	"testing"

	"attnbench/attn/attntest"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{"linear", "linear:map=identity,normalize=false", "linear:map=relu,chunk=16", "gla", "gla:chunk=16"} {
		t.Run(spec, func(t *testing.T) {
			m := newMech(t, spec)
			attntest.Run(t, m, m.Define)
		})
	}
}
