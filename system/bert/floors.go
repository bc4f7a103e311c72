package bert

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"

	"attnbench/autograd"
	"attnbench/task"
	"attnbench/text/conll"
)

// bayes is naive Bayes over counted features, each with a tenth of one added in every class (Manning et al. 2008, Introduction to Information
// Retrieval, 13.2, there with one: a tenth is better for classes of few short texts).
type bayes struct {
	classes  []string
	features func(text string) []string
	prior    []float64
	weights  map[string][]float64 // of a feature, by class: ln p(feature | class)
}

const added = 0.1

// newBayes fits the classes of training texts.
func newBayes(training []labelled, features func(string) []string) *bayes {
	b := &bayes{classes: classesOf(training), features: features, weights: map[string][]float64{}}
	b.prior = make([]float64, len(b.classes))
	total := make([]float64, len(b.classes))
	for _, x := range training {
		c, _ := slices.BinarySearch(b.classes, x.class)
		b.prior[c]++
		for _, w := range features(x.text) {
			if b.weights[w] == nil {
				b.weights[w] = make([]float64, len(b.classes))
			}
			b.weights[w][c]++
			total[c]++
		}
	}
	for c := range b.prior {
		b.prior[c] = math.Log(b.prior[c] / float64(len(training)))
	}
	for _, n := range b.weights {
		for c := range n {
			n[c] = math.Log((n[c] + added) / (total[c] + added*float64(len(b.weights))))
		}
	}
	return b
}

// class returns the most probable class of a text, the first of equals. Features that training never saw count nothing.
func (b *bayes) class(text string) string {
	p := slices.Clone(b.prior)
	for _, w := range b.features(text) {
		for c, x := range b.weights[w] {
			p[c] += x
		}
	}
	best := 0
	for c := range p {
		if p[c] > p[best] {
			best = c
		}
	}
	return b.classes[best]
}

// words are the lower-case words of a text.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '\'' })
}

