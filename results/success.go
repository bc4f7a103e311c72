package results

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"
)

// A Bar is what a sample must reach in a unit to count as a success: that value or a better one.
type Bar struct {
	Unit  string
	Value float64
}

// ParseBar parses UNIT=VALUE, such as accuracy=0.99.
func ParseBar(text string) (Bar, error) {
	unit, value, ok := strings.Cut(text, "=")
	x, err := strconv.ParseFloat(value, 64)
	if !ok || unit == "" || err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return Bar{}, fmt.Errorf("bar %q: want UNIT=VALUE, such as accuracy=0.99", text)
	}
	return Bar{unit, x}, nil
}

// rate is how many of n samples reached a bar. A training that diverged is one that did not.
type rate struct {
	reached, n int
	of         *Cell // one of its cells, for the name; nil without samples
}

// interval is the exact 95% interval of the probability (Clopper and Pearson 1934).
func (r rate) interval() (low, high float64) {
	const tail = (1 - confidence) / 2
	k, n := float64(r.reached), float64(r.n)
	high = 1
	if r.reached > 0 {
		low = distuv.Beta{Alpha: k, Beta: n - k + 1}.Quantile(tail)
	}
	if r.reached < r.n {
		high = distuv.Beta{Alpha: k + 1, Beta: n - k}.Quantile(1 - tail)
	}
	return low, high
}

// rates counts the successes of each column in row i of the table; a column without samples has n = 0.
func (t *Table) rates(i int, bar float64) []rate {
	row := &t.Rows[i]
	list := make([]rate, len(row.Cells))
	for j, c := range row.Cells {
		if c == nil || c.Known {
			continue
		}
		list[j].n, list[j].of = len(c.Values), c
		for _, x := range c.Values {
			if row.Unit.Better < 0 && x <= bar || row.Unit.Better > 0 && x >= bar {
				list[j].reached++
			}
		}
	}
	for _, r := range t.Rows {
		if r.Unit.Name != "diverged" || !slices.Equal(r.Key, row.Key) {
			continue
		}
		for j, c := range r.Cells {
			if c != nil {
				list[j].n, list[j].of = list[j].n+len(c.Values), c
			}
		}
	}
	return list
}

// WriteSuccess draws how many samples of each cell reach the bars. CSV has a line for each cell and bar.
func WriteSuccess(w io.Writer, f Format, tables []*Table, bars []Bar) error {
	lines := newList("unit", "bar", "reached", "samples", "low", "high")
	var sheets []*Sheet
	for _, bar := range bars {
		found := false
		for _, t := range tables {
			s, err := t.success(bar, lines)
			if err != nil {
				return err
			}
			if len(s.Rows) > 0 {
				found = true
				sheets = append(sheets, s)
			}
		}
		if !found {
			return fmt.Errorf("bar %s: no result has that unit", bar.Unit)
		}
	}
	if f == CSV {
		return lines.sheet().Write(w, CSV)
	}
	return writeSheets(w, f, sheets)
}

// success is the table's part of it; without rows when the table has no such unit.
func (t *Table) success(bar Bar, lines *list) (*Sheet, error) {
	s := &Sheet{Title: t.Title, Header: append(slices.Clone(t.RowNames), "reached"), Left: len(t.RowNames) + 1,
		Notes: []string{"samples that reach it, of how many; a..b: exact 95% interval of the probability (Clopper and Pearson)"}}
	var shown []int // columns with samples
	for i, c := range t.Cols {
		if slices.ContainsFunc(t.Rows, func(r TableRow) bool { return r.Cells[i] != nil && !r.Cells[i].Known }) {
			shown = append(shown, i)
			s.Header = append(s.Header, heading(c))
		}
	}
	for i, r := range t.Rows {
		if r.Unit.Name != bar.Unit {
			continue
		}
		if r.Unit.Better == 0 {
			return nil, fmt.Errorf("bar %s: neither more nor less of that unit is better: want another one", bar.Unit)
		}
		sign := "≥"
		if r.Unit.Better < 0 {
			sign = "≤"
		}
		line, rates := append(slices.Clone(r.Key), fmt.Sprintf("%s %s %s", bar.Unit, sign, r.Unit.Format(bar.Value))), t.rates(i, bar.Value)
		for _, j := range shown {
			x := rates[j]
			if x.of == nil {
				line = append(line, "")
				continue
			}
			low, high := x.interval()
			line = append(line, fmt.Sprintf("%d/%d %.2f..%.2f", x.reached, x.n, low, high))
			lines.add(x.of.Name, x.of.Config, bar.Unit, unscaled(bar.Value), fmt.Sprint(x.reached), fmt.Sprint(x.n), unscaled(low), unscaled(high))
		}
		s.Rows = append(s.Rows, line)
	}
	s.dropEmpty(len(t.RowNames))
	return s, nil
}
