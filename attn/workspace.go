package attn

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Workspace is where all scratch of a computation comes from, and the goroutines that share its
// work. It counts its own high-water mark, so that scratch is an exact and repeatable figure:
//
//	scratch = shared + GOMAXPROCS × per worker
//
// A workspace serves one computation at a time; make one for each goroutine that calls mechanisms.
type Workspace struct {
	Arena
	pool *pool
	jobs map[any]any // reused Parallel jobs by argument type: no allocation after the first
}

// NewWorkspace returns an empty workspace.
func NewWorkspace() *Workspace {
	ws := &Workspace{pool: &pool{work: make(chan job)}, jobs: map[any]any{}}
	// The workers know only the channel: closing it when the workspace is gone ends them.
	runtime.AddCleanup(ws, func(work chan job) { close(work) }, ws.pool.work)
	return ws
}

// Reused returns the workspace's value of type T, made once: for what is passed on by pointer and would be a heap allocation a call. Who takes
// it clears it after use.
func Reused[T any](ws *Workspace) *T {
	type key struct{ p *T }
	x, ok := ws.jobs[key{}].(*T)
	if !ok {
		x = new(T)
		ws.jobs[key{}] = x
	}
	return x
}

// Scratch is one worker's private memory during Parallel.
type Scratch struct {
	buf []float32
	off int
}

// Floats returns n floats of undefined content, aligned to 64 bytes. It panics when a task takes
// more than Parallel reserved.
func (s *Scratch) Floats(n int) []float32 {
	x := s.buf[s.off : s.off+n : s.off+n]
	s.off += roundUp(n)
	return x
}

// Ints returns n int32 from the same memory.
func (s *Scratch) Ints(n int) []int32 { return asInts(s.Floats(n)) }

// ScratchFloats returns what Parallel has to reserve for slices of the given lengths: their sum, each rounded up to
// a cache line.
func ScratchFloats(lengths ...int) int {
	n := 0
	for _, l := range lengths {
		n += roundUp(l)
	}
	return n
}

// Parallel runs the tasks 0 to tasks-1 on GOMAXPROCS workers, in order of their numbers as
// workers become free, and returns when all are done. Each worker has floats of scratch of its own,
// reserved before any starts and empty at the start of every task.
//
// A result must not depend on which worker ran a task: tasks write disjoint memory, and sums over
// tasks are taken in a fixed order afterwards. run must capture no variables (a captured one
// is a heap allocation a call); what it needs travels in args. run must not call Parallel.
func Parallel[A any](ws *Workspace, tasks, floats int, args A, run func(s *Scratch, a *A, task int)) {
	if tasks <= 0 {
		return
	}
	key := any((*A)(nil))
	j, ok := ws.jobs[key].(*parallelJob[A])
	if !ok {
		j = new(parallelJob[A])
		ws.jobs[key] = j
	}
	workers := runtime.GOMAXPROCS(0)
	floats = roundUp(floats)
	mark := ws.Mark()
	all := ws.Floats(workers * floats)
	for len(j.scratch) < workers {
		j.scratch = append(j.scratch, Scratch{})
	}
	for w := range workers {
		j.scratch[w].buf = all[w*floats : (w+1)*floats]
	}
	j.tasks, j.args, j.run = int64(tasks), args, run
	j.next.Store(0)
	j.worker.Store(0)
	ws.pool.do(j, min(workers, tasks))
	var none A
	j.args = none // let go of the caller's memory
	ws.Release(mark)
}

type parallelJob[A any] struct {
	args         A
	run          func(s *Scratch, a *A, task int)
	scratch      []Scratch // one a worker; here because a local one would escape to the heap
	tasks        int64
	next, worker atomic.Int64
	wait         sync.WaitGroup
}

func (j *parallelJob[A]) work() {
	s := &j.scratch[j.worker.Add(1)-1]
	for t := j.next.Add(1) - 1; t < j.tasks; t = j.next.Add(1) - 1 {
		s.off = 0
		j.run(s, &j.args, int(t))
	}
}

func (j *parallelJob[A]) group() *sync.WaitGroup { return &j.wait }

// A job is work that several workers share.
type job interface {
	work()
	group() *sync.WaitGroup
}

// pool is a set of goroutines that wait for jobs, grown to what was asked for.
type pool struct {
	work chan job
	size int
}

// do runs j on n workers, of which the caller is one.
func (p *pool) do(j job, n int) {
	for ; p.size < n-1; p.size++ {
		go func(work chan job) {
			for j := range work {
				j.work()
				j.group().Done()
			}
		}(p.work)
	}
	j.group().Add(n - 1)
	for range n - 1 {
		p.work <- j
	}
	j.work()
	j.group().Wait()
}
