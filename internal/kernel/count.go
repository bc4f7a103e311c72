package kernel

import "sync/atomic"

// The FLOP counter is off but in tests that hold a mechanism's closed-form cost against what
// its kernels were asked to do. It is read once a block call, never once an element.
var (
	counting atomic.Bool
	flops    atomic.Int64
	read     atomic.Int64
)

// CountRead runs f and returns the bytes of the matrices that Dots, Combine and Update went through once: the keys, values and
// states that a decoding step reads. It is as CountFLOPs otherwise.
func CountRead(f func()) int64 {
	read.Store(0)
	CountFLOPs(f)
	return read.Load()
}

// CountFLOPs runs f and returns the floating-point operations of the products that f asked for
// (a multiply-add is 2; exponentials and other elementwise work do not count). It is for tests
// and must not run concurrently with itself.
func CountFLOPs(f func()) int64 {
	flops.Store(0)
	counting.Store(true)
	defer counting.Store(false)
	f()
	return flops.Load()
}
