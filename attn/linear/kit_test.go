package linear

import (
	"testing"

	"attnbench/attn/attntest"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{"linear", "linear:map=identity,normalize=false", "linear:map=relu,chunk=16", "gla", "gla:chunk=16", "cosformer", "cosformer:max=5000,chunk=16",
		"performer", "performer:features=20,chunk=16", "hedgehog", "hedgehog:tied=true", "based", "based:dim=5", "rebased", "rebased:dim=5"} {
		t.Run(spec, func(t *testing.T) {
			m := newMech(t, spec)
			attntest.Run(t, m, m.Define)
		})
	}
}
