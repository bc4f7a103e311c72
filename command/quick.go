package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"attnbench/harness"
	"attnbench/results"

	"github.com/spf13/cobra"
)

// newQuickCommand returns the root: without a subcommand it is the main job.
func newQuickCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attnbench",
		Short: "Measure attention mechanisms: time, memory and accuracy at a context length",
		Long: `Measure attention mechanisms: what a variant costs in time and memory at a context length, on this
machine, and what it loses in accuracy.

Without a command it runs the main job, in a few minutes: the machine's peak, prefill, decoding and exact memory
at a few lengths, and a small language model trained on real text with each mechanism, in one table.`,
		Example: `  attnbench
  attnbench --all -o markdown
  attnbench run --mech full,linear --lengths 1024,16384 --out results.txt
  attnbench table results.txt`,
		Args: knownCommand,
	}
	format := addFormat(cmd)
	var o harness.QuickOptions
	cmd.Flags().BoolVar(&o.All, "all", false, "all mechanisms, not only those of the main job, which takes longer")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the first sample, the model and its data")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		show, done := progress(cmd.ErrOrStderr())
		o.Progress = show
		r, err := harness.Quick(cmd.Context(), o)
		done()
		if r != nil && len(r.Records) > 0 {
			if perr := printReport(cmd.OutOrStdout(), cmd.ErrOrStderr(), r, format.Format); err == nil {
				err = perr
			}
		}
		switch {
		case errors.Is(err, context.Canceled):
			return errors.New("stopped: the table holds what was measured")
		case err != nil:
			return err
		case len(r.Outcome.Failed) > 0:
			return fmt.Errorf("%d cells failed, the first: %w", len(r.Outcome.Failed), r.Outcome.Failed[0].Err)
		}
		return nil
	}
	return cmd
}

// knownCommand refuses what is neither nothing nor a command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	return usage(cmd, fmt.Errorf("unknown command %q: want one of %s", args[0], strings.Join(names, ", ")))
}

// quickUnits are the units that the main job's table shows; CSV holds all.
var quickUnits = []string{"tok/s", "of-roof", "scratch-B", "state-B", "full-err", "bits/byte", "recall-bits/byte", "sec/step", "step-B"}

// printReport draws the main job's table on out. In CSV its notes go to errOut.
func printReport(out, errOut io.Writer, r *harness.Report, f results.Format) error {
	set := new(results.Set)
	if err := set.Add(r.Records...); err != nil {
		return err
	}
	var q results.Query
	if f != results.CSV {
		have := set.UnitNames()
		for _, u := range quickUnits {
			if slices.Contains(have, u) {
				q.Units = append(q.Units, u)
			}
		}
	}
	tables, warnings, err := set.Tables(q)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintf(errOut, "note: %v\n", w)
	}
	notes := reportNotes(r)
	if f == results.CSV {
		for _, n := range notes {
			fmt.Fprintln(errOut, n)
		}
		for _, t := range tables {
			if strings.HasPrefix(t.Title, harness.Accuracy.String()) {
				addBaselines(t, &r.Task, r.Baselines)
			}
		}
		return results.WriteTables(out, f, tables)
	}
	t := results.Merge("", tables)
	t.Notes = append(t.Notes, notes...)
	return results.WriteTables(out, f, []*results.Table{t})
}

// reportNotes says what the table does not: the machine's peak, the baselines, and what is missing.
func reportNotes(r *harness.Report) []string {
	notes := []string{fmt.Sprintf("this machine: %.4g GFLOP/s, %.4g GB/s read from memory, all workers together; of-roof is the fraction of what these allow",
		r.Peak.FLOPs/1e9, r.Peak.Read/1e9)}
	if len(r.Task.Metrics) > 0 {
		unit := r.Task.Metrics[0].Unit
		text := fmt.Sprintf("%s, %d steps; %s: chance %.4g", r.Task.Title, r.Recipe.Train.Steps, unit, r.Task.Metrics[0].Chance)
		for _, b := range r.Baselines {
			for _, v := range b.Values {
				if v.Unit == unit {
					text += fmt.Sprintf(", %s %.4g", b.Name, v.Value)
				}
			}
		}
		notes = append(notes, text)
	}
	if len(r.LeftOut) > 0 {
		notes = append(notes, "left out, taken by --all: "+strings.Join(r.LeftOut, ", "))
	}
	for _, s := range r.Outcome.Skipped {
		notes = append(notes, "not measured: "+s.Err.Error())
	}
	return notes
}
