// Package task defines what a long-sequence task is and holds the tasks that attnbench runs:
// language modelling of real text byte by byte, generated tasks of recall, copying, counting and reasoning, and
// classification of texts, source and pictures.
//
// A task yields batches of tokens and labels, and turns a model's losses and predictions on a
// fixed evaluation set into named metrics. It knows nothing of models or mechanisms. Tasks are
// made by name with the same spelling of options as mechanisms: opticks:length=256.
package task

import (
	"fmt"
	"iter"
)

// Task is a stream of training batches, two fixed evaluation sets and a score. Values are
// immutable and safe for concurrent use.
type Task interface {
	Info() Info
	// Train returns a batch of the given number of rows: a function of (seed, step, rows) alone,
	// whatever was asked for before. Row r is the training row of number step·rows + r; a task that mixes settings draws one for
	// all rows of a step. Rows of different batches may differ in length.
	Train(seed uint64, step, rows int) Batch
	// Eval yields the rows of an evaluation set in order, at most rows a batch. How they are
	// cut into batches changes no score.
	Eval(split Split, rows int) iter.Seq[Batch]
	// NewScore returns an empty score.
	NewScore() Score
}

// Split is an evaluation set.
type Split uint8

// The evaluation sets. Anything that is chosen by looking (a step to stop at, a rate) is chosen on Valid;
// what is reported comes from Test.
const (
	Valid Split = iota
	Test
)

func (s Split) String() string {
	if s == Valid {
		return "valid"
	}
	return "test"
}

// Info describes a task.
type Info struct {
	Name    string   // canonical spelling with options, as New parses it
	Title   string   // what a table calls it
	Paper   string   // where the definition or the text comes from
	Data    string   // what fixes the data: sizes, hash, version; goes into result keys
	Vocab   int      // tokens are 0 to Vocab-1
	Length  int      // tokens in the longest row
	Metrics []Metric // all that a Score may give, the most important first
}

// Metric describes one figure of a score.
type Metric struct {
	Unit   string  // its name, as in a benchmark line: bits/byte, accuracy, accuracy@8
	Better string  // "lower" or "higher"
	Chance float64 // what a model without knowledge gets; NaN for a cost, which has none
	Help   string
}

// Metric returns the description of the metric with this unit.
func (i *Info) Metric(unit string) (Metric, error) {
	var units []string
	for _, m := range i.Metrics {
		if m.Unit == unit {
			return m, nil
		}
		units = append(units, m.Unit)
	}
	return Metric{}, fmt.Errorf("task %s: unknown metric %q: want one of %v", i.Name, unit, units)
}

// Batch is a number of rows of equal length, row-major.
type Batch struct {
	Tokens []int32 // [rows, length]
	Labels []int32 // [rows, length]: what follows or answers each token; -1 where nothing is scored
	Rows   int
	Length int
}

func newBatch(rows, length int) Batch {
	return Batch{make([]int32, rows*length), make([]int32, rows*length), rows, length}
}

// Row returns the tokens and labels of row r.
func (b Batch) Row(r int) (tokens, labels []int32) {
	i, j := r*b.Length, (r+1)*b.Length
	return b.Tokens[i:j:j], b.Labels[i:j:j]
}

// Slice returns the rows from i up to j, sharing memory.
func (b Batch) Slice(i, j int) Batch {
	return Batch{b.Tokens[i*b.Length : j*b.Length], b.Labels[i*b.Length : j*b.Length], j - i, b.Length}
}

// Scored returns the number of labels that count.
func (b Batch) Scored() int {
	n := 0
	for _, l := range b.Labels {
		if l >= 0 {
			n++
		}
	}
	return n
}

// Score adds up what a model does on an evaluation set.
type Score interface {
	// Add takes the loss -ln p(label) and the most probable token at each position of b, both [rows, length]
	// and read only where a label counts. Batches come in the order of Eval. A task without a metric of
	// predictions takes nil for them.
	Add(b Batch, nats []float32, predicted []int32) error
	// Values returns the metrics so far, in the order of Info.Metrics, without those that
	// nothing was counted for.
	Values() []Value
}

// Value is one figure with the number of tokens (or rows) it is a mean over.
type Value struct {
	Unit  string
	Value float64
	Count int
}

// Find returns the value of that unit.
func Find(values []Value, unit string) (Value, bool) {
	for _, v := range values {
		if v.Unit == unit {
			return v, true
		}
	}
	return Value{}, false
}

func checkSizes(b Batch, nats []float32, predicted []int32, wantPredicted bool) error {
	n := b.Rows * b.Length
	if len(b.Tokens) != n || len(b.Labels) != n {
		return fmt.Errorf("batch of %d rows of %d: %d tokens and %d labels: want %d of each", b.Rows, b.Length, len(b.Tokens), len(b.Labels), n)
	}
	if len(nats) != n {
		return fmt.Errorf("score: %d losses: want %d", len(nats), n)
	}
	if len(predicted) != n && (wantPredicted || predicted != nil) {
		return fmt.Errorf("score: %d predictions: want %d", len(predicted), n)
	}
	return nil
}
