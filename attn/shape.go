package attn

import (
	"fmt"
	"strings"
)

// Mask says which keys a query may see before a mechanism's own restrictions; as a set it says
// which of the three a mechanism supports.
type Mask uint8

const (
	// Causal aligns queries and keys at their ends (bottom-right): query i of a sequence sees key
	// j when j ≤ i + keys - queries. Queries in front of the first key see nothing.
	Causal Mask = 1 << iota
	// Bidirectional lets every query see every key of the same sequence; queries and keys share
	// positions, aligned at their ends.
	Bidirectional
	// Cross lets every query see every key of another sequence; positions are unrelated.
	Cross
)

func (m Mask) String() string {
	var s []string
	for i, n := range []string{"causal", "bidirectional", "cross"} {
		if m&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, "+")
}

// Shape is the size of one attention call. Widths are per head.
type Shape struct {
	Batch            int
	QueryLen, KeyLen int // tokens a batch row, padding included
	Heads, KVHeads   int // query heads; key/value heads, a divisor of Heads
	KeyDim, ValueDim int // width of queries and keys; of values and outputs
	Mask             Mask

	Layer, Layers int // 0-based depth of the layer and depth of the model (0, 1 when alone)
	MaxLen        int // longest sequence that the model will see; 0 means KeyLen
}

// Check reports the first size that no mechanism could compute on.
func (s Shape) Check() error {
	for _, d := range []struct {
		name     string
		got, min int
	}{
		{"batch", s.Batch, 0}, {"query length", s.QueryLen, 0}, {"key length", s.KeyLen, 0},
		{"heads", s.Heads, 1}, {"key/value heads", s.KVHeads, 1},
		{"key dim", s.KeyDim, 1}, {"value dim", s.ValueDim, 1},
		{"layer", s.Layer, 0}, {"max length", s.MaxLen, 0},
	} {
		if d.got < d.min {
			return fmt.Errorf("shape: %s is %d: want at least %d", d.name, d.got, d.min)
		}
	}
	if s.Heads%s.KVHeads != 0 {
		return fmt.Errorf("shape: %d heads over %d key/value heads: want a multiple", s.Heads, s.KVHeads)
	}
	if s.Layers > 0 && s.Layer >= s.Layers {
		return fmt.Errorf("shape: layer is %d: want less than layers, %d", s.Layer, s.Layers)
	}
	switch s.Mask {
	case Causal, Bidirectional, Cross:
		return nil
	}
	return fmt.Errorf("shape: mask is %q: want exactly one of causal, bidirectional, cross", s.Mask)
}

// KVHead returns the key/value head that query head h reads: ⌊h·KVHeads/Heads⌋.
func (s Shape) KVHead(h int) int { return h * s.KVHeads / s.Heads }

// Pairs returns the number of (query, key) pairs of one batch row and head that the mask alone
// admits at full length.
func (s Shape) Pairs() int64 {
	q, k := int64(s.QueryLen), int64(s.KeyLen)
	if s.Mask != Causal {
		return q * k
	}
	if q > k { // the first q-k queries see nothing
		q = k
	}
	return q*(k-q) + q*(q+1)/2
}

// A Segment is one sequence inside a call: a run of queries and the run of keys that they
// attend to, both within one batch row. Padded batches have one segment a row, shorter than the
// row; packed text has one a document. Nothing outside a segment is read, and no token of one
// segment sees another.
type Segment struct {
	Row             int // batch row
	Query0, Queries int // first query and their number
	Key0, Keys      int // first key and their number
	Pos0            int // absolute position of the first key
}

// Offset is the causal alignment: query i sees keys j ≤ i + Offset (bottom-right).
func (g Segment) Offset() int { return g.Keys - g.Queries }

// Lengths returns the segments of a padded batch: row b holds queries[b] queries and keys[b]
// keys from its start on, the rest is padding.
func Lengths(queries, keys []int) []Segment {
	s := make([]Segment, len(queries))
	for b := range s {
		s[b] = Segment{Row: b, Queries: queries[b], Keys: keys[b]}
	}
	return s
}

// Documents returns the segments of packed text for self-attention: row b is cut at starts[b],
// increasing offsets of which the first is 0, and ends at length.
func Documents(length int, starts [][]int) []Segment {
	var s []Segment
	for b, row := range starts {
		for i, at := range row {
			end := length
			if i+1 < len(row) {
				end = row[i+1]
			}
			s = append(s, Segment{Row: b, Query0: at, Queries: end - at, Key0: at, Keys: end - at})
		}
	}
	return s
}
