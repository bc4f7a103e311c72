package results

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Table is one pivoted table. Each row has one unit.
type Table struct {
	Title              string // what all its cells have in common
	RowNames, ColNames []string
	Rows               []TableRow
	Cols               [][]string // values of ColNames
	Notes              []string   // lines below, before those that explain the figures
}

// TableRow is one row of a Table.
type TableRow struct {
	Key   []string // values of RowNames
	Unit  Unit
	Cells []*Cell // one a column; nil where there is no sample
}

// Cell is one figure and the benchmark that it was measured by.
type Cell struct {
	Figure
	Name   string // the benchmark's full name
	Config []Config
	Known  bool // not measured but known, such as a baseline's figure: shown without spread and samples
}

// nameParts splits a benchmark's name after its first part into keys and values. A part that is
// no key=value has an empty key.
func nameParts(name string) []Config {
	var list []Config
	_, parts := benchfmt.Name(name).Parts()
	for _, part := range parts {
		if part[0] == '-' {
			list = append(list, Config{"gomaxprocs", string(part[1:])})
			continue
		}
		k, v, ok := strings.Cut(string(part[1:]), "=")
		if !ok {
			k, v = "", k
		}
		list = append(list, Config{k, v})
	}
	return list
}

// AddColumn adds a column of figures that were not measured but are known exactly, such as a
// baseline's, by unit. In CSV they go by the benchmark's name and config. Rows of other units stay empty.
func (t *Table) AddColumn(head, name string, config []Config, values map[string]float64) {
	key := make([]string, max(1, len(t.ColNames)))
	key[0] = head
	t.Cols = append(t.Cols, key)
	for i := range t.Rows {
		r := &t.Rows[i]
		v, ok := values[r.Unit.Name]
		if !ok {
			r.Cells = append(r.Cells, nil)
			continue
		}
		u := r.Unit
		u.Exact = true
		r.Cells = append(r.Cells, &Cell{Figure: *NewFigure(u, []float64{v}), Name: name, Config: config, Known: true})
	}
}

// WriteTables draws tables one below the other. CSV has one line a figure, unscaled, all tables
// together, and the mechanism first.
func WriteTables(w io.Writer, f Format, tables []*Table) error {
	if f == CSV {
		return cells(tables).Write(w, CSV)
	}
	var sheets []*Sheet
	for _, t := range tables {
		sheets = append(sheets, t.Sheet())
	}
	return writeSheets(w, f, sheets)
}

func writeSheets(w io.Writer, f Format, sheets []*Sheet) error {
	for i, s := range sheets {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := s.Write(w, f); err != nil {
			return err
		}
	}
	return nil
}

// heading is what stands above a column.
func heading(col []string) string {
	head := strings.Join(col, " ")
	if strings.TrimSpace(head) == "" {
		return "value"
	}
	return head
}

// Sheet returns the table as it is shown. Where all cells of each row have the same number of samples,
// it stands in a column of its own.
func (t *Table) Sheet() *Sheet {
	s := &Sheet{Title: t.Title, Header: append(slices.Clone(t.RowNames), "unit"), Left: len(t.RowNames) + 1, Notes: t.notes()}
	even := t.even()
	if even {
		s.Header = append(s.Header, "samples")
	}
	for _, c := range t.Cols {
		s.Header = append(s.Header, heading(c))
	}
	for _, r := range t.Rows {
		line := append(slices.Clone(r.Key), r.Unit.Name)
		if even {
			line = append(line, fmt.Sprint(r.samples()))
		}
		for _, c := range r.Cells {
			switch {
			case c == nil:
				line = append(line, "")
			case c.Known:
				line = append(line, c.Unit.Format(c.Median))
			case even:
				line = append(line, c.Unit.Format(c.Median)+c.spread())
			default:
				line = append(line, c.String())
			}
		}
		s.Rows = append(s.Rows, line)
	}
	s.dropEmpty(len(t.RowNames))
	return s
}