// majority returns the most frequent class of a list, the first of equals.
func majority(list []labelled) string {
	counts := map[string]int{}
	for _, x := range list {
		counts[x.class]++
	}
	return slices.MinFunc(slices.Sorted(maps.Keys(counts)), func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
}

// scoreOf scores what guess says of texts.
func scoreOf(classes []string, outside string, test []labelled, guess func(text string) string) []task.Value {
	s := newClassScore(classes, outside)
	for _, x := range test {
		label, got := slices.Index(classes, x.class), slices.Index(classes, guess(x.text))
		s.count++
		if got == label {
			s.right++
		}
		s.see(0, int32(label), int32(got))
	}
	values := s.Values()
	return values[:len(values)-1] // it gives no losses
}

// dictionary knows by their words those entities of training texts that are entities more often than not.
type dictionary struct {
	types   map[string]string // the most frequent type of each, the first of equals
	longest int               // words
}

func newDictionary(training []conll.Document) (*dictionary, error) {
	counts := map[string]map[string]int{}
	d := &dictionary{types: map[string]string{}}
	for _, doc := range training {
		for _, s := range doc {
			spans, err := conll.Spans(s.Tags)
			if err != nil {
				return nil, err
			}
			for _, x := range spans {
				name := strings.Join(s.Words[x.From:x.To], "\x00")
				if counts[name] == nil {
					counts[name] = map[string]int{}
				}
				counts[name][x.Type]++
				d.longest = max(d.longest, x.To-x.From)
			}
		}
	}
	seen := map[string]int{}
	for _, doc := range training {
		for _, s := range doc {
			for i := range s.Words {
				for j := i + 1; j <= min(len(s.Words), i+d.longest); j++ {
					if name := strings.Join(s.Words[i:j], "\x00"); counts[name] != nil {
						seen[name]++
					}
				}
			}
		}
	}
	for name, n := range counts {
		all := 0
		for _, x := range n {
			all += x
		}
		if 2*all > seen[name] {
			d.types[name] = slices.MinFunc(slices.Sorted(maps.Keys(n)), func(a, b string) int { return cmp.Compare(n[b], n[a]) })
		}
	}
	return d, nil
}

// tags labels the longest known entities of a sentence, from the left.
func (d *dictionary) tags(words []string) []string {
	tags := slices.Repeat([]string{"O"}, len(words))
	for i := 0; i < len(words); {
		n := min(d.longest, len(words)-i)
		for ; n > 0; n-- {
			if t, ok := d.types[strings.Join(words[i:i+n], "\x00")]; ok {
				tags[i] = "B-" + t
				for j := i + 1; j < i+n; j++ {
					tags[j] = "I-" + t
				}
				break
			}
		}
		i += max(n, 1)
	}
	return tags
}

// dictionaryScore scores the dictionary of training texts on others.
func dictionaryScore(training, test []conll.Document) (*conll.Score, error) {
	d, err := newDictionary(training)
	if err != nil {
		return nil, err
	}
	s := new(conll.Score)
	for _, doc := range test {
		for _, x := range doc {
			if err := s.Add(x.Tags, d.tags(x.Words)); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// frequencies scores restoring masked pieces by how often each occurs in training alone, one added to each: the mean loss in nats, and the
// fraction that the most frequent piece gets right.
func frequencies(training [][]int32, test []example, vocab int) []task.Value {
	counts, total := slices.Repeat([]int{1}, vocab), vocab
	for _, text := range training {
		for _, piece := range text {
			counts[piece]++
			total++
		}
	}
	best := slices.Index(counts, slices.Max(counts))
	n, right, nats := 0, 0, 0.0
	for _, e := range test {
		for _, l := range e.labels {
			if l == autograd.Ignored {
				continue
			}
			n++
			nats -= math.Log(float64(counts[l]) / float64(total))
			if int(l) == best {
				right++
			}
		}
	}
	return []task.Value{value("nats/token", nats/float64(max(n, 1))), value("accuracy", float64(right)/float64(max(n, 1)))}
}

// floor is what a trivial method reaches on a test set.
type floor struct {
	system, set, name string
	values            []task.Value
}

// known are the floors, which TestFloors computes again where the sets are at hand. Those of the dictionary are the sets' own; the sets' naive Bayes
// (banking77 0.834, clinc150 0.856, authorship 0.89 and 0.95) adds more to its counts and stays below this one.
var known = []floor{
	{"bert-mlm", "", "frequency", []task.Value{value("nats/token", 6.4611), value("accuracy", 0.0547)}},
	{"classify", "banking77", "majority", []task.Value{value("accuracy", 0.0130)}},
	{"classify", "banking77", "bayes", []task.Value{value("accuracy", 0.8614)}},
	{"classify", "clinc150", "majority", []task.Value{value("in-scope-accuracy", 0.0067), value("oos-recall", 0.0000), value("oos-precision", 0.0000), value("accuracy", 0.0055)}},
	{"classify", "clinc150", "bayes", []task.Value{value("in-scope-accuracy", 0.8764), value("oos-recall", 0.0690), value("oos-precision", 0.9583), value("accuracy", 0.7296)}},
	{"authorship", "4096", "majority", []task.Value{value("accuracy", 0.3019)}},
	{"authorship", "4096", "bayes", []task.Value{value("accuracy", 0.9416)}},
	{"authorship", "16384", "majority", []task.Value{value("accuracy", 0.3026)}},
	{"authorship", "16384", "bayes", []task.Value{value("accuracy", 0.9803)}},
	{"ner", "litbank-ner", "dictionary", []task.Value{value("F1", 0.2407), value("precision", 0.6435), value("recall", 0.1480), value("F1-PER", 0.2068), value("F1-FAC", 0.2621), value("F1-LOC", 0.4027), value("F1-GPE", 0.3423), value("F1-VEH", 0.2857), value("F1-ORG", 0.0800), value("tag-accuracy", 0.8464)}},
	{"ner", "wnut17", "dictionary", []task.Value{value("F1", 0.0000), value("precision", 0.0000), value("recall", 0.0000), value("F1-person", 0.0000), value("F1-location", 0.0000), value("F1-group", 0.0000), value("F1-corporation", 0.0000), value("F1-product", 0.0000), value("F1-creative-work", 0.0000), value("tag-accuracy", 0.9256)}},
	{"ner", "uner-zh", "dictionary", []task.Value{value("F1", 0.2833), value("precision", 0.6904), value("recall", 0.1782), value("F1-PER", 0.1304), value("F1-LOC", 0.3599), value("F1-ORG", 0.2237), value("tag-accuracy", 0.8984)}},
}

func value(unit string, v float64) task.Value { return task.Value{Unit: unit, Value: v} }

// knownFloors are those of a system on a set, if its options leave them as they are.
func knownFloors(system, set string, unchanged bool) []task.Baseline {
	var list []task.Baseline
	for _, f := range known {
		if unchanged && f.system == system && f.set == set {
			list = append(list, task.Baseline{Name: f.name, Values: f.values})
		}
	}
	return list
}
