package command

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/harness"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newCrossoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crossover",
		Short: "Find the context length from which a mechanism beats another",
		Long: `Find the context length from which on each mechanism takes less than the base, in the time of prefill, of a training step and of
decoding one token, and in memory beside inputs and outputs: scratch, what training saves, and the decoding state.

Both are timed in turns within one cell, and their ratio is taken. Each sample gives a length of its own, on the line between the
last length at which the base is no slower and the next; the table has the median of the samples and its interval. Where the medians
cross, further lengths are measured between. Memory follows from the closed forms, which are exact.

Finished cells are kept in a file, as run does: the same command goes on where it was.`,
		Example: `  attnbench crossover --mech sliding:window=512,linear --count 6 --out crossover.txt
  attnbench crossover --kind decode --mech linear --base sliding --lengths 1024,4096,16384 -o csv`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	var mechs specsFlag
	var kinds []string
	var memory bytesFlag
	var out string
	var refine int
	var o harness.Options
	x := &harness.Crossover{}
	f := cmd.Flags()
	f.Var(&mechs, "mech", "mechanisms with options, between commas; default all")
	f.StringVar(&x.Base, "base", harness.Exact(), "mechanism to beat")
	f.StringSliceVar(&kinds, "kind", []string{"prefill", "train", "decode"}, "what to measure")
	f.IntSliceVar(&x.Lengths, "lengths", []int{64, 128, 256, 512, 1024, 2048, 4096}, "context lengths, increasing")
	f.IntVar(&x.Case.Heads, "heads", 8, "query heads")
	f.IntVar(&x.Case.KVHeads, "kv", 0, "key/value heads; 0 means as many as query heads")
	f.IntVar(&x.Case.Dim, "dim", 64, "width of a head")
	f.IntVar(&x.Case.Batch, "batch", 1, "sequences")
	f.BoolVar(&x.Case.Causal, "causal", true, "the mask")
	f.IntVar(&x.Samples, "count", 6, "samples of each cell; six give an interval at 95%")
	f.Uint64Var(&x.Seed, "seed", 1, "seed of the first sample; each further one has the next")
	f.IntVar(&refine, "refine", 2, "how many times to measure further lengths where the medians cross")
	f.DurationVar(&o.MinTime, "time", 0, "time of a sample of each of the two; default 200ms")
	f.Var(&memory, "memory", "memory that a cell may need, such as 4GiB; default what the system has available")
	f.StringVar(&out, "out", "crossover.txt", "file of results, made or gone on with")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Limit, o.Meter = int64(memory), harness.NewMeter()
		if refine < 0 || out == "" {
			return usage(cmd, fmt.Errorf("--refine %d --out %q: want at least 0, and a file", refine, out))
		}
		var err error
		if x.Kinds, err = parseKinds(kinds); err != nil {
			return usage(cmd, err)
		}
		if x.Mechs, err = others(mechs, x.Base); err != nil {
			return err
		}
		for round := 0; ; round++ {
			jobs, err := x.Jobs(o)
			if err != nil {
				return err
			}
			set, err := collect(cmd, jobs, out)
			if err != nil {
				return err
			}
			if round == refine || x.Refine(set) == 0 {
				list, err := x.Crossings(set)
				if err != nil {
					return err
				}
				s := crossings(x, list)
				return s.Write(cmd.OutOrStdout(), format.Format)
			}
		}
	}
	return cmd
}

// others returns the mechanisms, or all that are registered but the base.
func others(mechs []string, base string) ([]string, error) {
	if len(mechs) > 0 {
		return mechs, nil
	}
	m, err := attn.New(base)
	if err != nil {
		return nil, err
	}
	for _, name := range attn.Names() {
		if name != m.Info().Name {
			mechs = append(mechs, name)
		}
	}
	return mechs, nil
}

func crossings(x *harness.Crossover, list []harness.Crossing) *results.Sheet {
	c := x.Case
	s := &results.Sheet{
		Title: fmt.Sprintf("context length from which on less is taken than by %s; %d heads over %d, dim %d, causal %v, batch %d", x.Base,
			c.Heads, max(c.KVHeads, 0), c.Dim, c.Causal, c.Batch),
		Header: []string{"mech", "quantity", "from", "low", "high", "confidence", "samples", "first", "share there", "last", "share then"}, Left: 2,
		Notes: []string{
			"from: median over the samples; low and high: the interval in which that median lies with the confidence; memory: by the closed form",
			"share: what the mechanism takes of the base's, the median; ≤ n: at the first length already; > n: not up to the last",
		},
	}
	if c.KVHeads == 0 {
		s.Title = fmt.Sprintf("context length from which on less is taken than by %s; %d heads, dim %d, causal %v, batch %d", x.Base, c.Heads, c.Dim, c.Causal, c.Batch)
	}
	for _, r := range list {
		length := func(n float64) string {
			switch {
			case n == 0:
				return fmt.Sprintf("≤ %d", r.First)
			case math.IsInf(n, 1):
				return fmt.Sprintf("> %d", r.Last)
			}
			return fmt.Sprintf("%.0f", n)
		}
		low, high, sure, samples := length(r.Low), length(r.High), fmt.Sprintf("%.3g", r.Confidence), fmt.Sprint(r.Samples)
		if r.Exact {
			low, high, sure, samples = "", "", "exact", ""
		}
		s.Rows = append(s.Rows, []string{r.Mech, r.Quantity, length(r.From), low, high, sure, samples,
			fmt.Sprint(r.First), fmt.Sprintf("%.4g", r.AtFirst), fmt.Sprint(r.Last), fmt.Sprintf("%.4g", r.AtLast)})
	}
	return s
}
