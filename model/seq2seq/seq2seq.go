// Package seq2seq holds models that read one sequence and write another: the Transformer (Vaswani et al. 2017, arXiv:1706.03762), each
// of whose three attentions is a mechanism of the registry, and the recurrent encoder-decoder with additive attention that came before it
// (Bahdanau et al. 2014, arXiv:1409.0473); greedy and beam search over them, and sampling.
package seq2seq

import (
	"fmt"

	"attnbench/attn"
	"attnbench/autograd"
)

// Model is an encoder-decoder. It serves one goroutine.
type Model interface {
	// Params returns the learned tensors, in a fixed order.
	Params() []*autograd.Param
	// Vocab returns the number of tokens, which are 0 to Vocab-1.
	Vocab() int
	// Loss returns the mean cross-entropy in nats over the labels of b, with label smoothing. b must not change until the tape's
	// Reset. seed is that of everything random in the step.
	Loss(t *autograd.Tape, b *Batch, smoothing float32, seed uint64) (autograd.Var, error)
	// Logits returns those of every position of the targets of b, [rows·target length, vocab], by full computation.
	Logits(t *autograd.Tape, b *Batch) (autograd.Var, error)
	// Start reads the sources, each not empty, and returns the state of width outputs to be written for each. The tape must be without gradients;
	// Start and Next reset it.
	Start(t *autograd.Tape, sources [][]int32, width int) (State, error)
	// Next takes the last token of each output, [sources·width], Begin at first, and returns the logits of the next, [sources·width, vocab], in the tape's
	// memory.
	Next(t *autograd.Tape, s State, tokens []int32) ([]float32, error)
}

// State is what a model keeps while it writes.
type State interface {
	// Reorder makes output i go on from output from[i], one of the same source.
	Reorder(from []int) error
	// Bytes returns the bytes that the state retains now.
	Bytes() int64
}

// Batch is a number of pairs of sequences, padded to the longest of each side.
type Batch struct {
	Rows                 int
	SourceLen, TargetLen int     // tokens a row, padding included
	Source               []int32 // [rows, source length]
	Target               []int32 // [rows, target length]: the begin token and the target without its end
	Labels               []int32 // [rows, target length]: the target and its end; -1 in padding
	Sources, Targets     []int   // tokens of each row
}

// Special are the tokens that frame sequences.
type Special struct{ Pad, Begin, End int32 }

// NewBatch lays out pairs of token sequences. The target of row i is read behind begin and must be followed by end.
func NewBatch(sources, targets [][]int32, s Special) *Batch {
	b := &Batch{Rows: len(sources)}
	for i := range sources {
		b.Sources, b.Targets = append(b.Sources, len(sources[i])), append(b.Targets, len(targets[i])+1)
		b.SourceLen, b.TargetLen = max(b.SourceLen, b.Sources[i]), max(b.TargetLen, b.Targets[i])
	}
	for i := range sources {
		b.Source = pad(append(b.Source, sources[i]...), (i+1)*b.SourceLen, s.Pad)
		b.Target = pad(append(append(b.Target, s.Begin), targets[i]...), (i+1)*b.TargetLen, s.Pad)
		b.Labels = pad(append(append(b.Labels, targets[i]...), s.End), (i+1)*b.TargetLen, autograd.Ignored)
	}
	return b
}

func pad(x []int32, n int, with int32) []int32 {
	for len(x) < n {
		x = append(x, with)
	}
	return x
}

// check compares a batch with a vocabulary.
func (b *Batch) check(vocab int) error {
	if len(b.Source) != b.Rows*b.SourceLen || len(b.Target) != b.Rows*b.TargetLen || len(b.Labels) != len(b.Target) || len(b.Sources) != b.Rows || len(b.Targets) != b.Rows {
		return fmt.Errorf("seq2seq: batch of %d rows of %d and %d: want as many tokens, labels and lengths", b.Rows, b.SourceLen, b.TargetLen)
	}
	if b.Rows < 1 || b.SourceLen < 1 || b.TargetLen < 1 {
		return fmt.Errorf("seq2seq: batch of %d rows of %d and %d: want at least 1 of each", b.Rows, b.SourceLen, b.TargetLen)
	}
	for row := range b.Rows {
		if s, t := b.Sources[row], b.Targets[row]; s < 0 || s > b.SourceLen || t < 0 || t > b.TargetLen {
			return fmt.Errorf("seq2seq: row %d of %d and %d tokens: want at most %d and %d", row, s, t, b.SourceLen, b.TargetLen)
		}
	}
	for _, tokens := range [][]int32{b.Source, b.Target} {
		if err := checkTokens(tokens, vocab); err != nil {
			return err
		}
	}
	for i, l := range b.Labels {
		if l != autograd.Ignored && (l < 0 || int(l) >= vocab) {
			return fmt.Errorf("seq2seq: label %d is %d: want -1 to %d", i, l, vocab-1)
		}
	}
	return nil
}

func checkTokens(tokens []int32, vocab int) error {
	for i, x := range tokens {
		if x < 0 || int(x) >= vocab {
			return fmt.Errorf("seq2seq: token %d is %d: want 0 to %d", i, x, vocab-1)
		}
	}
	return nil
}

// labelled returns the rows of hidden that have a label, and their labels.
func labelled(t *autograd.Tape, hidden autograd.Var, labels []int32) (autograd.Var, []int32) {
	at, targets := t.Ints(len(labels))[:0], t.Ints(len(labels))[:0]
	for i, l := range labels {
		if l != autograd.Ignored {
			at, targets = append(at, int32(i)), append(targets, l)
		}
	}
	if len(at) == len(labels) {
		return hidden, labels
	}
	return t.Gather(hidden, at), targets
}

// padded lays out sources for reading: their tokens, [sources, longest], and a segment each, nil when all are equally long.
func padded(sources [][]int32, vocab int) (tokens []int32, length int, segments []attn.Segment, err error) {
	if len(sources) == 0 {
		return nil, 0, nil, fmt.Errorf("seq2seq: no source: want at least one")
	}
	lengths := make([]int, len(sources))
	even := true
	for i, s := range sources {
		if len(s) == 0 {
			return nil, 0, nil, fmt.Errorf("seq2seq: source %d is empty: want at least one token", i)
		}
		if err := checkTokens(s, vocab); err != nil {
			return nil, 0, nil, fmt.Errorf("source %d: %w", i, err)
		}
		lengths[i] = len(s)
		length = max(length, len(s))
		even = even && len(s) == len(sources[0])
	}
	for i, s := range sources {
		tokens = pad(append(tokens, s...), (i+1)*length, 0)
	}
	if !even {
		segments = attn.Lengths(lengths, lengths)
	}
	return tokens, length, segments, nil
}
