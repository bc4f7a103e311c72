package translate

import (
	"math"
	"strings"
	"unicode"

	"attnbench/task"
	"attnbench/text/metric"
)

// floor is what a trivial method reaches on a test set.
type floor struct {
	set, form, name string
	bleu, chrf      float64
}

// known are the floors of the sets, which TestFloors computes again where the sets are at hand.
var known = []floor{
	{"bible-en-es", "sentence", "source", 0.06, 16.12},
	{"bible-en-es", "sentence", "nearest", 4.38, 22.75},
	{"bible-en-es", "chapter", "source", 0.07, 23.88},
	{"bible-en-es", "chapter", "nearest", 6.05, 42.54},
	{"tatoeba-en-zh", "sentence", "source", 0.01, 0.25},
	{"tatoeba-en-zh", "sentence", "nearest", 13.80, 13.08},
}

// floors are what translating without a model reaches.
func (x *translate) floors() []task.Baseline {
	var list []task.Baseline
	for _, f := range known {
		if f.set == x.o.Set && f.form == x.o.Form {
			list = append(list, task.Baseline{Name: f.name, Values: []task.Value{{Unit: "BLEU-" + x.set.tokenize, Value: f.bleu}, {Unit: "chrF2", Value: f.chrf}}})
		}
	}
	return list
}

// computeFloors scores two ways to translate without knowing how: the source as it is, and the translation of the training source that is most
// alike, by the cosine of its words weighted by their rarity.
func (x *translate) computeFloors(d *data) ([]floor, error) {
	questions := d.questions(x.long())
	examples := d.train
	if x.long() {
		examples = nil
		for _, c := range chapters(d.train) {
			examples = append(examples, d.join(c))
		}
	}
	var sources, copied, nearest []string
	var refs [][]string
	for _, e := range examples {
		sources = append(sources, e.source)
	}
	find := newFinder(sources)
	for _, q := range questions {
		copied, nearest = append(copied, q.source), append(nearest, examples[find.nearest(q.source)].target)
		refs = append(refs, q.refs)
	}
	var list []floor
	for _, f := range []struct {
		name string
		hyps []string
	}{{"source", copied}, {"nearest", nearest}} {
		b, err := metric.Evaluate(x.bleu(), f.hyps, refs)
		if err != nil {
			return nil, err
		}
		c, err := metric.Evaluate(metric.ChrF2, f.hyps, refs)
		if err != nil {
			return nil, err
		}
		list = append(list, floor{x.o.Set, x.o.Form, f.name, b.Score, c.Score})
	}
	return list, nil
}

// finder finds the text that is most like another.
type finder struct {
	where map[string]map[int]float64 // how often each word occurs in each text
	norm  []float64                  // of each text's vector
}

func plainWords(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
}

func newFinder(texts []string) *finder {
	f := &finder{where: map[string]map[int]float64{}, norm: make([]float64, len(texts))}
	for i, s := range texts {
		for _, w := range plainWords(s) {
			if f.where[w] == nil {
				f.where[w] = map[int]float64{}
			}
			f.where[w][i]++
		}
	}
	for i, s := range texts {
		seen := map[string]bool{}
		for _, w := range plainWords(s) { // in the order of the text: sums in a fixed order
			if !seen[w] {
				seen[w] = true
				x := f.where[w][i] * f.rarity(w)
				f.norm[i] += x * x
			}
		}
	}
	return f
}

// rarity is a word's inverse document frequency.
func (f *finder) rarity(w string) float64 {
	return math.Log(float64(1+len(f.norm)) / float64(1+len(f.where[w])))
}

// nearest returns the first of the texts with the largest cosine.
func (f *finder) nearest(s string) int {
	dots := make([]float64, len(f.norm))
	for _, w := range plainWords(s) {
		r := f.rarity(w)
		for i, n := range f.where[w] {
			dots[i] += n * r * r
		}
	}
	best, top := 0, 0.0
	for i, d := range dots {
		if d > 0 && d/math.Sqrt(f.norm[i]) > top {
			best, top = i, d/math.Sqrt(f.norm[i])
		}
	}
	return best
}
