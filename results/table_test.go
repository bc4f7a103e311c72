package results

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/olekukonko/tablewriter/pkg/twwidth"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func read(t *testing.T, text string) *Set {
	t.Helper()
	s := new(Set)
	if err := s.Read(strings.NewReader(text), "results.txt"); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTablesGolden(t *testing.T) {
	for _, c := range []struct {
		name  string
		query Query
		files []string
	}{
		{"sweep", Query{}, []string{"testdata/sweep.txt"}},
		{"units", Query{Units: []string{"tok/s", "sec/op"}, Filter: `.name:Prefill /mech:/^sliding|full/`}, []string{"testdata/sweep.txt"}},
		{"rows", Query{Row: ".name,/mech", Col: "/n@num", Units: []string{"sec/op"}}, []string{"testdata/sweep.txt"}},
		{"gotest", Query{Row: ".name", Col: "goos"}, []string{"testdata/gotest.txt"}},
		{"files", Query{Col: ".file,/mech", Units: []string{"sec/op"}}, []string{"testdata/sweep.txt", "testdata/new.txt"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := ReadFiles(c.files...)
			if err != nil {
				t.Fatal(err)
			}
			tables, warnings, err := set.Tables(c.query)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range []Format{Text, Markdown, CSV, HTML} {
				var b bytes.Buffer
				if err := WriteTables(&b, f, tables); err != nil {
					t.Fatal(err)
				}
				for _, w := range append(set.Warnings, warnings...) {
					fmt.Fprintf(&b, "warning: %v\n", w)
				}
				golden(t, c.name+"."+string(f), b.Bytes())
			}
		})
	}
}

