package harness

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"attnbench/results"
)

// TestOutsideModule runs what the README of examples/plugin shows, in that module.
func TestOutsideModule(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another module")
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = "../examples/plugin"
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v (go mod tidy there, if this module's requirements changed)\n%s%s", strings.Join(args, " "), err, out, errOut.String())
		}
		return string(out)
	}
	run("vet", ".")
	run("test", "-short", ".")
	if out := run("run", ".", "list"); !strings.Contains(out, "cosine") || !strings.Contains(out, "full") {
		t.Errorf("list shows neither its own mechanism nor ours:\n%s", out)
	}
	out := run("test", "-run", "xxx", "-bench", "Attention/(Prefill|Decode)/mech=cosine", "-benchtime", "2x", "-count", "2", ".",
		"-args", "-lengths", "40", "-heads", "4", "-kv", "2", "-dim", "8")
	var set results.Set
	if err := set.Read(strings.NewReader(out), "bench.txt"); err != nil || len(set.Warnings) > 0 {
		t.Errorf("the benchmark's output: %v %v\n%s", err, set.Warnings, out)
	}
	for _, want := range []string{
		`(?m)^Unit tok/s better=higher$`, `(?m)^kernel: \w+$`, `(?m)^revision: 1$`,
		`(?m)^BenchmarkAttention/Prefill/mech=cosine/n=40/heads=4/dim=8/causal=true/kv=2/batch=1(-\d+)?\s+2\s.* scratch-B\s.*2\.000 seed`,
		`(?m)^BenchmarkAttention/Prefill/\S+\s1\s.*e-\d+ rel-err\s`,
		`(?m)^BenchmarkAttention/Decode/mech=cosine/\S*.* state-B`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no line matches %s:\n%s", want, out)
		}
	}
	if _, ok := peakRSS(); ok && !strings.Contains(out, "peak-RSS-B") {
		t.Errorf("no resident memory:\n%s", out)
	}
}
