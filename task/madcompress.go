package task

import (
	"fmt"
	"math/rand/v2"
)

func init() {
	Register("mad-compress", MADCompress{Vocab: 16, Length: 32, Eval: 1280}, MADCompress.New)
}

// MADCompress holds the options of compression, one of MAD's six tasks:
//
//	3 7 1 0 … 5 C
//
// A row is of random tokens and, at its end, the sign to compress them, Vocab-1. Each token, the sign included, is labelled with itself. That is nothing for a model that sees the token it answers for: the task is for one
// with a bottleneck, whose answers are made of the last token's output alone (model.Config.Bottleneck, which its recipe sets).
//
// Poli et al. 2024, MAD (arXiv:2403.17844) §3 and appendix B. Published difficulties: vocab 32, 64, 128; length 64, 128, 256. Examples as of mad-recall.
type MADCompress struct {
	Vocab    int `opt:"vocab"`    // tokens, the sign included
	Length   int `opt:"length"`   // tokens in a row, the sign included
	Examples int `opt:"examples"` // training rows repeat after so many; 0 for fresh ones for ever
	Eval     int `opt:"eval"`     // rows of the test set
}

// New returns the task with the options o.
func (o MADCompress) New() (Task, error) {
	if err := within(limit{"vocab", o.Vocab, 3, 1 << 20}, limit{"length", o.Length, 2, 1 << 24}, limit{"examples", o.Examples, 0, 1 << 40}); err != nil {
		return nil, err
	}
	return newGenerated(generated{
		info: Info{
			Name: Spell("mad-compress", o), Title: fmt.Sprintf("compression of %d tokens into one", o.Length-1), Paper: "Poli et al. 2024, MAD (arXiv:2403.17844)", Vocab: o.Vocab,
		},
		answers: o.Vocab - 1, rows: o.Eval, examples: o.Examples, blind: true,
		train: []setting{{o.Length, func(rng *rand.Rand, tokens, labels []int32) {
			for i := range o.Length - 1 {
				tokens[i] = int32(rng.IntN(o.Vocab - 1))
			}
			tokens[o.Length-1] = int32(o.Vocab - 1)
			copy(labels, tokens)
		}}},
	})
}
