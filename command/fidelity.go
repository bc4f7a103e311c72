package command

import (
	"errors"
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/harness"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newFidelityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fidelity",
		Short: "Measure how far approximations are from full attention, against what they keep",
		Long: `Compute every mechanism that approximates full attention on the same queries, keys and values as full attention in float64, and
print the error of its output: the root of Σ(x-y)²/Σy² at up to 64 queries a head. The budget, a window, a number of features or of
landmarks, goes through --budget; beside the error stand the operations and the decoding state that are left of the exact
mechanism's.

Queries, keys and values are Gaussian, and with --checkpoint also those of a trained model on a text: then the error is the root mean
square of those of its layers, and samples are different parts of the text. What a mechanism learns is as it is before training. One that
drops keys only while it decodes takes in the first half and decodes the second, which is compared.`,
		Example: `  attnbench fidelity --mech sliding,linear --budget 16,64,256 --lengths 1024
  attnbench fidelity --checkpoint stories260k --tokens sample512.tsv --lengths 256,512 --out fidelity.txt -o csv`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	var mechs specsFlag
	var checkpoint, tokens, out string
	a := &harness.Approximation{}
	f := cmd.Flags()
	f.Var(&mechs, "mech", "mechanisms with options, between commas; default all that approximate full attention")
	f.IntSliceVar(&a.Budgets, "budget", []int{1, 4, 16, 64, 256}, "values of the option that is each mechanism's budget")
	f.IntSliceVar(&a.Lengths, "lengths", []int{512}, "context lengths")
	f.IntVar(&a.Case.Heads, "heads", 8, "query heads of the Gaussian inputs")
	f.IntVar(&a.Case.KVHeads, "kv", 4, "key/value heads of the Gaussian inputs")
	f.IntVar(&a.Case.Dim, "dim", 64, "width of a head of the Gaussian inputs")
	f.BoolVar(&a.Case.Causal, "causal", true, "the mask")
	f.IntVar(&a.Samples, "count", 6, "samples of each cell; six give an interval at 95%")
	f.Uint64Var(&a.Seed, "seed", 1, "seed of the first sample; each further one has the next")
	f.StringVar(&checkpoint, "checkpoint", "", "trained model whose queries, keys and values are taken too")
	f.StringVar(&tokens, "tokens", "", "file of the tokens that the model reads")
	f.StringVar(&out, "out", "", "file of results, made or gone on with; default none")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (checkpoint == "") != (tokens == "") {
			return usage(cmd, errors.New("--checkpoint and --tokens: want both or none"))
		}
		var err error
		if a.Mechs = mechs; len(mechs) == 0 {
			if a.Mechs, err = approximations(); err != nil {
				return err
			}
		}
		if checkpoint != "" {
			if a.Model, _, err = harness.LoadLM(checkpoint, ""); err != nil {
				return err
			}
			if a.Tokens, err = harness.ReadTokens(tokens); err != nil {
				return err
			}
			a.From = checkpointName(checkpoint)
		}
		jobs, err := a.Jobs()
		if err != nil {
			return err
		}
		set, err := collect(cmd, jobs, out)
		if err != nil {
			return err
		}
		rows, err := a.Rows(set, harness.Exact())
		if err != nil {
			return err
		}
		s := fidelities(rows)
		return s.Write(cmd.OutOrStdout(), format.Format)
	}
	return cmd
}

// approximations returns the registered mechanisms that approximate full attention.
func approximations() ([]string, error) {
	var list []string
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			return nil, err
		}
		if m.Info().Approximates {
			list = append(list, name)
		}
	}
	return list, nil
}

func fidelities(rows []harness.Row) *results.Sheet {
	s := &results.Sheet{
		Title: "error against full attention on the same queries, keys and values",
		Header: []string{"mech", "budget", "from", "n", "value", "FLOPs of " + harness.Exact(), "state of " + harness.Exact(), "full-err", "low", "high", "confidence",
			"samples"}, Left: 3,
		Notes: []string{"full-err: root of Σ(x-y)²/Σy², the median over the samples; low and high: the interval in which that median lies with the confidence"},
	}
	share := func(x float64) string {
		if math.IsNaN(x) {
			return ""
		}
		return fmt.Sprintf("%.4g", x)
	}
	for _, r := range rows {
		option, value := "-", ""
		if r.Option != "" {
			option, value = r.Option, fmt.Sprint(r.Value)
		}
		e := r.Error
		row := []string{r.Name, option, r.From, fmt.Sprint(r.N), value, share(r.FLOPs), share(r.State), fmt.Sprintf("%.4g", e.Median)}
		if n := len(e.Values); n > 1 {
			row = append(row, fmt.Sprintf("%.4g", e.Low), fmt.Sprintf("%.4g", e.High), fmt.Sprintf("%.3g", e.Confidence), fmt.Sprint(n))
		} else {
			row = append(row, "", "", "", "1")
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}
