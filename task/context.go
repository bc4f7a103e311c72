package task

import (
	"encoding/binary"
	"math"
)

// context predicts a label from the last tokens up to it, by the labels that training rows had there: what a model gets that sees no farther back. With no
// tokens it is the majority's label. Contexts are smoothed with those a token shorter by Witten and Bell's rule, as the n-gram models of texts are.
type context struct {
	order  int
	counts []map[string]*tally // by tokens of context; from 0 to order
	labels int                 // of the vocabulary
}

// tally counts the labels of one context.
type tally struct {
	n     int
	label map[int32]int
}

func newContext(order, labels int) *context {
	c := &context{order: order, labels: labels}
	for range order + 1 {
		c.counts = append(c.counts, map[string]*tally{})
	}
	return c
}

// key spells the last n tokens; ok is false where there are fewer.
func (c *context) key(tokens []int32, n int) (_ string, ok bool) {
	if n > len(tokens) {
		return "", false
	}
	var b []byte
	for _, x := range tokens[len(tokens)-n:] {
		b = binary.LittleEndian.AppendUint32(b, uint32(x))
	}
	return string(b), true
}

// learn counts a label behind tokens.
func (c *context) learn(tokens []int32, label int32) {
	for n := range c.counts {
		key, ok := c.key(tokens, n)
		if !ok {
			break
		}
		t := c.counts[n][key]
		if t == nil {
			t = &tally{label: map[int32]int{}}
			c.counts[n][key] = t
		}
		t.n++
		t.label[label]++
	}
}

// predict returns -ln p(label) behind tokens, and the most probable label, the lowest of equals. Only labels that the context or a shorter one had are candidates.
func (c *context) predict(tokens []int32, label int32) (nats float64, best int32) {
	var seen []*tally
	for n := range c.counts {
		key, ok := c.key(tokens, n)
		if t := c.counts[n][key]; ok && t != nil {
			seen = append(seen, t)
		} else {
			break
		}
	}
	p := func(l int32) float64 {
		p := 1 / float64(c.labels)
		for _, t := range seen {
			kinds := float64(len(t.label))
			p = (float64(t.label[l]) + kinds*p) / (float64(t.n) + kinds)
		}
		return p
	}
	best = -1
	top := 0.0
	for _, t := range seen {
		for l := range t.label {
			if x := p(l); x > top || x == top && l < best {
				top, best = x, l
			}
		}
	}
	return -math.Log(p(label)), best
}

// Rows that baselines of generated tasks learn from, at most, and labels among them.
const (
	baselineRows   = 2000
	baselineLabels = 50000
)

// asked returns a row of training data with the labels that the test set asks for, where training has others.
func (g *generated) asked(row int) Batch {
	if g.fixed != nil {
		return g.Train(1, row, 1)
	}
	s := g.test[row%len(g.test)]
	b := newBatch(1, s.length)
	s.fill(stream(1, trainRows, row), b.Tokens, b.Labels)
	return b
}

// reading is a baseline that sees of a row what of returns for the label at position i, the more telling the later, instead of all tokens up to it.
type reading struct {
	name  string
	order int
	of    func(tokens []int32, i int) []int32
}

// baselines are the contexts of 0, 2 and 4 tokens and the task's own readings, learned from training rows of seed 1.
func (g *generated) baselines() ([]Baseline, error) {
	upTo := func(tokens []int32, i int) []int32 { return tokens[:i+1] }
	readings := []reading{{"order-0", 0, upTo}}
	if !g.blind {
		readings = append(readings, reading{"order-2", 2, upTo}, reading{"order-4", 4, upTo})
	}
	var list []Baseline
	for _, read := range append(readings, g.readings...) {
		c := newContext(read.order, g.info.Vocab)
		n := 0
		for row := 0; row < baselineRows && n < baselineLabels; row++ {
			b := g.asked(row)
			for i, l := range b.Labels {
				if l >= 0 {
					c.learn(read.of(b.Tokens, i), l)
				}
			}
			n += b.Scored()
		}
		score := g.NewScore()
		for b := range g.Eval(Test, 16) {
			nats, predicted := make([]float32, len(b.Tokens)), make([]int32, len(b.Tokens))
			for r := range b.Rows {
				tokens, labels := b.Row(r)
				for i, l := range labels {
					if l >= 0 {
						x, best := c.predict(read.of(tokens, i), l)
						nats[r*b.Length+i], predicted[r*b.Length+i] = float32(x), best
					}
				}
			}
			if err := score.Add(b, nats, predicted); err != nil {
				return nil, err
			}
		}
		list = append(list, Baseline{read.name, score.Values()})
	}
	return list, nil
}
