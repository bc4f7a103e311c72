package full

import (
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
)

func TestSigmoid(t *testing.T) {
	m, err := attn.New("sigmoid")
	if err != nil {
		t.Fatal(err)
	}
	attntest.Run(t, m, m.(attn.Defined).Define)
}
