package full

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{"full", "full:precision=bf16", "naive", "alibi", "sinklogit", "softcap", "softcap:cap=2", "forgetting", "gated", "differential", "mla", "mla:rank=7,rotary=2,qrank=5", "gated:gate=head"} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(spec, func(t *testing.T) { attntest.Run(t, m, m.(attn.Defined).Define) })
	}
}
