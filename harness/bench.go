package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"attnbench/attn"
	"attnbench/results"
)

// Bench is the sweep as Go benchmarks, over all registered mechanisms, those of the calling module among them:
//
//	func BenchmarkPrefill(b *testing.B)  { harness.Bench(b) }
//	func BenchmarkTrain(b *testing.B)    { harness.Bench(b) }
//	func BenchmarkDecode(b *testing.B)   { harness.Bench(b) }
//	func BenchmarkAccuracy(b *testing.B) { harness.Bench(b) }
//
// A function with one of these names measures that kind, and its results are called
// Prefill/mech=…/n=…/heads=…/dim=…/causal=…/kv=…/batch=…. A function with any other name measures
// all four, and its own name stands in front: Attention/Prefill/mech=…. The table command leaves it out.
//
// Each part of a name is a level of sub-benchmarks, so that -bench 'Prefill/mech=(full|linear)$/n=4096$'
// chooses; flags after -args say which lengths, shapes, mechanisms and tasks there are. Repetition i of -count draws
// its inputs, or its model and data, from seed+i, reported as the metric seed. Unit and configuration
// lines are printed before the first result. What cannot be computed or does not fit in memory is skipped, with its reason in a comment line.
func Bench(b *testing.B) {
	top, _, _ := strings.Cut(b.Name(), "/")
	hasChild = true
	if text, is := os.LookupEnv(childEnv); is {
		if err := runChild(text, os.Stdout); err != nil {
			b.Fatal(err)
		}
		return
	}
	header()
	args := []string{"-test.run=^$", "-test.bench=^" + top + "$", "-test.benchtime=1x", "-test.count=1"}
	s := suite{meter: NewMeter(), args: args}
	for _, k := range Kinds {
		if b.Name() == "Benchmark"+k.String() {
			s.kind(b, k)
			return
		}
	}
	for _, k := range Kinds {
		b.Run(k.String(), func(b *testing.B) { s.kind(b, k) })
	}
}

var headerOnce sync.Once

// header prints the lines that stand before all results of this process.
func header() {
	headerOnce.Do(func() {
		results.WriteUnits(os.Stdout)
		printConfig(versions()...)
	})
}

func printConfig(list ...results.Config) {
	for _, c := range list {
		fmt.Printf("%s: %s\n", c.Key, c.Value)
	}
}

type suite struct {
	meter  *Meter
	args   []string     // by which a child process reaches Bench
	errors bytes.Buffer // benchmark lines to print between two sub-benchmarks
}

// The testing package prints no more than seven digits after the point, too few for an error of 1e-7.
// Errors get lines of their own under the same name, when no line of another benchmark is open.
func (s *suite) printErrors() {
	s.errors.WriteTo(os.Stdout)
	s.errors.Reset()
}

func (s *suite) addErrors(b *testing.B, seed uint64, values []results.Value) {
	if len(values) == 0 {
		return
	}
	name := b.Name()
	if n := workers(); n != 1 {
		name += fmt.Sprint("-", n)
	}
	fmt.Fprintf(&s.errors, "%s\t1", name)
	for _, v := range append(values, results.Value{Value: float64(seed), Unit: results.SeedUnit}) {
		fmt.Fprintf(&s.errors, "\t%.6g %s", v.Value, v.Unit)
	}
	s.errors.WriteByte('\n')
}

func (s *suite) kind(b *testing.B, k Kind) {
	if k == Accuracy {
		s.accuracy(b)
		return
	}
	for _, spec := range bench.mechs.orMechanisms() {
		m, err := attn.New(spec)
		if err != nil {
			b.Fatal(err)
		}
		info := m.Info()
		b.Run("mech="+info.Name, func(b *testing.B) {
			// Before its sub-benchmarks start, the line on the terminal is empty: later it would break theirs.
			printConfig(results.Config{Key: "revision", Value: fmt.Sprint(info.Revision)})
			s.levels(b, k, Case{Mech: info.Name}, levels)
			s.printErrors()
		})
	}
}

