package command

import (
	"fmt"

	"attnbench/harness"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newMachineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "machine",
		Short: "Measure what this machine can do: multiply-adds, and reading caches and memory",
		Long: `Measure the limits that other commands compare with: the multiply-add peak, and the bandwidth of reading working
sets in the second-level cache, the last-level cache and memory, by one core and by all together. Each is the median of
--count measurements of 15 ms, with the lowest and the highest beside it: on a machine with neighbours they differ.

--bench writes Go benchmark lines, which attnbench table and benchstat read.`,
		Example: `  attnbench machine
  attnbench machine --bench > machine.txt`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	var count int
	var bench bool
	cmd.Flags().IntVar(&count, "count", 9, "measurements of each limit")
	cmd.Flags().BoolVar(&bench, "bench", false, "write Go benchmark lines")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if count < 1 {
			return usage(cmd, fmt.Errorf("--count %d: want at least 1", count))
		}
		limits, err := harness.Limits(cmd.Context(), count)
		if err != nil {
			return err
		}
		if bench {
			for _, c := range harness.Config() {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", c.Key, c.Value)
			}
			for _, l := range limits {
				fmt.Fprintf(cmd.OutOrStdout(), "Benchmark%s\t%d\t%.6g %s\n", l.Name(), l.Count, l.Rate, l.Unit)
			}
			return nil
		}
		s := results.Sheet{Header: []string{"limit", "working set", "cores", "rate", "lowest", "highest"}, Left: 2}
		for _, c := range harness.Config() {
			if c.Key == "cpu" || c.Key == "kernel" {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", c.Key, c.Value)
			}
		}
		for _, l := range limits {
			name, set := "multiply-add", "registers"
			if l.What == "read" {
				name, set = "read "+l.Level, fmt.Sprintf("%.3g MiB", float64(l.Bytes)/(1<<20))
			}
			rate := func(x float64) string { return fmt.Sprintf("%.1f G%s", x/1e9, l.Unit) }
			s.Rows = append(s.Rows, []string{name, set, fmt.Sprint(l.Cores), rate(l.Rate), rate(l.Low), rate(l.High)})
		}
		return s.Write(cmd.OutOrStdout(), format.Format)
	}
	return cmd
}
