package task

import (
	"fmt"
	"math"
)

func (t *mqar) metrics() []Metric {
	chance := 1 / float64(t.Vocab-t.Vocab/2) // a value at random
	accuracy := Metric{Unit: "accuracy", Better: "higher", Chance: chance, Help: "of all queries, the share answered with the right value"}
	rows := Metric{Unit: "row-accuracy", Better: "higher", Chance: chance, Help: "mean over rows of the share of its queries that are right"}
	nats := Metric{Unit: "nats/query", Better: "lower", Chance: math.Log(float64(t.Vocab)), Help: "mean loss of the queries in nats"}
	list := []Metric{accuracy, rows, nats}
	if t.Reach > 0 {
		near, far := accuracy, accuracy
		near.Unit, near.Help = "near-accuracy", fmt.Sprintf("of queries at most %d tokens after their value", t.Reach)
		far.Unit, far.Help = "far-accuracy", fmt.Sprintf("of queries more than %d tokens after their value", t.Reach)
		list = append(list, near, far)
	}
	accuracy.Help = "of queries by how many tokens after their value they come"
	return append(list, bucketMetrics(accuracy, t.Length-1)...)
}

// mqarScore is the accuracy of the queries: of all, of rows, and by the gap from a value to its query.
type mqarScore struct {
	*mqar
	all, rows, nats, near, far mean
	byGap                      octaves
}

func (t *mqar) NewScore() Score { return &mqarScore{mqar: t, byGap: newOctaves(t.Length - 1)} }

func (s *mqarScore) Add(b Batch, nats []float32, predicted []int32) error {
	if err := checkSizes(b, nats, predicted, true); err != nil {
		return err
	}
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		row := mean{}
		for i, label := range labels {
			if label < 0 {
				continue
			}
			right := 0.0
			if predicted[r*b.Length+i] == label {
				right = 1
			}
			s.all.add(right)
			row.add(right)
			s.nats.add(float64(nats[r*b.Length+i]))
			gap, err := s.gap(tokens, i)
			if err != nil {
				return err
			}
			s.byGap.add(gap, right)
			if gap <= s.Reach {
				s.near.add(right)
			} else {
				s.far.add(right)
			}
		}
		if row.n > 0 {
			s.rows.add(row.sum / float64(row.n))
		}
	}
	return nil
}

// gap returns how many tokens after its value the query at position i comes. The value is the
// nearest token of the pair: a model that sees no farther back knows nothing of it.
func (s *mqarScore) gap(tokens []int32, i int) (int, error) {
	for p := range s.Pairs {
		if tokens[2*p] == tokens[i] {
			return i - (2*p + 1), nil
		}
	}
	return 0, fmt.Errorf("score: query of token %d at position %d without a pair: want a batch of this task", tokens[i], i)
}

func (s *mqarScore) Values() []Value {
	var v []Value
	v = s.all.appendTo(v, "accuracy", 1)
	v = s.rows.appendTo(v, "row-accuracy", 1)
	v = s.nats.appendTo(v, "nats/query", 1)
	if s.Reach > 0 {
		v = s.near.appendTo(v, "near-accuracy", 1)
		v = s.far.appendTo(v, "far-accuracy", 1)
	}
	return s.byGap.appendTo(v, "accuracy", 1)
}
