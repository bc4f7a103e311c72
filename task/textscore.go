package task

import "math"

// TextMetrics describes the metrics of language modelling on rows of the given length.
func TextMetrics(length int) []Metric {
	bits := Metric{Unit: "bits/byte", Better: "lower", Chance: 8, Help: "mean loss in bits a byte"}
	recall, rest := bits, bits
	recall.Unit, recall.Help = "recall-bits/byte", "of bytes that complete a pair seen earlier in the row"
	rest.Unit, rest.Help = "rest-bits/byte", "of the other bytes"
	list := []Metric{bits, recall, rest}
	bits.Help = "of bytes by the position that predicts them, from 0"
	return append(list, bucketMetrics(bits, length-1)...)
}

// textScore is bits per byte: of all, by position, and of recall apart from the rest.
//
// A byte x[t] is recall when the pair (x[t-1], x[t]) stands earlier in the row, both bytes of it
// before t: the model could copy it. Arora et al. 2023 (arXiv:2312.04927) §3.1, there with words.
type textScore struct {
	all, recall, rest mean
	byPosition        octaves
	seen              [1 << 16 / 64]uint64 // pairs of the row
}

func (t *text) NewScore() Score { return &textScore{byPosition: newOctaves(t.info.Length - 1)} }

func (s *textScore) Add(b Batch, nats []float32, predicted []int32) error {
	if err := checkSizes(b, nats, predicted, false); err != nil {
		return err
	}
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		clear(s.seen[:])
		for i, label := range labels {
			if i > 0 {
				pair := tokens[i-1]<<8 | tokens[i]
				s.seen[pair/64] |= 1 << (pair % 64)
			}
			if label < 0 {
				continue
			}
			x := float64(nats[r*b.Length+i])
			s.all.add(x)
			s.byPosition.add(i, x)
			if pair := tokens[i]<<8 | label; s.seen[pair/64]>>(pair%64)&1 == 1 {
				s.recall.add(x)
			} else {
				s.rest.add(x)
			}
		}
	}
	return nil
}

func (s *textScore) Values() []Value {
	var v []Value
	v = s.all.appendTo(v, "bits/byte", math.Log2E)
	v = s.recall.appendTo(v, "recall-bits/byte", math.Log2E)
	v = s.rest.appendTo(v, "rest-bits/byte", math.Log2E)
	return s.byPosition.appendTo(v, "bits/byte", math.Log2E)
}
