package task

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("opticks", Opticks{Length: 1024}, Opticks.New)
	Register("gosrc", GoSource{Length: 1024, Eval: 1 << 18}, GoSource.New)
	Register("books", Books{Length: 1024, Eval: 1 << 18}, Books.New)
	Register("text", Text{Length: 1024, Eval: 1 << 18}, Text.New)
}

// Opticks holds the options of language modelling on Newton's Opticks, which comes with attnbench.
type Opticks struct {
	Length int `opt:"length"` // bytes that a row gives to the model; at least 1
	Stride int `opt:"stride"` // bytes from one evaluation window to the next, at most length; 0 means length
	Eval   int `opt:"eval"`   // bytes of each evaluation set to score, in windows spread evenly; 0 means all
}

// New returns the task with the options o.
func (o Opticks) New() (Task, error) {
	text, err := opticks()
	if err != nil {
		return nil, err
	}
	info := Info{
		Name:  Spell("opticks", o),
		Title: "Newton's Opticks, byte by byte",
		Paper: "Isaac Newton, Opticks, 4th edition, London 1730",
	}
	return newText(info, splitTail(text), o.Length, o.Stride, o.Eval)
}

// GoSource holds the options of language modelling on the Go standard library's source files.
type GoSource struct {
	Length int `opt:"length"`
	Stride int `opt:"stride"`
	Eval   int `opt:"eval"`
}

// New returns the task with the options o.
func (o GoSource) New() (Task, error) {
	c, err := readGoSource(goRoot())
	if err != nil {
		return nil, err
	}
	info := Info{
		Name:  Spell("gosrc", o),
		Title: "the Go standard library's source, byte by byte",
		Paper: "GOROOT/src of the Go installation, its version among the data",
	}
	return newText(info, c, o.Length, o.Stride, o.Eval)
}

// Books holds the options of language modelling on a folder of books with an index.tsv that
// says which are for training, validation and testing.
type Books struct {
	Path   Path `opt:"path"`
	Length int  `opt:"length"`
	Stride int  `opt:"stride"`
	Eval   int  `opt:"eval"`
	Fold   bool `opt:"fold"` // curly quotes and long dashes become ASCII: editions differ in them
}

// New returns the task with the options o.
func (o Books) New() (Task, error) {
	if o.Path == "" {
		return nil, fmt.Errorf("option path is missing: want a folder with an index.tsv")
	}
	c, err := readBooks(string(o.Path))
	if err != nil {
		return nil, err
	}
	if o.Fold {
		c.train, c.valid, c.test = fold(c.train), fold(c.valid), fold(c.test)
	}
	info := Info{Name: Spell("books", o), Title: "books, byte by byte", Paper: string(o.Path)}
	return newText(info, c, o.Length, o.Stride, o.Eval)
}

// Text holds the options of language modelling on any file, gz file or folder, whose last tenth is
// for testing.
type Text struct {
	Path   Path `opt:"path"`
	Length int  `opt:"length"`
	Stride int  `opt:"stride"`
	Eval   int  `opt:"eval"`
}

// New returns the task with the options o.
func (o Text) New() (Task, error) {
	if o.Path == "" {
		return nil, fmt.Errorf("option path is missing: want a file, a gz file or a folder")
	}
	all, err := readAny(string(o.Path))
	if err != nil {
		return nil, err
	}
	info := Info{Name: Spell("text", o), Title: "text, byte by byte", Paper: string(o.Path)}
	return newText(info, splitTail(all), o.Length, o.Stride, o.Eval)
}

// text is byte-level language modelling: each byte of a row is labelled with the next.
type text struct {
	info    Info
	corpus  *corpus
	windows [2][]Window // by split
}

func newText(info Info, c *corpus, length, stride, eval int) (Task, error) {
	if length < 1 || length > math.MaxInt32 {
		return nil, options.Error("length", length, "an integer from 1 to 2^31-1")
	}
	if stride < 0 || stride > length {
		return nil, options.Error("stride", stride, fmt.Sprintf("0 to the length, %d", length))
	}
	if eval < 0 {
		return nil, options.Error("eval", eval, "an integer of at least 0")
	}
	if stride == 0 {
		stride = length
	}
	if len(c.train) < length+1 {
		return nil, fmt.Errorf("%d bytes of training text: want more than the length, %d", len(c.train), length)
	}
	t := &text{info: info, corpus: c}
	for split, part := range [][]byte{c.valid, c.test} {
		if len(part) < 2 {
			return nil, fmt.Errorf("%d bytes of %v text: want at least 2", len(part), Split(split))
		}
		windows, err := Windows(len(part), length+1, stride)
		if err != nil {
			return nil, err
		}
		t.windows[split] = spread(windows, eval, stride)
	}
	t.info.Vocab, t.info.Length, t.info.Data = 256, length, c.data()
	t.info.Metrics = TextMetrics(length)
	return t, nil
}

// spread keeps so many of the windows, evenly spaced, that about total tokens are scored.
func spread(windows []Window, total, stride int) []Window {
	keep := max(1, total/stride)
	if total == 0 || keep >= len(windows) {
		return windows
	}
	list := make([]Window, keep)
	for i := range list {
		list[i] = windows[i*len(windows)/keep]
	}
	return list
}

// TextOf returns the bytes that a task of text trains on, nil for other tasks.
func TextOf(t Task) []byte {
	if t, ok := t.(*text); ok {
		return t.corpus.train
	}
	return nil
}

func (t *text) Info() Info { return t.info }

func (t *text) Train(seed uint64, step, rows int) Batch {
	b := newBatch(rows, t.info.Length)
	for r := range rows {
		rng := stream(seed, trainRows, step*rows+r)
		at := rng.IntN(len(t.corpus.train) - t.info.Length)
		tokens, labels := b.Row(r)
		for i := range tokens {
			tokens[i], labels[i] = int32(t.corpus.train[at+i]), int32(t.corpus.train[at+i+1])
		}
	}
	return b
}

func (t *text) Eval(split Split, rows int) iter.Seq[Batch] {
	part := t.corpus.test
	if split == Valid {
		part = t.corpus.valid
	}
	return inBatches(len(t.windows[split]), rows, t.info.Length, func(i int, tokens, labels []int32) {
		w := t.windows[split][i]
		for j := range tokens {
			tokens[j], labels[j] = 0, -1
			if at := w.From + j + 1; at < w.To { // a text shorter than a row leaves the rest empty
				tokens[j] = int32(part[at-1])
				if at >= w.Score {
					labels[j] = int32(part[at])
				}
			}
		}
	})
}

// inBatches yields n rows, at most rows at a time, each filled by fill.
func inBatches(n, rows, length int, fill func(i int, tokens, labels []int32)) iter.Seq[Batch] {
	rows = max(rows, 1)
	return func(yield func(Batch) bool) {
		for i := 0; i < n; i += rows {
			b := newBatch(min(rows, n-i), length)
			for r := range b.Rows {
				tokens, labels := b.Row(r)
				fill(i+r, tokens, labels)
			}
			if !yield(b) {
				return
			}
		}
	}
}

// The kinds of rows that a task generates: each row has a random stream of its own.
const (
	trainRows = iota
	validRows
	testRows
	trainSteps // not a row: what a step chooses for all of its rows
)

func stream(seed uint64, kind, row int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(kind)<<56|uint64(row)))
}
