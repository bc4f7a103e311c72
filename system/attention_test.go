package system

import (
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
)

func TestAttentions(t *testing.T) {
	for _, c := range []struct{ mech, want, err string }{
		{"full", "full full full", ""},
		{"sliding:window=8", "sliding:window=8 sliding:window=8 full", ""},
		{"linear", "linear linear linear", ""},
		{"gla", "full gla full", ""},
		{"full|sliding:window=8", "full|sliding:window=8 full|sliding:window=8 full", ""},
		{"sliding:window=512+gla+linear", "sliding gla linear", ""},
		{"full+full", "", "2 attentions: want 1 or 3"},
		{"full+full+sliding", "", "mask is cross: want causal+bidirectional"},
		{"full+full+", "", "unknown mechanism"},
		{"slidin", "", `unknown mechanism "slidin"`},
	} {
		got, err := Attentions(c.mech, attn.Bidirectional, attn.Causal, attn.Cross)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v: want %q", c.mech, err, c.err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v: want %s", c.mech, got, err, c.want)
		}
	}
	if _, err := Attentions("sliding", attn.Cross); err == nil || !strings.Contains(err.Error(), "want one that can be trained under a mask of") {
		t.Errorf("no mask allowed: %v", err)
	}
}
