package bert

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"attnbench/autograd"
	"attnbench/internal/options"
	"attnbench/model/bert"
	"attnbench/system"
	"attnbench/task"
	"attnbench/text/conll"
	"attnbench/text/wordpiece"
)

func init() { system.Register("ner", nerDefaults, NER.New) }

// NER holds the options of finding named entities, spelled ner:set=wnut17,examples=500.
type NER struct {
	Set  string `opt:"set"`  // litbank-ner, wnut17 or uner-zh
	Span int    `opt:"span"` // pieces, at most, of the texts that half of the training documents are cut into, others each epoch; 0 for none: all are whole
	Tuning
	Size
	Schedule
}

var nerDefaults = NER{Set: "litbank-ner", Size: size, Schedule: Schedule{Tokens: 1024, Rate: 0.001, Dropout: 0.1}}

// entitySet is a set of texts with named entities.
type entitySet struct {
	name  string
	types []string
	whole bool // documents are read as wholes; else each sentence by itself
	own   bool // its vocabulary comes from its own training part
	steps int
}

var entitySets = []entitySet{
	{"litbank-ner", []string{"PER", "FAC", "LOC", "GPE", "VEH", "ORG"}, true, false, 207},
	{"wnut17", []string{"person", "location", "group", "corporation", "product", "creative-work"}, false, false, 400},
	{"uner-zh", []string{"PER", "LOC", "ORG"}, false, true, 500},
}

type ner struct {
	o    NER
	set  entitySet
	tags []string // labels are indices into them
	info system.Info
}

// New returns the system with the options o.
func (o NER) New() (system.System, error) {
	i := slices.IndexFunc(entitySets, func(s entitySet) bool { return s.name == o.Set })
	if i < 0 {
		return nil, options.Error("set", o.Set, "litbank-ner, wnut17 or uner-zh")
	}
	if o.Span < 0 {
		return nil, options.Error("span", o.Span, "an integer of at least 0")
	}
	if err := o.Schedule.check(); err != nil {
		return nil, err
	}
	origin, err := o.Tuning.check(&o.Size)
	if err != nil {
		return nil, err
	}
	x := &ner{o: o, set: entitySets[i], tags: []string{"O"}}
	for _, t := range x.set.types {
		x.tags = append(x.tags, "B-"+t, "I-"+t)
	}
	metrics := []task.Metric{
		{Unit: "F1", Better: "higher", Chance: none, Help: "of entities, words and type both right, all types together"},
		{Unit: "precision", Better: "higher", Chance: none, Help: "fraction of the found entities that are right"},
		{Unit: "recall", Better: "higher", Chance: none, Help: "fraction of the entities that are found"},
	}
	for _, t := range x.set.types {
		metrics = append(metrics, task.Metric{Unit: "F1-" + t, Better: "higher", Chance: none, Help: "of entities of type " + t})
	}
	metrics = append(metrics,
		task.Metric{Unit: "tag-accuracy", Better: "higher", Chance: none, Help: "fraction of the words that get their label"},
		task.Metric{Unit: "nats/token", Better: "lower", Chance: none, Help: "mean loss of a word"})
	x.info = system.Info{
		Name: system.Spell("ner", o, nerDefaults), Title: "named entities, " + o.Set, Mech: "self-attention", Steps: x.set.steps,
		Recipe: fmt.Sprintf("ner 1 %+v decay %v from %s", o, tuningDecay, origin), Sets: []string{o.Set, booksSet},
		Metrics: append(metrics, costs()...), Floors: knownFloors("ner", o.Set, !o.Valid),
	}
	if x.set.own {
		x.info.Sets = x.info.Sets[:1]
	}
	return x, nil
}

// Info describes the system.
func (x *ner) Info() system.Info { return x.info }

// Fit trains one tagger.
func (x *ner) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	training, test, err := x.set.read(&f, x.o.Valid)
	if err != nil {
		return system.Result{}, err
	}
	var own func() (*wordpiece.Vocabulary, error)
	if x.set.own {
		own = func() (*wordpiece.Vocabulary, error) { return wordpiece.Train(wordsOf(training), x.o.Pieces) }
	}
	from, err := x.o.Tuning.open(&f, &x.o.Size, x.o.Dropout, own)
	if err != nil {
		return system.Result{}, err
	}
	encode := func(docs []conll.Document, span int, r *rand.Rand) (list []example, err error) {
		for _, d := range docs {
			most := span
			if span > 0 && r.IntN(2) == 0 {
				most = 0
			}
			cut, err := x.encode(from.words, d, most, r)
			if err != nil {
				return nil, err
			}
			list = append(list, cut...)
		}
		return list, nil
	}
	chosen := choose(training, func(conll.Document) string { return "" }, x.o.Examples, f.Seed)
	whole, err := encode(chosen, 0, nil)
	if err != nil {
		return system.Result{}, err
	}
	k := &batches{
		pad: from.words.Pad, tokens: x.o.Tokens, epoch: func(_ int, r *rand.Rand) []example {
			if x.o.Span == 0 {
				return whole
			}
			list, _ := encode(chosen, x.o.Span, r) // of the same labels
			return list
		},
		score: func() task.Score { return &entityScore{types: x.set.types, tags: x.tags, docs: test} },
	}
	if k.test, err = encode(test, 0, nil); err != nil {
		return system.Result{}, err
	}
	k.info = task.Info{Name: x.info.Name, Data: fmt.Sprintf("%d/%d texts, vocabulary %s", len(whole), len(k.test), hash(from.words.String()))}
	m, err := from.build([][]example{whole, k.test}, func(c bert.Config) (*bert.Model, error) { return bert.NewTagger(c, len(x.tags)) })
	if err != nil {
		return system.Result{}, err
	}
	if f.Log != nil {
		fmt.Fprintf(f.Log, "%s: %.2f%% of the words of the test are unknown\n", x.info.Name, 100*unknown(from.words, k.test))
	}
	return fit(ctx, &f, &x.info, x.o.Schedule, tuningDecay, m, k, from.variant())
}

