// Package system holds whole language systems in which the attention variant is the exchangeable part: each trains a
// model of its own on real data and scores it by its field's metrics. A system whose models are a decoder LM on
// a task.Task needs none: package train does that.
//
// Systems are made by name with the spelling of options that mechanisms and tasks have: translate:set=bible-en-es.
package system

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"attnbench/internal/options"
	"attnbench/task"
	"attnbench/train"
)

// System is one system with its options. Values are immutable and safe for concurrent use.
type System interface {
	Info() Info
	// Fit trains one model and scores it on the test set: a function of the options, the data and the fit's
	// mechanism, seed and steps alone.
	Fit(ctx context.Context, f Fit) (Result, error)
}

// Info describes a system.
type Info struct {
	Name    string          // canonical spelling with options, as New parses it
	Title   string          // what a table calls it
	Mech    string          // what Fit.Mech names: "self-attention", or "encoder+decoder+cross"
	Recipe  string          // every number that a result depends on but mechanism, seed and steps; its hash goes into result keys
	Steps   int             // when Fit.Steps is 0
	Sets    []string        // folders of the data that it reads
	Metrics []task.Metric   // all that a Result may give, the most important first
	Floors  []task.Baseline // what stands beside: majority, dictionary, an older model
}

// Fit is what one model differs in from the next.
type Fit struct {
	Data       string // folder with the data sets
	Mech       string // mechanism, layer pattern or several between plus signs, as Info.Mech says
	Seed       uint64
	Steps      int                  // optimiser steps; 0 means Info.Steps
	Checkpoint string               // file to write now and then and to go on from; empty for none
	Progress   func(train.Progress) // unless nil, called after every step
	Log        io.Writer            // samples and notes for people; nil for none
}

// Result is what a model came to.
type Result struct {
	Values  []task.Value // metrics of the test set
	Params  int
	Steps   int
	Seconds float64 // spent in training steps
}

type entry struct {
	build func(text string) (System, error)
	help  func() []options.Option
}

var registry = map[string]entry{}

// Register makes a system known by name, as task.Register does with tasks.
func Register[O any](name string, defaults O, build func(O) (System, error)) {
	if _, dup := registry[name]; dup {
		panic("system: Register called twice for system " + name)
	}
	if err := options.CheckName(name); err != nil {
		panic("system: " + err.Error())
	}
	registry[name] = entry{
		build: func(text string) (System, error) {
			o := defaults
			if err := options.Parse(text, &o); err != nil {
				return nil, fmt.Errorf("system %s: %w", name, err)
			}
			s, err := build(o)
			if err != nil {
				return nil, fmt.Errorf("system %s: %w", name, err)
			}
			return s, nil
		},
		help: func() []options.Option { return options.Describe(defaults) },
	}
}

// Spell returns the canonical spelling of a name with options o that differ from defaults.
func Spell[O any](name string, o, defaults O) string {
	if s := options.Spell(o, defaults); s != "" {
		return name + ":" + s
	}
	return name
}

// Names returns the registered names, sorted.
func Names() []string {
	var s []string
	for name := range registry {
		s = append(s, name)
	}
	slices.Sort(s)
	return s
}

// Options describes the options of a registered system; nil for an unknown one.
func Options(name string) []options.Option {
	e, ok := registry[name]
	if !ok {
		return nil
	}
	return e.help()
}

// Has reports whether spec begins with the name of a system.
func Has(spec string) bool {
	name, _, _ := strings.Cut(spec, ":")
	_, ok := registry[name]
	return ok
}

// New returns the system that spec spells: a name, or name:option=value,option=value.
func New(spec string) (System, error) {
	name, opts, has := strings.Cut(spec, ":")
	e, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("unknown system %q: want one of %s", name, strings.Join(Names(), ", "))
	}
	if has && opts == "" {
		return nil, fmt.Errorf("system %s: nothing after the colon: want option=value", name)
	}
	return e.build(opts)
}

// Set returns the folder of a data set, with an error that says what is missing.
func (f *Fit) Set(name string, files ...string) (string, error) {
	if f.Data == "" {
		return "", fmt.Errorf("no data folder: want --data DIR with the set %s", name)
	}
	dir := filepath.Join(f.Data, name)
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			return "", fmt.Errorf("data set %s: %w: want %s in %s", name, err, strings.Join(files, ", "), dir)
		}
	}
	return dir, nil
}
