package task

import (
	"fmt"
	"slices"
	"strings"

	"attnbench/internal/options"
)

// Path is the type of options that hold a path; spellings write special characters as %XX.
type Path = options.Path

// Option describes one option of a task.
type Option = options.Option

type entry struct {
	build func(text string) (Task, error)
	spell func(o any) string
	help  func() []Option
}

var registry = map[string]entry{}

// Register makes a task known by name. O is a struct whose fields tagged `opt:"name"` are the options
// (bool, int, uint64, float64, string, Path); defaults are their values when a spelling leaves them out.
// build checks the options and returns the task. Register is called from init and panics on a
// second registration of a name.
func Register[O any](name string, defaults O, build func(O) (Task, error)) {
	if _, dup := registry[name]; dup {
		panic("task: Register called twice for task " + name)
	}
	if err := options.CheckName(name); err != nil {
		panic("task: " + err.Error())
	}
	registry[name] = entry{
		build: func(text string) (Task, error) {
			o := defaults // a copy: the defaults stay as registered
			if err := options.Parse(text, &o); err != nil {
				return nil, fmt.Errorf("task %s: %w", name, err)
			}
			t, err := build(o)
			if err != nil {
				return nil, fmt.Errorf("task %s: %w", name, err)
			}
			return t, nil
		},
		spell: func(o any) string { return options.Spell(o, defaults) },
		help:  func() []Option { return options.Describe(defaults) },
	}
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

// Options describes the options of a registered task; nil for an unknown one.
func Options(name string) []Option {
	e, ok := registry[name]
	if !ok {
		return nil
	}
	return e.help()
}

// New returns the task that spec spells: a name, or name:option=value,option=value.
func New(spec string) (Task, error) {
	name, opts, has := strings.Cut(spec, ":")
	e, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("unknown task %q: want one of %s", name, strings.Join(Names(), ", "))
	}
	if has && opts == "" {
		return nil, fmt.Errorf("task %s: nothing after the colon: want option=value", name)
	}
	return e.build(opts)
}

// Spell returns the canonical spelling of a registered task with the options o, an O of its
// Register call: the options that differ from the defaults, in the order of the struct.
func Spell(name string, o any) string {
	if s := registry[name].spell(o); s != "" {
		return name + ":" + s
	}
	return name
}
