package bert

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"attnbench/internal/options"
	"attnbench/model/bert"
	"attnbench/system"
	"attnbench/task"
)

func init() { system.Register("classify", classifyDefaults, Classify.New) }

// Classify holds the options of text classification, spelled classify:set=clinc150,examples=1510.
type Classify struct {
	Set  string `opt:"set"`  // banking77 or clinc150
	Pool string `opt:"pool"` // first: the vector of the first token, or mean: of all
	Tuning
	Size
	Schedule
}

var classifyDefaults = Classify{Set: "banking77", Pool: "mean", Size: size, Schedule: Schedule{Tokens: 1024, Rate: 0.001, Dropout: 0.1}}

// tuningDecay is the weight decay of fine-tuning.
const tuningDecay = 0.01

// textSet is a set of short texts, each with a class.
type textSet struct {
	name        string
	train, test string // files
	valid       string // file; empty for a part of train, held out
	parse       func(r io.Reader) ([]labelled, error)
	outside     string // the class of texts that belong to none; empty where there are no such texts
	classes     int
	steps       int
}

var textSets = []textSet{
	{"banking77", "train.csv", "test.csv", "", parseCSV, "", 77, 600},
	{"clinc150", "train.tsv", "test.tsv", "valid.tsv", parseTSV, "oos", 151, 600},
}

// labelled is a text with its class.
type labelled struct{ text, class string }

type classify struct {
	o    Classify
	set  textSet
	info system.Info
}

// New returns the system with the options o.
func (o Classify) New() (system.System, error) {
	i := slices.IndexFunc(textSets, func(s textSet) bool { return s.name == o.Set })
	if i < 0 {
		return nil, options.Error("set", o.Set, "banking77 or clinc150")
	}
	if !slices.Contains(bert.Pools, o.Pool) {
		return nil, options.Error("pool", o.Pool, strings.Join(bert.Pools, " or "))
	}
	if err := o.Schedule.check(); err != nil {
		return nil, err
	}
	origin, err := o.Tuning.check(&o.Size)
	if err != nil {
		return nil, err
	}
	x := &classify{o: o, set: textSets[i]}
	chance := 1 / float64(x.set.classes)
	x.info = system.Info{
		Name: system.Spell("classify", o, classifyDefaults), Title: "text classification, " + o.Set, Mech: "self-attention", Steps: x.set.steps,
		Recipe: fmt.Sprintf("classify 1 %+v decay %v from %s", o, tuningDecay, origin), Sets: []string{o.Set, booksSet},
		Metrics: []task.Metric{{Unit: "accuracy", Better: "higher", Chance: chance, Help: "fraction of the texts that get their class"}},
		Floors:  knownFloors("classify", o.Set, !o.Valid),
	}
	if x.set.outside != "" {
		x.info.Metrics = []task.Metric{
			{Unit: "in-scope-accuracy", Better: "higher", Chance: chance, Help: "fraction of the texts of a class that get it"},
			{Unit: "oos-recall", Better: "higher", Chance: chance, Help: "fraction of the texts out of scope that are found to be"},
			{Unit: "oos-precision", Better: "higher", Chance: none, Help: "fraction of the texts found to be out of scope that are"},
			x.info.Metrics[0],
		}
	}
	x.info.Metrics = append(append(x.info.Metrics, task.Metric{Unit: "nats/query", Better: "lower", Chance: -math.Log(chance), Help: "mean loss of a text"}), costs()...)
	return x, nil
}

// Info describes the system.
func (x *classify) Info() system.Info { return x.info }

// Fit trains one classifier.
func (x *classify) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	training, test, err := x.set.read(&f, x.o.Valid)
	if err != nil {
		return system.Result{}, err
	}
	from, err := x.o.Tuning.open(&f, &x.o.Size, x.o.Dropout, nil)
	if err != nil {
		return system.Result{}, err
	}
	return fitTexts(ctx, &f, &x.info, x.o.Schedule, from, x.o.Pool, texts{
		classes: classesOf(training), train: choose(training, classOf, x.o.Examples, f.Seed), test: test, outside: x.set.outside,
	})
}

func classOf(x labelled) string { return x.class }

