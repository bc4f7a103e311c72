package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"attnbench/attn"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the mechanisms, by family, with their options",
		Long: `List the mechanisms, by family: paper, masks, whether a mechanism approximates full attention or is
a function of its own, whether models are trained with it or it is applied at inference, when decoding gives what one
pass gives, how the decoding state grows with the context, and options with their defaults.

A mechanism with options is spelled name:option=value,option=value.`,
		Example: `  attnbench list
  attnbench list -o csv > mechanisms.csv`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return list(cmd.OutOrStdout(), format.Format) }
	return cmd
}

var listHeader = []string{"mech", "family", "method", "year", "paper", "masks", "function", "use", "decode", "state", "quick", "options"}

func list(w io.Writer, f results.Format) error {
	var rows [][]string
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			return err
		}
		rows = append(rows, describe(name, m))
	}
	// Families in the order of their first paper.
	first := map[string]string{}
	for _, r := range rows {
		if year := first[r[1]]; year == "" || r[3] != "" && r[3] < year {
			first[r[1]] = r[3]
		}
	}
	slices.SortStableFunc(rows, func(a, b []string) int {
		return cmp.Or(strings.Compare(first[a[1]], first[b[1]]), strings.Compare(a[1], b[1]))
	})
	if f == results.CSV {
		s := results.Sheet{Header: listHeader, Rows: rows}
		return s.Write(w, f)
	}
	for i := 0; i < len(rows); {
		s := results.Sheet{Title: rows[i][1], Header: slices.Delete(slices.Clone(listHeader), 1, 2), Left: len(listHeader)}
		j := i
		for ; j < len(rows) && rows[j][1] == rows[i][1]; j++ {
			s.Rows = append(s.Rows, slices.Delete(slices.Clone(rows[j]), 1, 2))
		}
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := s.Write(w, f); err != nil {
			return err
		}
		i = j
	}
	return nil
}

func describe(name string, m attn.Mechanism) []string {
	info := m.Info()
	result, use, decode, quick := "own", "trained", "-", ""
	if info.Approximates {
		result = "approximates full"
	}
	if info.Tolerance > 0 {
		result += fmt.Sprintf(", to %g", info.Tolerance)
	}
	if info.Inference {
		use = "inference"
	} else if _, ok := m.(attn.Differentiable); !ok {
		use = "inference"
	}
	if _, ok := m.(attn.Incremental); ok {
		decode = info.Decode.String()
	}
	if info.Quick {
		quick = "yes"
	}
	var options []string
	for _, o := range attn.Options(name) {
		options = append(options, o.Name+"="+o.Default)
	}
	year := ""
	if info.Year != 0 {
		year = strconv.Itoa(info.Year)
	}
	return []string{
		name, info.Family, info.Title, year, info.Paper, info.Masks.String(), result, use, decode,
		growth(m), quick, strings.Join(options, ","),
	}
}

// growth says how the decoding state grows with the context, from the closed form.
func growth(m attn.Mechanism) string {
	info := m.Info()
	if _, ok := m.(attn.Incremental); !ok || info.Cost == nil {
		return "-"
	}
	state := func(n int) float64 {
		s := attn.Shape{Batch: 1, QueryLen: 1, KeyLen: n, Heads: 4, KVHeads: 4, KeyDim: 64, ValueDim: 64, Mask: attn.Causal, Layers: 1, MaxLen: n}
		return float64(info.Cost(s, attn.PassDecode).State)
	}
	const long = 1 << 20
	switch few, many, twice := state(1), state(long), state(2*long); {
	case few == twice:
		return "constant"
	case many == twice:
		return "bounded"
	case twice > 1.9*many:
		return "proportional"
	default:
		return "sublinear"
	}
}
