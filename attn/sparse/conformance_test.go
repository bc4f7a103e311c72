package sparse

import (
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
	_ "attnbench/attn/full" // what the limits equal
)

func TestConformance(t *testing.T) {
	seen := map[string]bool{}
	for _, spec := range []string{"blocksparse", "blocksparse:block=8,local=2,stride=3", "bigbird", "bigbird:block=8,random=1",
		"strided", "strided:stride=7,use=heads", "strided:stride=3,use=layers", "fixed", "fixed:stride=6,columns=2,use=heads", "fixed:stride=40,columns=3,first=true",
		"topk", "topk:k=3", "moba", "moba:block=16,k=3", "moba:block=7,k=2", "nsa", "nsa:block=4,top=5,window=9", "h2o", "h2o:heavy=3,recent=4", "snapkv:keep=9,window=4", "tova:keep=6", "lsh", "lsh:bucket=5,rounds=2", "routing", "routing:window=8,clusters=5", "routing:window=5,clusters=11", "dsa", "dsa:k=5,heads=2,dim=6", "quest:dense=0", "quest:page=3,budget=9,dense=1"} {
		name, _, _ := strings.Cut(spec, ":")
		if testing.Short() && seen[name] {
			continue // one spelling of each
		}
		seen[name] = true
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(spec, func(t *testing.T) { attntest.Run(t, m, m.(attn.Defined).Define) })
	}
}
