package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// The resident memory of a case is that of a process of its own: the program starts itself again
// with the case in its environment, runs one step, and prints the largest resident memory that its address
// space had. In the parent the figure would hold whatever was measured before.

const (
	childEnv  = "ATTNBENCH_CHILD"
	childMark = "# attnbench child: "
)

type childCell struct {
	Case Case
	Kind Kind
	Seed uint64
}

var hasChild bool // Child was called: this program's main knows what to do as a child

// Child must be called first of all by the main function of a program that measures. When the
// process was started to run one case it does so and returns true, with the exit code. Without the call no
// resident memory is reported. Bench calls it in test binaries.
func Child(out, errOut io.Writer) (is bool, code int) {
	hasChild = true
	text, is := os.LookupEnv(childEnv)
	if !is {
		return false, 0
	}
	if err := runChild(text, out); err != nil {
		fmt.Fprintf(errOut, "%serror: %v\n", childMark, err)
		return true, 1
	}
	return true, 0
}

func runChild(text string, out io.Writer) error {
	var c childCell
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	if _, err := prepare(c.Case, c.Kind, c.Seed, true); err != nil {
		return err
	}
	n, ok := peakRSS()
	if !ok {
		return fmt.Errorf("resident memory: it cannot be read: want /proc/self/status")
	}
	_, err := fmt.Fprintf(out, "\n%s%d\n", childMark, n)
	return err
}

// childRSS runs the case in a child and returns its largest resident memory. ok is false where none can be had.
func childRSS(ctx context.Context, c childCell, args []string) (n int64, ok bool, err error) {
	if !hasChild || os.Getenv(childEnv) != "" { // a child starts no children
		return 0, false, nil
	}
	if _, ok := peakRSS(); !ok {
		return 0, false, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, false, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return 0, false, err
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text), fmt.Sprint("GOMAXPROCS=", workers()))
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	for s := bufio.NewScanner(&out); s.Scan(); {
		if rest, found := strings.CutPrefix(s.Text(), childMark); found {
			n, err := strconv.ParseInt(rest, 10, 64)
			return n, err == nil, err
		}
	}
	last := strings.TrimSpace(errOut.String())
	if i := strings.LastIndexByte(last, '\n'); i >= 0 {
		last = last[i+1:]
	}
	return 0, false, fmt.Errorf("child process for resident memory: no figure (%v): %s", err, last)
}
