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

// TestVEX does so for what works on tiles.
func TestVEX(t *testing.T) {
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"ldtilecfg (%r8)", "c4c2784900", vexTile(0, 0x49, 0, 0, memory(R8, nil))},
		{"ldtilecfg (%rax)", "c4e2784900", vexTile(0, 0x49, 0, 0, memory(RAX, nil))},
		{"tilerelease", "c4e27849c0", vexTile(0, 0x49, 0, 0, tile(0))},
		{"tilezero %tmm0", "c4e27b49c0", vexTile(prefixF2, 0x49, 0, 0, tile(0))},
		{"tilezero %tmm5", "c4e27b49e8", vexTile(prefixF2, 0x49, 0, 5, tile(0))},
		{"tileloadd (%rsi,%rdi,1),%tmm0", "c4e27b4b043e", vexTile(prefixF2, 0x4b, 0, 0, memory(RSI, RDI))},
		{"tileloadd (%r10,%rbx,1),%tmm4", "c4c27b4b241a", vexTile(prefixF2, 0x4b, 0, 4, memory(R10, RBX))},
		{"tileloadd (%rcx,%r9,1),%tmm7", "c4a27b4b3c09", vexTile(prefixF2, 0x4b, 0, 7, memory(RCX, R9))},
		{"tilestored %tmm3,(%r8,%rdi,1)", "c4c27a4b1c38", vexTile(prefixF3, 0x4b, 0, 3, memory(R8, RDI))},
		{"tilestored %tmm1,(%rsi,%r9,1)", "c4a27a4b0c0e", vexTile(prefixF3, 0x4b, 0, 1, memory(RSI, R9))},
		{"tdpbf16ps %tmm2,%tmm1,%tmm0", "c4e26a5cc1", vexTile(prefixF3, 0x5c, 2, 0, tile(1))},
		{"tdpbf16ps %tmm6,%tmm4,%tmm0", "c4e24a5cc4", vexTile(prefixF3, 0x5c, 6, 0, tile(4))},
		{"tdpbf16ps %tmm7,%tmm5,%tmm3", "c4e2425cdd", vexTile(prefixF3, 0x5c, 7, 3, tile(5))},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