func TestMergeGolden(t *testing.T) {
	set, err := ReadFiles("testdata/sweep.txt")
	if err != nil {
		t.Fatal(err)
	}
	tables, _, err := set.Tables(Query{Units: []string{"tok/s", "scratch-B", "accuracy"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Format{Text, Markdown, CSV} {
		var b bytes.Buffer
		if err := WriteTables(&b, f, []*Table{Merge("all", tables)}); err != nil {
			t.Fatal(err)
		}
		golden(t, "merge."+string(f), b.Bytes())
	}
}

func TestCompareGolden(t *testing.T) {
	before, err := ReadFiles("testdata/sweep.txt")
	if err != nil {
		t.Fatal(err)
	}
	after, err := ReadFiles("testdata/new.txt")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compare(before, after, Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Format{Text, Markdown, CSV} {
		var b bytes.Buffer
		if err := c.Write(&b, f); err != nil {
			t.Fatal(err)
		}
		golden(t, "compare."+string(f), b.Bytes())
	}
}

// TestFigure: few samples, equal ones, none of them hidden.
func TestFigure(t *testing.T) {
	sec, _ := LookupUnit("sec/op")
	exact, _ := LookupUnit("scratch-B")
	acc, _ := LookupUnit("accuracy")
	for _, c := range []struct {
		unit   Unit
		values []float64
		want   string
		conf   float64
	}{
		{sec, []float64{5, 4, 3, 2, 1}, "3.000 1.000..5.000 n=5", 0.9375},
		{sec, []float64{1, 2, 3, 4, 5, 6}, "3.500 ±71% n=6", 0.96875},
		{sec, []float64{0.0125}, "12.50m n=1", 0},
		{sec, []float64{2, 2}, "2.000 ±0% n=2", 0.5},
		{sec, []float64{-1, 0, 0, 0, 0, 1}, "0.000 -1.000..1.000 n=6", 0.96875},
		{exact, []float64{4096, 4096}, "4.000Ki ±0% n=2", 1},
		{exact, []float64{4096}, "4.000Ki ±0% n=1", 1},
		{exact, []float64{4096, 8192, 8192}, "8.000Ki 4.000Ki..8.000Ki n=3", 0.75},
		{acc, []float64{0.98765, 1}, "0.9938 0.9877..1 n=2", 0.5},
		{acc, []float64{0, 0}, "0 ±0% n=2", 0.5},
	} {
		f := NewFigure(c.unit, c.values)
		if f.String() != c.want || f.Confidence != c.conf {
			t.Errorf("%v %s: %q at %v: want %q at %v", c.values, c.unit.Name, f, f.Confidence, c.want, c.conf)
		}
	}
}

func TestFormat(t *testing.T) {
	plain := Unit{Name: "rel-err", Plain: true}
	for _, c := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {1, "1"}, {-1, "-1"}, {1.23456e-7, "1.23e-07"}, {0.0012345, "0.0012"}, {0.5, "0.5000"}, {0.98765, "0.9877"},
		{2.19341, "2.193"}, {123.456, "123.5"}, {12345.6, "12346"}, {1e6 + 0.5, "1.00e+06"}, {1e20, "1.00e+20"},
	} {
		if got := plain.Format(c.v); got != c.want {
			t.Errorf("%v: %q: want %q", c.v, got, c.want)
		}
	}
}

// TestRefused: figures and queries that have no table, and the errors that say why.
func TestRefused(t *testing.T) {
	good := "BenchmarkPrefill/mech=a/n=1 1 5 sec/op\n"
	for _, c := range []struct {
		text  string
		query Query
		want  string
	}{
		{good + "BenchmarkPrefill/mech=a/n=1 1 NaN sec/op\n", Query{}, "results.txt:2: cell Prefill/mech=a/n=1: value NaN sec/op: want a finite number"},
		{good + "BenchmarkPrefill/mech=a/n=1 1 +Inf ns/op\n", Query{}, "results.txt:2: cell Prefill/mech=a/n=1: value +Inf"},
		{good + "BenchmarkPrefill/mech=a/n=1 1 5 ms/op\n", Query{}, `results.txt:2: unit "ms/op": want base units, such as sec/op`},
		{good, Query{Units: []string{"tok/s"}}, `unit "tok/s": no result has it: want one of sec/op`},
		{good, Query{Row: "n"}, `key "n": no result has it: want one of .name, .fullname, .file, /mech, /n`},
		{good, Query{Row: "/n@up"}, `row "/n@up": `},
		{good, Query{Row: ".unit"}, `row ".unit": `},
		{good, Query{Col: "/mech@("}, `column "/mech@(": `},
		{good, Query{Filter: "/mech:b"}, `filter "/mech:b": no result matches it`},
		{good, Query{Filter: "/mech"}, `filter "/mech": `},
	} {
		_, _, err := read(t, c.text).Tables(c.query)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %+v: error %v: want %q", c.text, c.query, err, c.want)
		}
	}
	// What the filter or the choice of units leaves out does no harm.
	text := good + "BenchmarkPrefill/mech=b/n=1 1 NaN sec/op 3 ms/op\n"
	if _, _, err := read(t, text).Tables(Query{Filter: "/mech:a"}); err != nil {
		t.Error(err)
	}
}

// TestUnlike: samples that are unlike are not pooled, and an equal seed never counts twice.
func TestUnlike(t *testing.T) {
	line := "BenchmarkPrefill/mech=a/n=1 1 %d sec/op\n"
	sample := func(config string, v int) string { return config + fmt.Sprintf(line, v) }
	for _, c := range []struct {
		name, text string
		want       []string // title: samples of each table
		warnings   int
	}{
		{"no seeds", sample("", 1) + sample("", 2), []string{"Prefill: 2"}, 0},
		{"seeds", sample("seed: 1\n", 1) + sample("seed: 2\n", 2), []string{"Prefill: 2"}, 0},
		{"equal seeds", sample("seed: 1\n", 1) + sample("", 2), []string{"Prefill: 1"}, 1},
		{"equal seeds as metrics", "BenchmarkPrefill/mech=a/n=1 1 1 sec/op 3 seed\nBenchmarkPrefill/mech=a/n=1 1 2 sec/op 3 seed\n", []string{"Prefill: 1"}, 1},
		{"a seed in both forms", sample("seed: 3\n", 1) + "seed:\nBenchmarkPrefill/mech=a/n=1 1 2 sec/op 3 seed\n", []string{"Prefill: 1"}, 1},
		{"levels", sample("kernel: avx2\n", 1) + sample("kernel: generic\n", 2), []string{"Prefill kernel=avx2: 1", "Prefill kernel=generic: 1"}, 0},
		{"revisions and machines", sample("cpu: x\nrevision: 1\n", 1) + sample("revision: 2\n", 2) + sample("cpu: y\n", 3), []string{
			"Prefill revision=1 cpu=x: 1", "Prefill revision=2 cpu=x: 1", "Prefill revision=2 cpu=y: 1"}, 0},
		{"other configuration", sample("date: x\n", 1) + sample("date: y\n", 2), []string{"Prefill: 2"}, 0},
		{"an outside function", sample("", 1) + "BenchmarkMine/Prefill/mech=a/n=1 1 2 sec/op\n", []string{"Prefill: 2"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tables, warnings, err := read(t, c.text).Tables(Query{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tab := range tables {
				got = append(got, fmt.Sprintf("%s: %d", tab.Title, len(tab.Rows[0].Cells[0].Values)))
			}
			if !slices.Equal(got, c.want) || len(warnings) != c.warnings {
				t.Errorf("got %q and %q: want %q and %d warnings", got, warnings, c.want, c.warnings)
			}
			for _, w := range warnings {
				if !strings.Contains(w.Error(), "cell Prefill/mech=a/n=1") {
					t.Errorf("warning %q does not name the cell", w)
				}
			}
		})
	}
}

func TestCompare(t *testing.T) {
	samples := func(name, unit string, v ...float64) string {
		var b strings.Builder
		for _, x := range v {
			fmt.Fprintf(&b, "Benchmark%s 1 %v %s\n", name, x, unit)
		}
		return b.String()
	}
	for _, c := range []struct {
		name          string
		before, after string
		verdicts      string
		mean          string // of the last unit
	}{
		{"a cell is missing", samples("A", "sec/op", 100) + samples("B", "sec/op", 10000), samples("A", "sec/op", 100),
			"cannot tell,only old", "+0.00% over 1 common cells; 1 on one side only"},
		{"three cannot tell", samples("A", "sec/op", 1, 1.1, 1.2), samples("A", "sec/op", 9, 9.1, 9.2), "cannot tell", "+727.27% over 1"},
		{"four can", samples("A", "sec/op", 1, 1.1, 1.2, 1.3), samples("A", "sec/op", 9, 9.1, 9.2, 9.3), "worse", ""},
		{"three against ten", samples("A", "sec/op", 1, 1.1, 1.2), samples("A", "sec/op", 9, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6, 9.7, 9.8, 9.9), "cannot tell", ""},
		{"higher is better", samples("A", "tok/s", 1, 1.1, 1.2, 1.3), samples("A", "tok/s", 9, 9.1, 9.2, 9.3), "better", ""},
		{"no direction", samples("A", "apples", 1, 1.1, 1.2, 1.3), samples("A", "apples", 9, 9.1, 9.2, 9.3), "changed", ""},
		{"a file says the direction", samples("A", "apples", 1, 1.1, 1.2, 1.3), "Unit apples better=higher\n" + samples("A", "apples", 9, 9.1, 9.2, 9.3), "better", ""},
		{"noise", samples("A", "sec/op", 1, 2, 3, 4, 5), samples("A", "sec/op", 1.5, 2.5, 3.5, 4.5, 2), "~", ""},
		{"equal", samples("A", "accuracy", 1, 1, 1, 1), samples("A", "accuracy", 1, 1, 1, 1), "~", "+0.00% over 1"},
		{"exact, once each", samples("A", "scratch-B", 4096), samples("A", "scratch-B", 2048), "better", "-50.00% over 1"},
		{"exact that varies", samples("A", "scratch-B", 4096, 5000), samples("A", "scratch-B", 2048), "cannot tell", ""},
		{"from zero", samples("A", "scratch-B", 0) + samples("B", "scratch-B", 4), samples("A", "scratch-B", 8) + samples("B", "scratch-B", 8), "worse,worse", "+100.00% over 1 common cells; 1 with a figure that is not positive"},
		{"nothing in common", samples("A", "sec/op", 1), samples("B", "sec/op", 1), "only old,only new", "no common cell"},
		{"levels mixed on one side", "kernel: a\n" + samples("A", "scratch-B", 1) + "kernel: b\n" + samples("A", "scratch-B", 2), "kernel: b\n" + samples("A", "scratch-B", 2), "only old,~", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmp, err := Compare(read(t, c.before), read(t, c.after), Query{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ch := range cmp.Changes {
				got = append(got, string(ch.Verdict))
			}
			if s := strings.Join(got, ","); s != c.verdicts {
				t.Errorf("verdicts %q: want %q", s, c.verdicts)
			}
			if lines := cmp.MeanLines(); !strings.Contains(lines[len(lines)-1], c.mean) {
				t.Errorf("means %q: want %q", lines, c.mean)
			}
			for _, f := range []Format{Text, Markdown, CSV, HTML} {
				var b bytes.Buffer
				if err := cmp.Write(&b, f); err != nil {
					t.Fatal(err)
				}
				if s := b.String(); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") || strings.Contains(s, "∞") {
					t.Errorf("%s shows what is no number:\n%s", f, s)
				}
			}
		})
	}
}

// hostile are cells that break formats.
var hostile = []string{
	"sec/op", "kv_heads", "a|b", "a||b", `a\|b`, `a\`, "a,b", `a"b`, `"a"`, `"`, "a<b>&amp;c", "two\nlines", "\n", "µs", "±2%", "日本", "e\u0301", "é",
	" lead", "trail ", "\ttab", "", "~", "**b**", "`c`", "👩‍🔬", "sliding:window=512,sinks=4", "#", "a;b", "'", "=1+1", "<br>", "&lt;",
}

// TestReadsBack: headers and cells survive every format.
func TestReadsBack(t *testing.T) {
	for _, h := range hostile {
		want := [][]string{{"mech", h}, {h, "x"}, {"y", h}}
		s := Sheet{Header: want[0], Rows: want[1:], Left: 1, Title: h, Notes: []string{h}}
		for _, f := range []struct {
			format Format
			parse  func(string) [][]string
		}{{Text, parseText}, {Markdown, parseMarkdown}, {CSV, parseCSV}, {HTML, parseHTML}} {
			var b bytes.Buffer
			if err := s.Write(&b, f.format); err != nil {
				t.Fatal(err)
			}
			if got := f.parse(b.String()); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("%s: got %q: want %q from\n%s", f.format, got, want, &b)
			}
			if f.format == Text {
				checkWidth(t, b.String())
			}
		}
	}
}

func checkWidth(t *testing.T, text string) {
	t.Helper()
	width := -1
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "│") && !strings.HasPrefix(line, "├") && !strings.HasPrefix(line, "┌") && !strings.HasPrefix(line, "└") {
			continue
		}
		if w := twwidth.Width(line); width < 0 {
			width = w
		} else if w != width {
			t.Errorf("line %q is %d wide: want %d in\n%s", line, w, width, text)
		}
	}
}

func parseText(text string) (rows [][]string) {
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "│") {
			continue
		}
		var row []string
		for _, c := range strings.Split(strings.Trim(line, "│"), "│") {
			c = strings.TrimSpace(c)
			if u, err := strconv.Unquote(c); err == nil && strings.HasPrefix(c, `"`) {
				c = u
			}
			row = append(row, c)
		}
		rows = append(rows, row)
	}
	return rows
}

func parseMarkdown(text string) (rows [][]string) {
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		var row []string
		cell := ""
		for i := 1; i < len(line); i++ {
			switch {
			case line[i] == '\\':
				i++
				cell += line[i : i+1]
			case line[i] == '|':
				row, cell = append(row, cell), ""
			default:
				cell += line[i : i+1]
			}
		}
		for i := range row {
			row[i] = html.UnescapeString(strings.ReplaceAll(strings.TrimSpace(row[i]), "<br>", "\n"))
		}
		rows = append(rows, row)
	}
	return rows
}

