package task

import (
	"fmt"
	"math/rand/v2"
)

func init() {
	Register("parity", Parity{Length: 256, Trained: 32, Eval: 500}, Parity.New)
}

// Parity holds the options of the parity of a string of bits:
//
//	1 0 1 1 =   →  1
//
// The sign after the bits is labelled with their sum modulo 2. Training rows have 1 to Trained bits, all numbers equally often, and padding; the test set has rows of Trained bits, twice as
// many, and so on up to Length. With Running there is no sign: each bit is labelled with the parity so far.
//
// Delétang et al. 2023 (arXiv:2207.02098); as a test of recurrent mechanisms in Grazzi et al. 2025 (arXiv:2411.12537).
type Parity struct {
	Length  int  `opt:"length"`  // bits of the longest rows tested; Trained times a power of two
	Trained int  `opt:"trained"` // most bits of a training row
	Running bool `opt:"running"`
	Eval    int  `opt:"eval"` // rows of each length in the test set; with running, of the greatest alone
}

// Tokens after the two bits.
const (
	paritySign = 2 + iota
	parityPad
	parityTokens
)

// New returns the task with the options o.
func (o Parity) New() (Task, error) {
	if err := within(limit{"trained", o.Trained, 1, 1 << 24}); err != nil {
		return nil, err
	}
	lengths, err := doublings(o.Trained, o.Length)
	if err != nil {
		return nil, err
	}
	g := generated{
		info: Info{
			Name: Spell("parity", o), Title: fmt.Sprintf("parity of %d to %d bits", o.Trained, o.Length), Paper: "Delétang et al. 2023 (arXiv:2207.02098)", Vocab: parityTokens,
		},
		answers: 2, rows: o.Eval, sizeOf: "bits so far", size: func(_, _ []int32, i int) int { return i + 1 },
	}
	if o.Running {
		g.train, g.test = []setting{{o.Trained, runningParity}}, []setting{{o.Length, runningParity}}
		return newGenerated(g)
	}
	g.size, g.sizes = func(_, _ []int32, i int) int { return i }, lengths
	g.train = []setting{{o.Trained + 1, func(rng *rand.Rand, tokens, labels []int32) { parity(rng, 1+rng.IntN(o.Trained), tokens, labels) }}}
	for _, n := range lengths {
		g.test = append(g.test, setting{n + 1, func(rng *rand.Rand, tokens, labels []int32) { parity(rng, n, tokens, labels) }})
	}
	return newGenerated(g)
}

func runningParity(rng *rand.Rand, tokens, labels []int32) {
	p := int32(0)
	for i := range tokens {
		tokens[i] = int32(rng.IntN(2))
		p ^= tokens[i]
		labels[i] = p
	}
}

// parity writes n bits, the sign, and padding.
func parity(rng *rand.Rand, n int, tokens, labels []int32) {
	p := int32(0)
	for i := range tokens {
		switch {
		case i < n:
			tokens[i] = int32(rng.IntN(2))
			p ^= tokens[i]
		case i == n:
			tokens[i], labels[i] = paritySign, p
		default:
			tokens[i] = parityPad
		}
	}
}
