package bert

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/internal/options"
	"attnbench/model/bert"
	"attnbench/system"
	"attnbench/task"
	"attnbench/text/wordpiece"
)

func init() { system.Register("bert-mlm", maskedDefaults, Masked.New) }

// Masked holds the options of masked-language pre-training on the books' training part, spelled bert-mlm:length=128.
type Masked struct {
	Length int     `opt:"length"` // pieces of a row, the two special ones included
	Share  float64 `opt:"share"`  // of the pieces that are chosen
	Valid  bool    `opt:"valid"`  // score the validation part in place of the test: to choose other options by
	Size
	Schedule
}

var maskedDefaults = Masked{Length: 256, Share: 0.15, Size: size, Schedule: Schedule{Tokens: 4096, Rate: 0.002}}

// maskedDecay is the weight decay of pre-training.
const maskedDecay = 0.1

// testRows is how many rows of the test set are scored, evenly spread.
const testRows = 512

type masked struct {
	o    Masked
	info system.Info
}

// New returns the system with the options o.
func (o Masked) New() (system.System, error) {
	switch {
	case o.Length < 4 || o.Length > 1<<20:
		return nil, options.Error("length", o.Length, "an integer from 4 to 2^20")
	case !(o.Share > 0 && o.Share < 1):
		return nil, options.Error("share", o.Share, "above 0 to below 1")
	}
	if err := o.Size.check(); err != nil {
		return nil, err
	}
	if err := o.Schedule.check(); err != nil {
		return nil, err
	}
	x := &masked{o: o}
	x.info = system.Info{
		Name: system.Spell("bert-mlm", o, maskedDefaults), Title: "masked-language pre-training on books", Mech: "self-attention", Steps: 1200,
		Recipe: fmt.Sprintf("bert-mlm 1 %+v decay %v", o, maskedDecay), Sets: []string{booksSet},
		Metrics: append([]task.Metric{
			{Unit: "nats/token", Better: "lower", Chance: math.Log(float64(o.Pieces)), Help: "mean loss of the chosen pieces of the test books"},
			{Unit: "accuracy", Better: "higher", Chance: 1 / float64(o.Pieces), Help: "fraction of them that is restored"},
		}, costs()...),
		Floors: knownFloors("bert-mlm", "", o == maskedDefaults),
	}
	return x, nil
}

// Info describes the system.
func (x *masked) Info() system.Info { return x.info }

// Fit pre-trains one model and writes it beside the checkpoint, if there is one, for others to start from.
func (x *masked) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	mech, err := spelled(f.Mech)
	if err != nil {
		return system.Result{}, err
	}
	books, err := readBooks(&f)
	if err != nil {
		return system.Result{}, err
	}
	words, err := bookWords(&f, x.o.Pieces)
	if err != nil {
		return system.Result{}, err
	}
	k, err := x.task(books, words)
	if err != nil {
		return system.Result{}, err
	}
	c := x.o.Size.config(x.o.Dropout)
	c.Vocab, c.Attention, c.Seed, c.MaxLen = words.Size(), mech, f.Seed, x.o.Length
	m, err := bert.NewMaskedLM(c)
	if err != nil {
		return system.Result{}, err
	}
	r, err := fit(ctx, &f, &x.info, x.o.Schedule, maskedDecay, m, k, mech)
	if err != nil {
		return r, err
	}
	if f.Log != nil {
		if err := x.show(f.Log, m, k, words); err != nil {
			return r, err
		}
	}
	if f.Checkpoint == "" {
		if f.Log != nil {
			fmt.Fprintf(f.Log, "%s, %s: the encoder is not kept: want a folder for checkpoints\n", x.info.Name, mech)
		}
		return r, nil
	}
	path := filepath.Join(filepath.Dir(f.Checkpoint), x.file(mech, f.Seed, r.Steps))
	if err := savePretrained(path, m, words, fmt.Sprintf("recipe %s, seed %d, %d steps", hash(x.info.Recipe), f.Seed, r.Steps)); err != nil {
		return r, err
	}
	if f.Log != nil {
		fmt.Fprintf(f.Log, "%s, %s: the encoder is in %s\n", x.info.Name, mech, path)
	}
	return r, nil
}

