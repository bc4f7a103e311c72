package kernel

import "sync/atomic"

// The counters are off but in tests that hold a mechanism's closed-form cost against what its kernels were asked to
// do. They are looked at once a call, never once an element.
var (
	counting atomic.Bool
	flops    atomic.Int64
	read     atomic.Int64
)

// CountFLOPs runs f and returns the floating-point operations of the products that f asked for: those of matrices, rows and
// states, and of Dot and Axpy (a multiply-add is 2). Exponentials, norms and other elementwise work do not count. It is
// for tests and must not run concurrently with itself.
func CountFLOPs(f func()) int64 {
	n, _ := Count(f)
	return n
}

// Count is CountFLOPs with the bytes of the operands that the products went through, each operand once a call: in a decoding
// step the keys and values, or the state, and little else. A state that is updated in place counts once, as read.
func Count(f func()) (operations, bytes int64) {
	flops.Store(0)
	read.Store(0)
	counting.Store(true)
	defer counting.Store(false)
	f()
	return flops.Load(), read.Load()
}

// count adds the product of an [m, k] by a [k, n] matrix: its operations, and the bytes of an operand of so many floats.
func count(m, n, k, floats int) {
	flops.Add(2 * int64(m) * int64(n) * int64(k))
	read.Add(4 * int64(floats))
}
