package attn

import (
	"fmt"
	"slices"
	"strings"

	"attnbench/internal/options"
)

type entry struct {
	build func(text string) (Mechanism, error)
	spell func(o any) string
	help  func() []Option
}

var registry = map[string]entry{}

// Register makes a mechanism known by name. O is a struct whose fields tagged `opt:"name"` are
// the options (bool, int, uint64, float64, string); defaults are their values when a spelling leaves them out. build
// checks the options and returns the mechanism. Register is called from init and panics on a
// second registration of a name.
func Register[O any](name string, defaults O, build func(O) (Mechanism, error)) {
	if _, dup := registry[name]; dup {
		panic("attn: Register called twice for mechanism " + name)
	}
	if err := options.CheckName(name); err != nil {
		panic("attn: " + err.Error())
	}
	registry[name] = entry{
		build: func(text string) (Mechanism, error) {
			o := defaults // a copy: the defaults stay as registered
			if err := options.Parse(text, &o); err != nil {
				return nil, fmt.Errorf("mechanism %s: %w", name, err)
			}
			m, err := build(o)
			if err != nil {
				return nil, fmt.Errorf("mechanism %s: %w", name, err)
			}
			return m, nil
		},
		spell: func(o any) string { return options.Spell(o, defaults) },
		help:  func() []Option { return options.Describe(defaults) },
	}
}

var wrappers = map[string]func(Mechanism) (Mechanism, error){}

// RegisterWrapper makes a wrapper known by name: what makes one mechanism of another, spelled name(mechanism). Its Info.Name has
// the same form.
func RegisterWrapper(name string, build func(Mechanism) (Mechanism, error)) {
	if _, dup := wrappers[name]; dup {
		panic("attn: RegisterWrapper called twice for " + name)
	}
	if err := options.CheckName(name); err != nil {
		panic("attn: " + err.Error())
	}
	wrappers[name] = build
}

// Wrappers returns the names of the registered wrappers, sorted.
func Wrappers() []string {
	var s []string
	for name := range wrappers {
		s = append(s, name)
	}
	slices.Sort(s)
	return s
}

// wrap makes name(inner).
func wrap(spec string) (Mechanism, error) {
	name, inner, _ := strings.Cut(strings.TrimSuffix(spec, ")"), "(")
	build, ok := wrappers[name]
	if !ok {
		return nil, fmt.Errorf("unknown wrapper %q: want one of %s", name, strings.Join(Wrappers(), ", "))
	}
	m, err := New(inner)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if m, err = build(m); err != nil {
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	return m, nil
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

// Options describes the options of a registered mechanism; nil for an unknown one.
func Options(name string) []Option {
	e, ok := registry[name]
	if !ok {
		return nil
	}
	return e.help()
}

// New returns the mechanism that spec spells: a name, name:option=value,option=value, or wrapper(mechanism).
func New(spec string) (Mechanism, error) {
	if strings.HasSuffix(spec, ")") && strings.Contains(spec, "(") {
		return wrap(spec)
	}
	name, opts, has := strings.Cut(spec, ":")
	e, ok := registry[name]
	if !ok {
		return nil, fmt.Errorf("unknown mechanism %q: want one of %s", name, strings.Join(Names(), ", "))
	}
	if has && opts == "" {
		return nil, fmt.Errorf("mechanism %s: nothing after the colon: want option=value", name)
	}
	return e.build(opts)
}

// Spell returns the canonical spelling of a registered mechanism with the options o, an O of its
// Register call: the options that differ from the defaults, in the order of the struct. A mechanism uses it for
// Info.Name, so that equal mechanisms have equal names.
func Spell(name string, o any) string {
	e, ok := registry[name]
	if !ok {
		return name
	}
	if s := e.spell(o); s != "" {
		return name + ":" + s
	}
	return name
}

// Pattern splits a layer pattern "a|b|c" into its spellings and checks each: layer i of a model
// uses entry i modulo the number of entries.
func Pattern(spec string) ([]string, error) {
	parts := strings.Split(spec, "|")
	for i, p := range parts {
		m, err := New(p)
		if err != nil {
			if len(parts) > 1 {
				return nil, fmt.Errorf("layer pattern %q: %w", spec, err)
			}
			return nil, err
		}
		parts[i] = m.Info().Name
	}
	return parts, nil
}

// Layers returns one mechanism for each of n layers of a model by the pattern spec, whose parts take turns. Each must have its turn: a
// model would be called after a mechanism that it lacks.
func Layers(spec string, n int) ([]Mechanism, error) {
	parts, err := Pattern(spec)
	if err != nil {
		return nil, err
	}
	if len(parts) > max(n, 1) {
		return nil, fmt.Errorf("layer pattern %q: %d mechanisms for %d layers: want at most one a layer", spec, len(parts), n)
	}
	ms := make([]Mechanism, n)
	for i := range ms {
		if ms[i], err = New(parts[i%len(parts)]); err != nil {
			return nil, err
		}
	}
	return ms, nil
}
