package task

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

func init() {
	Register("mad-fuzzy", MADFuzzy{Vocab: 16, Length: 128, Key: 3, Value: 3, Next: true, Eval: 1280}, MADFuzzy.New)
}

// MADFuzzy holds the options of fuzzy recall, one of MAD's six tasks: recall whose keys and values are of several tokens.
//
//	. . k3 k1 v2 k0 v1 v5 v0 k3 k1 v2 … k3 k1 v2
//
// A key is 1 to Key different key tokens, a value 1 to Value different value tokens, all lengths equally often; keys of the test set have always Key tokens. Each key keeps its value.
// Where a key came before, its last token and those of its value but the last are labelled with the next token of the value. A row ends with a key that came before; padding stands in front.
//
// Poli et al. 2024, MAD (arXiv:2403.17844) §3 and appendix B, with multi_query; published difficulties as of mad-recall, without noise.
type MADFuzzy struct {
	Vocab    int  `opt:"vocab"`    // tokens, the padding included
	Length   int  `opt:"length"`   // tokens in a row
	Key      int  `opt:"key"`      // most tokens of a key
	Value    int  `opt:"value"`    // most tokens of a value
	Next     bool `opt:"next"`     // training labels every token with the next, as published; else as the test set does
	Examples int  `opt:"examples"` // training rows repeat after so many; 0 for fresh ones for ever
	Eval     int  `opt:"eval"`     // rows of the test set
}

// New returns the task with the options o.
func (o MADFuzzy) New() (Task, error) {
	keys := (o.Vocab - 1) / 2
	err := within(limit{"vocab", o.Vocab, 5, 1 << 20}, limit{"key", o.Key, 1, keys}, limit{"value", o.Value, 1, keys},
		limit{"length", o.Length, 3*(o.Key+o.Value) + 1, 1 << 24}, limit{"examples", o.Examples, 0, 1 << 40})
	if err != nil {
		return nil, err
	}
	row := func(shortest int) func(rng *rand.Rand, tokens, labels []int32) {
		return func(rng *rand.Rand, tokens, labels []int32) { o.row(rng, shortest, tokens, labels) }
	}
	g := generated{
		info: Info{
			Name: Spell("mad-fuzzy", o), Title: fmt.Sprintf("fuzzy in-context recall of keys of %d tokens", o.Key), Paper: "Poli et al. 2024, MAD (arXiv:2403.17844)",
			Vocab: o.Vocab,
		},
		answers: o.Vocab - 1 - keys, rows: o.Eval, examples: o.Examples,
		train: []setting{{o.Length, row(1)}}, test: []setting{{o.Length, row(o.Key)}},
	}
	if o.Next {
		g.train[0].draw = nextToken(g.train[0].draw)
	}
	return newGenerated(g)
}

// row writes one row, whose keys have at least the given number of tokens.
func (o MADFuzzy) row(rng *rand.Rand, shortest int, tokens, labels []int32) {
	keys := (o.Vocab - 1) / 2
	newKey := func() []int32 { return distinct(rng, shortest+rng.IntN(o.Key-shortest+1), 0, keys) }
	newValue := func() []int32 { return distinct(rng, 1+rng.IntN(o.Value), keys, o.Vocab-1) }
	values := map[string][]int32{}
	var list, targets []int32 // a target is of its own token
	add := func(key []int32) {
		name := fmt.Sprint(key)
		value, seen := values[name]
		if !seen {
			value = newValue()
			values[name] = value
		}
		list, targets = append(list, key...), append(targets, slices.Repeat([]int32{-1}, len(key))...)
		list = append(list, value...)
		if seen {
			targets = append(targets, value...)
		} else {
			targets = append(targets, slices.Repeat([]int32{-1}, len(value))...)
		}
	}
	probe := newKey()
	values[fmt.Sprint(probe)] = newValue()
	size := len(probe) + len(values[fmt.Sprint(probe)])
	room := o.Length - size - (o.Key + o.Value)
	at, shown := rng.IntN(room-(o.Key+o.Value)+1), false // where the loop surely comes by
	for len(list) < room {
		key := newKey()
		if len(list) >= at && !shown {
			key = probe
		}
		if !shown && slices.Equal(key, probe) { // its value is drawn, but nobody has seen it
			shown = true
			n := len(targets)
			add(key)
			for i := n; i < len(targets); i++ {
				targets[i] = -1
			}
			continue
		}
		add(key)
	}
	add(probe)
	// The labels are one token ahead, and the last token has none to predict.
	pad := o.Length + 1 - len(list)
	for i := range tokens {
		tokens[i] = int32(o.Vocab - 1)
		if j := i - pad; j >= 0 {
			tokens[i] = list[j]
		}
		if j := i + 1 - pad; j >= 0 {
			labels[i] = targets[j]
		}
	}
}