func parseHTML(text string) (rows [][]string) {
	for _, line := range strings.Split(text, "<tr>")[1:] {
		var row []string
		for _, c := range strings.Split(line, `">`)[1:] {
			c, _, _ = strings.Cut(c, "</t")
			row = append(row, html.UnescapeString(strings.ReplaceAll(c, "<br>", "\n")))
		}
		rows = append(rows, row)
	}
	return rows
}

func parseCSV(text string) [][]string {
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return [][]string{{err.Error()}}
	}
	return rows
}

// TestLocale: the same bytes whatever the locale, which the width library asks at start-up.
func TestLocale(t *testing.T) {
	s := Sheet{Header: []string{"µ", "±", "日本"}, Rows: [][]string{{"…", "─", "é"}}, Left: 1}
	if os.Getenv("ATTNBENCH_TEST_LOCALE") != "" {
		s.Write(os.Stdout, Text)
		return
	}
	var outs []string
	for _, lang := range []string{"C", "ja_JP.UTF-8"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLocale$")
		cmd.Env = append(os.Environ(), "ATTNBENCH_TEST_LOCALE=1", "LANG="+lang, "LC_ALL="+lang, "RUNEWIDTH_EASTASIAN=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		outs = append(outs, strings.Split(string(out), "PASS")[0])
	}
	if outs[0] != outs[1] || !strings.Contains(outs[0], "日本") {
		t.Errorf("C:\n%s\nja_JP:\n%s", outs[0], outs[1])
	}
}

func TestRaggedSheet(t *testing.T) {
	s := Sheet{Header: []string{"a", "b"}, Rows: [][]string{{"1"}}}
	for _, f := range []Format{Text, Markdown, CSV, HTML} {
		if err := s.Write(new(bytes.Buffer), f); err == nil {
			t.Errorf("%s: a row of one cell under two headers passed", f)
		}
	}
	if err := (&Sheet{}).Write(new(bytes.Buffer), "xml"); err == nil {
		t.Error("format xml passed")
	}
}
