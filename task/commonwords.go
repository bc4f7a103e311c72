package task

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

func init() {
	Register("common-words", CommonWords{Length: 4096, Trained: 1024, Common: 10, Often: 30, Rare: 3, Symbols: 2048, Eval: 100}, CommonWords.New)
}

// CommonWords holds the options of the extraction of common words:
//
//	b a c a d a b d a e a … ?   →  a …
//
// Of the words of a list, Common stand there Often times and all others Rare times, in random order. The common ones are asked for, in the order in which they first appear. A word
// may come fewer than Rare times, to fill the row.
type CommonWords struct {
	Length  int  `opt:"length"`  // of the longest rows tested; halves of it are tested too
	Trained int  `opt:"trained"` // of the longest rows trained
	Common  int  `opt:"common"`
	Often   int  `opt:"often"`
	Rare    int  `opt:"rare"`
	Symbols int  `opt:"symbols"` // words to draw from
	Slots   bool `opt:"slots"`   // words after the first are asked for by slots, and not after those before them
	Eval    int  `opt:"eval"`    // rows of each length in the test set
}

// New returns the task with the options o.
func (o CommonWords) New() (Task, error) {
	err := within(limit{"common", o.Common, 1, 1 << 10}, limit{"often", o.Often, 2, 1 << 20}, limit{"rare", o.Rare, 1, o.Often - 1}, limit{"length", o.Length, 1, 1 << 24})
	if err != nil {
		return nil, err
	}
	rare := max(0, o.Length-o.Common*(o.Often+1)) // tokens of them
	if err := within(limit{"symbols", o.Symbols, o.Common + (rare+o.Rare-1)/o.Rare, 1 << 20}); err != nil {
		return nil, err
	}
	return ruler(generated{
		info: Info{
			Name: Spell("common-words", o), Title: fmt.Sprintf("the %d common words of a list", o.Common), Vocab: o.Common + o.Symbols,
		},
		answers: o.Symbols, rows: o.Eval,
	}, o.Length, o.Trained, max(32, o.Common*(o.Often+1)+o.Rare), o.row)
}

// Tokens: 0 the question's sign, then slots, words.
func (o CommonWords) row(rng *rand.Rand, tokens, labels []int32) {
	body := tokens[:len(tokens)-o.Common]
	rare := len(body) - o.Common*o.Often
	words := distinct(rng, o.Common+(rare+o.Rare-1)/o.Rare, o.Common, o.Common+o.Symbols)
	for i := range body {
		if i < o.Common*o.Often {
			body[i] = words[i/o.Often]
		} else {
			body[i] = words[o.Common+(i-o.Common*o.Often)/o.Rare]
		}
	}
	rng.Shuffle(len(body), func(i, j int) { body[i], body[j] = body[j], body[i] })
	var list []int32
	for _, w := range body {
		if slices.Contains(words[:o.Common], w) && !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	answer(tokens[len(body):], labels[len(body):], list, slotIf(o.Slots, 1))
}
