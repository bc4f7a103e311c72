package task

import (
	"fmt"
	"iter"
	"math"
	"math/bits"
	"math/rand/v2"

	"attnbench/internal/options"
)

func init() {
	Register("copy", Copy{Items: 4, Symbols: 8, Distance: 256, Eval: 1024}, Copy.New)
}

// Copy holds the options of the copying problem: the survey question of how far back a model remembers.
//
//	. . a b c d . . . . . 1 2 3 4 . .
//
// A row holds a few items that follow one another, drawn from Symbols each, and as many marks; mark i comes a distance after item i and is
// labelled with it; the other tokens are blanks. The distance of a row is Items·2^j, all of them equally often up to Distance; the items start anywhere.
// Each item has symbols of its own, so that a mark asks for one token by what it is and not by counting.
//
// Hochreiter and Schmidhuber 1997, Neural Computation 9(8), §5; Arjovsky et al. 2016 (arXiv:1511.06464) §5.1. Different from there: marks in the
// place of one delimiter, and all distances among the rows of one model.
type Copy struct {
	Items    int `opt:"items"`
	Symbols  int `opt:"symbols"`  // that an item is drawn from
	Distance int `opt:"distance"` // the largest; items times a power of two
	Eval     int `opt:"eval"`     // rows of the test set, and of the validation set
}

// New returns the task with the options o.
func (o Copy) New() (Task, error) {
	switch {
	case o.Items < 1 || o.Items > 1<<10:
		return nil, options.Error("items", o.Items, "1 to 1024")
	case o.Symbols < 2 || o.Symbols > 1<<10:
		return nil, options.Error("symbols", o.Symbols, "2 to 1024")
	case o.Distance < o.Items || o.Distance > 1<<24 || o.Distance%o.Items != 0 || bits.OnesCount(uint(o.Distance/o.Items)) != 1:
		return nil, options.Error("distance", o.Distance, fmt.Sprintf("items, %d, times a power of two", o.Items))
	case o.Eval < 1:
		return nil, options.Error("eval", o.Eval, "an integer of at least 1")
	}
	return &copying{o}, nil
}

type copying struct{ Copy }

// distances returns how many distances there are: Items·2^j for j below it.
func (t *copying) distances() int { return bits.Len(uint(t.Distance / t.Items)) }

func (t *copying) length() int { return t.Distance + 2*t.Items }

func (t *copying) Info() Info {
	accuracy := Metric{Unit: "accuracy", Better: "higher", Chance: 1 / float64(t.Symbols), Help: "of all marks, the share answered with the right item"}
	nats := Metric{Unit: "nats/query", Better: "lower", Chance: math.Log(float64(t.Symbols)), Help: "mean loss of the marks in nats"}
	far := accuracy
	far.Help = "of marks by how many tokens after their item they come"
	return Info{
		Name:    Spell("copy", t.Copy),
		Title:   fmt.Sprintf("copying %d items over 1 to %d tokens", t.Items, t.Distance),
		Paper:   "Arjovsky et al. 2016 (arXiv:1511.06464) §5.1",
		Data:    "generated, revision 1",
		Vocab:   1 + t.Items*(t.Symbols+1),
		Length:  t.length(),
		Metrics: append([]Metric{accuracy, nats}, bucketMetrics(far, t.Distance)...),
	}
}

func (t *copying) Train(seed uint64, step, rows int) Batch {
	b := newBatch(rows, t.length())
	for r := range rows {
		rng := stream(seed, trainRows, step*rows+r)
		tokens, labels := b.Row(r)
		t.fill(rng, t.Items<<rng.IntN(t.distances()), tokens, labels)
	}
	return b
}

func (t *copying) Eval(split Split, rows int) iter.Seq[Batch] {
	kind := validRows
	if split == Test {
		kind = testRows
	}
	return inBatches(t.Copy.Eval, rows, t.length(), func(i int, tokens, labels []int32) {
		t.fill(stream(0, kind, i), t.Items<<(i%t.distances()), tokens, labels)
	})
}

// fill writes one row.
func (t *copying) fill(rng *rand.Rand, distance int, tokens, labels []int32) {
	for i := range tokens {
		tokens[i], labels[i] = 0, -1
	}
	start := rng.IntN(len(tokens) - distance - t.Items + 1)
	for i := range t.Items {
		item := int32(1 + i*t.Symbols + rng.IntN(t.Symbols))
		at := start + i
		tokens[at] = item
		tokens[at+distance], labels[at+distance] = int32(1+t.Items*t.Symbols+i), item
	}
}

// copyScore is the accuracy of the marks: of all, and by distance.
type copyScore struct {
	*copying
	all, nats  mean
	byDistance octaves
}

func (t *copying) NewScore() Score { return &copyScore{copying: t, byDistance: newOctaves(t.Distance)} }

func (s *copyScore) Add(b Batch, nats []float32, predicted []int32) error {
	if err := checkSizes(b, nats, predicted, true); err != nil {
		return err
	}
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		item := map[int32]int{} // where each stands
		for i, token := range tokens {
			if token > 0 && int(token) <= s.Items*s.Symbols {
				item[token] = i
			}
			if labels[i] < 0 {
				continue
			}
			at, ok := item[labels[i]]
			if !ok {
				return fmt.Errorf("score: mark %d of row %d without its item: want a batch of this task", i, r)
			}
			right := 0.0
			if predicted[r*b.Length+i] == labels[i] {
				right = 1
			}
			s.all.add(right)
			s.nats.add(float64(nats[r*b.Length+i]))
			s.byDistance.add(i-at, right)
		}
	}
	return nil
}

func (s *copyScore) Values() []Value {
	v := s.all.appendTo(nil, "accuracy", 1)
	v = s.nats.appendTo(v, "nats/query", 1)
	return s.byDistance.appendTo(v, "accuracy", 1)
}
