// Package metric scores translations against references: BLEU and chrF as sacreBLEU defines them (Post 2018, arXiv:1804.08771), with
// bootstrap intervals and a signature that says how.
package metric

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Metric is a score that is a function of counts summed over segments.
type Metric interface {
	// Count returns the counts of one segment, always as many; refs are its references, at least one.
	Count(hypothesis string, refs []string) []int
	// Score returns the score, 0 to 100, of counts summed over segments.
	Score(counts []int) float64
	// Signature says how the score is made, for a number of references a segment.
	Signature(refs string) string
}

// Result is the score of a corpus.
type Result struct {
	Score     float64
	Low, High float64 // 95% bootstrap interval over segments
	Segments  int
	Signature string
}

// String returns the score with its interval and signature.
func (r Result) String() string {
	return fmt.Sprintf("%.2f [%.2f, %.2f] (%s)", r.Score, r.Low, r.High, r.Signature)
}

// Resamples and Seed are those of the bootstrap; sacreBLEU has the same defaults.
const (
	Resamples = 1000
	Seed      = 12345
)

// Evaluate scores hypotheses against the references of each. The interval holds the middle 95% of the scores of Resamples corpora drawn
// from the segments with replacement (Koehn 2004, W04-3250).
func Evaluate(m Metric, hypotheses []string, refs [][]string) (Result, error) {
	if len(hypotheses) == 0 || len(hypotheses) != len(refs) {
		return Result{}, fmt.Errorf("metric: %d hypotheses, %d lists of references: want as many, at least one", len(hypotheses), len(refs))
	}
	few, many := len(refs[0]), len(refs[0])
	var counts [][]int
	for i, h := range hypotheses {
		if len(refs[i]) == 0 {
			return Result{}, fmt.Errorf("metric: segment %d has no reference: want at least one", i)
		}
		few, many = min(few, len(refs[i])), max(many, len(refs[i]))
		counts = append(counts, m.Count(h, refs[i]))
	}
	number := "var"
	if few == many {
		number = fmt.Sprint(few)
	}
	r := Result{Segments: len(counts), Signature: m.Signature(number)}
	sum := make([]int, len(counts[0]))
	for _, c := range counts {
		add(sum, c)
	}
	r.Score = m.Score(sum)
	scores := make([]float64, Resamples)
	random := rand.New(rand.NewPCG(Seed, 0))
	for i := range scores {
		clear(sum)
		for range counts {
			add(sum, counts[random.IntN(len(counts))])
		}
		scores[i] = m.Score(sum)
	}
	slices.Sort(scores)
	r.Low, r.High = scores[Resamples/40], scores[Resamples-1-Resamples/40]
	return r, nil
}

func add(sum, c []int) {
	for i, n := range c {
		sum[i] += n
	}
}
