package task

import (
	"fmt"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("selective-copy", SelectiveCopy{Vocab: 16, Length: 256, Items: 16, Eval: 1280}, SelectiveCopy.New)
}

// SelectiveCopy holds the options of selective copying, one of MAD's six tasks:
//
//	. 3 . . 7 1 . . 5 .  C  . . . .   →  3 7 1 5
//
// Items, drawn from the Vocab-2 tokens beside blank and copy sign, stand in order at random places among blanks; the copy sign and as many blanks as there are items
// follow, and blank i is labelled with item i.
//
// Arjovsky et al. 2016 (arXiv:1511.06464) §5.1, with random distances by Jing et al. 2019; Gu and Dao 2023, Mamba (arXiv:2312.00752) §4.1.1; the defaults are
// Poli et al. 2024, MAD (arXiv:2403.17844) appendix B. Different from the code of MAD: every set of places is equally likely (there the last item always stands last,
// since blanks are inserted before items), and they come from the row's own random stream (there from a global one).
type SelectiveCopy struct {
	Vocab  int `opt:"vocab"`  // tokens, blank and copy sign included
	Length int `opt:"length"` // tokens in a row; more than twice the items and one
	Items  int `opt:"items"`
	Eval   int `opt:"eval"` // rows of the test set
}

// New returns the task with the options o.
func (o SelectiveCopy) New() (Task, error) {
	if err := within(limit{"vocab", o.Vocab, 4, 1 << 20}, limit{"length", o.Length, 4, 1 << 24}); err != nil {
		return nil, err
	}
	if top := (o.Length - 2) / 2; o.Items < 1 || o.Items > top {
		return nil, options.Error("items", o.Items, fmt.Sprintf("1 to %d, so that twice as many and one are fewer than the length", top))
	}
	return newGenerated(generated{
		info: Info{
			Name: Spell("selective-copy", o), Title: fmt.Sprintf("selective copying of %d items", o.Items), Paper: "Poli et al. 2024, MAD (arXiv:2403.17844)",
			Vocab: o.Vocab,
		},
		answers: o.Vocab - 2, rows: o.Eval, train: []setting{{o.Length, o.row}},
	})
}

func (o SelectiveCopy) row(rng *rand.Rand, tokens, labels []int32) {
	blank, sign := int32(o.Vocab-2), int32(o.Vocab-1)
	body := o.Length - o.Items - 1
	for i := range tokens {
		tokens[i] = blank
	}
	tokens[body] = sign
	left := o.Items
	for i := range body { // place i is taken with the probability that any left is
		if rng.IntN(body-i) < left {
			tokens[i] = int32(rng.IntN(o.Vocab - 2))
			labels[o.Length-left] = tokens[i]
			left--
		}
	}
}
