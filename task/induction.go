package task

import (
	"fmt"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("induction", Induction{Vocab: 16, Length: 1024, Trained: 256, Eval: 500}, Induction.New)
}

// Induction holds the options of induction heads:
//
//	3 7 0 S 5 1 2 6 … 4 S   →  5
//
// A row is of random tokens, among which the special one, Vocab-1, comes once, anywhere before the last two places, and once more at the end, where the row is
// labelled with what followed it. Training rows have Trained tokens; the test set has rows of Trained tokens, twice as many, and so on up to Length.
//
// Fu et al. 2023, H3 (arXiv:2212.14052) table 1; Gu and Dao 2023, Mamba (arXiv:2312.00752) §4.1.2, whose vocabulary of 16 and training length of 256 are
// the defaults; the name is of Olsson et al. 2022 (arXiv:2209.11895).
type Induction struct {
	Vocab   int `opt:"vocab"`   // tokens, the special one included
	Length  int `opt:"length"`  // of the longest rows tested; Trained times a power of two
	Trained int `opt:"trained"` // of training rows
	Eval    int `opt:"eval"`    // rows of each length in the test set
}

// New returns the task with the options o.
func (o Induction) New() (Task, error) {
	err := within(limit{"vocab", o.Vocab, 3, 1 << 20}, limit{"trained", o.Trained, 4, 1 << 24})
	if err != nil {
		return nil, err
	}
	lengths, err := doublings(o.Trained, o.Length)
	if err != nil {
		return nil, err
	}
	g := generated{
		info: Info{
			Name: Spell("induction", o), Title: fmt.Sprintf("induction heads over %d to %d tokens", o.Trained, o.Length),
			Paper: "Gu and Dao 2023, Mamba (arXiv:2312.00752) §4.1.2", Vocab: o.Vocab,
		},
		answers: o.Vocab - 1, rows: o.Eval,
		train: []setting{{o.Trained, o.row}},
		size:  func(tokens, _ []int32, _ int) int { return len(tokens) }, sizes: lengths, sizeOf: "tokens in the row",
	}
	for _, n := range lengths {
		g.test = append(g.test, setting{n, o.row})
	}
	return newGenerated(g)
}

// doublings returns first, 2·first, … up to last.
func doublings(first, last int) ([]int, error) {
	var list []int
	for n := first; n <= last && n <= 1<<24; n *= 2 {
		list = append(list, n)
	}
	if list == nil || list[len(list)-1] != last {
		return nil, options.Error("length", last, fmt.Sprintf("trained, %d, times a power of two", first))
	}
	return list, nil
}

func (o Induction) row(rng *rand.Rand, tokens, labels []int32) {
	n, special := len(tokens), int32(o.Vocab-1)
	for i := range tokens {
		tokens[i] = int32(rng.IntN(o.Vocab - 1))
	}
	at := rng.IntN(n - 2)
	tokens[at], tokens[n-1], labels[n-1] = special, special, tokens[at+1]
}
