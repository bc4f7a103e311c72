package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFresh: the committed assembly and stubs are what the generator writes. Line 1 repeats the command,
// so the comparison starts after it.
func TestFresh(t *testing.T) {
	dir := t.TempDir()
	gen := filepath.Join(dir, "gen")
	if out, err := exec.Command("go", "build", "-o", gen, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for part := range parts {
		s, stubs := filepath.Join(dir, part+"_amd64.s"), filepath.Join(dir, part+"_amd64.go")
		if out, err := exec.Command(gen, "-part", part, "-out", s, "-stubs", stubs, "-pkg", "kernel").CombinedOutput(); err != nil {
			t.Fatalf("part %s: %v\n%s", part, err, out)
		}
		for _, file := range []string{s, stubs} {
			got, want := body(t, filepath.Join("..", filepath.Base(file))), body(t, file)
			if !bytes.Equal(got, want) {
				t.Errorf("%s is stale: run go generate ./internal/kernel", filepath.Base(file))
			}
		}
	}
}

func body(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, b, _ = bytes.Cut(b, []byte("\n"))
	return b
}
