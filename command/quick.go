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

// printReport draws the main job's table on out: one row a mechanism. CSV has all figures, one a line, and its notes
// go to errOut.
func printReport(out, errOut io.Writer, r *harness.Report, f results.Format) error {
	notes := reportNotes(r)
	if f != results.CSV {
		s := reportSheet(r)
		s.Notes = append(s.Notes, notes...)
		return s.Write(out, f)
	}
	set := new(results.Set)
	if err := set.Add(r.Records...); err != nil {
		return err
	}
	tables, warnings, err := set.Tables(results.Query{})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		notes = append(notes, fmt.Sprintf("note: %v", w))
	}
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

// A column of the main job's table is one figure of every mechanism.
type column struct {
	head string // above the unit
	kind harness.Kind
	n    int
	unit string
}

// reportColumns chooses what the table shows: accuracy first, then time, then memory.
func reportColumns(r *harness.Report) []column {
	list := []column{{"", harness.Accuracy, 0, "bits/byte"}, {"", harness.Accuracy, 0, "recall-bits/byte"}}
	if len(r.Lengths) == 0 {
		return list
	}
	at := func(i int) int { return r.Lengths[max(0, len(r.Lengths)-i)] }
	for _, n := range r.Lengths {
		list = append(list, column{"prefill", harness.Prefill, n, "tok/s"})
	}
	list = append(list, column{"prefill", harness.Prefill, at(1), "of-roof"}, column{"decode", harness.Decode, at(1), "tok/s"})
	for _, n := range r.Lengths[max(0, len(r.Lengths)-2):] {
		list = append(list, column{"prefill", harness.Prefill, n, "scratch-B"})
	}
	return append(list, column{"decode", harness.Decode, at(1), "state-B"}, column{"prefill", harness.Prefill, at(2), "full-err"})
}

func reportSheet(r *harness.Report) *results.Sheet {
	s := &results.Sheet{Header: []string{"mech"}, Left: 1}
	for _, m := range r.Mechs {
		s.Rows = append(s.Rows, []string{m})
	}
	for _, b := range r.Baselines {
		s.Rows = append(s.Rows, []string{"(" + b.Name + ")"})
	}
	samples := map[string]int{} // the largest number behind a figure of each kind
	directions := map[int][]string{}
	for _, c := range reportColumns(r) {
		u, _ := results.LookupUnit(c.unit) // an outside task's own unit has at least its name
		cells, any := make([]string, len(s.Rows)), false
		for i, m := range r.Mechs {
			if values := r.Samples(m, c.kind, c.n, c.unit); len(values) > 0 {
				f := results.NewFigure(u, values)
				cells[i], any = f.Short(), true
				samples[c.kind.String()] = max(samples[c.kind.String()], len(values))
			}
		}
		for i, b := range r.Baselines {
			for _, v := range b.Values {
				if c.kind == harness.Accuracy && v.Unit == c.unit {
					cells[len(r.Mechs)+i] = u.Format(v.Value)
				}
			}
		}
		if !any {
			continue
		}
		head := c.unit
		if c.head != "" {
			head = fmt.Sprintf("%s n=%d %s", c.head, c.n, c.unit)
		}
		s.Header = append(s.Header, head)
		for i := range s.Rows {
			s.Rows[i] = append(s.Rows[i], cells[i])
		}
		if u.Better != 0 && !slices.Contains(directions[u.Better], u.Name) {
			directions[u.Better] = append(directions[u.Better], u.Name)
		}
	}
	var counts []string
	for _, k := range []harness.Kind{harness.Prefill, harness.Decode, harness.Accuracy} {
		if n := samples[k.String()]; n > 0 {
			counts = append(counts, fmt.Sprintf("%s %d", strings.ToLower(k.String()), n))
		}
	}
	s.Notes = append(s.Notes,
		"median of the samples ("+strings.Join(counts, ", ")+"); ±, or a..b where that is wide: 95% interval of the median; bytes are exact")
	for _, d := range []struct {
		better int
		text   string
	}{{-1, "lower is better: "}, {1, "higher is better: "}} {
		if len(directions[d.better]) > 0 {
			s.Notes = append(s.Notes, d.text+strings.Join(directions[d.better], ", "))
		}
	}
	return s
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
