package task

import (
	"fmt"
	"math/rand/v2"
)

func init() {
	Register("adding", Adding{Length: 128, Levels: 10, Eval: 1000}, Adding.New)
}

// Adding holds the options of the adding problem:
//
//	3 7* 1 0 … 5 9* 2 =   →  16
//
// Of numbers from 0 to Levels-1, one in the first half of the row and one in the second are marked; the sign at the end is labelled with their sum.
//
// Hochreiter and Schmidhuber 1997, Neural Computation 9(8), §5.4, with the marks of Arjovsky et al. 2016 (arXiv:1511.06464) §5.2. Different from there: numbers have levels, so
// that the sum is a token; squared-error is in their unit, in which numbers go from 0 to 1: who always answers 1 gets (Levels+1)/6/(Levels-1), about 1/6.
type Adding struct {
	Length int `opt:"length"` // numbers in a row
	Levels int `opt:"levels"`
	Eval   int `opt:"eval"` // rows of the test set
}

// New returns the task with the options o.
func (o Adding) New() (Task, error) {
	if err := within(limit{"length", o.Length, 2, 1 << 24}, limit{"levels", o.Levels, 2, 1 << 16}, limit{"eval", o.Eval, 1, 1 << 40}); err != nil {
		return nil, err
	}
	n := float64(o.Levels)
	return newGenerated(generated{
		info: Info{
			Name: Spell("adding", o), Title: fmt.Sprintf("the sum of two of %d numbers", o.Length), Paper: "Hochreiter and Schmidhuber 1997, Neural Computation 9(8) §5.4",
			Vocab: o.sums() + 2*o.Levels - 1,
		},
		answers: 2*o.Levels - 1, rows: o.Eval, train: []setting{{o.Length + 1, o.row}},
		extra: []Metric{{
			Unit: "squared-error", Better: "lower", Chance: (n + 1) / 6 / (n - 1),
			Help: "mean squared error of the sum of numbers from 0 to 1; an answer that is no sum counts as 0",
		}},
		newExtra: func(*generated) extras { return &addingError{Adding: o} },
	})
}

// Tokens: numbers, marked numbers, the sign, sums.
func (o Adding) sign() int { return 2 * o.Levels }
func (o Adding) sums() int { return 2*o.Levels + 1 }

func (o Adding) row(rng *rand.Rand, tokens, labels []int32) {
	half := o.Length / 2
	first, second := rng.IntN(half), half+rng.IntN(o.Length-half)
	for i := range o.Length {
		tokens[i] = int32(rng.IntN(o.Levels))
	}
	labels[o.Length] = int32(o.sums()) + tokens[first] + tokens[second]
	tokens[first] += int32(o.Levels)
	tokens[second] += int32(o.Levels)
	tokens[o.Length] = int32(o.sign())
}

type addingError struct {
	Adding
	mean
}

func (e *addingError) add(_, labels, predicted []int32) {
	got := max(0, int(predicted[e.Length])-e.sums())
	d := float64(got-(int(labels[e.Length])-e.sums())) / float64(e.Levels-1)
	e.mean.add(d * d)
}

func (e *addingError) values() []Value { return e.appendTo(nil, "squared-error", 1) }
