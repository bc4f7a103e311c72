package task

import (
	"fmt"
	"math/bits"
)

// mean is a running mean. Terms are added one by one in the order of the evaluation set, so that
// the sum does not depend on how the set was cut into batches.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(x float64) { m.sum += x; m.n++ }

func (m *mean) appendTo(values []Value, unit string, factor float64) []Value {
	if m.n == 0 {
		return values
	}
	return append(values, Value{unit, factor * m.sum / float64(m.n), m.n})
}

// octaves are running means over power-of-two buckets: bucket 0 takes the number 0, bucket i the
// numbers from 2^(i-1) to 2^i-1.
type octaves []mean

// newOctaves returns buckets for numbers from 0 to largest.
func newOctaves(largest int) octaves { return make(octaves, bits.Len(uint(largest))+1) }

func (o octaves) add(at int, x float64) { o[bits.Len(uint(at))].add(x) }

func (o octaves) appendTo(values []Value, unit string, factor float64) []Value {
	for i := range o {
		values = o[i].appendTo(values, bucketUnit(unit, i), factor)
	}
	return values
}

// bucketUnit names bucket i by its smallest number: bits/byte@64 has the numbers from 64 to 127.
func bucketUnit(unit string, i int) string { return fmt.Sprintf("%s@%d", unit, 1<<i>>1) }

// bucketMetrics describes the buckets for numbers from 0 to largest.
func bucketMetrics(m Metric, largest int) []Metric {
	var list []Metric
	for i := range newOctaves(largest) {
		b := m
		b.Unit = bucketUnit(m.Unit, i)
		b.Help = fmt.Sprintf("%s: %d to %d", m.Help, 1<<i>>1, min(1<<i-1, largest))
		list = append(list, b)
	}
	return list
}