// file names the file of an encoder by all that it depends on.
func (x *masked) file(mech string, seed uint64, steps int) string {
	name := forMech(mechMark, x.info.Name) + "-" + forMech(mechMark, mech)
	if steps != x.info.Steps {
		name += fmt.Sprintf("-%dsteps", steps)
	}
	return fmt.Sprintf("%s-seed%d.bert", name, seed)
}

// task cuts the books into rows. Each epoch cuts them at other places and masks them anew.
func (x *masked) task(books []book, words *wordpiece.Vocabulary) (*batches, error) {
	mask, err := bert.NewMasking(words.Size(), []int32{words.Pad, words.Unknown, words.Class, words.End}, words.Mask, x.o.Share)
	if err != nil {
		return nil, err
	}
	part := "test"
	if x.o.Valid {
		part = "valid"
	}
	training, test := encoded(books, "train", words), encoded(books, part, words)
	k := &batches{pad: words.Pad, tokens: max(x.o.Tokens, x.o.Length), score: func() task.Score { return new(maskedScore) }}
	k.epoch = func(_ int, r *rand.Rand) []example {
		return x.rows(training, words, mask, r)
	}
	all := x.rows(test, words, mask, rand.New(rand.NewPCG(0, 0)))
	for i := range min(testRows, len(all)) {
		k.test = append(k.test, all[i*len(all)/min(testRows, len(all))])
	}
	pieces := 0
	for _, t := range training {
		pieces += len(t)
	}
	k.info = task.Info{Name: x.info.Name, Data: fmt.Sprintf("%d training pieces, %d rows of test, vocabulary %s", pieces, len(k.test), hash(words.String()))}
	return k, nil
}

// encoded returns the pieces of each book of a part.
func encoded(books []book, part string, words *wordpiece.Vocabulary) (list [][]int32) {
	for _, b := range books {
		if b.modelling == part {
			list = append(list, words.Encode(b.text))
		}
	}
	return list
}

// rows cuts each book into rows, from a random place on, and masks them. What is left at both ends of a book is shorter than a row and
// left out.
func (x *masked) rows(books [][]int32, words *wordpiece.Vocabulary, mask *bert.Masking, r *rand.Rand) []example {
	var list []example
	n := x.o.Length - 2
	for _, book := range books {
		for at := r.IntN(n); at+n <= len(book); at += n {
			e := unlabelled(framed(words, book[at:at+n]))
			mask.Apply(e.pieces, e.labels, r)
			list = append(list, e)
		}
	}
	return list
}

// framed returns pieces between the two special ones.
func framed(words *wordpiece.Vocabulary, pieces []int32) []int32 {
	return append(append([]int32{words.Class}, pieces...), words.End)
}

// show writes what the model restores of a few lines.
func (x *masked) show(w io.Writer, m *bert.Model, k *batches, words *wordpiece.Vocabulary) error {
	t := autograd.NewTape(attn.NewWorkspace())
	const samples, width = 3, 24
	for i := range min(samples, len(k.test)) {
		e := k.test[i*len(k.test)/samples]
		nll, best := make([]float32, len(e.labels)), make([]int32, len(e.labels))
		if err := m.Predict(t, &bert.Batch{Rows: 1, Length: len(e.pieces), Tokens: e.pieces}, e.labels, nll, best); err != nil {
			return err
		}
		var b strings.Builder
		for j := 1; j < min(width, len(e.pieces)-1); j++ {
			fmt.Fprintf(&b, " %s", words.Piece(e.pieces[j]))
			if l := e.labels[j]; l != autograd.Ignored {
				fmt.Fprintf(&b, " (%s: %s)", words.Piece(l), words.Piece(best[j]))
			}
		}
		fmt.Fprintf(w, "masked (what stood there: what is restored):%s\n", &b)
	}
	return nil
}

type maskedScore struct{ meanLoss }

func (s *maskedScore) Add(b task.Batch, nats []float32, predicted []int32) error {
	return s.add(b, nats, predicted, nil)
}

func (s *maskedScore) Values() []task.Value {
	if s.count == 0 {
		return nil
	}
	return append(s.values("nats/token"), task.Value{Unit: "accuracy", Value: float64(s.right) / float64(s.count), Count: s.count})
}
