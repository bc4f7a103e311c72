package command

import (
	"fmt"

	"attnbench/results"

	"github.com/spf13/cobra"
)

const filterHelp = `Filters and keys have the syntax of golang.org/x/perf/benchproc: /n is a part of the benchmark's name,
cpu a line of its file's configuration; .name is Prefill, Train, Decode or Accuracy, .file the file. Spellings with
: or , want quotes inside: --filter '/mech:"sliding:window=512"', or a pattern: --filter '/mech:/^sliding/'.`

func newTableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table FILE…",
		Short: "Draw tables from files of results",
		Long: `Draw tables from Go benchmark files: those that run and train write, and what go test -bench prints. The file -
is the standard input. Each figure is a median, with the 95% interval of the median, or below six
samples the smallest and largest, and the number of samples (n).

` + filterHelp,
		Example: `  attnbench table results.txt
  attnbench table --unit sec/op,scratch-B --filter '.name:Prefill' results.txt
  attnbench table --row /mech --col .name,/n@num results.txt
  attnbench table --success accuracy=0.99 trained.txt
  attnbench table -o csv results.txt > results.csv
  go test -run xxx -bench Prefill -count 6 ./harness | attnbench table -`,
		Args: arguments(1, -1, "files of results"),
	}
	format := addFormat(cmd)
	var q results.Query
	var success []string
	cmd.Flags().StringVar(&q.Row, "row", "/n@num", "keys that make the rows, with the unit")
	cmd.Flags().StringVar(&q.Col, "col", "/mech", "keys that make the columns")
	cmd.Flags().StringSliceVar(&success, "success", nil, "show in place of figures how many samples reach UNIT=VALUE, such as accuracy=0.99")
	addFilter(cmd, &q)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var bars []results.Bar
		for _, text := range success {
			bar, err := results.ParseBar(text)
			if err != nil {
				return usage(cmd, err)
			}
			bars = append(bars, bar)
		}
		set, err := results.ReadFiles(args...)
		if err != nil {
			return err
		}
		tables, warnings, err := set.Tables(q)
		if err != nil {
			return err
		}
		warn(cmd, set.Warnings...)
		warn(cmd, warnings...)
		if len(bars) > 0 {
			return results.WriteSuccess(cmd.OutOrStdout(), format.Format, tables, bars)
		}
		return results.WriteTables(cmd.OutOrStdout(), format.Format, tables)
	}
	return cmd
}

func addFilter(cmd *cobra.Command, q *results.Query) {
	cmd.Flags().StringVar(&q.Filter, "filter", "", "which results to take")
	cmd.Flags().StringSliceVar(&q.Units, "unit", nil, "units to show, in this order; default all")
}

func newCompareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Compare two files of results, cell by cell",
		Long: `Compare two files of results, cell by cell: the change of the median, and whether it is one by the
Mann-Whitney U test at p < 0.05. Fewer than four samples on a side cannot tell. Figures that are exact, such
as bytes of scratch, are compared as they are. The geometric mean is over the cells that both files have.

` + filterHelp,
		Example: `  attnbench compare old.txt new.txt
  attnbench compare --unit sec/op --filter '/mech:full' old.txt new.txt`,
		Args: arguments(2, 2, "two files of results, the old and the new"),
	}
	format := addFormat(cmd)
	var q results.Query
	addFilter(cmd, &q)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var sets [2]*results.Set
		for i := range sets {
			var err error
			if sets[i], err = results.ReadFiles(args[i]); err != nil {
				return err
			}
			warn(cmd, sets[i].Warnings...)
		}
		c, err := results.Compare(sets[0], sets[1], q)
		if err != nil {
			return err
		}
		warn(cmd, c.Warnings...)
		if format.Format == results.CSV {
			for _, line := range c.MeanLines() {
				fmt.Fprintln(cmd.ErrOrStderr(), line)
			}
		}
		return c.Write(cmd.OutOrStdout(), format.Format)
	}
	return cmd
}
