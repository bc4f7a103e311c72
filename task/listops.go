package task

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"attnbench/internal/options"
)

func init() {
	Register("listops", ListOps{Min: 500, Max: 2000, Depth: 10, Args: 10, Eval: 2000}, ListOps.New)
}

// ListOps holds the options of the evaluation of nested list operations:
//
//	[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]  →  5
//
// The last bracket of a row is labelled with the digit that the expression comes to. A node above depth Depth is an operation with probability 1/4, and
// else a digit; an operation is MIN, MAX, MED (the median, its fraction cut off) or SM (the sum modulo 10) of 2 to Args nodes. Of the trees
// those are taken that have more than Min and fewer than Max tokens, the opening and closing brackets counted; the rest of the row is padding.
//
// Nangia and Bowman 2018 (arXiv:1804.06028); the rule is the generator's of Tay et al. 2021, Long Range Arena (arXiv:2011.04006), lra_benchmarks/data/listops.py.
// Different from there: rows are fresh at each step and not 96,000 that repeat, a tree may come twice, and the order follows the seed.
type ListOps struct {
	Min   int `opt:"min"`   // an expression has more tokens
	Max   int `opt:"max"`   // an expression has fewer
	Depth int `opt:"depth"` // of a tree; the root's is 1
	Args  int `opt:"args"`  // of an operation, at most
	Eval  int `opt:"eval"`  // rows of the test set
}

// The tokens after the ten digits.
const (
	opMin = 10 + iota
	opMax
	opMed
	opSum
	opEnd
	opPad
	opTokens
)

var opNames = [opTokens]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]", ""}

// New returns the task with the options o.
func (o ListOps) New() (Task, error) {
	if err := within(limit{"args", o.Args, 2, 100}, limit{"depth", o.Depth, 2, 100}, limit{"max", o.Max, 8, 1 << 20}); err != nil {
		return nil, err
	}
	if top := o.Max - 8; o.Min < 0 || o.Min > top { // the lengths that there are lie at most 3 apart
		return nil, options.Error("min", o.Min, fmt.Sprintf("0 to max less 8, %d", top))
	}
	if o.expected() <= float64(o.Min) {
		return nil, options.Error("min", o.Min, fmt.Sprintf("less than %.4g, the mean length of an expression of depth %d and %d arguments: longer ones are too rare to wait for", o.expected(), o.Depth, o.Args))
	}
	return newGenerated(generated{
		info: Info{
			Name: Spell("listops", o), Title: fmt.Sprintf("nested list operations of %d to %d tokens", o.Min+1, o.Max-1),
			Paper: "Tay et al. 2021, Long Range Arena (arXiv:2011.04006)", Vocab: opTokens,
		},
		answers: 10, rows: o.Eval,
		train: []setting{{o.Max - 1, o.row}},
		size:  func(_, _ []int32, i int) int { return i + 1 }, sizeOf: "tokens in the expression",
		readings: []reading{{"one-level", 3, oneLevel}},
	})
}

// oneLevel is what a reader knows that looks into no inner operation: how many there are (up to 9), what the root comes to without them (10
// where it has no digit of its own), and its operation.
func oneLevel(tokens []int32, i int) []int32 {
	var own []int32
	inner := int32(0)
	for list := tokens[1:i]; len(list) > 0; {
		x := list[0]
		_, list = evaluate(list)
		if x < opMin {
			own = append(own, x)
		} else {
			inner = min(inner+1, 9)
		}
	}
	value := int32(10)
	if len(own) > 0 {
		value = apply(tokens[0], own)
	}
	return []int32{inner, value, tokens[0]}
}

// expected is the mean number of tokens of an operation at the root.
func (o ListOps) expected() float64 {
	node := 1.0 // at the greatest depth
	for range o.Depth - 1 {
		node = valueP*(2+float64(2+o.Args)/2*node) + (1 - valueP)
	}
	return (node - (1 - valueP)) / valueP
}

// valueP is, despite the name that it has in the published generator, the probability of an operation.
const valueP = 0.25

func (o ListOps) row(rng *rand.Rand, tokens, labels []int32) {
	for {
		tree, ok := o.tree(rng, tokens[:0], 1)
		if ok && len(tree) > o.Min && len(tree) > 1 { // a digit alone asks nothing
			for i := len(tree); i < len(tokens); i++ {
				tokens[i] = opPad
			}
			value, _ := evaluate(tree)
			labels[len(tree)-1] = value
			return
		}
	}
}

// tree appends a random tree to list; not ok means that it did not fit its capacity.
func (o ListOps) tree(rng *rand.Rand, list []int32, depth int) (_ []int32, ok bool) {
	if len(list) == cap(list) {
		return list, false
	}
	if depth == o.Depth || rng.Float64() > valueP {
		return append(list, int32(rng.IntN(10))), true
	}
	n := 2 + rng.IntN(o.Args-1)
	list = append(list, int32(opMin+rng.IntN(4)))
	for range n {
		if list, ok = o.tree(rng, list, depth+1); !ok {
			return list, false
		}
	}
	if len(list) == cap(list) {
		return list, false
	}
	return append(list, opEnd), true
}

// evaluate returns what the expression at the start of list comes to, and the tokens after it. The list must be whole.
func evaluate(list []int32) (value int32, rest []int32) {
	op := list[0]
	if op < opMin {
		return op, list[1:]
	}
	var args []int32
	for list = list[1:]; list[0] != opEnd; {
		value, list = evaluate(list)
		args = append(args, value)
	}
	return apply(op, args), list[1:]
}

// apply returns the value of an operation; it sorts the arguments.
func apply(op int32, args []int32) (value int32) {
	slices.Sort(args)
	n := len(args)
	switch op {
	case opMin:
		value = args[0]
	case opMax:
		value = args[n-1]
	case opMed:
		value = (args[(n-1)/2] + args[n/2]) / 2
	default:
		value = 0
		for _, x := range args {
			value = (value + x) % 10
		}
	}
	return value
}
