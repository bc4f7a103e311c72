package bert

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"attnbench/internal/options"
	"attnbench/model/bert"
	"attnbench/system"
	"attnbench/task"
	"attnbench/text/wordpiece"
)

func init() { system.Register("authorship", authorshipDefaults, Authorship.New) }

// Authorship holds the options of telling who wrote a long passage, spelled authorship:bytes=16384. The books of the test are others than
// those of the training.
type Authorship struct {
	Bytes int    `opt:"bytes"` // of a passage
	Pool  string `opt:"pool"`  // first: the vector of the first token, or mean: of all
	Tuning
	Size
	Schedule
}

var authorshipDefaults = Authorship{Bytes: 4096, Pool: "mean", Size: size, Schedule: Schedule{Tokens: 4096, Rate: 0.001, Dropout: 0.1}}

// skipped is how many bytes at the beginning of each book are left out: they name its author.
const skipped = 3000

// authors is how many there are to choose from.
const authors = 5

type authorship struct {
	o    Authorship
	info system.Info
}

// New returns the system with the options o.
func (o Authorship) New() (system.System, error) {
	if o.Bytes < 64 || o.Bytes > 1<<24 {
		return nil, options.Error("bytes", o.Bytes, "an integer from 64 to 2^24")
	}
	if !slices.Contains(bert.Pools, o.Pool) {
		return nil, options.Error("pool", o.Pool, strings.Join(bert.Pools, " or "))
	}
	if o.Valid {
		return nil, options.Error("valid", o.Valid, "false: the books have no validation part for authors")
	}
	if err := o.Schedule.check(); err != nil {
		return nil, err
	}
	origin, err := o.Tuning.check(&o.Size)
	if err != nil {
		return nil, err
	}
	x := &authorship{o: o}
	x.info = system.Info{
		Name: system.Spell("authorship", o, authorshipDefaults), Title: fmt.Sprintf("who wrote a passage of %d bytes", o.Bytes), Mech: "self-attention", Steps: 150,
		Recipe: fmt.Sprintf("authorship 1 %+v decay %v from %s", o, tuningDecay, origin), Sets: []string{booksSet},
		Metrics: append([]task.Metric{
			{Unit: "accuracy", Better: "higher", Chance: 1. / authors, Help: "fraction of the passages that get their author"},
			{Unit: "nats/query", Better: "lower", Chance: math.Log(authors), Help: "mean loss of a passage"},
		}, costs()...),
		Floors: knownFloors("authorship", fmt.Sprint(o.Bytes), true),
	}
	return x, nil
}

// Info describes the system.
func (x *authorship) Info() system.Info { return x.info }

// Fit trains one classifier of passages.
func (x *authorship) Fit(ctx context.Context, f system.Fit) (system.Result, error) {
	books, err := readBooks(&f)
	if err != nil {
		return system.Result{}, err
	}
	from, err := x.o.Tuning.open(&f, &x.o.Size, x.o.Dropout, nil)
	if err != nil {
		return system.Result{}, err
	}
	all := passages(books, "train", x.o.Bytes, nil)
	t := texts{classes: classesOf(all), train: choose(all, classOf, x.o.Examples, f.Seed), test: passages(books, "test", x.o.Bytes, nil)}
	if x.o.Examples == 0 {
		t.redraw = func(r *rand.Rand) []labelled { return passages(books, "train", x.o.Bytes, r) }
	}
	return fitTexts(ctx, &f, &x.info, x.o.Schedule, from, x.o.Pool, t)
}

// passages cuts the books of a part into passages of n bytes that follow one another, from a place that r draws on, or from the first where r is
// nil. What is left of a book is shorter and left out. Quotes and dashes are as ASCII has them, and the marks of italics are left out: by
// these editions differ, not authors.
func passages(books []book, part string, n int, r *rand.Rand) []labelled {
	var list []labelled
	for _, b := range books {
		if b.authorship != part || len(b.text) <= skipped {
			continue
		}
		text := b.text[skipped:]
		if r != nil {
			text = text[min(len(text), r.IntN(n)):]
		}
		for len(text) >= n {
			end := n
			for end < len(text) && !utf8.RuneStart(text[end]) {
				end++
			}
			list = append(list, labelled{plain(text[:end]), b.author})
			text = text[end:]
		}
	}
	return list
}

func plain(text string) string { return wordpiece.Fold(strings.ReplaceAll(text, "_", "")) }
