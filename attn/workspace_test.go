package attn

import (
	"runtime"
	"testing"
)

type sumArgs struct {
	x   []float32
	out []float32
}

func parallelSum(ws *Workspace, x, out []float32) {
	Parallel(ws, len(out), 64, sumArgs{x, out}, func(s *Scratch, a *sumArgs, task int) {
		b := s.Floats(10)
		for i := range b {
			b[i] = a.x[task]
		}
		a.out[task] = b[9]
	})
}

func TestParallelAllocatesNothingAndCountsExactly(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		ws := NewWorkspace()
		x, out := make([]float32, 1000), make([]float32, 1000)
		for i := range x {
			x[i] = float32(i)
		}
		parallelSum(ws, x, out)
		for i := range out {
			if out[i] != x[i] {
				t.Fatalf("procs %d: task %d did not run", procs, i)
			}
		}
		if want := int64(procs * 64 * 4); ws.Peak() != want {
			t.Errorf("procs %d: peak %d: want %d", procs, ws.Peak(), want)
		}
		for range 50 { // the runtime's own records of blocked goroutines come from a cache that fills up
			parallelSum(ws, x, out)
		}
		least := uint64(1 << 62)
		for range 5 { // on a busy machine the runtime allocates now and then
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			for range 20 {
				parallelSum(ws, x, out)
			}
			runtime.ReadMemStats(&b)
			least = min(least, b.Mallocs-a.Mallocs)
		}
		if least > 10 {
			t.Errorf("procs %d: %d heap allocations in 20 warm calls", procs, least)
		}
	}
}

func TestArenaStack(t *testing.T) {
	var a Arena
	m := a.Mark()
	x := a.Floats(10)
	y := a.Floats(100)
	x[9], y[99] = 1, 2
	if a.Used() != (16+112)*4 {
		t.Errorf("used %d", a.Used())
	}
	a.Release(m)
	if a.Used() != 0 || a.Peak() != (16+112)*4 {
		t.Errorf("after release: used %d, peak %d", a.Used(), a.Peak())
	}
	z := a.Floats(128)
	if n := testing.AllocsPerRun(10, func() { m := a.Mark(); a.Floats(0); a.Release(m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	_ = z
}
