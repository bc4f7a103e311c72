package command

import (
	"fmt"
	"io"

	"attnbench/harness"
	"attnbench/results"

	"github.com/spf13/cobra"
)

// bench is the output format of the machine command alone: Go benchmark lines.
const bench = "bench"

func newMachineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "machine",
		Short: "Measure what this machine can do: multiply-adds, and reading caches and memory",
		Long: `Measure the limits that other commands compare with: the multiply-add peak, and the bandwidth of reading working
sets in the second-level cache, the last-level cache and memory, by one core and by all together. The sizes of the sets
follow those of the caches, where the system tells. Each figure is the median of --count measurements of 15 ms, with
the lowest and the highest beside it: on a machine with neighbours they differ.

--format bench writes the measurements as Go benchmark lines, which attnbench table and benchstat read.`,
		Example: `  attnbench machine
  attnbench machine --format bench > machine.txt
  attnbench table --row /what,/level,/cores --col .name machine.txt`,
		Args: arguments(0, 0, "none"),
	}
	format := machineFormat(results.Text)
	cmd.Flags().VarP(&format, "output", "o", "form: text, markdown, csv or html for a table, bench for Go benchmark lines")
	cmd.Flags().Var(&format, "format", "the same as --output")
	count := cmd.Flags().Int("count", 9, "measurements of each limit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *count < 1 {
			return usage(cmd, fmt.Errorf("--count %d: want at least 1", *count))
		}
		limits, err := harness.Limits(cmd.Context(), *count)
		if err != nil {
			return err
		}
		if format == bench {
			return harness.WriteLimits(cmd.OutOrStdout(), limits)
		}
		return writeMachine(cmd.OutOrStdout(), results.Format(format), limits)
	}
	return cmd
}

// writeMachine draws the table of limits, with the processor and the kernel level as notes.
func writeMachine(w io.Writer, f results.Format, limits []harness.Limit) error {
	s := results.Sheet{
		Header: []string{"limit", "working set", "cores", "rate", "lowest", "highest", "n"}, Left: 1,
		Notes: []string{"medians of n measurements of 15 ms"},
	}
	for _, c := range harness.Config() {
		if c.Key == "cpu" || c.Key == "kernel" {
			s.Notes = append(s.Notes, c.Key+": "+c.Value)
		}
	}
	for i := range limits {
		l := &limits[i]
		name, set := "multiply-add", "registers"
		if l.What == "read" {
			name, set = "read "+l.Level, fmt.Sprintf("%.4g MiB", float64(l.Bytes)/(1<<20))
		}
		row := []string{name, set, fmt.Sprint(l.Cores)}
		median, low, high := l.Summary()
		for _, rate := range []float64{median, low, high} {
			row = append(row, fmt.Sprintf("%.1f G%s", rate/1e9, l.Unit))
		}
		s.Rows = append(s.Rows, append(row, fmt.Sprint(len(l.Rates))))
	}
	return s.Write(w, f)
}

// machineFormat is a form of output: that of a table, or bench.
type machineFormat string

func (f *machineFormat) String() string { return string(*f) }
func (f *machineFormat) Type() string   { return "format" }
func (f *machineFormat) Set(s string) error {
	if _, err := results.ParseFormat(s); err != nil && s != bench {
		return fmt.Errorf("%w, bench", err)
	}
	*f = machineFormat(s)
	return nil
}
