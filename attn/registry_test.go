package attn

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

type probeOptions struct {
	Window int     `opt:"window"`
	Ratio  float64 `opt:"ratio"`
	Seed   uint64  `opt:"seed"`
	Sinks  bool    `opt:"sinks"`
	Map    string  `opt:"map"`
	Hidden int     // no tag: not an option
}

var probeDefaults = probeOptions{Window: 512, Ratio: 0.5, Map: "elu"}

type probe struct{ o probeOptions }

func (p probe) Info() Info                      { return Info{Name: Spell("probe", p.o)} }
func (p probe) Forward(*Workspace, *Call) error { return nil }

func init() {
	Register("probe", probeDefaults, func(o probeOptions) (Mechanism, error) {
		if o.Window < 1 {
			return nil, OptionError("window", o.Window, "an integer of at least 1")
		}
		return probe{o}, nil
	})
	Register("bare", struct{}{}, func(struct{}) (Mechanism, error) { return bare{}, nil })
}

type bare struct{}

func (bare) Info() Info                      { return Info{Name: Spell("bare", struct{}{})} }
func (bare) Forward(*Workspace, *Call) error { return nil }

func TestNewReadsSpellings(t *testing.T) {
	with := func(change func(o *probeOptions)) probeOptions { o := probeDefaults; change(&o); return o }
	for _, c := range []struct {
		spec string
		want probeOptions
		name string // canonical
	}{
		{"probe", probeDefaults, "probe"},
		{"probe:window=512", probeDefaults, "probe"},
		{"probe:window=4", with(func(o *probeOptions) { o.Window = 4 }), "probe:window=4"},
		{"probe:sinks=true,window=4", with(func(o *probeOptions) { o.Window, o.Sinks = 4, true }), "probe:window=4,sinks=true"},
		{"probe:seed=18446744073709551615", with(func(o *probeOptions) { o.Seed = 1<<64 - 1 }), "probe:seed=18446744073709551615"},
		{"probe:ratio=.25", with(func(o *probeOptions) { o.Ratio = 0.25 }), "probe:ratio=0.25"},
		{"probe:ratio=1e3", with(func(o *probeOptions) { o.Ratio = 1000 }), "probe:ratio=1000"},
		{"probe:map=relu", with(func(o *probeOptions) { o.Map = "relu" }), "probe:map=relu"},
	} {
		m, err := New(c.spec)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		if got := m.(probe).o; got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.spec, got, c.want)
		}
		if got := m.Info().Name; got != c.name {
			t.Errorf("%s: name %s, want %s", c.spec, got, c.name)
		}
	}
	if m, err := New("probe:window=7"); err != nil || m.(probe).o.Window != 7 {
		t.Fatal(m, err)
	}
	if m, err := New("probe"); err != nil || m.(probe).o != probeDefaults {
		t.Errorf("the defaults changed: %+v %v", m, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ spec, say string }{
		{"prob", `unknown mechanism "prob": want one of bare, probe`},
		{"", `unknown mechanism "": want one of`},
		{" probe", "unknown mechanism"},
		{"probe:", "mechanism probe: nothing after the colon: want option=value"},
		{"probe:window", `option "window": want option=value`},
		{"probe:window=", "option window=: want an integer"},
		{"probe:window=0", "option window=0: want an integer of at least 1"},
		{"probe:window=1.5", "option window=1.5: want an integer"},
		{"probe:window=99999999999999999999", "want an integer"},
		{"probe:window=4,window=4", "option window: given twice"},
		{"probe:window=4,", `option "": want option=value`},
		{"probe:widow=4", `unknown option "widow": want one of window, ratio, seed, sinks, map`},
		{"probe:Hidden=4", `unknown option "Hidden"`},
		{"probe:Window=4", `unknown option "Window"`},
		{"probe:seed=-1", "option seed=-1: want an integer of at least 0"},
		{"probe:ratio=NaN", "option ratio=NaN: want a finite number"},
		{"probe:ratio=-Inf", "want a finite number"},
		{"probe:ratio=1e999", "want a finite number"},
		{"probe:sinks=yes", "option sinks=yes: want true or false"},
		{"probe:sinks=1", "want true or false"},
		{"probe:map=", "option map="},
		{"probe:map=a|b", "option map="},
		{"probe:map=a b", "option map="},
		{"probe:map=a\u00a0b", "option map="},
		{"probe:map=a\vb", "option map="},
		{"probe:map=a\x00b", "option map="},
		{"bare:window=4", `unknown option "window": it has none`},
	} {
		_, err := New(c.spec)
		if err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%q: got %v, want %q in it", c.spec, err, c.say)
		}
	}
}

