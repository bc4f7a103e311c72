package tile

import (
	"sync"

	"attnbench/attn"
)

// A SegmentPool keeps slices of segments, for mechanisms that make calls out of calls: one after the first allocates nothing.
type SegmentPool struct {
	mu   sync.Mutex
	free [][]attn.Segment
}

// Take returns an empty slice, not nil: a call without segments is one at full length.
func (p *SegmentPool) Take() []attn.Segment {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return []attn.Segment{}
	}
	s := p.free[n-1]
	p.free = p.free[:n-1]
	return s[:0]
}

// Put gives a slice back.
func (p *SegmentPool) Put(s []attn.Segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, s)
}
