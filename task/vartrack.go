package task

import (
	"fmt"
	"math/rand/v2"
)

func init() {
	Register("variable-tracking", VariableTracking{Length: 4096, Trained: 1024, Chains: 1, Hops: 4, Symbols: 2048, Eval: 100}, VariableTracking.New)
}

// VariableTracking holds the options of following assignments:
//
//	. = x1 12345 . . . = x2 x1 . . = x3 x2 . . ? 12345   →  x1 x2 x3
//
// A chain starts with a variable that gets a value and goes on, Hops times, with one that gets the variable before it. Its assignments stand in order at random places of a
// noise of one sentence again and again, those of other chains among them. All variables of the first chain are asked for by its value.
type VariableTracking struct {
	Length  int  `opt:"length"`  // of the longest rows tested; halves of it are tested too
	Trained int  `opt:"trained"` // of the longest rows trained
	Chains  int  `opt:"chains"`
	Hops    int  `opt:"hops"`
	Symbols int  `opt:"symbols"` // variables, and as many values, to draw from
	Slots   bool `opt:"slots"`   // variables after the first are asked for by slots, and not after those before them
	Eval    int  `opt:"eval"`    // rows of each length in the test set
}

// New returns the task with the options o.
func (o VariableTracking) New() (Task, error) {
	err := within(limit{"chains", o.Chains, 1, 1 << 10}, limit{"hops", o.Hops, 0, 1 << 10}, limit{"symbols", o.Symbols, o.Chains * (o.Hops + 1), 1 << 20})
	if err != nil {
		return nil, err
	}
	return ruler(generated{
		info: Info{
			Name: Spell("variable-tracking", o), Title: fmt.Sprintf("variable tracking over %d hops in %d chains", o.Hops, o.Chains), Vocab: o.values() + o.Symbols,
		},
		answers: o.Symbols, rows: o.Eval,
	}, o.Length, o.Trained, max(32, o.question()+3*o.Chains*(o.Hops+1)), o.row)
}

// Tokens: 0 the assignment's sign, 1 the question's, then slots, words of the noise, variables, values.
func (o VariableTracking) words() int     { return 2 + o.Hops }
func (o VariableTracking) variables() int { return o.words() + sentence }
func (o VariableTracking) values() int    { return o.variables() + o.Symbols }
func (o VariableTracking) question() int  { return 2 + o.Hops }

func (o VariableTracking) row(rng *rand.Rand, tokens, labels []int32) {
	n := o.Hops + 1
	variables := distinct(rng, o.Chains*n, o.variables(), o.values())
	last := distinct(rng, o.Chains, o.values(), o.values()+o.Symbols) // what the next variable of each chain gets
	value := last[0]
	chain := make([]int, len(variables)) // of each assignment
	for i := range chain {
		chain[i] = i % o.Chains
	}
	rng.Shuffle(len(chain), func(i, j int) { chain[i], chain[j] = chain[j], chain[i] })
	var assignments [][]int32
	var list []int32
	for i, c := range chain {
		assignments = append(assignments, []int32{0, variables[i], last[c]})
		if last[c] = variables[i]; c == 0 {
			list = append(list, variables[i])
		}
	}
	body := len(tokens) - o.question()
	scatter(rng, tokens[:body], assignments, func(i int) int32 { return int32(o.words() + i%sentence) })
	tokens[body], tokens[body+1] = 1, value
	answer(tokens[body+1:], labels[body+1:], list, slotIf(o.Slots, 2))
}
