package task

import (
	"fmt"
	"math"

	"attnbench/model/ngram"
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
// for row as a model is scored. Of texts they are n-gram models by Witten and Bell's rule whose context is 0, 2 and 4 bytes, of generated
// tasks the same of their labels; a task without any gives nil.
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
	for _, context := range []int{0, 2, 4} {
		m, err := ngram.Fit(ngram.WittenBell, context+1, 256, ngram.None, ngram.Bytes(t.corpus.train))
		if err != nil {
			return nil, err
		}
		values, err := ScoreNGram(t, Test, m)
		if err != nil {
			return nil, err
		}
		list = append(list, Baseline{fmt.Sprintf("order-%d", context), values})
	}
	return list, nil
}

// ScoreNGram scores m on an evaluation set; it sees what a model sees, the row up to each token.
func ScoreNGram(t Task, split Split, m *ngram.Model) ([]Value, error) {
	if info := t.Info(); m.Vocab() < info.Vocab {
		return nil, fmt.Errorf("n-gram model of %d tokens on task %s: want %d", m.Vocab(), info.Name, info.Vocab)
	}
	score := t.NewScore()
	nats := make([]float32, t.Info().Length)
	for b := range t.Eval(split, 1) {
		s := ngram.State(0)
		for i, token := range b.Tokens {
			s, _ = m.Next(s, token)
			if b.Labels[i] >= 0 {
				_, p := m.Next(s, b.Labels[i])
				nats[i] = float32(-math.Log(p))
			}
		}
		if err := score.Add(b, nats, nil); err != nil {
			return nil, err
		}
	}
	return score.Values(), nil
}
