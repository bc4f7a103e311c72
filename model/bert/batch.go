package bert

import (
	"fmt"

	"attnbench/autograd"
)

// Batch is a number of token sequences, padded to one length.
type Batch struct {
	Rows, Length int
	Tokens       []int32 // [rows, length]
	Lengths      []int   // tokens of each row, what follows is padding; nil for none
}

// NewBatch lays out sequences, padded to the longest with pad.
func NewBatch(rows [][]int32, pad int32) *Batch {
	b := &Batch{Rows: len(rows)}
	for _, r := range rows {
		b.Length = max(b.Length, len(r))
		b.Lengths = append(b.Lengths, len(r))
	}
	for i, r := range rows {
		b.Tokens = append(b.Tokens, r...)
		for len(b.Tokens) < (i+1)*b.Length {
			b.Tokens = append(b.Tokens, pad)
		}
	}
	return b
}

func (b *Batch) check(vocab int) error {
	if b.Rows < 0 || b.Length < 0 || len(b.Tokens) != b.Rows*b.Length || b.Lengths != nil && len(b.Lengths) != b.Rows {
		return fmt.Errorf("batch of %d rows of %d: %d tokens, %d lengths: want as many", b.Rows, b.Length, len(b.Tokens), len(b.Lengths))
	}
	for i, n := range b.Lengths {
		if n < 0 || n > b.Length {
			return fmt.Errorf("length of row %d is %d: want 0 to %d", i, n, b.Length)
		}
	}
	for i, x := range b.Tokens {
		if x < 0 || int(x) >= vocab {
			return fmt.Errorf("token %d is %d: want 0 to %d", i, x, vocab-1)
		}
	}
	return nil
}

// checkLabels compares labels [rows·length] with the batch, and returns how many there are.
func (b *Batch) checkLabels(labels []int32, classes int) (count int, err error) {
	if len(labels) != len(b.Tokens) {
		return 0, fmt.Errorf("%d labels for %d tokens: want one a token", len(labels), len(b.Tokens))
	}
	for i, l := range labels {
		if l == autograd.Ignored {
			continue
		}
		if l < 0 || int(l) >= classes {
			return 0, fmt.Errorf("label %d is %d: want -1 to %d", i, l, classes-1)
		}
		if b.Lengths != nil && i%b.Length >= b.Lengths[i/b.Length] {
			return 0, fmt.Errorf("label %d is %d in the padding: want -1", i, l)
		}
		count++
	}
	return count, nil
}
