package harness

import (
	"context"
	"fmt"

	"attnbench/attn"
	"attnbench/results"
)

// Grid is a sweep over attention calls: every combination of what its lists hold.
type Grid struct {
	Kinds   []Kind // of Prefill, Train and Decode
	Mechs   []string
	Lengths []int
	Heads   []int
	KVHeads []int // 0 means as many as query heads; nil means 0
	Dims    []int
	Batch   []int  // nil means 1
	Causal  []bool // nil means true
	Samples int    // of each cell
	Seed    uint64 // of the first sample; each further one has the next
}

// MaxSamples bounds the samples of a cell, and the models of a mechanism: the list of all cells is made before the first.
const MaxSamples = 10_000

// Jobs returns the cells of the grid, the first sample of all before the second of any, so that what
// changes on the machine with time changes them all alike.
func (g Grid) Jobs(o Options) ([]Job, error) {
	o = o.withDefaults()
	if g.Samples < 1 || g.Samples > MaxSamples {
		return nil, fmt.Errorf("samples=%d: want 1 to %d", g.Samples, MaxSamples)
	}
	if o.MinTime < 0 {
		return nil, fmt.Errorf("time of a sample is %v: want more than 0, or 0 for the default", o.MinTime)
	}
	cases, err := g.cases()
	if err != nil {
		return nil, err
	}
	var jobs []Job
	for i := range g.Samples {
		for _, k := range g.Kinds {
			if k == Accuracy {
				return nil, fmt.Errorf("kind %v: want %v, %v or %v", k, Prefill, Train, Decode)
			}
			for _, c := range cases {
				jobs = append(jobs, c.job(k, g.Seed+uint64(i), o))
			}
		}
	}
	return jobs, nil
}

func (g Grid) cases() ([]Case, error) {
	if g.KVHeads == nil {
		g.KVHeads = []int{0}
	}
	if g.Batch == nil {
		g.Batch = []int{1}
	}
	if g.Causal == nil {
		g.Causal = []bool{true}
	}
	list := []Case{}
	for _, spec := range g.Mechs {
		m, err := attn.New(spec)
		if err != nil {
			return nil, err
		}
		list = append(list, Case{Mech: m.Info().Name})
	}
	list = cross(list, g.Lengths, func(c *Case, n int) { c.N = n })
	list = cross(list, g.Heads, func(c *Case, n int) { c.Heads = n })
	list = cross(list, g.Dims, func(c *Case, n int) { c.Dim = n })
	list = cross(list, g.Causal, func(c *Case, on bool) { c.Causal = on })
	list = cross(list, g.KVHeads, func(c *Case, n int) { c.KVHeads = n })
	list = cross(list, g.Batch, func(c *Case, n int) { c.Batch = n })
	for _, n := range g.Batch {
		if n < 1 {
			return nil, fmt.Errorf("batch %d: want at least 1", n)
		}
	}
	for _, c := range list {
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name(Prefill), err)
		}
	}
	return list, nil
}

func cross[T any](list []Case, values []T, set func(*Case, T)) []Case {
	var out []Case
	for _, c := range list {
		for _, v := range values {
			set(&c, v)
			out = append(out, c)
		}
	}
	return out
}

func (c Case) job(k Kind, seed uint64, o Options) Job {
	name := c.Name(k)
	j := Job{
		Name: name,
		Run:  func(ctx context.Context) (results.Record, error) { return Measure(ctx, c, k, seed, o) },
	}
	if m, err := attn.New(c.Mech); err == nil {
		info := m.Info()
		j.Key = results.Key(name, append(Config(), caseConfig(&info, seed)...)...)
		j.Work = 0.1
		if s := c.Shape(); checkMemory(name, inputBytes(&info, s), o.Limit) == nil { // else it will be left out
			j.Work += 4 * float64(cost(&info, s, attn.PassForward).FLOPs) / 5e10
		}
		if o.Iters == 0 && o.Work == 0 {
			j.Work += o.MinTime.Seconds()
		}
	}
	return j
}
