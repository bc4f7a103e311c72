package explain

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/results"
)

// Query says which output is explained.
type Query struct {
	Layer, Head, Query int
	Keys               int // how many keys are shown, those of the largest weights; 0 means all
	Elements           int // how many elements of values and sums are shown; 0 means all
}

// Check compares the query with the call of its layer.
func (q Query) Check(layers int, c *attn.Call) error {
	for _, x := range []struct {
		name        string
		got, behind int
	}{{"layer", q.Layer, layers}, {"head", q.Head, c.Heads}, {"query", q.Query, c.QueryLen}} {
		if x.got < 0 || x.got >= x.behind {
			return fmt.Errorf("%s %d: want 0 to %d", x.name, x.got, x.behind-1)
		}
	}
	return nil
}

// Steps writes out how the output of a query comes about: for each key the similarity (where the weights are a softmax of it), the weight, the value
// and their product, and the sum. tokens are those of the call.
func Steps(tokens []string, c *attn.Call, w *Weights, q Query) *results.Sheet {
	s := &results.Sheet{Header: []string{"key", "token"}, Left: 2}
	similar, ok := Similarities(c, w)
	if ok {
		s.Header = append(s.Header, "q·k/√d", "e^(q·k/√d - max)")
	}
	p := w.Heads[q.Head][q.Query]
	n := c.V.Dim
	if q.Elements > 0 {
		n = min(n, q.Elements)
	}
	s.Header = append(s.Header, "weight")
	for b := range n {
		s.Header = append(s.Header, fmt.Sprintf("v[%d]", b))
	}
	for b := range n {
		s.Header = append(s.Header, fmt.Sprintf("weight·v[%d]", b))
	}
	keys := largest(p, q.Keys)
	top := math.Inf(-1) // over what has a weight: others are not in the sum
	for j := range p {
		if ok && p[j] != 0 {
			top = max(top, similar[q.Head][q.Query][j])
		}
	}
	sum := 0.0
	for _, x := range p {
		sum += x
	}
	for _, j := range keys {
		row := []string{fmt.Sprint(j), Label(tokens[j])}
		if ok {
			x := similar[q.Head][q.Query][j]
			row = append(row, fmt.Sprintf("%.4f", x), fmt.Sprintf("%.4f", math.Exp(x-top)))
		}
		v := c.V.Row(0, j, valueHead(c, q.Head))
		row = append(row, fmt.Sprintf("%.4f", p[j]))
		for b := range n {
			row = append(row, fmt.Sprintf("%.4f", v[b]))
		}
		for b := range n {
			row = append(row, fmt.Sprintf("%.4f", p[j]*float64(v[b])))
		}
		s.Rows = append(s.Rows, row)
	}
	total, output := make([]string, len(s.Header)), make([]string, len(s.Header))
	total[0], total[len(total)-2*n-1] = "sum", fmt.Sprintf("%.4f", sum)
	output[0] = "output"
	out, weighted := c.Out.Row(0, q.Query, q.Head), WeightedSum(c, w, q.Head, q.Query)
	for b := range n {
		total[len(total)-n+b] = fmt.Sprintf("%.4f", weighted[b])
		if b < len(out) {
			output[len(output)-n+b] = fmt.Sprintf("%.4f", out[b])
		}
	}
	s.Rows = append(s.Rows, total, output)
	s.Notes = notes(c, w, ok, len(keys), len(largest(p, 0)))
	return s
}

// largest returns the n largest weights in size, in order of their keys; all that are not 0 when n is 0.
func largest(p []float64, n int) []int {
	var keys []int
	for j, x := range p {
		if x != 0 {
			keys = append(keys, j)
		}
	}
	if n > 0 && len(keys) > n {
		slices.SortStableFunc(keys, func(a, b int) int { return int(math.Copysign(1, math.Abs(p[b])-math.Abs(p[a]))) })
		keys = keys[:n]
		slices.Sort(keys)
	}
	return keys
}

func notes(c *attn.Call, w *Weights, similar bool, shown, keys int) []string {
	var list []string
	switch {
	case w.Linear:
		list = append(list, "weights: read off the outputs for unit vectors as values; for any values the output is their weighted sum")
	case w.Off <= exact:
		list = append(list, "weights: d out / d v at these values, by the backward pass; it is a multiple of the identity, but depends on the values")
	default:
		list = append(list, fmt.Sprintf("weights: mean diagonal of d out / d v at these values, by the backward pass; a part of %.3f of the derivative lies beside it", w.Off))
	}
	if similar {
		list = append(list, fmt.Sprintf("the weights of every query and head are e^(q·k/√d) divided by their sum, to %g", softness))
	} else {
		list = append(list, "the weights are no softmax of q·k/√d: there are no similarities to show")
	}
	if !w.Linear {
		list = append(list, fmt.Sprintf("the weighted sum differs from the output by %.3g of it, over all queries", Miss(c, w)))
	}
	if shown < keys {
		list = append(list, fmt.Sprintf("%d of the %d keys that have a weight, the largest; the sum is over all", shown, keys))
	}
	return list
}
