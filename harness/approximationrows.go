package harness

import (
	"math"

	"attnbench/attn"
	"attnbench/results"
)

// Row is one line of the table of an approximation.
type Row struct {
	Budget
	From         string
	N            int
	FLOPs, State float64 // forward operations and decoding state as shares of the base's at these sizes; NaN where there is none
	Error        *results.Figure
}

// Rows returns what set has of the cells, in the order of sources, lengths and budgets; shares are of the mechanism base's.
func (a *Approximation) Rows(set *results.Set, base string) ([]Row, error) {
	budgets, err := a.List()
	if err != nil {
		return nil, err
	}
	unit, _ := results.LookupUnit("full-err")
	var rows []Row
	for _, from := range a.Sources() {
		for _, n := range a.Lengths {
			for _, b := range budgets {
				name := a.Name(b.Spec, from, n)
				var values []float64
				for _, r := range set.Results {
					if v, ok := r.Value(unit.Name); ok && string(r.Name) == name {
						values = append(values, v)
					}
				}
				if len(values) == 0 {
					continue
				}
				r := Row{Budget: b, From: from, N: n, Error: results.NewFigure(unit, values)}
				if r.FLOPs, r.State, err = a.shares(b.Spec, base, from, n); err != nil {
					return nil, err
				}
				rows = append(rows, r)
			}
		}
	}
	return rows, nil
}

// shares compares the closed forms of two mechanisms.
func (a *Approximation) shares(spec, base, from string, n int) (flops, state float64, err error) {
	c := a.Case
	if from != gaussian {
		m := a.Model.Config
		c.Heads, c.KVHeads, c.Dim, c.Batch = m.Heads, m.KVHeads, m.KeyDim, 1
	}
	c.N = n
	var of [2]attn.Cost
	for i, name := range []string{spec, base} {
		m, err := newMechanism(name)
		if err != nil {
			return 0, 0, err
		}
		info, s := m.Info(), c.Shape()
		of[i] = cost(&info, s, attn.PassForward)
		if _, ok := m.(attn.Incremental); ok && s.Mask == attn.Causal {
			s.QueryLen = 1
			of[i].State = cost(&info, s, attn.PassDecode).State
		} else {
			of[i].State = 0
		}
	}
	share := func(x, y int64) float64 {
		if x == 0 || y == 0 {
			return math.NaN()
		}
		return float64(x) / float64(y)
	}
	return share(of[0].FLOPs, of[1].FLOPs), share(of[0].State, of[1].State), nil
}
