package harness

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if path, is := os.LookupEnv(sweepEnv); is {
		os.Exit(sweepChild(path))
	}
	if is, code := Child(os.Stdout, os.Stderr); is {
		os.Exit(code)
	}
	hasChild = false // of these tests, only those that say so start processes
	os.Exit(m.Run())
}
