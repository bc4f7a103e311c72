package linear

import (
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
	_ "attnbench/attn/full" // for limits
	"attnbench/attn/internal/testcall"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{"linear", "linear:map=identity,normalize=false", "linear:map=relu,chunk=16", "gla", "gla:chunk=16", "gla:gate=sigmoid", "cosformer", "cosformer:max=5000,chunk=16",
		"performer", "performer:features=20,chunk=16", "hedgehog", "hedgehog:tied=true", "based", "based:dim=5", "rebased", "rebased:dim=5", "linformer", "linformer:k=5",
		"nystrom", "nystrom:landmarks=5,conv=3", "nystrom:landmarks=7,steps=3,conv=0", "ttt", "ttt:batch=5,rate=0.5", "ttt:batch=40"} {
		if testing.Short() && strings.Contains(spec, ":") {
			continue
		}
		t.Run(spec, func(t *testing.T) {
			m := testcall.Mechanism(t, spec).(attn.Defined)
			attntest.Run(t, m, m.Define)
		})
	}
}
