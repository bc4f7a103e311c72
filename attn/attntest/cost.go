package attntest

import (
	"runtime"

	"attnbench/attn"
)

var passNames = map[attn.Pass]string{attn.PassForward: "forward", attn.PassBackward: "backward", attn.PassDecode: "decode"}

// checkScratch holds the workspace's high-water mark and the saved bytes against Info.Cost.
func checkScratch(k *kit) {
	if k.info.Cost == nil {
		k.failf("Info.Cost is nil: want the closed-form costs")
		return
	}
	for _, m := range k.masks() {
		for i, s := range []attn.Shape{
			shape(m, 1, 1, 1, 1, 1, 4, 3),
			shape(m, 3, 37, 37, 4, 2, 8, 5),
			shape(m, 1, 5, 131, 2, 1, 12, 16),
			shape(m, 9, 33, 33, 6, 2, 5, 8),
			shape(m, 1, 193, 193, 1, 1, 5, 5),
			shape(m, 2, 41, 9, 2, 2, 16, 12),
			shape(m, 2, 0, 7, 2, 1, 4, 3),
			shape(m, 2, 7, 0, 2, 1, 4, 3),
			shape(m, 0, 7, 7, 2, 1, 4, 3),
		} {
			if k.Short && i > 2 {
				break
			}
			p := &plan{Shape: s, layout: layout(i % 3), present: k.every(), carry: i%2 == 1}
			if !k.full() && k.begin(p) {
				k.scratch(p)
			}
		}
	}
	k.scratchOfExtend()
}

// peak holds what a pass took from a fresh workspace against the declared figure.
func (k *kit) peak(name string, cost attn.Cost, atMost bool, run func(ws *attn.Workspace) error) bool {
	ws, procs := attn.NewWorkspace(), runtime.GOMAXPROCS(0)
	if err := run(ws); err != nil {
		k.failf("%s of a good call: %v", name, err)
		return false
	}
	want := cost.Shared + int64(procs)*cost.PerWorker
	if got := ws.Peak(); got != want && !(atMost && got < want) {
		k.failf("%s at GOMAXPROCS %d takes %d bytes of scratch: Cost says %d + %d·%d = %d",
			name, procs, got, cost.Shared, procs, cost.PerWorker, want)
		return false
	}
	if ws.Used() != 0 {
		k.failf("%s leaves %d bytes of its workspace taken: want Mark and Release", name, ws.Used())
		return false
	}
	return true
}

func (k *kit) scratch(p *plan) {
	c := k.draw(p)
	d, differentiable := k.m.(attn.Differentiable)
	ok := true
	atProcs(func(int) {
		if !ok {
			return
		}
		forward, backward := k.info.Cost(p.Shape, attn.PassForward), k.info.Cost(p.Shape, attn.PassBackward)
		ok = k.peak("forward", forward, false, func(ws *attn.Workspace) error { return k.m.Forward(ws, c) })
		if !ok || !differentiable {
			return
		}
		s := clone(c)
		s.Saved = attn.NewSaved(new(attn.Arena))
		ok = k.peak("forward with what backward needs", forward, true, func(ws *attn.Workspace) error { return k.m.Forward(ws, s) })
		if got := s.Saved.Bytes(); ok && got != forward.Saved {
			k.failf("forward saves %d bytes: Cost says %d", got, forward.Saved)
			ok = false
		}
		g, _ := k.newGrads(s, p, false)
		ok = ok && k.peak("backward", backward, false, func(ws *attn.Workspace) error { return d.Backward(ws, s, g) })
	})
}

// scratchOfExtend holds Extend against Cost(…, PassDecode).
func (k *kit) scratchOfExtend() {
	inc, ok := k.m.(attn.Incremental)
	if !ok || !k.causal() {
		return
	}
	for i, split := range [][2]int{{0, 1}, {0, 37}, {9, 1}, {40, 5}, {33, 33}, {130, 1}, {4610, 1}} { // tokens held, and brought
		n := split[0] + split[1]
		if k.Short && n > 1000 {
			break
		}
		p := &plan{Shape: shape(attn.Causal, 1+i%3, n, n, 4, 2, 8, 5), present: k.every(), layout: layout(i % 3)}
		p.MaxLen = n
		if k.full() || !k.begin(p) || p.KeyLen != n {
			continue
		}
		c := k.draw(p)
		atProcs(func(int) {
			s, err := inc.NewState(c.Shape)
			if err == nil && split[0] > 0 {
				err = inc.Extend(k.ws, s, k.slice(c, -1, 0, 0, 0, split[0]))
			}
			if err != nil {
				k.failf("extend of a good call: %v", err)
				return
			}
			sh := p.Shape
			sh.QueryLen = split[1]
			d := k.slice(c, -1, split[0], n, split[0], n)
			k.peak("extend", k.info.Cost(sh, attn.PassDecode), false, func(ws *attn.Workspace) error { return inc.Extend(ws, s, d) })
		})
	}
}

// checkCost checks what can be known of the other figures.
func checkCost(k *kit) {
	if k.info.Cost == nil {
		k.failf("Info.Cost is nil: want the closed-form costs")
		return
	}
	_, differentiable := k.m.(attn.Differentiable)
	_, incremental := k.m.(attn.Incremental)
	for _, m := range k.masks() {
		for _, s := range append(k.shapes(m), shape(m, 1, 4096, 4096, 8, 2, 64, 64)) {
			p := &plan{Shape: s}
			if k.full() || !k.begin(p) {
				continue
			}
			twice := p.Shape
			twice.Batch *= 2
			for pass, name := range passNames {
				if pass == attn.PassBackward && !differentiable || pass == attn.PassDecode && (!incremental || p.QueryLen > p.KeyLen) {
					continue
				}
				a, b := k.info.Cost(p.Shape, pass), k.info.Cost(twice, pass)
				if min(a.FLOPs, a.Bytes, a.Shared, a.PerWorker, a.Saved, a.State, a.Read) < 0 {
					k.failf("%s: a negative cost: %+v", name, a)
				}
				if b.FLOPs != 2*a.FLOPs {
					k.failf("%s: %d FLOPs, and %d for twice the batch", name, a.FLOPs, b.FLOPs)
				}
				if a.FLOPs == 0 && p.QueryLen == p.KeyLen {
					k.failf("%s: no FLOPs", name)
				}
				if out := 4 * int64(p.Batch) * int64(p.QueryLen) * int64(p.Heads) * int64(p.ValueDim); a.Bytes < out {
					k.failf("%s: %d bytes moved, but the output alone has %d", name, a.Bytes, out)
				}
				if b.State != 2*a.State || b.Read != 2*a.Read {
					k.failf("%s: state of %d bytes, %d read, and %d, %d for twice the batch", name, a.State, a.Read, b.State, b.Read)
				}
				if a.Read > a.State {
					k.failf("%s: a token reads %d bytes of a state of %d", name, a.Read, a.State)
				}
			}
		}
	}
}
