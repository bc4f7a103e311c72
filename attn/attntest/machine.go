package attntest

import (
	"runtime"
	"sync"
	"sync/atomic"

	"attnbench/attn"
)

// atProcs runs f at each GOMAXPROCS that the checks look at.
func atProcs(f func(procs int)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, n := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(n)
		f(n)
	}
}

// A result is everything that one computation wrote.
type result struct {
	out    attn.View
	grads  *attn.Grads
	final  []float32
	decode attn.View
}

// all runs every pass that the mechanism has on its own workspace.
func (k *kit) all(ws *attn.Workspace, p *plan, c *attn.Call) (r result, err error) {
	c = clone(c)
	if err := k.m.Forward(ws, c); err != nil {
		return r, err
	}
	r.out, r.final = c.Out, c.Final
	if d, ok := k.m.(attn.Differentiable); ok {
		r.grads, _ = k.newGrads(c, p, false)
		if err := d.Backward(ws, c, r.grads); err != nil {
			return r, err
		}
	}
	inc, ok := k.m.(attn.Incremental)
	if !ok || c.Mask != attn.Causal || c.QueryLen != c.KeyLen {
		return r, nil
	}
	d := clone(c)
	s, err := inc.NewState(d.Shape)
	if err != nil {
		return r, err
	}
	at := 0
	for _, n := range []int{c.KeyLen - 5, 1, 3, 1} {
		if err := inc.Extend(ws, s, k.slice(d, -1, at, at+n, at, at+n)); err != nil {
			return r, err
		}
		at += n
	}
	r.decode = times(d.Out, 0, at)
	return r, nil
}

// differs names the first difference of two results.
func (k *kit) differs(a, b result) string {
	if s := sameBits(a.out, b.out, nil); s != "" {
		return "the output " + s
	}
	if s := sameSlice(a.final, b.final); s != "" {
		return "the final state " + s
	}
	if s := sameBits(a.decode, b.decode, nil); s != "" {
		return "the output of decoding " + s
	}
	if a.grads == nil {
		return ""
	}
	for i, in := range k.info.Inputs {
		if s := sameBits(gradOf(&k.info, a.grads, i), gradOf(&k.info, b.grads, i), nil); s != "" {
			return "the gradient of input " + in.Name + " " + s
		}
	}
	for i := range a.grads.Learned {
		if s := sameSlice(a.grads.Learned[i], b.grads.Learned[i]); s != "" {
			return "the gradient of learned tensor " + k.info.Learned[i].Name + s
		}
	}
	if s := sameSlice(a.grads.Initial, b.grads.Initial); s != "" {
		return "the gradient of the initial state" + s
	}
	return ""
}

func checkDeterminism(k *kit) {
	for _, m := range k.masks() {
		for i, s := range []attn.Shape{
			shape(m, 3, 67, 67, 6, 2, 8, 5),
			shape(m, 1, 131, 131, 1, 1, 16, 8),
		} {
			if k.Short && i == 1 || k.full() {
				break
			}
			p := &plan{Shape: s, layout: layout(i), present: k.every(), carry: true, saved: true}
			if !k.begin(p) {
				continue
			}
			k.sameBitsEverywhere(p, k.draw(p))
		}
	}
}

func (k *kit) sameBitsEverywhere(p *plan, c *attn.Call) {
	usual := runtime.GOMAXPROCS(0)
	first, err := k.all(k.ws, p, c)
	if err != nil {
		k.failf("%v", err)
		return
	}
	atProcs(func(procs int) {
		again, err := k.all(k.ws, p, c)
		if err != nil {
			k.failf("%v", err)
		} else if s := k.differs(first, again); s != "" {
			k.failf("GOMAXPROCS %d and %d differ in %s", usual, procs, s)
		}
	})
	again, err := k.all(attn.NewWorkspace(), p, c)
	if err != nil {
		k.failf("%v", err)
	} else if s := k.differs(first, again); s != "" {
		k.failf("two runs differ in %s", s)
		return
	}
	var wait sync.WaitGroup
	var results [2]result
	var errs [2]error
	for i := range results {
		wait.Go(func() {
			ws := attn.NewWorkspace()
			for range 2 {
				results[i], errs[i] = k.all(ws, p, c)
			}
		})
	}
	wait.Wait()
	for i, r := range results {
		if errs[i] != nil {
			k.failf("%v", errs[i])
		} else if s := k.differs(first, r); s != "" {
			k.failf("two goroutines at once and one alone differ in %s", s)
		}
	}
}

// pass is a computation that can be repeated.
type pass struct {
	name string
	run  func(ws *attn.Workspace) error
}

