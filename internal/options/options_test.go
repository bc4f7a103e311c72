package options

import (
	"strings"
	"testing"
)

type all struct {
	On    bool    `opt:"on"`
	N     int     `opt:"n"`
	Seed  uint64  `opt:"seed"`
	X     float64 `opt:"x"`
	Kind  string  `opt:"kind"`
	Where Path    `opt:"path"`
	other int
}

var defaults = all{N: 3, Kind: "plain"}

func TestParseAndSpell(t *testing.T) {
	for _, c := range []struct{ in, spelled string }{
		{"", ""},
		{"n=3", ""},
		{"n=-4,on=true", "on=true,n=-4"},
		{"x=0.10,seed=18446744073709551615,kind=a-b.c_d", "seed=18446744073709551615,x=0.1,kind=a-b.c_d"},
		{"path=/home/a b/c.txt", "path=%2Fhome%2Fa%20b%2Fc.txt"},
		{"path=a%2cb%3Dc%25", "path=a%2Cb%3Dc%25"},
	} {
		o := defaults
		if err := Parse(c.in, &o); err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		got := Spell(o, defaults)
		if got != c.spelled {
			t.Errorf("%q: spelled %q: want %q", c.in, got, c.spelled)
		}
		again := defaults
		if err := Parse(got, &again); err != nil || again != o {
			t.Errorf("%q: reads back as %+v, %v: want %+v", got, again, err, o)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"n", `option "n": want option=value`},
		{"n=1,n=2", "option n: given twice"},
		{"m=1", "unknown option \"m\": want one of on, n, seed, x, kind, path"},
		{"other=1", "unknown option"},
		{"n=1.5", "option n=1.5: want an integer"},
		{"seed=-1", "an integer of at least 0"},
		{"x=NaN", "a finite number"},
		{"on=yes", "true or false"},
		{"kind=", "letters, digits"},
		{"kind=a/b", "letters, digits"},
		{"path=%2", "a path"},
		{"path=%zz", "a path"},
	} {
		o := defaults
		if err := Parse(c.in, &o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v: want %q", c.in, err, c.want)
		}
	}
	if err := Parse("a=1", &struct{}{}); err == nil || !strings.Contains(err.Error(), "it has none") {
		t.Errorf("no options: error %v", err)
	}
	_ = defaults.other
}

func FuzzParse(f *testing.F) {
	f.Add("n=1,on=true")
	f.Add("path=/a%2Fb,kind=x")
	f.Add("x=1e400,,=")
	f.Fuzz(func(t *testing.T, s string) {
		o := defaults
		if Parse(s, &o) != nil {
			return
		}
		again := defaults
		if err := Parse(Spell(o, defaults), &again); err != nil || again != o {
			t.Fatalf("%q reads back as %+v, %v: want %+v", s, again, err, o)
		}
	})
}

type Shared struct {
	Dim  int `opt:"dim"`
	Deep bool
}

type outer struct {
	Set string `opt:"set"`
	Shared
	Rate float64 `opt:"rate"`
}

// TestEmbedded: the options of an embedded struct are those of the whole, in its place.
func TestEmbedded(t *testing.T) {
	defaults := outer{Set: "a", Shared: Shared{Dim: 2}, Rate: 1}
	o := defaults
	if err := Parse("rate=2,dim=3,set=b", &o); err != nil {
		t.Fatal(err)
	}
	if got := Spell(o, defaults); o.Dim != 3 || got != "set=b,dim=3,rate=2" {
		t.Errorf("%+v, spelled %q", o, got)
	}
	if err := Parse("deep=true", &o); err == nil || !strings.Contains(err.Error(), "want one of set, dim, rate") {
		t.Errorf("error %v", err)
	}
}
