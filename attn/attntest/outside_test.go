package attntest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutsideModule runs the kit in a module of its own, from a copy beside a go.sum that knows
// what this module needs, so that the go command changes nothing here.
func TestOutsideModule(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another module")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for from, to := range map[string]string{
		"testdata/outside/go.mod":       "go.mod",
		"testdata/outside/mean.go":      "mean.go",
		"testdata/outside/mean_test.go": "mean_test.go",
		filepath.Join(root, "go.sum"):   "go.sum",
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if to == "go.mod" {
			text = []byte(strings.Replace(string(text), "../../../..", root, 1))
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func() (string, error) {
		cmd := exec.Command("go", "test", "-short", "-count=1", "./...")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err != nil {
		t.Fatalf("go test in an outside module: %v\n%s", err, out)
	}

	// The same mechanism with one fault: the line must fail, and say where.
	path := filepath.Join(dir, "mean.go")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(text), "float32(max(1, j+1))", "float32(max(1, j))", 1)
	if wrong == string(text) {
		t.Fatal("the line to break is not there")
	}
	if err := os.WriteFile(path, []byte(wrong), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run()
	if err == nil || !strings.Contains(out, "--- FAIL: TestMean/definition") || !strings.Contains(out, "definition: forward against the definition: off by") {
		t.Errorf("go test of a wrong mechanism in an outside module: %v\n%s", err, out)
	}
}