// measured returns the cells of the row that hold samples.
func (r *TableRow) measured() []*Cell {
	return slices.DeleteFunc(slices.Clone(r.Cells), func(c *Cell) bool { return c == nil || c.Known })
}

// samples returns the number of samples of the row's first cell.
func (r *TableRow) samples() int {
	for _, c := range r.measured() {
		return len(c.Values)
	}
	return 0
}

// even reports whether all cells of each row have the same number of samples.
func (t *Table) even() bool {
	for _, r := range t.Rows {
		n := r.samples()
		if slices.ContainsFunc(r.measured(), func(c *Cell) bool { return len(c.Values) != n }) {
			return false
		}
	}
	return true
}

// notes says how the figures are to be read.
func (t *Table) notes() []string {
	few, interval := false, false
	for _, r := range t.Rows {
		for _, c := range r.measured() {
			n := len(c.Values)
			few = few || n > 1 && n < intervalSamples && c.Low != c.High
			interval = interval || n >= intervalSamples
		}
	}
	how := "median, spread and number of samples"
	if !t.even() {
		how += " (n)"
	}
	if interval {
		how += "; ±, or a..b where that is wide: 95% interval of the median"
	}
	if few {
		how += "; a..b of fewer than 6 samples, which give no 95% interval: smallest and largest"
	}
	notes := append(slices.Clone(t.Notes), how)
	var lower, higher []string
	for _, r := range t.Rows {
		list := &lower
		switch r.Unit.Better {
		case 0:
			continue
		case 1:
			list = &higher
		}
		// Of figures by position, the unit without the position says it for all.
		if !slices.Contains(*list, r.Unit.Name) && !strings.Contains(r.Unit.Name, "@") {
			*list = append(*list, r.Unit.Name)
		}
	}
	if lower != nil {
		notes = append(notes, "lower is better: "+strings.Join(lower, ", "))
	}
	if higher != nil {
		notes = append(notes, "higher is better: "+strings.Join(higher, ", "))
	}
	return notes
}

// cells lists all figures of the tables, one a row: mech, the other parts of the name, the
// configuration that the tables go by, and the figure.
func cells(tables []*Table) *Sheet {
	l := newList("unit", "better", "median", "low", "high", "confidence", "samples")
	for _, t := range tables {
		for _, r := range t.Rows {
			for _, c := range r.Cells {
				if c != nil {
					l.add(c.Name, c.Config, r.Unit.Name, direction(r.Unit.Better), unscaled(c.Median), unscaled(c.Low),
						unscaled(c.High), unscaled(c.Confidence), fmt.Sprint(len(c.Values)))
				}
			}
		}
	}
	return l.sheet()
}

func direction(better int) string { return [...]string{"lower", "", "higher"}[better+1] }

// list collects lines of which each begins with the parts of a benchmark's name, in columns.
type list struct {
	head, tail []string // columns of name and configuration; columns after them
	keys, vals [][]string
}

func newList(tail ...string) *list { return &list{head: []string{"mech", "benchmark"}, tail: tail} }

// add adds a line for the benchmark of that name.
func (l *list) add(name string, config []Config, vals ...string) {
	keys := make([]string, len(l.head))
	keys[1] = string(benchfmt.Name(name).Base())
	for i, k := range append(nameParts(name), config...) {
		if k.Key == "" { // a part without a key goes by its place
			k.Key = fmt.Sprintf("part%d", i+1)
		}
		at := slices.Index(l.head, k.Key)
		if at < 0 {
			at = len(l.head)
			l.head = append(l.head, k.Key)
		}
		keys = append(keys, make([]string, len(l.head)-len(keys))...)
		keys[at] = k.Value
	}
	l.keys, l.vals = append(l.keys, keys), append(l.vals, vals)
}

// sheet returns all lines under one header.
func (l *list) sheet() *Sheet {
	s := &Sheet{Header: slices.Concat(l.head, l.tail), Left: len(l.head)}
	for i, keys := range l.keys {
		s.Rows = append(s.Rows, slices.Concat(keys, make([]string, len(l.head)-len(keys)), l.vals[i]))
	}
	return s
}
