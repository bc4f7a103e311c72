package results

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/perf/benchfmt"
)

// Record is the result of one finished cell of a sweep: one line of a Go benchmark file and the
// configuration that it stands under.
type Record struct {
	// Name is the benchmark's name without the word Benchmark, such as
	// Prefill/mech=full/n=1024/heads=8/dim=64/causal=true/kv=8/batch=1.
	Name   string
	Iters  int // passes that the values are averages of; at least 1
	Config []Config
	Values []Value
}

// Config is one configuration line.
type Config struct{ Key, Value string }

// Value is one figure in a known base unit.
type Value struct {
	Value float64
	Unit  string
}

// KeyConfig are the configuration keys that, with the name, tell one sample from another: the
// mechanism's revision, the hash of the recipe, the kernel level, the machine, the number of workers and the seed. Samples
// are pooled only when they agree in all but the seed, and differ in that.
var KeyConfig = []string{"revision", "recipe", "kernel", "cpu", "workers", "seed"}

// Get returns the value of a configuration key, or "".
func (r *Record) Get(key string) string {
	for _, c := range r.Config {
		if c.Key == key {
			return c.Value
		}
	}
	return ""
}

// Set sets a configuration key, or removes it when value is "".
func (r *Record) Set(key, value string) {
	for i, c := range r.Config {
		if c.Key == key {
			if value == "" {
				r.Config = append(r.Config[:i:i], r.Config[i+1:]...)
				return
			}
			r.Config[i].Value = value
			return
		}
	}
	if value != "" {
		r.Config = append(r.Config, Config{key, value})
	}
}

// Key returns what tells this sample from all others: the name and the values of KeyConfig.
func (r *Record) Key() string { return r.result().key() }

// Key returns the key that a record of that name and configuration will have, before it is
// measured. Lines other than KeyConfig do not matter.
func Key(name string, config ...Config) string {
	r := Record{Name: name, Config: config}
	return r.Key()
}

// check reports what a benchmark file cannot hold, or no table could show.
func (r *Record) check() error {
	if r.Name == "" || strings.ContainsFunc(r.Name, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }) {
		return fmt.Errorf("cell %q: bad name: want one word", r.Name)
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("cell %s: %w", r.Name, fmt.Errorf(format, args...))
	}
	if _, parts := benchfmt.Name(r.Name).Parts(); len(parts) > 0 && parts[len(parts)-1][0] == '-' {
		return bad("the name ends in %s, which is read as GOMAXPROCS: want another last part", parts[len(parts)-1])
	}
	if r.Iters < 1 {
		return bad("%d iterations: want at least 1", r.Iters)
	}
	if len(r.Values) == 0 {
		return bad("no values: want at least one")
	}
	seen := map[string]bool{}
	for _, v := range r.Values {
		if err := checkValue(v.Value, v.Unit); err != nil {
			return bad("%w", err)
		}
		if _, ok := LookupUnit(v.Unit); !ok {
			return bad("unknown unit %q: want one that RegisterUnit was told of", v.Unit)
		}
		if seen[v.Unit] {
			return bad("unit %s: given twice", v.Unit)
		}
		seen[v.Unit] = true
	}
	clear(seen)
	for _, c := range r.Config {
		if !validKey(c.Key) {
			return bad("configuration key %q: want a word that begins with a lower-case letter", c.Key)
		}
		if c.Value != strings.TrimSpace(c.Value) || c.Value == "" || strings.ContainsFunc(c.Value, unicode.IsControl) {
			return bad("configuration %s: value %q: want one line of text", c.Key, c.Value)
		}
		if seen[c.Key] {
			return bad("configuration %s: given twice", c.Key)
		}
		seen[c.Key] = true
	}
	return nil
}

// validKey reports whether the benchmark format reads key back as a key.
func validKey(key string) bool {
	for i, c := range key {
		if i == 0 && !unicode.IsLower(c) || unicode.IsSpace(c) || unicode.IsUpper(c) || unicode.IsControl(c) || c == ':' || c == unicode.ReplacementChar {
			return false
		}
	}
	return key != ""
}

func (r *Record) result() *result {
	res := &benchfmt.Result{Name: benchfmt.Name(r.Name), Iters: r.Iters}
	for _, c := range r.Config {
		res.Config = append(res.Config, benchfmt.Config{Key: c.Key, Value: []byte(c.Value), File: true})
	}
	for _, v := range r.Values {
		res.Values = append(res.Values, benchfmt.Value{Value: v.Value, Unit: v.Unit})
	}
	return (*result)(res)
}

// seedAsValue moves a seed from the configuration to the values, as go test prints it too: by a
// line of configuration for every sample benchstat would put each into a table of its own.
func (r *Record) seedAsValue() Record {
	out := *r
	n, err := strconv.ParseUint(r.Get("seed"), 10, 53) // what a float64 holds
	if err != nil || strconv.FormatUint(n, 10) != r.Get("seed") {
		return out
	}
	if slices.ContainsFunc(r.Values, func(v Value) bool { return v.Unit == SeedUnit }) {
		return out
	}
	out.Config = slices.DeleteFunc(slices.Clone(r.Config), func(c Config) bool { return c.Key == "seed" })
	out.Values = append(slices.Clone(r.Values), Value{float64(n), SeedUnit})
	return out
}

// result is a benchmark line as read, with what this package asks of it.
type result benchfmt.Result

func (r *result) bench() *benchfmt.Result { return (*benchfmt.Result)(r) }

// config returns a configuration value. The seed may stand among the values instead.
func (r *result) config(key string) string {
	if s := r.bench().GetConfig(key); s != "" || key != "seed" {
		return s
	}
	if v, ok := r.bench().Value(SeedUnit); ok {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

func (r *result) key() string {
	var b bytes.Buffer
	b.Write(r.Name)
	for _, k := range KeyConfig {
		fmt.Fprintf(&b, " %s=%s", k, r.config(k))
	}
	return b.String()
}
