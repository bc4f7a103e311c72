package command

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"attnbench/harness"
	"attnbench/results"
	"attnbench/task"
)

// report is what a main job might have found.
func report() *harness.Report {
	r := &harness.Report{
		Peak: harness.Peak{FLOPs: 2e11, Read: 3e10}, Mechs: []string{"a", "b:w=1|a"}, Lengths: []int{512, 2048}, LeftOut: []string{"c"},
		Task: task.Info{Name: "book", Title: "A book, byte by byte", Metrics: []task.Metric{{Unit: "bits/byte", Better: "lower", Chance: 8}}},
		Baselines: []task.Baseline{
			{Name: "order-0", Values: []task.Value{{Unit: "bits/byte", Value: 4.5}}},
			{Name: "order-2", Values: []task.Value{{Unit: "bits/byte", Value: 2.8}}},
		},
	}
	r.Recipe.Train.Steps = 150
	add := func(name string, seed int, values ...results.Value) {
		r.Records = append(r.Records, results.Record{
			Name: name, Iters: 1, Config: []results.Config{{Key: "seed", Value: fmt.Sprint(seed)}}, Values: values,
		})
	}
	for i, mech := range r.Mechs {
		for seed := range 6 {
			for _, n := range []int{512, 2048} {
				t := float64(n) * 1e-6 * float64(i+1) * (1 + 0.01*float64(seed))
				add(fmt.Sprintf("Prefill/mech=%s/n=%d/heads=4/dim=64/causal=true/kv=4/batch=1", mech, n), seed,
					results.Value{Value: t, Unit: "sec/op"}, results.Value{Value: float64(n) / t, Unit: "tok/s"}, results.Value{Value: 65536, Unit: "scratch-B"})
			}
			add(fmt.Sprintf("Decode/mech=%s/n=2048/heads=4/dim=64/causal=true/kv=4/batch=1", mech), seed, results.Value{Value: 1 << 20, Unit: "state-B"})
		}
		add(fmt.Sprintf("Accuracy/task=book/mech=%s/dim=64/layers=2/steps=150", mech), 1, results.Value{Value: 4.25 + float64(i), Unit: "bits/byte"})
	}
	r.Outcome.Skipped = []harness.Failure{{Name: "x", Err: errors.New("Prefill/mech=b: it needs 9GiB: want at most 1GiB")}}
	return r
}

func TestReport(t *testing.T) {
	for _, f := range []results.Format{results.Text, results.Markdown, results.CSV} {
		var out, errOut bytes.Buffer
		if err := printReport(&out, &errOut, report(), f); err != nil {
			t.Fatal(err)
		}
		if f == results.CSV {
			fmt.Fprintf(&out, "\nnotes:\n%s", &errOut)
		}
		path := filepath.Join("testdata", "report."+string(f)+".golden")
		if *update {
			if err := os.WriteFile(path, out.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: got\n%s\nwant\n%s", path, &out, want)
		}
	}
}

// TestReportCSV: the mechanism is the first column, and every figure is a plain number.
func TestReportCSV(t *testing.T) {
	var out, errOut bytes.Buffer
	if err := printReport(&out, &errOut, report(), results.CSV); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	median := slices.Index(rows[0], "median")
	if rows[0][0] != "mech" || median < 0 {
		t.Fatalf("header %q: want mech first, and median", rows[0])
	}
	seen := map[string]bool{}
	for _, r := range rows[1:] {
		seen[r[0]] = true
		if _, err := strconv.ParseFloat(r[median], 64); err != nil {
			t.Errorf("row %q: %v", r, err)
		}
	}
	for _, m := range []string{"a", "b:w=1|a", "order-0", "chance"} {
		if !seen[m] {
			t.Errorf("no row of %s", m)
		}
	}
}

func TestProgressLines(t *testing.T) {
	var b bytes.Buffer
	show, done := progress(&b)
	jobs := []harness.Job{
		{Name: "one", Key: "one seed=1", Run: func(context.Context) (results.Record, error) {
			return results.Record{}, errors.New("it broke")
		}},
	}
	if _, err := harness.Sweep(context.Background(), jobs, new(harness.Memory), show); err != nil {
		t.Fatal(err)
	}
	done()
	if got, want := b.String(), "1/1 one: it broke\n"; got != want {
		t.Errorf("got %q: want %q", got, want)
	}
}

func TestBytesFlag(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64 // -1 for an error
	}{
		{"0", 0}, {"1024", 1024}, {"4GiB", 4 << 30}, {"1.5 MiB", 3 << 19}, {"2GB", 2e9}, {"7B", 7},
		{"", -1}, {"GiB", -1}, {"-1", -1}, {"1e30", -1}, {"NaN", -1}, {"4GiBs", -1}, {"4 4", -1}, {"4gib", -1},
	} {
		var b bytesFlag
		if err := b.Set(c.text); (err != nil) != (c.want < 0) || err == nil && int64(b) != c.want {
			t.Errorf("%q: %d, %v: want %d", c.text, b, err, c.want)
		}
	}
}