// unknown is the fraction of the labelled pieces that are unknown.
func unknown(words *wordpiece.Vocabulary, list []example) float64 {
	n, all := 0, 0
	for _, e := range list {
		for i, l := range e.labels {
			if l != autograd.Ignored {
				all++
				if e.pieces[i] == words.Unknown {
					n++
				}
			}
		}
	}
	return float64(n) / float64(max(all, 1))
}

// encode returns the pieces of a document, each sentence followed by the end piece. The first piece of each word has its label, the others none. A span above
// 0 cuts the document, between sentences, into texts of at most so many pieces, a longer sentence apart, the first of a size that r draws.
func (x *ner) encode(words *wordpiece.Vocabulary, d conll.Document, span int, r *rand.Rand) ([]example, error) {
	var list []example
	now := unlabelled([]int32{words.Class})
	room := span
	if span > 0 {
		room = 1 + r.IntN(span)
	}
	for _, s := range d {
		e, err := x.sentence(words, s)
		if err != nil {
			return nil, err
		}
		if span > 0 && len(now.pieces) > 1 && len(now.pieces)+len(e.pieces) > room {
			list, now, room = append(list, now), unlabelled([]int32{words.Class}), span
		}
		now.pieces, now.labels = append(now.pieces, e.pieces...), append(now.labels, e.labels...)
	}
	return append(list, now), nil
}

func (x *ner) sentence(words *wordpiece.Vocabulary, s conll.Sentence) (example, error) {
	var e example
	for i, w := range s.Words {
		label := slices.Index(x.tags, s.Tags[i])
		if label < 0 {
			return e, fmt.Errorf("word %q: label %q: want one of %q", w, s.Tags[i], x.tags)
		}
		for j, id := range words.EncodeWord(w) {
			e.pieces = append(e.pieces, id)
			if j > 0 {
				label = int(autograd.Ignored)
			}
			e.labels = append(e.labels, int32(label))
		}
	}
	e.pieces, e.labels = append(e.pieces, words.End), append(e.labels, autograd.Ignored)
	return e, nil
}

// read reads the texts to train on and to test on; with valid these are the validation part.
func (s *entitySet) read(f *system.Fit, valid bool) (training, test []conll.Document, err error) {
	files := []string{"train.conll", "test.conll"}
	if valid {
		files[1] = "dev.conll"
	}
	dir, err := f.Set(s.name, files...)
	if err != nil {
		return nil, nil, err
	}
	for i, to := range []*[]conll.Document{&training, &test} {
		r, err := os.Open(filepath.Join(dir, files[i]))
		if err != nil {
			return nil, nil, err
		}
		*to, err = s.parse(r)
		r.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, files[i]), err)
		}
	}
	return training, test, nil
}

// parse reads the texts that a model sees at once.
func (s *entitySet) parse(r io.Reader) ([]conll.Document, error) {
	docs, err := conll.Read(r)
	if err != nil || s.whole {
		return docs, err
	}
	var list []conll.Document
	for _, d := range docs {
		for i := range d {
			list = append(list, d[i:i+1])
		}
	}
	return list, nil
}

// wordsOf yields the words of documents.
func wordsOf(docs []conll.Document) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, d := range docs {
			for _, s := range d {
				for _, w := range s.Words {
					if !yield(w) {
						return
					}
				}
			}
		}
	}
}

// entityScore puts the labels of words together to entities.
type entityScore struct {
	meanLoss
	types, tags []string
	docs        []conll.Document
	conll.Score
}

func (s *entityScore) Add(b task.Batch, nats []float32, predicted []int32) error {
	guesses := map[int][]string{}
	var order []int
	err := s.add(b, nats, predicted, func(doc int, _, guess int32) {
		if guesses[doc] == nil {
			order = append(order, doc)
		}
		guesses[doc] = append(guesses[doc], s.tags[guess])
	})
	if err != nil {
		return err
	}
	for _, doc := range order {
		rest := guesses[doc]
		for _, sentence := range s.docs[doc] {
			n := len(sentence.Tags)
			if n > len(rest) {
				return fmt.Errorf("score: document %d has %d words more than labels", doc, n-len(rest))
			}
			if err := s.Score.Add(sentence.Tags, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

func (s *entityScore) Values() []task.Value {
	if s.count == 0 {
		return nil
	}
	all := s.Score.All
	list := []task.Value{
		{Unit: "F1", Value: all.F1(), Count: all.Gold}, {Unit: "precision", Value: all.Precision(), Count: all.Guessed}, {Unit: "recall", Value: all.Recall(), Count: all.Gold},
	}
	for _, t := range s.types {
		c := s.Type(t)
		list = append(list, task.Value{Unit: "F1-" + t, Value: c.F1(), Count: c.Gold})
	}
	return append(append(list, task.Value{Unit: "tag-accuracy", Value: s.Accuracy(), Count: s.Words}), s.values("nats/token")...)
}
