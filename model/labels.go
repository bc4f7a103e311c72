package model

import (
	"fmt"
	"math"

	"attnbench/autograd"
)

// CheckTokens compares a batch with a vocabulary.
func CheckTokens(tokens []int32, rows, length, vocab int) error {
	if rows < 0 || length < 0 || len(tokens) != rows*length {
		return fmt.Errorf("model: %d tokens: want %d rows of %d", len(tokens), rows, length)
	}
	for i, x := range tokens {
		if x < 0 || int(x) >= vocab {
			return fmt.Errorf("model: token %d is %d: want 0 to %d", i, x, vocab-1)
		}
	}
	return nil
}

// Labelled returns the rows of hidden, one a token, that have a label, and the labels there: logits are computed for these alone. Both stay as they are when
// all rows have one. labels must not change until the tape's Reset.
func Labelled(t *autograd.Tape, hidden autograd.Var, labels []int32) (autograd.Var, []int32) {
	count := 0
	for _, l := range labels {
		if l != autograd.Ignored {
			count++
		}
	}
	if count == len(labels) {
		return hidden, labels
	}
	at, targets := t.Ints(count)[:0], t.Ints(count)[:0]
	for i, l := range labels {
		if l != autograd.Ignored {
			at, targets = append(at, int32(i)), append(targets, l)
		}
	}
	return t.Gather(hidden, at), targets
}

// CheckLabels reports labels that a vocabulary does not have.
func CheckLabels(tokens, labels []int32, vocab int) error {
	if len(labels) != len(tokens) {
		return fmt.Errorf("model: %d labels for %d tokens: want one a token", len(labels), len(tokens))
	}
	for i, l := range labels {
		if l != autograd.Ignored && (l < 0 || int(l) >= vocab) {
			return fmt.Errorf("model: label %d is %d: want -1 to %d", i, l, vocab-1)
		}
	}
	return nil
}

// PerToken writes the losses of logits, one row a label that is not Ignored, to where the labels are: to nll the negative log likelihood in nats, NaN where
// there is no label, and to best, unless nil, the most likely token, -1 where there is none.
func PerToken(t *autograd.Tape, logits autograd.Var, targets, labels []int32, nll []float32, best []int32) {
	n := len(targets)
	losses, choices := t.Value(t.Zeros(n, 1)), t.Ints(n)
	t.RowLosses(logits, targets, losses, choices)
	k := 0
	for i, l := range labels {
		nll[i] = float32(math.NaN())
		if best != nil {
			best[i] = -1
		}
		if l == autograd.Ignored {
			continue
		}
		nll[i] = losses[k]
		if best != nil {
			best[i] = choices[k]
		}
		k++
	}
}
