package task

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("mqar", MQAR{Vocab: 256, Length: 64, Pairs: 4, Power: 0.01, Random: true, Eval: 3000}, MQAR.New)
}

// MQAR holds the options of multi-query associative recall:
//
//	k1 v1 k2 v2 … kD vD  . . k3 . . . k1 . …
//
// A row starts with D pairs of a key and its value. Each key comes once more, as a query, and is labelled
// with its value; all other tokens are fillers. Keys are drawn from 1 to Vocab/2-1 and values from Vocab/2 to
// Vocab-1, without replacement within a row. The tokens after the pairs form slots of two, of
// which a query takes the first; query i draws its slot s = 1, 2, … without replacement by
// p(s) ∝ Power·s^(Power-1), so that most come soon after the pairs.
//
// Arora et al. 2023, Zoology (arXiv:2312.04927) §4 and appendix; parameters of its generator
// multiquery_ar.py. Different from there: every row has a random stream of its own, so that the
// same seed gives the same rows whatever was generated before; rows are fresh at each
// step and not 100,000 that repeat; and random fillers are never a key of their own row, which
// would pose a second query without a label (at a vocabulary of 256 in 56% of the rows).
type MQAR struct {
	Vocab  int     `opt:"vocab"`  // more than the length
	Length int     `opt:"length"` // tokens in a row; even
	Pairs  int     `opt:"pairs"`  // at most a quarter of the length
	Power  float64 `opt:"power"`  // exponent of the slots' distribution; above 0, at most 10
	Random bool    `opt:"random"` // fillers are random tokens, or else token 0
	Reach  int     `opt:"reach"`  // tokens back that a model can see: splits accuracy into near and far; 0 for none
	Eval   int     `opt:"eval"`   // rows of the test set
}

// New returns the task with the options o.
func (o MQAR) New() (Task, error) {
	switch {
	case o.Length < 4 || o.Length%2 != 0 || o.Length > 1<<20:
		return nil, options.Error("length", o.Length, "an even number from 4 to 2^20")
	case o.Vocab <= o.Length || o.Vocab > math.MaxInt32:
		return nil, options.Error("vocab", o.Vocab, fmt.Sprintf("an integer of more than the length, %d", o.Length))
	case o.Pairs < 1 || o.Pairs > o.Length/4:
		return nil, options.Error("pairs", o.Pairs, fmt.Sprintf("1 to a quarter of the length, %d", o.Length/4))
	case o.Power <= 0 || o.Power > 10:
		return nil, options.Error("power", o.Power, "a number above 0, at most 10")
	case o.Reach < 0:
		return nil, options.Error("reach", o.Reach, "an integer of at least 0")
	case o.Eval < 1:
		return nil, options.Error("eval", o.Eval, "an integer of at least 1")
	}
	return &mqar{MQAR: o, slots: slotWeights((o.Length-2*o.Pairs)/2, o.Power)}, nil
}

type mqar struct {
	MQAR
	slots []float64
}

// slotWeights returns the probabilities of slots 1 to n, p(s) ∝ a·s^(a-1).
func slotWeights(n int, a float64) []float64 {
	p, sum := make([]float64, n), 0.0
	for i := range p {
		p[i] = a * math.Pow(float64(i+1), a-1)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func (t *mqar) Info() Info {
	return Info{
		Name:    Spell("mqar", t.MQAR),
		Title:   fmt.Sprintf("multi-query associative recall, %d pairs", t.Pairs),
		Paper:   "Arora et al. 2023, Zoology (arXiv:2312.04927)",
		Data:    "generated, revision 1",
		Vocab:   t.Vocab,
		Length:  t.Length,
		Metrics: t.metrics(),
	}
}

func (t *mqar) Train(seed uint64, step, rows int) Batch {
	b := newBatch(rows, t.Length)
	for r := range rows {
		tokens, labels := b.Row(r)
		t.fill(stream(seed, trainRows, step*rows+r), tokens, labels)
	}
	return b
}

// validation is the number of rows in the validation set, unless the test set is smaller.
const validation = 500

func (t *mqar) Eval(split Split, rows int) iter.Seq[Batch] {
	n, kind := min(t.MQAR.Eval, validation), validRows
	if split == Test {
		n, kind = t.MQAR.Eval, testRows
	}
	return inBatches(n, rows, t.Length, func(i int, tokens, labels []int32) {
		t.fill(stream(0, kind, i), tokens, labels)
	})
}

// fill writes one row.
func (t *mqar) fill(rng *rand.Rand, tokens, labels []int32) {
	keys := distinct(rng, t.Pairs, 1, t.Vocab/2)
	values := distinct(rng, t.Pairs, t.Vocab/2, t.Vocab)
	for i := range labels {
		tokens[i], labels[i] = 0, -1
	}
	query := make([]bool, t.Length)
	left := append([]float64(nil), t.slots...)
	for i, key := range keys {
		tokens[2*i], tokens[2*i+1] = key, values[i]
		s := draw(rng, left)
		left[s] = 0
		at := 2*t.Pairs + 2*s
		tokens[at], labels[at], query[at] = key, values[i], true
	}
	if !t.Random {
		return
	}
	for i := 2 * t.Pairs; i < t.Length; i++ {
		if !query[i] {
			tokens[i] = filler(rng, t.Vocab, keys)
		}
	}
}

// filler returns a token that is none of keys.
func filler(rng *rand.Rand, vocab int, keys []int32) int32 {
next:
	for {
		x := int32(rng.IntN(vocab))
		for _, k := range keys {
			if x == k {
				continue next
			}
		}
		return x
	}
}

// distinct draws n different numbers from from to to-1 (Floyd's method, then shuffled).
func distinct(rng *rand.Rand, n, from, to int) []int32 {
	list := make([]int32, 0, n)
	in := make(map[int32]bool, n)
	for top := to - n; top < to; top++ {
		x := int32(from + rng.IntN(top-from+1))
		if in[x] {
			x = int32(top)
		}
		in[x] = true
		list = append(list, x)
	}
	rng.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// draw returns an index with probability proportional to its weight.
func draw(rng *rand.Rand, weights []float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	x, last := rng.Float64()*sum, 0
	for i, w := range weights {
		if w == 0 {
			continue
		}
		if x < w {
			return i
		}
		x, last = x-w, i
	}
	return last // x was within rounding of the sum
}