// level is one part of a case's name that varies.
type level struct {
	values func() int
	set    func(c *Case, i int)
}

var levels = []level{
	{func() int { return len(bench.lengths) }, func(c *Case, i int) { c.N = bench.lengths[i] }},
	{func() int { return len(bench.heads) }, func(c *Case, i int) { c.Heads = bench.heads[i] }},
	{func() int { return len(bench.dims) }, func(c *Case, i int) { c.Dim = bench.dims[i] }},
	{func() int { return len(bench.causal) }, func(c *Case, i int) { c.Causal = bench.causal[i] }},
	{func() int { return len(bench.kv) }, func(c *Case, i int) { c.KVHeads = bench.kv[i] }},
	{func() int { return len(bench.batch) }, func(c *Case, i int) { c.Batch = bench.batch[i] }},
}

// levels runs a sub-benchmark for each value of the first of the levels that are left, and at the
// end the case itself.
func (s *suite) levels(b *testing.B, k Kind, c Case, left []level) {
	part := 1 + len(levels) - len(left) // after mech
	for i := range left[0].values() {
		c := c
		left[0].set(&c, i)
		leaf := func(b *testing.B) { s.levels(b, k, c, left[1:]) }
		if len(left) == 1 {
			var seeds seeds
			leaf = func(b *testing.B) { s.one(b, k, c, seeds.next()) }
		}
		b.Run(c.parts()[part], leaf)
	}
}

// seeds counts the repetitions of one benchmark, for each number of workers that -cpu asks for.
type seeds map[int]uint64

func (s *seeds) next() uint64 {
	if *s == nil {
		*s = seeds{}
	}
	n := (*s)[workers()]
	(*s)[workers()]++
	return bench.seed + n
}

// one is one repetition of one case.
func (s *suite) one(b *testing.B, k Kind, c Case, seed uint64) {
	o := Options{Limit: bench.limit, Fidelity: bench.fidelity, NoRSS: !bench.rss, Meter: s.meter, childArgs: s.args}
	needs, err := c.Needs(k)
	if err == nil {
		err = checkMemory(c.Name(k), needs, o.Limit)
	}
	var p *probe
	if err == nil {
		p, err = prepare(c, k, seed, false)
	}
	if err == nil {
		err = p.warmUp()
	}
	stop(b, err)
	t := timing{before: s.meter.PeakOf(&p.info, p.bytes)}
	b.ReportAllocs()
	for b.Loop() {
		if p.round > 0 && t.iters > 0 && t.iters%p.round == 0 {
			b.StopTimer()
			if err := p.rewind(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if err := p.step(); err != nil {
			b.Fatal(err)
		}
		t.iters++
	}
	t.after = s.meter.PeakOf(&p.info, p.bytes)
	t.sec = b.Elapsed().Seconds() / float64(t.iters)
	values, err := p.values(t, s.meter)
	if err == nil {
		var more []results.Value
		more, err = p.extras(context.Background(), childCell{c, k, seed}, o)
		values = append(values, more...)
	}
	if err != nil {
		b.Fatal(err)
	}
	var errs []results.Value
	for _, v := range values {
		switch v.Unit {
		case "sec/op": // the testing package writes that itself
		case "rel-err", "full-err":
			errs = append(errs, v)
		default:
			b.ReportMetric(v.Value, v.Unit)
		}
	}
	s.addErrors(b, seed, errs)
	b.ReportMetric(float64(seed), results.SeedUnit)
	runtime.KeepAlive(p)
}

// stop ends the benchmark when there is an error: it is skipped when there is nothing to measure.
func stop(b *testing.B, err error) {
	if err == nil {
		return
	}
	skip(err, b.Fatal)
	b.SkipNow()
}

// skip prints why a cell has no result, in a line that is a comment to all that reads the output. Any other error is fatal.
func skip(err error, fatal func(...any)) {
	var large *TooLarge
	var none *Unsupported
	if !errors.As(err, &large) && !errors.As(err, &none) {
		fatal(err)
	}
	fmt.Printf("# skipped: %v\n", err)
}
