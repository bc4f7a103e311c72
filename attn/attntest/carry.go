package attntest

import "attnbench/attn"

// checkCarry cuts a sequence into pieces, each starting from the state in which the one before
// ended: outputs and last state are those of one pass.
func checkCarry(k *kit) {
	if k.info.Carry == nil || !k.causal() {
		return
	}
	n := 97
	if k.Short {
		n = 53
	}
	for i, pieces := range [][]int{{1, 2, 3, 5, 8, 13, 21, 44}, {n - 1, 1}, repeat(1, n)} {
		p := &plan{Shape: shape(attn.Causal, 2, n, n, 4, 2, 8, 5), layout: layout(i), carry: true, present: k.every() &^ uint(i)}
		if !k.begin(p) {
			continue
		}
		c := k.draw(p)
		w, ok := k.want(c)
		if !ok {
			return
		}
		at, state := 0, c.Initial
		for _, m := range pieces {
			m = min(m, p.KeyLen-at)
			if m == 0 {
				break
			}
			d := k.slice(c, -1, at, at+m, at, at+m)
			d.Pos0 = at
			d.Initial, d.Final = state, fenced(len(state))
			if !k.forward(d) {
				return
			}
			at, state = at+m, d.Final
		}
		if at < p.KeyLen {
			continue
		}
		if s := off(c.Out, w.Out, k.tolerance()); s != "" {
			k.failf("pieces %v against one pass: %s", pieces[:min(8, len(pieces))], s)
		}
		if s := offSlice(state, w.Final, k.tolerance()); s != "" {
			k.failf("final state after pieces %v against one pass: %s", pieces[:min(8, len(pieces))], s)
		}
	}
	// No tokens: the state passes through.
	p := &plan{Shape: shape(attn.Causal, 2, 0, 0, 2, 1, 4, 3), carry: true, present: k.every(), what: "no tokens"}
	if k.begin(p) && p.KeyLen == 0 {
		if c := k.draw(p); k.forward(c) {
			if s := sameSlice(c.Final, c.Initial); s != "" {
				k.failf("final state after no tokens differs from the initial one at %s", s)
			}
		}
	}
}
