package harness

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"attnbench/attn"
	"attnbench/internal/kernel"
	"attnbench/results"
)

// Config returns the configuration lines of this process: machine, kernel level and versions.
func Config() []results.Config {
	list := []results.Config{
		{Key: "goos", Value: runtime.GOOS},
		{Key: "goarch", Value: runtime.GOARCH},
	}
	if cpu := cpuName(); cpu != "" {
		list = append(list, results.Config{Key: "cpu", Value: cpu})
	}
	return append(list, versions()...)
}

// versions are the lines that go test does not print by itself.
func versions() []results.Config {
	list := []results.Config{
		{Key: "kernel", Value: kernel.Level()},
		{Key: "go", Value: runtime.Version()},
		{Key: "workers", Value: fmt.Sprint(workers())},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		var commit, dirty string
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "-dirty"
			}
		}
		if commit != "" {
			list = append(list, results.Config{Key: "commit", Value: commit + dirty})
		}
	}
	return list
}

// caseConfig are the lines that belong to the key of one sample.
func caseConfig(info *attn.Info, seed uint64) []results.Config {
	return []results.Config{
		{Key: "revision", Value: fmt.Sprint(info.Revision)},
		{Key: "seed", Value: fmt.Sprint(seed)},
	}
}
