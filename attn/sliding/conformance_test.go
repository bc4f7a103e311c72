package sliding

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
	_ "attnbench/attn/full" // what the limits equal
)

func TestConformance(t *testing.T) {
	for _, spec := range []string{"sliding", "sliding:window=9,sinks=2", "sliding:window=20,sinks=1,dilation=3",
		"longformer", "longformer:window=4,global=3", "longformer:window=0,global=40",
		"sliding:window=9,sinks=2,positions=cache"} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(spec, func(t *testing.T) { attntest.Run(t, m, m.(attn.Defined).Define) })
	}
}
