package kernel

import (
	"fmt"
	"os"
	"strings"
)

// The levels, slowest first. Each implies the ones before it.
const (
	levelGeneric = iota
	levelAVX2
	levelAVX512
)

var levelNames = [...]string{"generic", "avx2", "avx512"}

// Environment is the variable that forces a level.
const Environment = "ATTNBENCH_KERNEL"

// level is set once at start-up (and by tests); primitives branch on it. A table of functions
// would make every argument slice escape to the heap.
var level, levelErr = choose(os.Getenv(Environment), highest())

// choose returns the level that name asks for, the highest for "".
func choose(name string, highest int) (int, error) {
	if name == "" {
		return highest, nil
	}
	for l, n := range levelNames {
		if n != name {
			continue
		}
		if l > highest {
			return levelGeneric, fmt.Errorf("%s=%s: this processor or build has no such level: want one of %s",
				Environment, name, strings.Join(levelNames[:highest+1], ", "))
		}
		return l, nil
	}
	return levelGeneric, fmt.Errorf("%s=%s: unknown level: want one of %s",
		Environment, name, strings.Join(levelNames[:highest+1], ", "))
}

// Level names the implementation that runs: generic, avx2 or avx512.
func Level() string { return levelNames[level] }

// Levels names what this processor and this build can run, slowest first.
func Levels() []string { return append([]string(nil), levelNames[:highest()+1]...) }

// Err says that the environment asks for a level that cannot run here. A command prints it before any
// work; the kernels themselves then run the generic level.
func Err() error { return levelErr }
