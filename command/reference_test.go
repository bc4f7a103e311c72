package command

import (
	"context"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"attnbench/harness"
	"attnbench/model/public"
	"attnbench/results"
)

// TestStoriesTable computes the reference results of the small published model again, and holds the table that is beside them
// against them.
func TestStoriesTable(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const dir = "../model/public/testdata/stories260k"
	d, err := public.LoadDecoder(dir, "full")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := harness.ReadTokens(dir + "/sample512.tsv")
	if err != nil {
		t.Fatal(err)
	}
	set, err := results.ReadFiles("../results/data/stories260k.txt")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("../results/data/stories260k-table.txt")
	if err != nil {
		t.Fatal(err)
	}
	cells, decoded := 0, 0
	for _, r := range set.Results {
		part := map[string]string{}
		for _, p := range strings.Split(string(r.Name), "/") {
			k, v, _ := strings.Cut(p, "=")
			part[k] = v
		}
		want, _ := r.Value("nats/token")
		row := regexp.MustCompile(`(?m)^│ ` + regexp.QuoteMeta(part["mech"]) + ` .* ` + regexp.QuoteMeta(strconv.FormatFloat(want, 'f', 4, 64)) + ` │`)
		if !row.Match(table) {
			t.Errorf("the table has no row %s", row)
		}
		cells++
		prompt, err := strconv.Atoi(part["prompt"])
		if err != nil {
			t.Fatal(err)
		}
		if prompt > 0 {
			if decoded++; decoded > 3 { // the others would take seconds
				continue
			}
		}
		e := &harness.Eval{Model: d.LM, Checkpoint: "stories260k", Text: "sample512", Tokens: tokens, Prompt: prompt}
		jobs, err := e.Jobs([]string{part["mech"]})
		if err != nil {
			t.Fatal(err)
		}
		if jobs[0].Name != string(r.Name) {
			t.Errorf("%s: now called %s", r.Name, jobs[0].Name)
		}
		got, err := jobs[0].Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if v := got.Values[0].Value; !(math.Abs(v-want) < 1e-4) {
			t.Errorf("%s: %v nats a token: want %v", r.Name, v, want)
		}
	}
	if cells < 30 {
		t.Errorf("%d cells: want all of the table's", cells)
	}
}
