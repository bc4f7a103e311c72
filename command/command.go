// Package command is the attnbench command, for its own main and those of other modules: a main
// that imports a mechanism's package and calls Main lists, measures and trains that mechanism too.
//
//	func main() { os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr)) }
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	_ "attnbench/attn/all"
	"attnbench/harness"
	"attnbench/internal/kernel"
	"attnbench/results"

	"github.com/spf13/cobra"
)

// Exit statuses of Main.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // the command line itself is wrong
)

// Main runs the command with args, the program's name left out, and returns its exit status: 0, 1
// after an error, 2 after wrong usage. Tables go to out; progress, notes and errors to errOut.
func Main(args []string, out, errOut io.Writer) int {
	if is, code := harness.Child(out, errOut); is {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		stop() // a second signal ends the process at once
		fmt.Fprintln(errOut, "attnbench: stopping after the pass that is being computed; once more stops at once")
	})()
	w := &writer{w: out}
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(w)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = w.err
	}
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("stopped before it was done")
	}
	fmt.Fprintf(errOut, "attnbench: %v\n", err)
	if errors.As(err, new(*usageError)) {
		return exitUsage
	}
	return exitError
}

// writer remembers the first error, so that output that was lost never looks like success.
type writer struct {
	w   io.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// usageError is an error of the command line itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(cmd *cobra.Command, err error) error {
	var number *strconv.NumError
	if want := ""; errors.As(err, &number) { // the words of a flag that is no number
		switch number.Func {
		case "Atoi", "ParseInt":
			want = "want a whole number"
		case "ParseUint":
			want = "want a whole number of at least 0"
		case "ParseFloat":
			want = "want a number"
		case "ParseBool":
			want = "want true or false"
		}
		if number.Err == strconv.ErrRange {
			want += ", not as large as this"
		}
		text, _, _ := strings.Cut(err.Error(), " flag: ")
		err = fmt.Errorf("%s flag: %s", text, want)
	}
	return &usageError{fmt.Errorf("%w (%s -h says how)", err, cmd.CommandPath())}
}

func newRoot() *cobra.Command {
	root := newQuickCommand()
	root.SilenceUsage, root.SilenceErrors = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(usage)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return kernel.Err() // a bad ATTNBENCH_KERNEL, before any work
	}
	root.AddCommand(newListCommand(), newRunCommand(), newTrainCommand(), newTableCommand(), newCompareCommand(), newTuneCommand(),
		newEvalCommand(), newGenerateCommand(), newExplainCommand(), newCrossoverCommand(), newFidelityCommand(), newVerifyCommand(),
		newMachineCommand(), newDataCommand())
	return root
}

// arguments checks the number of positional arguments, between min and max; max < 0 means any.
func arguments(min, max int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= min && (max < 0 || len(args) <= max) {
			return nil
		}
		return usage(cmd, fmt.Errorf("%d arguments: want %s", len(args), want))
	}
}

// formatFlag is the flag -o.
type formatFlag struct{ results.Format }

func (f *formatFlag) String() string { return string(f.Format) }
func (f *formatFlag) Type() string   { return "format" }
func (f *formatFlag) Set(s string) (err error) {
	f.Format, err = results.ParseFormat(s)
	return err
}

func addFormat(cmd *cobra.Command) *formatFlag {
	f := &formatFlag{results.Text}
	cmd.Flags().VarP(f, "output", "o", "form of the table: text, markdown, csv (unscaled, mech first) or html")
	return f
}

// specsFlag is a list of spellings with options: full,sliding:window=512,sinks=4,linear.
type specsFlag []string

func (l *specsFlag) String() string { return strings.Join(*l, ",") }
func (l *specsFlag) Type() string   { return "list" }
func (l *specsFlag) Set(text string) error {
	list, err := harness.SplitSpecs(text)
	*l = append(*l, list...)
	return err
}

// bytesFlag is a number of bytes with or without a unit.
type bytesFlag int64

func (b *bytesFlag) String() string { return fmt.Sprint(int64(*b)) }
func (b *bytesFlag) Type() string   { return "bytes" }
func (b *bytesFlag) Set(text string) error {
	number, factor := text, 1.0
	for _, u := range []struct {
		suffix string
		factor float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}} {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			number, factor = strings.TrimSpace(n), u.factor
			break
		}
	}
	var n float64
	var rest string
	if k, _ := fmt.Sscanf(number+" .", "%g %s", &n, &rest); k != 2 || rest != "." || !(n >= 0 && n*factor < 1<<62) {
		return fmt.Errorf("%q: want a number of bytes, such as 4GiB", text)
	}
	*b = bytesFlag(n * factor)
	return nil
}

// warn prints notes that do not stop the command.
func warn(cmd *cobra.Command, warnings ...error) {
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %v\n", w)
	}
}
