package harness

import (
	"context"
	"fmt"
	"slices"
	"time"

	"attnbench/attn"
	"attnbench/results"
)

// Crossover asks from which context length on mechanisms beat a base in time and in memory. Time is measured in turns, base and
// mechanism in one cell, so that what happens to the machine happens to both; memory is exact.
type Crossover struct {
	Base    string
	Mechs   []string
	Kinds   []Kind // of Prefill, Train and Decode
	Lengths []int  // increasing
	Case    Case   // heads, widths, mask and batch
	Samples int
	Seed    uint64 // of the first sample; each further one has the next

	mechs []string         // in the registry's spelling
	more  map[string][]int // lengths that Refine added, by mechanism and kind
}

// fill checks the question and spells its mechanisms in the registry's way.
func (x *Crossover) fill() error {
	if x.Samples < 1 {
		return fmt.Errorf("samples=%d: want at least 1", x.Samples)
	}
	if len(x.Lengths) < 2 || !slices.IsSorted(x.Lengths) || len(slices.Compact(slices.Clone(x.Lengths))) != len(x.Lengths) {
		return fmt.Errorf("lengths %v: want two or more, increasing", x.Lengths)
	}
	base, err := newMechanism(x.Base)
	if err != nil {
		return err
	}
	x.Base, x.mechs = base.Info().Name, nil
	for _, spec := range x.Mechs {
		m, err := newMechanism(spec)
		if err != nil {
			return err
		}
		name := m.Info().Name
		if name == x.Base || slices.Contains(x.mechs, name) {
			return fmt.Errorf("%s: want each mechanism once, and none that is the base", name)
		}
		x.mechs = append(x.mechs, name)
	}
	for _, n := range x.Lengths {
		c := x.Case
		c.Mech, c.N = x.Base, n
		if _, _, err := c.open(); err != nil {
			return err
		}
	}
	return nil
}

// duel is one cell: a mechanism against the base at a length.
type duel struct {
	mech, base Case
	kind       Kind
}

func (x *Crossover) duel(mech string, k Kind, n int) duel {
	d := duel{x.Case, x.Case, k}
	d.mech.Mech, d.base.Mech = mech, x.Base
	d.mech.N, d.base.N = n, n
	return d
}

// Name returns Crossover/mech=…/base=…/kind=…/n=… and the shape.
func (d duel) Name() string {
	name := fmt.Sprintf("Crossover/mech=%s/base=%s/kind=%v", d.mech.Mech, d.base.Mech, d.kind)
	for _, p := range d.mech.parts()[1:] {
		name += "/" + p
	}
	return name
}

// lengths returns those of a mechanism and kind, the added ones among them.
func (x *Crossover) lengths(mech string, k Kind) []int {
	list := append(slices.Clone(x.Lengths), x.more[mech+"/"+k.String()]...)
	slices.Sort(list)
	return slices.Compact(list)
}

// Jobs returns the cells, the first sample of all before the second of any.
func (x *Crossover) Jobs(o Options) ([]Job, error) {
	if err := x.fill(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	var jobs []Job
	for i := range x.Samples {
		for _, mech := range x.mechs {
			for _, k := range x.Kinds {
				for _, n := range x.lengths(mech, k) {
					j, err := x.duel(mech, k, n).job(x.Seed+uint64(i), o)
					if err != nil {
						return nil, err
					}
					jobs = append(jobs, j)
				}
			}
		}
	}
	return jobs, nil
}

func (d duel) job(seed uint64, o Options) (Job, error) {
	var revisions [2]int
	work := 0.1 + o.MinTime.Seconds()
	for i, c := range []Case{d.mech, d.base} {
		m, err := newMechanism(c.Mech)
		if err != nil {
			return Job{}, err
		}
		info := m.Info()
		revisions[i] = info.Revision
		work += 8 * float64(cost(&info, c.Shape(), attn.PassForward).FLOPs) / 5e10
	}
	config := append(Config(), results.Config{Key: "revision", Value: fmt.Sprintf("%d|%d", revisions[0], revisions[1])},
		results.Config{Key: "seed", Value: fmt.Sprint(seed)})
	name := d.Name()
	return Job{Key: results.Key(name, config...), Name: name, Work: work, Run: func(ctx context.Context) (results.Record, error) {
		values, iters, err := d.measure(ctx, seed, o)
		if err != nil {
			return results.Record{}, fmt.Errorf("%s: %w", name, err)
		}
		return results.Record{Name: name, Iters: iters, Config: config, Values: values}, nil
	}}, nil
}

// measure takes one sample: the time of a step of the mechanism and of the base, and their ratio.
func (d duel) measure(ctx context.Context, seed uint64, o Options) ([]results.Value, int, error) {
	needs := int64(0)
	for _, c := range []Case{d.mech, d.base} {
		n, err := c.Needs(d.kind)
		if err != nil {
			return nil, 0, err
		}
		needs += n
	}
	if err := checkMemory(d.Name(), needs, o.Limit); err != nil {
		return nil, 0, err
	}
	var p [2]*probe
	for i, c := range []Case{d.mech, d.base} {
		var err error
		if p[i], err = prepare(c, d.kind, seed, false); err == nil {
			err = p[i].warmUp()
		}
		if err != nil {
			return nil, 0, err
		}
	}
	t, err := inTurns(ctx, p, o.MinTime)
	if err != nil {
		return nil, 0, err
	}
	return []results.Value{
		{Value: t.sec[0], Unit: "sec/op"}, {Value: t.sec[1], Unit: "base-sec/op"}, {Value: t.ratio, Unit: "of-base"},
	}, t.steps, nil
}

// turns is what rounds of turns came to, the median of each figure.
type turns struct {
	sec   [2]float64 // of a step of each
	ratio float64    // of the first to the second within a round
	steps int        // of the first, in all
}

const maxRounds = 5

// inTurns runs two probes in rounds a b b a, so that a drift of the machine's speed adds as much to both, until each has run for span or five
// rounds are over. A disturbance spoils one round, and the median of them is another.
func inTurns(ctx context.Context, p [2]*probe, span time.Duration) (turns, error) {
	var t turns
	var secs [2][]float64
	var ratios []float64
	for took := time.Duration(0); len(ratios) == 0 || len(ratios) < maxRounds && took < 2*span; {
		var spent [2]time.Duration
		var steps [2]int
		for _, i := range []int{0, 1, 1, 0} {
			d, n, err := turn(ctx, p[i], span/(2*maxRounds))
			if err != nil {
				return t, err
			}
			spent[i] += d
			steps[i] += n
		}
		var sec [2]float64
		for i := range sec {
			if sec[i] = spent[i].Seconds() / float64(steps[i]); sec[i] <= 0 {
				return t, fmt.Errorf("a step took no time: want one that the clock can see")
			}
			secs[i] = append(secs[i], sec[i])
		}
		ratios = append(ratios, sec[0]/sec[1])
		t.steps += steps[0]
		took += spent[0] + spent[1]
	}
	t.sec, t.ratio = [2]float64{median(secs[0]), median(secs[1])}, median(ratios)
	return t, nil
}

// turn runs steps for at least that long, one at least, and returns how long they took and their number.
func turn(ctx context.Context, p *probe, least time.Duration) (took time.Duration, steps int, err error) {
	for steps == 0 || took < least {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		n := max(1, p.round)
		start := time.Now()
		for range n {
			if err := p.step(); err != nil {
				return 0, 0, err
			}
		}
		took += time.Since(start)
		steps += n
		if p.round > 0 {
			if err := p.rewind(); err != nil {
				return 0, 0, err
			}
		}
	}
	return took, steps, nil
}
