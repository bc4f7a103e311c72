package task

import (
	"fmt"
	"math"
)

// Baseline is a simple model's result on a task, to hold mechanisms against.
type Baseline struct {
	Name   string
	Values []Value // the task's own metrics, as far as the baseline has them
}

// baseliner is a task that has baselines.
type baseliner interface {
	baselines() ([]Baseline, error)
}

// Baselines fits a task's baselines on its training part and scores them on its test set, row
// for row as a model is scored. Of texts they are NGrams of order 0, 2 and 4; a task without any gives nil.
func Baselines(t Task) ([]Baseline, error) {
	b, ok := t.(baseliner)
	if !ok {
		return nil, nil
	}
	list, err := b.baselines()
	if err != nil {
		return nil, fmt.Errorf("baselines of %s: %w", t.Info().Name, err)
	}
	return list, nil
}

func (t *text) baselines() ([]Baseline, error) {
	var list []Baseline
	for _, order := range []int{0, 2, 4} {
		values, err := scorePredictor(t, Test, NewNGram(t.corpus.train, order))
		if err != nil {
			return nil, err
		}
		list = append(list, Baseline{fmt.Sprintf("order-%d", order), values})
	}
	return list, nil
}

// scorePredictor scores p on an evaluation set; it sees what a model sees, the row up to each byte.
func scorePredictor(t *text, split Split, p Predictor) ([]Value, error) {
	score := t.NewScore()
	context := make([]byte, t.info.Length)
	nats := make([]float32, t.info.Length)
	for b := range t.Eval(split, 1) {
		for i := range b.Tokens {
			context[i] = byte(b.Tokens[i])
			if b.Labels[i] >= 0 {
				nats[i] = float32(-math.Log(p.Prob(context[:i+1], byte(b.Labels[i]))))
			}
		}
		if err := score.Add(b, nats, nil); err != nil {
			return nil, err
		}
	}
	return score.Values(), nil
}
