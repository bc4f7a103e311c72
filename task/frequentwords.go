package task

import (
	"math"
	"math/rand/v2"

	"attnbench/internal/options"

	"gonum.org/v1/gonum/mathext"
)

func init() {
	Register("frequent-words", FrequentWords{Length: 4096, Trained: 1024, Alpha: 2, Symbols: 2048, Eval: 100}, FrequentWords.New)
}

// FrequentWords holds the options of the extraction of the most frequent words:
//
//	… a … b a … c a b … ?   →  a b c
//
// Of a context of N tokens, the word of rank k stands there ⌊N·k^-Alpha/ζ(Alpha)⌋ times. The word of rank 1 is a noise, the same in all rows, which also takes the places
// that are left; those of ranks 2 to 4 are asked for, the most frequent first.
type FrequentWords struct {
	Length  int     `opt:"length"`  // of the longest rows tested; halves of it are tested too
	Trained int     `opt:"trained"` // of the longest rows trained
	Alpha   float64 `opt:"alpha"`   // 1.1 to 5
	Symbols int     `opt:"symbols"` // words to draw from
	Slots   bool    `opt:"slots"`   // words after the first are asked for by slots, and not after those before them
	Eval    int     `opt:"eval"`    // rows of each length in the test set
}

// frequent is how many words are asked for.
const frequent = 3

// New returns the task with the options o.
func (o FrequentWords) New() (Task, error) {
	if !(o.Alpha >= 1.1 && o.Alpha <= 5) {
		return nil, options.Error("alpha", o.Alpha, "1.1 to 5")
	}
	if err := within(limit{"length", o.Length, 1, 1 << 24}); err != nil {
		return nil, err
	}
	if err := within(limit{"symbols", o.Symbols, max(frequent+1, len(o.counts(o.Length-frequent))), 1 << 20}); err != nil {
		return nil, err
	}
	if !o.apart(o.Length) {
		return nil, options.Error("length", o.Length, "rows so long that the words of ranks 2 to 5 differ in how often they come")
	}
	shortest := o.Length
	for shortest/2 >= 32 && o.apart(shortest/2) {
		shortest /= 2
	}
	return ruler(generated{
		info:    Info{Name: Spell("frequent-words", o), Title: "the three most frequent words", Vocab: 1 + frequent + o.Symbols},
		answers: o.Symbols, rows: o.Eval,
	}, o.Length, o.Trained, shortest, o.row)
}

// counts are how often the words of ranks 2, 3, … stand among n tokens.
func (o FrequentWords) counts(n int) []int {
	var list []int
	first := float64(n) / mathext.Zeta(o.Alpha, 1)
	for k := 2.0; ; k++ {
		c := int(first * math.Pow(k, -o.Alpha))
		if c < 1 {
			return list
		}
		list = append(list, c)
	}
}

// apart reports whether rows of the length have one order of the words that are asked for.
func (o FrequentWords) apart(length int) bool {
	c := append(o.counts(length-frequent), 0)
	for i := range frequent {
		if i+1 >= len(c) || c[i] <= c[i+1] {
			return false
		}
	}
	return true
}

// Tokens: 0 the question's sign, 1 the noise, then slots, words.
func (o FrequentWords) row(rng *rand.Rand, tokens, labels []int32) {
	body := tokens[:len(tokens)-frequent]
	counts := o.counts(len(body))
	words := distinct(rng, len(counts), 1+frequent, 1+frequent+o.Symbols)
	at := 0
	for i, n := range counts {
		for range n {
			body[at] = words[i]
			at++
		}
	}
	for ; at < len(body); at++ {
		body[at] = 1
	}
	rng.Shuffle(len(body), func(i, j int) { body[i], body[j] = body[j], body[i] })
	answer(tokens[len(body):], labels[len(body):], words[:frequent], slotIf(o.Slots, 2))
}
