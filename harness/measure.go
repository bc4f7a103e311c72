package harness

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"attnbench/results"
)

// Options say how measurements are taken. The zero value is what a sweep uses.
type Options struct {
	Iters    int           // steps a sample; 0 means as many as Work or MinTime take
	Work     float64       // floating-point operations of a sample, at least 1 step and at most 256; 0 means that MinTime counts
	MinTime  time.Duration // 0 means 200 ms
	Limit    int64         // bytes of memory that a cell may need; 0 means what the system has available
	Fidelity int           // longest N to compare with the definition; 0 means 512, negative no errors at all
	NoRSS    bool          // leave out the child process that measures resident memory
	Meter    *Meter        // measures the peak; nil means a new one

	childArgs []string // by which a test binary reaches Bench
}

func (o Options) withDefaults() Options {
	if o.MinTime == 0 {
		o.MinTime = 200 * time.Millisecond
	}
	if o.Fidelity == 0 {
		o.Fidelity = 512
	}
	if o.Meter == nil {
		o.Meter = NewMeter()
	}
	return o
}

// Measure measures one sample of a case, with inputs drawn from seed. The error is a TooLarge or an
// Unsupported when the cell has no result on this machine or at all.
func Measure(ctx context.Context, c Case, k Kind, seed uint64, o Options) (results.Record, error) {
	o = o.withDefaults()
	r := results.Record{Name: c.Name(k)}
	fail := func(err error) (results.Record, error) {
		return results.Record{}, fmt.Errorf("%s: %w", r.Name, err)
	}
	m, s, err := c.open()
	if err != nil {
		return fail(err)
	}
	info := m.Info()
	if err := checkMemory(r.Name, inputBytes(&info, s), o.Limit); err != nil { // before costs, some of which are counted token by token
		return results.Record{}, err
	}
	needs, err := c.Needs(k)
	if err != nil {
		return fail(err)
	}
	if err := checkMemory(r.Name, needs, o.Limit); err != nil {
		return results.Record{}, err
	}
	p, err := prepare(c, k, seed, false)
	if err != nil {
		return fail(err)
	}
	t, err := p.time(ctx, o)
	if err != nil {
		return fail(err)
	}
	values, err := p.values(t, o.Meter)
	if err != nil {
		return fail(err)
	}
	r.Iters, r.Values = t.iters, values
	r.Values = append(r.Values, results.Value{Value: t.heap, Unit: "B/op"}, results.Value{Value: t.allocs, Unit: "allocs/op"})
	more, err := p.extras(ctx, childCell{c, k, seed}, o)
	if err != nil {
		return fail(err)
	}
	r.Values = append(r.Values, more...)
	r.Config = append(Config(), caseConfig(&p.info, seed)...)
	return r, nil
}

// extras are the figures that are not of a step's time: errors of the output, and resident memory.
func (p *probe) extras(ctx context.Context, c childCell, o Options) ([]results.Value, error) {
	var list []results.Value
	if c.Kind == Prefill && o.Fidelity > 0 {
		v, err := p.fidelity(o.Fidelity)
		if err != nil {
			return nil, err
		}
		list = v
	}
	if o.NoRSS {
		return list, nil
	}
	n, ok, err := childRSS(ctx, c, o.childArgs)
	if err != nil {
		return nil, err
	}
	if ok {
		list = append(list, results.Value{Value: float64(n), Unit: "peak-RSS-B"})
	}
	return list, nil
}

// timing is what the clock and the heap saw of a number of steps.
type timing struct {
	iters         int
	sec           float64 // a step
	heap, allocs  float64 // a step
	before, after Peak
}

// time warms up and takes one sample.
func (p *probe) time(ctx context.Context, o Options) (timing, error) {
	if err := p.warmUp(); err != nil {
		return timing{}, err
	}
	if o.Iters == 0 && o.Work > 0 {
		o.Iters = int(min(max(1, o.Work/float64(max(1, p.flops))), 256))
	}
	var t timing
	t.before = o.Meter.PeakOf(&p.info, p.bytes)
	var took time.Duration
	var a, b runtime.MemStats
	for t.iters == 0 || t.iters < o.Iters || o.Iters == 0 && took < o.MinTime {
		if err := ctx.Err(); err != nil {
			return t, err
		}
		n := max(1, p.round)
		if o.Iters > 0 {
			n = min(n, o.Iters-t.iters)
		}
		runtime.ReadMemStats(&a)
		start := time.Now()
		for range n {
			if err := p.step(); err != nil {
				return t, err
			}
		}
		took += time.Since(start)
		runtime.ReadMemStats(&b)
		t.iters += n
		t.heap += float64(b.TotalAlloc - a.TotalAlloc)
		t.allocs += float64(b.Mallocs - a.Mallocs)
		if p.round > 0 {
			if err := p.rewind(); err != nil {
				return t, err
			}
		}
	}
	t.after = o.Meter.PeakOf(&p.info, p.bytes)
	n := float64(t.iters)
	t.sec, t.heap, t.allocs = took.Seconds()/n, t.heap/n, t.allocs/n
	return t, nil
}

// warmUp runs the second step, the first one being part of prepare. It finds the arenas as one piece, whose
// pages are mapped now. What earlier cells left to the collector is collected now.
func (p *probe) warmUp() error {
	if err := p.step(); err != nil {
		return err
	}
	if p.round > 0 {
		if err := p.rewind(); err != nil {
			return err
		}
	}
	runtime.GC()
	return nil
}

// values turns a sample's time into figures. A step that is faster than its operations at the highest rate that
// the machine has shown is an error: something was not computed, or is counted wrongly.
func (p *probe) values(t timing, m *Meter) ([]results.Value, error) {
	if t.sec <= 0 {
		return nil, fmt.Errorf("a step took no time: want one that the clock can see")
	}
	rate := float64(p.flops) / t.sec
	for try := 0; rate > slack*m.BestOf(&p.info); try++ {
		if try == 3 {
			return nil, fmt.Errorf("%.4g FLOP/s, more than the measured peak of %.4g: want every operation done, and none counted twice", rate, m.BestOf(&p.info))
		}
		m.PeakOf(&p.info, p.bytes) // the peak may have been taken while the machine was disturbed
	}
	v := []results.Value{
		{Value: t.sec, Unit: "sec/op"},
		{Value: float64(p.tokens) / t.sec, Unit: "tok/s"},
	}
	if p.flops > 0 {
		v = append(v, results.Value{Value: rate, Unit: "FLOP/s"})
	}
	if p.bytes > 0 {
		v = append(v, results.Value{Value: float64(p.bytes) / t.sec, Unit: "B/s"})
	}
	if p.flops > 0 || p.bytes > 0 {
		v = append(v, results.Value{Value: p.ofRoof(t), Unit: "of-roof"})
	}
	return append(v, p.exact...), nil
}

// ofRoof returns the least time that the machine needs for a step, by the mean of the peaks before and after the sample, as a share of
// the time that it took. It is at most 1: what exceeds that is the swing between peaks and sample, which the check of the
// highest rate bounds, or a step that keeps more of its working set near than a plain read of as many bytes does.
func (p *probe) ofRoof(t timing) float64 {
	return min(1, t.before.Mean(t.after).Roof(p.flops, p.bytes)/t.sec)
}

const slack = 1.1 // the clock's speed changes between the peak and the cell
