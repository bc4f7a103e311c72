package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"attnbench/attn"
	"attnbench/harness"
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

` + listSizes + `. Declared is what else a mechanism says of itself, by which the conformance kit goes: that it chooses keys by content, couples
heads, or rotates by itself.

A mechanism with options is spelled name:option=value,option=value.`,
		Example: `  attnbench list
  attnbench list -o csv > mechanisms.csv`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return list(cmd.OutOrStdout(), format.Format) }
	return cmd
}

// listed are the sizes at which costs are listed.
var listed = harness.Case{N: 4096, Heads: 4, Dim: 64, Causal: true}

const listSizes = `Costs are those of 4096 tokens, 4 heads, width 64: FLOPs of one pass by the closed form; state-B and read-B are what a live
decoding state of so many tokens retains, and what the next token reads of it`

var listHeader = []string{"mech", "family", "method", "year", "paper", "masks", "function", "use", "decode", "state", "state-B", "read-B", "FLOPs",
	"declared", "budget", "quick", "options"}

// familyColumn is the one by which the mechanisms are grouped.
const familyColumn = 1

// list writes the mechanisms: one table of all in CSV, elsewhere one for each family.
func list(w io.Writer, f results.Format) error {
	var rows [][]string
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			return err
		}
		row, err := describe(name, m, f)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	// Families in the order of their first paper.
	first := map[string]string{}
	for _, r := range rows {
		if year := first[r[familyColumn]]; year == "" || r[3] != "" && r[3] < year {
			first[r[familyColumn]] = r[3]
		}
	}
	slices.SortStableFunc(rows, func(a, b []string) int {
		return cmp.Or(strings.Compare(first[a[familyColumn]], first[b[familyColumn]]), strings.Compare(a[familyColumn], b[familyColumn]))
	})
	if f == results.CSV {
		s := results.Sheet{Header: listHeader, Rows: rows}
		return s.Write(w, f)
	}
	without := func(row []string) []string { return slices.Delete(slices.Clone(row), familyColumn, familyColumn+1) }
	for i := 0; i < len(rows); {
		s := results.Sheet{Title: rows[i][familyColumn], Header: without(listHeader), Left: len(listHeader)}
		j := i
		for ; j < len(rows) && rows[j][familyColumn] == rows[i][familyColumn]; j++ {
			s.Rows = append(s.Rows, without(rows[j]))
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

func describe(name string, m attn.Mechanism, f results.Format) ([]string, error) {
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
	state, read, flops, err := sizes(name, &info, f)
	return []string{
		name, info.Family, info.Title, year, info.Paper, info.Masks.String(), result, use, decode,
		growth(m), state, read, flops, declared(&info), info.Budget, quick, strings.Join(options, ","),
	}, err
}

// sizes returns the bytes of a live state and the operations of a pass, empty for what a mechanism cannot do at these sizes.
func sizes(name string, info *attn.Info, f results.Format) (state, read, flops string, err error) {
	c := listed
	c.Mech = name
	show := func(unit string, v int64) string {
		u, _ := results.LookupUnit(unit)
		if f == results.CSV {
			return fmt.Sprint(v)
		}
		return u.Format(float64(v))
	}
	if s := c.Shape(); info.Cost != nil && info.Masks&s.Mask != 0 && (info.CheckShape == nil || info.CheckShape(s) == nil) {
		flops = show("FLOPs", info.Cost(s, attn.PassForward).FLOPs)
	}
	a, b, err := c.StateBytes()
	if errors.As(err, new(*harness.Unsupported)) {
		return "", "", flops, nil
	}
	return show("state-B", a), show("read-B", b), flops, err
}

// declared lists what a mechanism says of itself that the columns do not.
func declared(info *attn.Info) string {
	var list []string
	if info.Selects {
		list = append(list, "selects")
	}
	if info.Couples != attn.CouplesNone {
		list = append(list, "couples "+info.Couples.String())
	}
	if info.RotatesInside {
		list = append(list, "rotates inside")
	}
	if info.SeesQuestion {
		list = append(list, "sees the question")
	}
	if info.Appends {
		list = append(list, "appends what it generates")
	}
	if len(info.Learned) > 0 {
		list = append(list, "learns")
	}
	return strings.Join(list, ", ")
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