// passes returns Forward, Backward and Extend by one token, ready to be repeated on c.
func (k *kit) passes(p *plan, c *attn.Call) []pass {
	ps := []pass{{"forward", func(ws *attn.Workspace) error { return k.m.Forward(ws, c) }}}
	if d, ok := k.m.(attn.Differentiable); ok {
		// Memory of its own for what is saved: it counts apart from the workspace.
		s := clone(c)
		arena := new(attn.Arena)
		arena.Floats(int(k.info.Cost(c.Shape, attn.PassForward).Saved/4) + 1024)
		arena.Reset()
		s.Saved = attn.NewSaved(arena)
		g, _ := k.newGrads(s, p, false)
		ps = append(ps, pass{"forward with what backward needs", func(ws *attn.Workspace) error {
			s.Saved.Reset()
			arena.Reset()
			return k.m.Forward(ws, s)
		}}, pass{"backward", func(ws *attn.Workspace) error { return d.Backward(ws, s, g) }})
	}
	return ps
}

// largest counts up: each call is longer than any before it in this process, so that memory
// kept from earlier calls cannot hold it.
var largest atomic.Int64

func checkAllocation(k *kit) {
	for _, m := range k.masks() {
		if k.full() {
			return
		}
		k.warm(m)
		k.behind(m)
	}
}

// mallocs returns the heap allocations and bytes of f: the least of some attempts, since the
// runtime and other goroutines allocate now and then.
func mallocs(f func()) (count uint64) {
	count = 1 << 62
	for range 5 {
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		f()
		runtime.ReadMemStats(&b)
		if count = min(count, b.Mallocs-a.Mallocs); count == 0 {
			break
		}
	}
	return count
}

// warm counts allocations of repeated passes.
func (k *kit) warm(m attn.Mask) {
	p := &plan{Shape: shape(m, 2, 37, 37, 4, 2, 8, 5), present: k.every(), carry: true, layout: gaps}
	if !k.begin(p) || k.info.Cost == nil {
		return
	}
	c := k.draw(p)
	const calls = 8
	// Call.Check asks each declared tensor for its shape, which is a slice: not the mechanism's doing.
	tensors := uint64(2 * calls * (len(k.info.Learned) + len(k.info.Buffers)))
	count := func(name string, run func() error) {
		var err error
		for range 20 { // the runtime's own records of blocked goroutines come from a cache that fills up
			if e := run(); e != nil {
				err = e
			}
		}
		n := mallocs(func() {
			for range calls {
				if e := run(); e != nil {
					err = e
				}
			}
		})
		if err != nil {
			k.failf("%s of a good call: %v", name, err)
		} else if n >= calls+tensors {
			k.failf("%s: %d heap allocations in %d warm calls: want all scratch from the workspace", name, n, calls)
		}
	}
	for _, ps := range k.passes(p, c) {
		count(ps.name, func() error { return ps.run(k.ws) })
	}
	inc, ok := k.m.(attn.Incremental)
	if !ok || m != attn.Causal {
		return
	}
	s, err := inc.NewState(p.Shape)
	if err != nil {
		k.failf("new state for a good shape: %v", err)
		return
	}
	one := k.slice(c, -1, 0, 1, 0, 1) // the same token again and again; the state may grow now and then
	count("extend", func() error { return inc.Extend(k.ws, s, one) })
}

// behind compares what a first call takes from the heap, on a workspace that has room for it
// already, with what a small call takes there: the difference is memory behind the workspace's back.
func (k *kit) behind(m attn.Mask) {
	if k.info.Cost == nil {
		return
	}
	const slack = 2048
	for attempt := range 3 {
		n := 700 + int(largest.Add(1))
		if k.Short {
			n -= 300
		}
		small := &plan{Shape: shape(m, 1, 65, 65, 2, 1, 4, 4), present: k.every(), layout: gaps}
		large := &plan{Shape: shape(m, 1, n, n, 2, 1, 4, 4), present: k.every(), layout: gaps}
		if !k.begin(small) || !k.begin(large) {
			return
		}
		bad := ""
		a, b := k.firstBytes(small), k.firstBytes(large)
		for i := range b {
			if i < len(a) && b[i].bytes > a[i].bytes+slack {
				bad = b[i].name
				if attempt == 2 {
					k.failf("%s: the first call with %d tokens takes %d bytes from the heap beside its workspace, one with %d tokens %d: want all memory from the workspace",
						b[i].name, large.KeyLen, b[i].bytes, small.KeyLen, a[i].bytes)
				}
			}
		}
		if bad == "" {
			return
		}
	}
}

type taken struct {
	name  string
	bytes uint64
}

func (k *kit) firstBytes(p *plan) (list []taken) {
	c := k.draw(p)
	for i, ps := range k.passes(p, c) {
		kind := attn.PassForward
		if i == 2 {
			kind = attn.PassBackward
		}
		cost := k.info.Cost(p.Shape, kind)
		ws := attn.NewWorkspace()
		ws.Floats(int(cost.Shared+int64(runtime.GOMAXPROCS(0))*cost.PerWorker)/4 + 1<<14)
		ws.Reset()
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		err := ps.run(ws)
		runtime.ReadMemStats(&b)
		if err != nil {
			k.failf("%s of a good call: %v", ps.name, err)
			return list
		}
		list = append(list, taken{ps.name, b.TotalAlloc - a.TotalAlloc})
	}
	return list
}
