package main

import (
	"encoding/hex"
	"testing"

	. "github.com/mmcloughlin/avo/reg"
)

// TestEVEX holds the encoder against the bytes that GNU as 2.40 gives for
//
//	vdpbf16ps %zmmM,%zmmV,%zmmR        vcvtne2ps2bf16 %zmmM,%zmmV,%zmmR
func TestEVEX(t *testing.T) {
	for _, c := range []struct {
		op      string
		m, v, r VecPhysical
		want    string
	}{
		{"vdpbf16ps", Z2, Z1, Z0, "62f2764852c2"},
		{"vdpbf16ps", Z18, Z16, Z15, "62327e4052fa"},
		{"vdpbf16ps", Z21, Z17, Z7, "62b2764052fd"},
		{"vdpbf16ps", Z8, Z31, Z24, "6242064052c0"},
		{"vdpbf16ps", Z31, Z30, Z29, "62020e4052ef"},
		{"vdpbf16ps", Z9, Z8, Z15, "62523e4852f9"},
		{"vdpbf16ps", Z0, Z15, Z31, "6262064852f8"},
		{"vcvtne2ps2bf16", Z0, Z1, Z2, "62f2774872d0"},
		{"vcvtne2ps2bf16", Z31, Z16, Z8, "62127f4072c7"},
		{"vcvtne2ps2bf16", Z15, Z30, Z23, "62c20f4072ff"},
	} {
		pp, op := byte(prefixF3), byte(0x52)
		if c.op == "vcvtne2ps2bf16" {
			pp, op = prefixF2, 0x72
		}
		if got := hex.EncodeToString(evex512(pp, op, c.r, c.v, c.m)); got != c.want {
			t.Errorf("%s %s,%s,%s: %s, want %s", c.op, c.m.Asm(), c.v.Asm(), c.r.Asm(), got, c.want)
		}
	}
}
