package attn

import "unsafe"

const line = 16 // floats in a cache line of 64 bytes; every slice of an arena starts on one

func roundUp(n int) int { return (n + line - 1) &^ (line - 1) }

// Arena hands out float32 memory in stack order and counts it exactly. It grows as asked and
// keeps what it has, so that a repeated computation allocates only the first time.
type Arena struct {
	chunks     [][]float32
	cur, off   int // next free float: chunks[cur][off]
	used, peak int64
}

// Mark is a point to release an arena to.
type Mark struct {
	cur, off int
	used     int64
}

// Floats returns n floats of undefined content, aligned to 64 bytes.
func (a *Arena) Floats(n int) []float32 {
	size := roundUp(n)
	for a.cur < len(a.chunks) && a.off+size > len(a.chunks[a.cur]) {
		a.cur, a.off = a.cur+1, 0
	}
	if a.cur == len(a.chunks) {
		grow := size
		if a.cur > 0 {
			grow = max(size, len(a.chunks[a.cur-1])) // at least as much again: few chunks
		}
		a.chunks = append(a.chunks, aligned(grow))
	}
	x := a.chunks[a.cur][a.off : a.off+n : a.off+size]
	a.off += size
	a.used += int64(size) * 4
	a.peak = max(a.peak, a.used)
	return x
}

// Zeros returns n floats that are 0.
func (a *Arena) Zeros(n int) []float32 {
	x := a.Floats(n)
	clear(x)
	return x
}

// Ints returns n int32 of undefined content from the same memory.
func (a *Arena) Ints(n int) []int32 { return asInts(a.Floats(n)) }

func asInts(x []float32) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}

// Mark returns the present point of the stack.
func (a *Arena) Mark() Mark { return Mark{a.cur, a.off, a.used} }

// Release gives back all that was handed out since m.
func (a *Arena) Release(m Mark) {
	a.cur, a.off, a.used = m.cur, m.off, m.used
	if a.used == 0 && len(a.chunks) > 1 {
		// One chunk that holds the peak: the next pass finds everything in a row.
		a.chunks = append(a.chunks[:0], aligned(int(a.peak/4)))
		a.cur, a.off = 0, 0
	}
}

// Reset gives back everything.
func (a *Arena) Reset() { a.Release(Mark{}) }

// Used returns the bytes handed out now, each slice rounded up to 64.
func (a *Arena) Used() int64 { return a.used }

// Peak returns the largest Used so far, or since ResetPeak: an exact figure that depends only on
// what was asked for.
func (a *Arena) Peak() int64 { return a.peak }

// ResetPeak makes the present use the peak.
func (a *Arena) ResetPeak() { a.peak = a.used }

func aligned(n int) []float32 {
	b := make([]float32, n+line)
	skip := 0
	if r := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) % 64); r != 0 {
		skip = (64 - r) / 4
	}
	return b[skip : skip+n]
}

// Saved keeps what a Forward leaves for its Backward: slices in the order in which they were
// asked for, in the arena of the training step.
type Saved struct {
	arena *Arena
	parts [][]float32
	bytes int64
	inner []*Saved
}

// NewSaved returns an empty Saved whose memory comes from a.
func NewSaved(a *Arena) *Saved { return &Saved{arena: a} }

// Floats returns n floats of undefined content and remembers them as the next part.
func (s *Saved) Floats(n int) []float32 {
	x := s.arena.Floats(n)
	s.parts = append(s.parts, x)
	s.bytes += int64(roundUp(n)) * 4
	return x
}

// Ints returns n int32 of undefined content and remembers them as the next part.
func (s *Saved) Ints(n int) []int32 { return asInts(s.Floats(n)) }

// PartInts returns the i-th slice, one of Ints.
func (s *Saved) PartInts(i int) []int32 { return asInts(s.parts[i]) }

// Part returns the i-th slice that Forward asked for.
func (s *Saved) Part(i int) []float32 { return s.parts[i] }

// Inner returns the i-th Saved inside s, for a mechanism that runs others: what it keeps counts with s.
func (s *Saved) Inner(i int) *Saved {
	for len(s.inner) <= i {
		s.inner = append(s.inner, NewSaved(s.arena))
	}
	return s.inner[i]
}

// Bytes returns the size of all parts, each rounded up to 64.
func (s *Saved) Bytes() int64 {
	n := s.bytes
	for _, x := range s.inner {
		n += x.Bytes()
	}
	return n
}

// Reset forgets the parts; the arena's owner gives the memory back.
func (s *Saved) Reset() {
	s.parts, s.bytes = s.parts[:0], 0
	for _, x := range s.inner {
		x.Reset()
	}
}
