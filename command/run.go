package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"attnbench/attn"
	"attnbench/harness"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Sweep time and memory over mechanisms and lengths into a file",
		Long: `Measure prefill, training step and decoding for every combination of mechanisms, lengths and shapes, and
write each finished cell to a file, whole and synced. A sweep that was stopped, at whatever moment, goes on where it
was when the same command is given again: cells that the file has are not measured twice. A cell that would not
fit in memory is left out, with what it needs, and the sweep goes on. At the end the file's table is printed.`,
		Example: `  attnbench run --mech full,sliding:window=512,linear --lengths 1024,4096,16384 --count 6 --out results.txt
  attnbench run --kind decode --lengths 65536 --heads 32 --kv 8 --dim 128 --out decode.txt`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	var mechs specsFlag
	var kinds []string
	var memory bytesFlag
	var out string
	var o harness.Options
	g := harness.Grid{}
	f := cmd.Flags()
	f.Var(&mechs, "mech", "mechanisms with options, between commas; default all (attnbench list shows them)")
	f.StringSliceVar(&kinds, "kind", []string{"prefill", "train", "decode"}, "what to measure")
	f.IntSliceVar(&g.Lengths, "lengths", []int{1024, 4096}, "context lengths")
	f.IntSliceVar(&g.Heads, "heads", []int{8}, "numbers of query heads")
	f.IntSliceVar(&g.KVHeads, "kv", []int{0}, "numbers of key/value heads; 0 means as many as query heads")
	f.IntSliceVar(&g.Dims, "dim", []int{64}, "widths of a head")
	f.IntSliceVar(&g.Batch, "batch", []int{1}, "numbers of sequences")
	f.BoolSliceVar(&g.Causal, "causal", []bool{true}, "masks: true, false or both")
	f.IntVar(&g.Samples, "count", 6, "samples of each cell; six give an interval at 95%")
	f.Uint64Var(&g.Seed, "seed", 1, "seed of the first sample; each further one has the next")
	f.DurationVar(&o.MinTime, "time", 0, "time of a sample; default 200ms")
	f.Var(&memory, "memory", "memory that a cell may need, such as 4GiB; default what the system has available")
	f.StringVar(&out, "out", "results.txt", "file of results, made or gone on with")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Limit = int64(memory)
		if g.Mechs = mechs; len(g.Mechs) == 0 {
			g.Mechs = attn.Names()
		}
		var err error
		if g.Kinds, err = parseKinds(kinds); err != nil {
			return usage(cmd, err)
		}
		jobs, err := g.Jobs(o)
		if err != nil {
			return err
		}
		if err := sweep(cmd, jobs, out); err != nil {
			return err
		}
		return printFile(cmd, out, format.Format)
	}
	return cmd
}

func parseKinds(names []string) ([]harness.Kind, error) {
	var kinds []harness.Kind
	for _, name := range names {
		found := false
		for _, k := range []harness.Kind{harness.Prefill, harness.Train, harness.Decode} {
			if strings.EqualFold(name, k.String()) {
				kinds, found = append(kinds, k), true
			}
		}
		if !found {
			return nil, fmt.Errorf("kind %q: want prefill, train or decode", name)
		}
	}
	return kinds, nil
}

// sweep runs the jobs into the store at path.
func sweep(cmd *cobra.Command, jobs []harness.Job, path string) (err error) {
	store, err := results.Open(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := store.Close(); err == nil {
			err = cerr
		}
	}()
	errOut := cmd.ErrOrStderr()
	if n := store.Cut(); n > 0 {
		fmt.Fprintf(errOut, "%s: cut off %d bytes of a record that was not finished\n", path, n)
	}
	show, done := progress(errOut)
	o, err := harness.Sweep(cmd.Context(), jobs, store, show)
	done()
	fmt.Fprintf(errOut, "%s: %d cells measured, %d were there, %d skipped, %d failed\n", path, o.Finished, o.Found, len(o.Skipped), len(o.Failed))
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped: the same command goes on where it was")
	case err != nil:
		return err
	case len(o.Failed) > 0:
		return fmt.Errorf("%d of %d cells failed, the first: %w", len(o.Failed), len(jobs), o.Failed[0].Err)
	case store.Len() == 0 && len(o.Skipped) > 0:
		return fmt.Errorf("no cell could be measured, the first: %w", o.Skipped[0].Err)
	}
	return nil
}

// printFile prints the tables of a store.
func printFile(cmd *cobra.Command, path string, f results.Format) error {
	set, err := results.ReadFiles(path)
	if err != nil {
		return err
	}
	tables, warnings, err := set.Tables(results.Query{})
	if err != nil {
		return err
	}
	warn(cmd, warnings...)
	return results.WriteTables(cmd.OutOrStdout(), f, tables)
}
