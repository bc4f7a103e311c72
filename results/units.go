package results

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"
)

// Unit describes a unit of measurement.
type Unit struct {
	Name   string // a base unit such as sec/op, without prefix: never ms/op
	Better int    // +1 when higher is better, -1 when lower is, 0 when neither
	Exact  bool   // the figure is exact: repetitions must agree
	Plain  bool   // printed without k, M, µ: fractions, errors, counts of steps
	Text   string // what it measures, for help texts
}

// SeedUnit is the unit under which the seed of a sample stands in its benchmark line, where repetitions
// have one configuration. It is a part of the key and never shown as a figure.
const SeedUnit = "seed"

var units = []Unit{
	{Name: "sec/op", Better: -1, Text: "time of one pass"},
	{Name: "base-sec/op", Better: -1, Text: "time of one pass of the mechanism that is compared with, measured in turns"},
	{Name: "of-base", Better: -1, Plain: true, Text: "time of one pass as a share of the base's"},
	{Name: "tok/s", Better: +1, Text: "tokens a second"},
	{Name: "FLOP/s", Better: +1, Text: "floating-point operations a second, by the closed form"},
	{Name: "B/s", Better: +1, Text: "bytes moved a second, by the closed form"},
	{Name: "of-roof", Better: +1, Plain: true, Text: "fraction of the machine's measured limit that is reached, at most 1"},
	{Name: "set-B", Exact: true, Text: "working set that is read again and again"},
	{Name: "FLOPs", Better: -1, Exact: true, Text: "floating-point operations of one pass"},
	{Name: "scratch-B", Better: -1, Exact: true, Text: "largest scratch memory of one pass"},
	{Name: "saved-B", Better: -1, Exact: true, Text: "memory that forward keeps for backward"},
	{Name: "state-B", Better: -1, Exact: true, Text: "memory that the decoding state retains"},
	{Name: "read-B", Better: -1, Exact: true, Text: "state that decoding one token reads"},
	{Name: "step-B", Better: -1, Exact: true, Text: "memory of one training step"},
	{Name: "peak-RSS-B", Better: -1, Text: "largest resident memory of a process of its own"},
	{Name: "diverged", Better: -1, Plain: true, Text: "1: the training ended with a loss or gradient that is not finite"},
	{Name: "params", Exact: true, Plain: true, Text: "trained numbers of the model"},
	{Name: "best-step", Plain: true, Text: "step whose validation was the best"},
	{Name: "steps", Exact: true, Plain: true, Text: "optimiser steps"},
	{Name: "sec/step", Better: -1, Text: "time of one training step"},
	{Name: "nats/token", Better: -1, Plain: true, Text: "mean loss a token"},
	{Name: "bits/byte", Better: -1, Plain: true, Text: "loss on held-out text"},
	{Name: "recall-bits/byte", Better: -1, Plain: true, Text: "loss on bytes that repeat an earlier bigram of the context"},
	{Name: "rest-bits/byte", Better: -1, Plain: true, Text: "loss on all other bytes"},
	{Name: "nats/query", Better: -1, Plain: true, Text: "mean loss a query"},
	{Name: "accuracy", Better: +1, Plain: true, Text: "fraction of the labels that are predicted"},
	{Name: "near-accuracy", Better: +1, Plain: true, Text: "accuracy on queries within the mechanism's reach"},
	{Name: "far-accuracy", Better: +1, Plain: true, Text: "accuracy on queries beyond the mechanism's reach"},
	{Name: "row-accuracy", Better: +1, Plain: true, Text: "mean over sequences of the fraction of their labels that is predicted"},
	{Name: "seq-accuracy", Better: +1, Plain: true, Text: "fraction of the sequences whose labels are all predicted"},
	{Name: "rel-err", Better: -1, Plain: true, Text: "error against the mechanism's own definition"},
	{Name: "full-err", Better: -1, Plain: true, Text: "error against full attention on the same queries, keys and values"},
	{Name: "B/op", Better: -1, Text: "heap memory of one pass"},
	{Name: "allocs/op", Better: -1, Plain: true, Text: "heap allocations of one pass"},
	{Name: SeedUnit, Plain: true, Text: "seed of the sample, a part of its key"},
}

// RegisterUnit makes a further unit known, such as a task's own metric. It is called from init
// and panics on a name that is known already or is not a base unit.
func RegisterUnit(u Unit) {
	if _, known := LookupUnit(u.Name); known {
		panic("results: RegisterUnit called twice for unit " + u.Name)
	}
	if err := checkBase(u.Name); err != nil {
		panic("results: " + err.Error())
	}
	units = append(units, u)
}

// Units returns all known units.
func Units() []Unit { return slices.Clone(units) }

// LookupUnit returns the known unit of that name. The loss by position, nats@n, is known for every
// position n.
func LookupUnit(name string) (Unit, bool) {
	for _, u := range units {
		if u.Name == name {
			return u, true
		}
	}
	if base, at, ok := strings.Cut(name, "@"); ok && at != "" && strings.Trim(at, "0123456789") == "" {
		if u, ok := LookupUnit(base); ok {
			u.Name, u.Text = name, u.Text+", at position "+at
			return u, true
		}
	}
	return Unit{}, false
}

// metadata returns the unit's lines in a benchmark file.
func (u Unit) metadata() []*benchfmt.UnitMetadata {
	var list []*benchfmt.UnitMetadata
	add := func(key, value string) {
		list = append(list, &benchfmt.UnitMetadata{
			UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: u.Name, Key: key}, OrigUnit: u.Name, Value: value,
		})
	}
	switch u.Better {
	case +1:
		add("better", "higher")
	case -1:
		add("better", "lower")
	}
	if u.Exact {
		add("assume", "exact")
	}
	return list
}

// WriteUnits writes the metadata lines of all known units in Go benchmark format, as a TestMain
// does before its benchmarks run.
func WriteUnits(w io.Writer) error {
	bw := benchfmt.NewWriter(w)
	for _, u := range units {
		for _, m := range u.metadata() {
			if err := bw.Write(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// prefixed are spellings of a scaled quantity, as the first word of a unit.
var prefixed = strings.Fields(`ns us µs μs ms nsec usec msec
	KB MB GB TB kB KiB MiB GiB TiB
	kFLOP KFLOP MFLOP GFLOP TFLOP kFLOPs MFLOPs GFLOPs TFLOPs GFLOPS MFLOPS TFLOPS
	ktok Ktok Mtok`)

// checkBase reports a unit that is not a base unit.
func checkBase(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("unit %q: want one word", name)
	}
	_, tidy := benchunit.Tidy(1, name)
	first, _, _ := strings.Cut(name, "/")
	if i := strings.LastIndexByte(first, '-'); i >= 0 { // the quantity ends the word: scratch-KB
		first = first[i+1:]
	}
	if tidy != name || slices.Contains(prefixed, first) {
		return fmt.Errorf("unit %q: want base units, such as sec/op", name)
	}
	return nil
}

// checkValue reports a figure that no statistic is defined on, or a unit that is scaled.
func checkValue(v float64, unit string) error {
	if err := checkBase(unit); err != nil {
		return err
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("value %v %s: want a finite number", v, unit)
	}
	return nil
}
