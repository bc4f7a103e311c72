package task

import (
	"fmt"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("mad-memory", MADMemory{Vocab: 256, Length: 32, Map: 12345, Eval: 1280}, MADMemory.New)
}

// MADMemory holds the options of memorization, one of MAD's six tasks: facts that are in no row.
//
//	k3 ? k7 ? k3 ? …
//
// Keys, drawn at random, are followed by a question, which is labelled with the key's value. The value of each key is the same in all rows of training and test, and
// never seen but as a label. Half of the tokens beside the question are keys, half values, and no two keys have one value.
//
// Poli et al. 2024, MAD (arXiv:2403.17844) §3 and appendix B. Published difficulties: vocab 512 to 8192; 256 examples.
type MADMemory struct {
	Vocab    int    `opt:"vocab"`    // tokens, the question included
	Length   int    `opt:"length"`   // tokens in a row; even
	Map      uint64 `opt:"map"`      // seed of the values of the keys
	Examples int    `opt:"examples"` // training rows repeat after so many; 0 for fresh ones for ever
	Eval     int    `opt:"eval"`     // rows of the test set
}

// New returns the task with the options o.
func (o MADMemory) New() (Task, error) {
	if err := within(limit{"vocab", o.Vocab, 5, 1 << 20}, limit{"examples", o.Examples, 0, 1 << 40}); err != nil {
		return nil, err
	}
	if o.Length < 2 || o.Length%2 != 0 || o.Length > 1<<24 {
		return nil, options.Error("length", o.Length, "an even number from 2 to 2^24")
	}
	keys := (o.Vocab - 1) / 2
	values := distinct(stream(o.Map, 0, 0), keys, keys, o.Vocab-1)
	return newGenerated(generated{
		info: Info{
			Name: Spell("mad-memory", o), Title: fmt.Sprintf("memorization of %d facts", keys), Paper: "Poli et al. 2024, MAD (arXiv:2403.17844)", Vocab: o.Vocab,
		},
		answers: o.Vocab - 1 - keys, rows: o.Eval, examples: o.Examples,
		train: []setting{{o.Length, func(rng *rand.Rand, tokens, labels []int32) {
			for i := 0; i < o.Length; i += 2 {
				k := rng.IntN(keys)
				tokens[i], tokens[i+1], labels[i+1] = int32(k), int32(o.Vocab-1), values[k]
			}
		}}},
	})
}
