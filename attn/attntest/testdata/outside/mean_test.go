package outside

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
)

func TestMean(t *testing.T) {
	m, err := attn.New("mean:gain=2")
	if err != nil {
		t.Fatal(err)
	}
	attntest.Run(t, m, m.(attn.Defined).Define)
}