func TestNamesAndOptions(t *testing.T) {
	if got := Names(); !reflect.DeepEqual(got, []string{"bare", "probe"}) {
		t.Errorf("names: %v", got)
	}
	var got []string
	for _, o := range Options("probe") {
		got = append(got, o.Name+" "+o.Type+" "+o.Default)
	}
	if got := strings.Join(got, ", "); got != "window int 512, ratio float64 0.5, seed uint64 0, sinks bool false, map string elu" {
		t.Errorf("options: %s", got)
	}
	if Options("bare") != nil || Options("unknown") != nil {
		t.Error("options of a mechanism without, or of none: want nil")
	}
}

func TestRegisterPanics(t *testing.T) {
	for _, name := range []string{"probe", "", "a:b", "a|b", "a/b", "a b", "a=b"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register(%q): want a panic", name)
				}
			}()
			Register(name, struct{}{}, func(struct{}) (Mechanism, error) { return bare{}, nil })
		}()
	}
}

func TestPattern(t *testing.T) {
	got, err := Pattern("probe:window=512|bare|probe:sinks=true,window=3")
	if err != nil || !reflect.DeepEqual(got, []string{"probe", "bare", "probe:window=3,sinks=true"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for spec, say := range map[string]string{
		"bare|":       `layer pattern "bare|": unknown mechanism ""`,
		"|":           "unknown mechanism",
		"bare|prob":   `layer pattern "bare|prob": unknown mechanism "prob"`,
		"probe:w=1":   `unknown option "w"`,
		"bare||probe": "unknown mechanism",
	} {
		if _, err := Pattern(spec); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: got %v, want %q in it", spec, err, say)
		}
	}
	ms, err := Layers("bare|bare|probe", 7)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range ms {
		names = append(names, m.Info().Name)
	}
	if got := strings.Join(names, " "); got != "bare bare probe bare bare probe bare" {
		t.Errorf("layers: %s", got)
	}
	if _, err := Layers("bare|bare|probe", 2); err == nil || !strings.Contains(err.Error(), "3 mechanisms for 2 layers: want at most one a layer") {
		t.Errorf("a pattern longer than the model: %v", err)
	}
	if ms, err := Layers("bare", 0); err != nil || len(ms) != 0 {
		t.Errorf("no layers: %v, %v", ms, err)
	}
}

// FuzzNew checks that no spelling panics, and that the name of what it makes is canonical: safe
// in benchmark names, and read back as the same mechanism.
func FuzzNew(f *testing.F) {
	for _, s := range []string{"probe", "probe:", "bare", "probe:window=4,sinks=true", "probe:ratio=1e-7", "probe:ratio=-0", "a|b", "probe:map=é", "probe:map=a\rb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		m, err := New(spec)
		if err != nil {
			return
		}
		name := m.Info().Name
		for _, r := range name {
			if r <= ' ' || r > '~' || strings.ContainsRune("|/()\"", r) {
				t.Errorf("%q: name %q holds %q", spec, name, r)
			}
		}
		again, err := New(name)
		if err != nil {
			t.Fatalf("%q: name %q cannot be read back: %v", spec, name, err)
		}
		if fmt.Sprint(again) != fmt.Sprint(m) || again.Info().Name != name {
			t.Errorf("%q: %v, but its name %q gives %v", spec, m, name, again)
		}
		if _, err := Pattern(spec); err != nil && !strings.Contains(spec, "|") {
			t.Errorf("%q is a mechanism but no pattern: %v", spec, err)
		}
	})
}
