package bert

import (
	"fmt"
	"math/rand/v2"

	"attnbench/autograd"
)

// Masking corrupts sequences for a model to restore (Devlin et al. 2019 §3.1): a share of the ordinary tokens is chosen; of these 80%
// become the mask, 10% a token drawn from all ordinary ones, and 10% stay. Special tokens, padding among them, are neither chosen nor drawn.
type Masking struct {
	share    float64
	mask     int32
	special  []bool
	ordinary []int32
}

// NewMasking returns the masking of a share of the tokens of a vocabulary that are not special. mask is special itself.
func NewMasking(vocab int, special []int32, mask int32, share float64) (*Masking, error) {
	if !(share > 0 && share < 1) {
		return nil, fmt.Errorf("bert: share of masked tokens %v: want above 0 and below 1", share)
	}
	m := &Masking{share: share, mask: mask, special: make([]bool, vocab)}
	for _, x := range append([]int32{mask}, special...) {
		if x < 0 || int(x) >= vocab {
			return nil, fmt.Errorf("bert: special token %d: want 0 to %d", x, vocab-1)
		}
		m.special[x] = true
	}
	for i, s := range m.special {
		if !s {
			m.ordinary = append(m.ordinary, int32(i))
		}
	}
	if len(m.ordinary) == 0 {
		return nil, fmt.Errorf("bert: a vocabulary of special tokens alone: want ordinary ones")
	}
	return m, nil
}

// Apply corrupts tokens in place and writes labels: what stood at each chosen token, also where it stays, and -1 elsewhere.
func (m *Masking) Apply(tokens, labels []int32, r *rand.Rand) {
	for i, x := range tokens {
		labels[i] = autograd.Ignored
		if m.special[x] || r.Float64() >= m.share {
			continue
		}
		labels[i] = x
		switch u := r.Float64(); {
		case u < 0.8:
			tokens[i] = m.mask
		case u < 0.9:
			tokens[i] = m.ordinary[r.IntN(len(m.ordinary))]
		}
	}
}