// classesOf returns the classes of a list, sorted.
func classesOf(list []labelled) []string {
	seen := map[string]bool{}
	for _, x := range list {
		seen[x.class] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// texts are what a classifier learns and is asked.
type texts struct {
	classes     []string // labels are indices into them
	train, test []labelled
	redraw      func(r *rand.Rand) []labelled // unless nil, what an epoch trains on, in place of train
	outside     string
}

// fitTexts trains a classifier of whole texts.
func fitTexts(ctx context.Context, f *system.Fit, info *system.Info, s Schedule, from *start, pool string, x texts) (system.Result, error) {
	if len(x.train) == 0 || len(x.test) == 0 {
		return system.Result{}, fmt.Errorf("data set %s: %d texts to train on and %d to test on: want the whole set", info.Sets[0], len(x.train), len(x.test))
	}
	encode := func(list []labelled) (out []example, err error) {
		for _, t := range list {
			e := unlabelled(framed(from.words, from.words.Encode(t.text)))
			class := slices.Index(x.classes, t.class)
			if class < 0 {
				return nil, fmt.Errorf("class %q of a test text: want one of the training set's", t.class)
			}
			e.labels[0] = int32(class)
			out = append(out, e)
		}
		return out, nil
	}
	training, err := encode(x.train)
	if err != nil {
		return system.Result{}, err
	}
	test, err := encode(x.test)
	if err != nil {
		return system.Result{}, err
	}
	m, err := from.build([][]example{training, test}, func(c bert.Config) (*bert.Model, error) { return bert.NewClassifier(c, len(x.classes), pool) })
	if err != nil {
		return system.Result{}, err
	}
	k := &batches{
		pad: from.words.Pad, tokens: s.Tokens, test: test,
		epoch: func(_ int, r *rand.Rand) []example {
			if x.redraw == nil {
				return training
			}
			list, _ := encode(x.redraw(r)) // of the same classes
			return list
		},
		score: func() task.Score { return newClassScore(x.classes, x.outside) },
		info:  task.Info{Name: info.Name, Data: fmt.Sprintf("%d/%d texts, vocabulary %s", len(training), len(test), hash(from.words.String()))},
	}
	return fit(ctx, f, info, s, tuningDecay, m, k, from.variant())
}

// read reads the texts to train on and to test on. With valid the test is the validation part, which is held out of the training texts where
// the set has none: 10 texts of each class, or half of them.
func (s *textSet) read(f *system.Fit, valid bool) (training, test []labelled, err error) {
	file := s.test
	if valid && s.valid != "" {
		file = s.valid
	}
	dir, err := f.Set(s.name, s.train, file)
	if err != nil {
		return nil, nil, err
	}
	if training, err = s.readFile(filepath.Join(dir, s.train)); err != nil {
		return nil, nil, err
	}
	if valid && s.valid == "" {
		all := choose(training, classOf, len(training)-1, 0) // by turns from each class
		n := min(10*len(classesOf(training)), len(training)/2)
		return all[n:], all[:n], nil
	}
	test, err = s.readFile(filepath.Join(dir, file))
	return training, test, err
}

func (s *textSet) readFile(path string) ([]labelled, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	list, err := s.parse(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseCSV reads text and class from quoted, comma-separated cells behind a header line.
func parseCSV(r io.Reader) ([]labelled, error) {
	c := csv.NewReader(r)
	c.FieldsPerRecord = 2
	rows, err := c.ReadAll()
	if err != nil {
		return nil, err
	}
	return pairs(rows)
}

// parseTSV reads text and class from tab-separated cells behind a header line; quotes mean themselves.
func parseTSV(r io.Reader) ([]labelled, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		cells := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(cells) != 2 {
			return nil, fmt.Errorf("line %d: %d columns: want 2", n, len(cells))
		}
		rows = append(rows, cells)
	}
	return pairs(rows)
}

func pairs(rows [][]string) ([]labelled, error) {
	if len(rows) == 0 || rows[0][0] != "text" {
		return nil, fmt.Errorf("no header line: want one that begins with text")
	}
	var list []labelled
	for i, row := range rows[1:] {
		if row[1] == "" {
			return nil, fmt.Errorf("row %d: no class: want one", i+2)
		}
		list = append(list, labelled{row[0], row[1]})
	}
	return list, nil
}

// classScore counts what classes texts get.
type classScore struct {
	meanLoss
	outside                         int32 // -1 for none
	out, found, both, in, rightlyIn int
}

func newClassScore(classes []string, outside string) *classScore {
	return &classScore{outside: int32(slices.Index(classes, outside))}
}

func (s *classScore) Add(b task.Batch, nats []float32, predicted []int32) error {
	return s.add(b, nats, predicted, s.see)
}

func (s *classScore) see(_ int, label, guess int32) {
	count := func(n *int, when bool) {
		if when {
			*n++
		}
	}
	isOut, asOut := label == s.outside, guess == s.outside
	count(&s.out, isOut)
	count(&s.found, asOut)
	count(&s.both, isOut && asOut)
	count(&s.in, !isOut)
	count(&s.rightlyIn, !isOut && guess == label)
}

func (s *classScore) Values() []task.Value {
	if s.count == 0 {
		return nil
	}
	ratio := func(unit string, a, b int) task.Value {
		return task.Value{Unit: unit, Value: float64(a) / float64(max(b, 1)), Count: b}
	}
	var list []task.Value
	if s.outside >= 0 {
		list = append(list, ratio("in-scope-accuracy", s.rightlyIn, s.in), ratio("oos-recall", s.both, s.out), ratio("oos-precision", s.both, s.found))
	}
	return append(append(list, ratio("accuracy", s.right, s.count)), s.values("nats/query")...)
}
