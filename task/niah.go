package task

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"attnbench/internal/options"
)

func init() {
	Register("niah", NIAH{Length: 4096, Trained: 1024, Keys: 1, Values: 1, Queries: 1, Haystack: "noise", Symbols: 2048, Eval: 100}, NIAH.New)
}

// NIAH holds the options of needles in a haystack:
//
//	. . . ! k v . . . . ! k' v' . . . ? k   →  v
//
// A needle is a sign, a key and a value. There are Keys keys of Values values each, and the first Queries of the keys are asked for, one after another; a key's values are
// wanted in the order of the text. The haystack is noise (one sentence again and again), essay (words at random) or needles (others, of keys that are not asked for).
//
// RULER's settings: single keys=1; multikey 1 keys=4, 2 and 3 haystack=needles; multivalue values=4; multiquery keys=4,queries=4. Of its essays and UUIDs nothing is left at token level.
type NIAH struct {
	Length   int    `opt:"length"`  // of the longest rows tested; halves of it are tested too
	Trained  int    `opt:"trained"` // of the longest rows trained
	Keys     int    `opt:"keys"`
	Values   int    `opt:"values"`
	Queries  int    `opt:"queries"`
	Haystack string `opt:"haystack"` // noise, essay or needles
	Symbols  int    `opt:"symbols"`  // keys, and as many values, to draw from
	Slots    bool   `opt:"slots"`    // values after a first are asked for by slots, and not after the values before them
	Eval     int    `opt:"eval"`     // rows of each length in the test set
}

// New returns the task with the options o.
func (o NIAH) New() (Task, error) {
	err := within(limit{"keys", o.Keys, 1, 1 << 10}, limit{"values", o.Values, 1, 1 << 10}, limit{"queries", o.Queries, 1, o.Keys},
		limit{"symbols", o.Symbols, o.Keys*o.Values + 1, 1 << 20})
	if err != nil {
		return nil, err
	}
	if o.Haystack != "noise" && o.Haystack != "essay" && o.Haystack != "needles" {
		return nil, options.Error("haystack", o.Haystack, "noise, essay or needles")
	}
	shortest := max(32, o.question()+3*o.Keys*o.Values)
	return ruler(generated{
		info: Info{
			Name: Spell("niah", o), Title: fmt.Sprintf("needles in a haystack, %d of %d keys, %d values each", o.Queries, o.Keys, o.Values),
			Vocab: o.values() + o.Symbols,
		},
		answers: o.Symbols, rows: o.Eval,
	}, o.Length, o.Trained, shortest, o.row)
}

// Tokens: 0 the needle's sign, 1 the question's, then slots, words of the haystack, keys, values.
func (o NIAH) words() int    { return 2 + o.Values - 1 }
func (o NIAH) keys() int     { return o.words() + sentence }
func (o NIAH) values() int   { return o.keys() + o.Symbols }
func (o NIAH) question() int { return 1 + o.Queries*o.Values }

func (o NIAH) row(rng *rand.Rand, tokens, labels []int32) {
	keys := distinct(rng, o.Keys, o.keys(), o.values())
	values := distinct(rng, o.Keys*o.Values, o.values(), o.values()+o.Symbols)
	var needles [][]int32
	for i, v := range values {
		needles = append(needles, []int32{0, keys[i%o.Keys], v})
	}
	body := tokens[:len(tokens)-o.question()]
	if o.Haystack == "needles" {
		for len(needles) < len(body)/3 {
			key := keys[0]
			for slices.Contains(keys[:o.Queries], key) {
				key = int32(o.keys() + rng.IntN(o.Symbols))
			}
			needles = append(needles, []int32{0, key, int32(o.values() + rng.IntN(o.Symbols))})
		}
	}
	rng.Shuffle(len(needles), func(i, j int) { needles[i], needles[j] = needles[j], needles[i] })
	scatter(rng, body, needles, func(i int) int32 {
		if o.Haystack == "essay" {
			i = rng.IntN(sentence)
		}
		return int32(o.words() + i%sentence)
	})
	at := len(body)
	tokens[at] = 1
	at++
	for _, key := range keys[:o.Queries] {
		var list []int32
		for _, n := range needles {
			if n[1] == key {
				list = append(list, n[2])
			}
		}
		tokens[at] = key
		answer(tokens[at:], labels[at:], list, slotIf(o.Slots, 2))
		at += o.Values
	}
}
