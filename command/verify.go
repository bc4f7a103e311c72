package command

import (
	"fmt"
	"strings"

	"attnbench/attn"
	"attnbench/attn/attntest"
	"attnbench/internal/kernel"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify MECH…",
		Short: "Hold mechanisms against their definitions, longer than a test does",
		Long: `Run the conformance kit on mechanisms: every check with several seeds, and then what takes too long for a test:

  stability  a pass over 100,000 tokens, with gates of any strength, is finite and ends as the float64 definition does; decoding in
             mixed pieces gives the same
  stream     2^20 tokens go one by one into a state of constant size: finite, and no byte more is retained

It takes a minute or so for each mechanism. Each kernel level that the processor has is verified by a run of its own: ATTNBENCH_KERNEL says which.`,
		Example: `  attnbench verify full linear
  attnbench verify sliding:window=64,sinks=4 --seeds 10
  ATTNBENCH_KERNEL=generic attnbench verify --all -o markdown > verify.md`,
	}
	format := addFormat(cmd)
	var o attntest.VerifyOptions
	var all bool
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "verify every registered mechanism")
	f.IntVar(&o.Seeds, "seeds", 3, "seeds with which each check of the kit is run")
	f.IntVar(&o.Tokens, "tokens", 100_000, "tokens of a long pass; fewer where the scratch would exceed 1 GiB")
	f.IntVar(&o.Stream, "stream", 1<<20, "tokens that go into a state of constant size")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return usage(cmd, fmt.Errorf("%d mechanisms, --all %v: want names of mechanisms, or --all", len(args), all))
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Seeds < 1 || o.Tokens < 64 || o.Stream < 1024 {
			return usage(cmd, fmt.Errorf("--seeds %d, --tokens %d, --stream %d: want at least 1, 64 and 1024", o.Seeds, o.Tokens, o.Stream))
		}
		if all {
			args = attn.Names()
		}
		var mechs []attn.Defined
		for _, spec := range args {
			m, err := attn.New(spec)
			if err != nil {
				return err
			}
			d, ok := m.(attn.Defined)
			if !ok {
				return fmt.Errorf("%s: it has no definition: want one to hold it against", m.Info().Name)
			}
			mechs = append(mechs, d)
		}
		failed := 0
		for i, m := range mechs {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			n, err := verify(cmd, m, o, format.Format)
			if err != nil {
				return err
			}
			failed += n
		}
		if failed > 0 {
			return fmt.Errorf("%d checks failed", failed)
		}
		return nil
	}
	return cmd
}

// verify prints what the checks of one mechanism found, a row each, and returns how many failed.
func verify(cmd *cobra.Command, m attn.Defined, o attntest.VerifyOptions, f results.Format) (failed int, err error) {
	info := m.Info()
	s := &results.Sheet{
		Title:  fmt.Sprintf("%s, revision %d, kernel %s", info.Name, info.Revision, kernel.Level()),
		Header: []string{"check", "runs", "failed"}, Left: 1,
	}
	rows := map[string]int{}
	runs, bad := map[string]int{}, map[string]int{}
	err = attntest.Verify(cmd.Context(), m, m.Define, o, func(r attntest.Result) {
		if _, ok := rows[r.Check]; !ok {
			rows[r.Check] = len(s.Rows)
			s.Rows = append(s.Rows, nil)
		}
		runs[r.Check]++
		word := "ok"
		if r.Err != nil {
			bad[r.Check]++
			failed++
			word = "FAILED"
			s.Notes = append(s.Notes, strings.ReplaceAll(r.Err.Error(), "\n\t", " "))
		}
		for _, n := range r.Notes {
			s.Notes = append(s.Notes, r.Check+": "+n)
		}
		s.Rows[rows[r.Check]] = []string{r.Check, fmt.Sprint(runs[r.Check]), fmt.Sprint(bad[r.Check])}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, seed %d: %s\n", info.Name, r.Check, r.Seed, word)
	})
	if err != nil {
		return failed, err
	}
	return failed, s.Write(cmd.OutOrStdout(), f)
}
