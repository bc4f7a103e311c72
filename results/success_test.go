package results

import (
	"math"
	"strings"
	"testing"
)

func TestSuccess(t *testing.T) {
	set := read(t, `Unit accuracy better=higher
Unit bits/byte better=lower
BenchmarkAccuracy/task=x/mech=full 1 0.99 accuracy 2 bits/byte 1 seed
BenchmarkAccuracy/task=x/mech=full 1 1 accuracy 3 bits/byte 2 seed
BenchmarkAccuracy/task=x/mech=full 1 0.98 accuracy 4 bits/byte 3 seed
BenchmarkAccuracy/task=x/mech=gla 1 0.5 accuracy 2.5 bits/byte 1 seed
BenchmarkAccuracy/task=x/mech=gla 1 1 diverged 2 seed
BenchmarkAccuracy/task=x/mech=wild 1 1 diverged 1 seed
`)
	tables, _, err := set.Tables(Query{})
	if err != nil {
		t.Fatal(err)
	}
	tables[0].AddColumn("chance", "Accuracy", nil, map[string]float64{"accuracy": 1})
	var b strings.Builder
	if err := WriteSuccess(&b, CSV, tables, []Bar{{"accuracy", 0.99}, {"bits/byte", 2.5}}); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{
		"mech,benchmark,task,unit,bar,reached,samples,low,high",
		"full,Accuracy,x,accuracy,0.99,2,3,0.0942993", // its beginning, as R's binom.test(2, 3) and (1, 3) give it
		"gla,Accuracy,x,accuracy,0.99,0,2,0,0.841886",
		"wild,Accuracy,x,accuracy,0.99,0,1,0,0.975",
		"full,Accuracy,x,bits/byte,2.5,1,3,0.0084037",
		"gla,Accuracy,x,bits/byte,2.5,1,2,0.0125791",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("line %d of\n%s\nwant %s", i, b.String(), want)
		}
	}
	b.Reset()
	if err := WriteSuccess(&b, Text, tables, []Bar{{"accuracy", 0.99}}); err != nil || !strings.Contains(b.String(), "│ accuracy ≥ 0.9900 │ 2/3 0.09..0.99 │ 0/2 0.00..0.84 │ 0/1 0.00..0.97 │") || strings.Contains(b.String(), "chance") {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	for _, bar := range []Bar{{"params", 1}, {"nothing", 1}} {
		if err := WriteSuccess(&b, Text, tables, []Bar{{"accuracy", 0.99}, bar}); err == nil || !strings.Contains(err.Error(), bar.Unit) || b.Len() > 0 {
			t.Errorf("%v: error %v, written %q: want nothing", bar, err, b.String())
		}
	}
}

// TestSuccessInterval: the ends where none or all succeed have closed forms.
func TestSuccessInterval(t *testing.T) {
	for n := 1; n < 40; n++ {
		edge := math.Pow(0.025, 1/float64(n))
		if low, high := (rate{reached: 0, n: n}).interval(); low != 0 || math.Abs(high-(1-edge)) > 1e-9 {
			t.Errorf("0 of %d: %v..%v: want 0..%v", n, low, high, 1-edge)
		}
		if low, high := (rate{reached: n, n: n}).interval(); high != 1 || math.Abs(low-edge) > 1e-9 {
			t.Errorf("%d of %d: %v..%v: want %v..1", n, n, low, high, edge)
		}
		for k := 1; k < n; k++ {
			low, high := (rate{reached: k, n: n}).interval()
			l2, h2 := (rate{reached: n - k, n: n}).interval()
			if p := float64(k) / float64(n); !(low < p && p < high) || math.Abs(low-(1-h2)) > 1e-9 || math.Abs(high-(1-l2)) > 1e-9 {
				t.Errorf("%d of %d: %v..%v, of the others %v..%v", k, n, low, high, l2, h2)
			}
		}
	}
}

func FuzzParseBar(f *testing.F) {
	for _, s := range []string{"accuracy=0.99", "bits/byte=-1e3", "=", "a=NaN", "a=b=1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBar(s)
		if err != nil {
			if !strings.Contains(err.Error(), "want UNIT=VALUE") {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if b.Unit == "" || math.IsNaN(b.Value) || math.IsInf(b.Value, 0) || !strings.HasPrefix(s, b.Unit+"=") {
			t.Errorf("%q: %+v", s, b)
		}
	})
}
