package task

import (
	"fmt"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("mad-recall", MADRecall{Vocab: 16, Length: 128, Share: 0.2, Next: true, Eval: 1280}, MADRecall.New)
}

// MADRecall holds the options of in-context recall and, with Noise above 0, noisy recall: two of MAD's six tasks.
//
//	k3 v1 k0 v2 n5 n1 k3 v1 … k0 v2
//
// A row is of pairs of a key and a value, each half of the tokens beside noise. Each key keeps the value that it first came with, and each key that came before is
// labelled with its value; the last pair has always such a key. With noise, a pair is with probability Share two noise tokens in place.
//
// Poli et al. 2024, MAD (arXiv:2403.17844) §3 and appendix B, mad/data/instances.py with multi_query. Noisy recall is vocab=32,noise=16. The published difficulties vary one of
// vocab (32, 64, 128; 16 more with noise), length (256, 512, 1024), examples (12800 as baseline, 6400, 3200, 1600, 800) and share (0.4, 0.6, 0.8).
type MADRecall struct {
	Vocab    int     `opt:"vocab"`    // tokens, those of noise included
	Length   int     `opt:"length"`   // tokens in a row; even
	Noise    int     `opt:"noise"`    // noise tokens; 0 for a task without
	Share    float64 `opt:"share"`    // probability of noise in place of a pair, if there are noise tokens
	Next     bool    `opt:"next"`     // training labels every token with the next, as published; else as the test set does
	Examples int     `opt:"examples"` // training rows repeat after so many; 0 for fresh ones for ever
	Eval     int     `opt:"eval"`     // rows of the test set
}

// New returns the task with the options o.
func (o MADRecall) New() (Task, error) {
	err := within(limit{"vocab", o.Vocab, 4, 1 << 20}, limit{"noise", o.Noise, 0, o.Vocab - 4}, limit{"examples", o.Examples, 0, 1 << 40})
	switch {
	case err != nil:
		return nil, err
	case o.Length < 4 || o.Length%2 != 0 || o.Length > 1<<24:
		return nil, options.Error("length", o.Length, "an even number from 4 to 2^24")
	case !(o.Share >= 0 && o.Share < 1):
		return nil, options.Error("share", o.Share, "0 to below 1")
	}
	title := fmt.Sprintf("in-context recall of %d keys", o.keys())
	if o.Noise > 0 {
		title = fmt.Sprintf("noisy in-context recall of %d keys", o.keys())
	}
	g := generated{
		info:    Info{Name: Spell("mad-recall", o), Title: title, Paper: "Poli et al. 2024, MAD (arXiv:2403.17844)", Vocab: o.Vocab},
		answers: o.Vocab - o.Noise - o.keys(), rows: o.Eval, examples: o.Examples,
		train: []setting{{o.Length, o.row}}, test: []setting{{o.Length, o.row}},
	}
	if o.Next {
		g.train[0].draw = nextToken(o.row)
	}
	return newGenerated(g)
}

// nextToken labels all tokens but the last with the one after it.
func nextToken(row func(rng *rand.Rand, tokens, labels []int32)) func(rng *rand.Rand, tokens, labels []int32) {
	return func(rng *rand.Rand, tokens, labels []int32) {
		row(rng, tokens, labels)
		copy(labels, tokens[1:])
	}
}

// keys are tokens 0 to keys-1; values follow, and then noise.
func (o MADRecall) keys() int { return (o.Vocab - o.Noise) / 2 }

func (o MADRecall) row(rng *rand.Rand, tokens, labels []int32) {
	keys, values, pairs := o.keys(), o.Vocab-o.Noise-o.keys(), o.Length/2
	value := make([]int32, keys) // 0 for none yet
	var seen []int32
	always := rng.IntN(pairs - 1) // one pair at least is not noise
	for i := range pairs - 1 {
		pair := tokens[2*i:]
		if o.Noise > 0 && i != always && rng.Float64() < o.Share {
			pair[0], pair[1] = int32(o.Vocab-o.Noise+rng.IntN(o.Noise)), int32(o.Vocab-o.Noise+rng.IntN(o.Noise))
			continue
		}
		k := int32(rng.IntN(keys))
		if value[k] == 0 {
			value[k] = int32(keys + rng.IntN(values))
			seen = append(seen, k)
		} else {
			labels[2*i] = value[k]
		}
		pair[0], pair[1] = k, value[k]
	}
	k := seen[rng.IntN(len(seen))]
	tokens[o.Length-2], tokens[o.Length-1], labels[o.Length-2] = k, value[k], value[k]
}
