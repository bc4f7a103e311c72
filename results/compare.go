package results

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
	"gonum.org/v1/gonum/stat"
)

// Verdict says what a comparison of two cells found.
type Verdict string

// The verdicts.
const (
	CannotTell Verdict = "cannot tell" // fewer than 4 samples on a side: no difference could be significant
	NoChange   Verdict = "~"           // no significant difference, or none
	Better     Verdict = "better"
	Worse      Verdict = "worse"
	Changed    Verdict = "changed" // in a unit without a direction
	OnlyOld    Verdict = "only old"
	OnlyNew    Verdict = "only new"
)

// Change compares one cell of two sets.
type Change struct {
	Name     string
	Config   []Config // what tells it from cells of the same name
	Unit     Unit
	Old, New *Figure // nil where that side has no samples
	Ratio    float64 // new/old of the medians; NaN when it is not defined
	P        float64 // of the Mann-Whitney U test; 0 for exact units, NaN without a test
	Verdict  Verdict
}

// Mean is the geometric mean of new/old over the cells that both sides have.
type Mean struct {
	Unit  Unit
	Ratio float64 // NaN over no cell
	Cells int     // in the mean
	Left  int     // on both sides but not in the mean: a ratio wants positive figures
	Alone int     // on one side only
}

// Comparison is the difference between two sets.
type Comparison struct {
	Changes  []Change
	Means    []Mean
	Warnings []error
}

// Compare compares two sets cell by cell, in the order of the old one. Of the query it
// takes the filter and the units.
func Compare(before, after *Set, q Query) (*Comparison, error) {
	q = Query{Filter: q.Filter, Units: q.Units}
	// Both sides go by the same configuration: what differs inside a cell of either splits both.
	var p [2]*pivot
	for range 2 {
		for i, s := range []*Set{before, after} {
			var err error
			if p[i], err = s.pivot(q); err != nil {
				return nil, fmt.Errorf("%s results: %w", [...]string{"old", "new"}[i], err)
			}
			q.split = p[i].query.split
		}
	}
	c := new(Comparison)
	at := map[string]int{}
	for i := range p {
		for _, t := range p[i].tables() {
			for _, r := range t.Rows {
				for _, cell := range r.Cells {
					if cell == nil {
						continue
					}
					key := fmt.Sprintf("%q %q %q", cell.Name, cell.Config, r.Unit.Name)
					j, ok := at[key]
					if !ok {
						j = len(c.Changes)
						at[key] = j
						c.Changes = append(c.Changes, Change{Name: cell.Name, Config: cell.Config, Unit: r.Unit})
					}
					ch := &c.Changes[j]
					if i == 0 {
						ch.Old = &cell.Figure
					} else {
						ch.New = &cell.Figure
					}
					if ch.Unit.Better == 0 { // only the other file says which direction is better
						ch.Unit.Better = r.Unit.Better
					}
				}
			}
		}
		c.Warnings = append(c.Warnings, p[i].warnings...)
	}
	for i := range c.Changes {
		c.Changes[i].judge()
	}
	c.Means = means(c.Changes)
	return c, nil
}

// judge fills in what follows from the two figures.
func (c *Change) judge() {
	c.Ratio, c.P = math.NaN(), math.NaN()
	switch {
	case c.New == nil:
		c.Verdict = OnlyOld
		return
	case c.Old == nil:
		c.Verdict = OnlyNew
		return
	}
	if c.Old.Median != 0 {
		c.Ratio = c.New.Median / c.Old.Median
	} else if c.New.Median == 0 {
		c.Ratio = 1
	}
	if c.Old.exact() && c.New.exact() {
		c.P = 0
	} else {
		if min(len(c.Old.Values), len(c.New.Values)) < compareSamples {
			c.Verdict = CannotTell
			return
		}
		t := &benchmath.DefaultThresholds
		cmp := benchmath.AssumeNothing.Compare(benchmath.NewSample(c.Old.Values, t), benchmath.NewSample(c.New.Values, t))
		if c.P = cmp.P; c.P > cmp.Alpha {
			c.Verdict = NoChange
			return
		}
	}
	up := c.New.Median > c.Old.Median
	switch {
	case c.New.Median == c.Old.Median:
		c.Verdict = NoChange
	case c.Unit.Better == 0:
		c.Verdict = Changed
	case up == (c.Unit.Better > 0):
		c.Verdict = Better
	default:
		c.Verdict = Worse
	}
}

// exact reports whether all samples agree in a unit that promises it.
func (f *Figure) exact() bool { return f.Unit.Exact && f.Low == f.High }

func means(changes []Change) []Mean {
	var list []Mean
	ratios := map[string][]float64{}
	for _, c := range changes {
		i := slices.IndexFunc(list, func(m Mean) bool { return m.Unit.Name == c.Unit.Name })
		if i < 0 {
			i = len(list)
			list = append(list, Mean{Unit: c.Unit})
		}
		switch {
		case c.Old == nil || c.New == nil:
			list[i].Alone++
		case c.Old.Median > 0 && c.New.Median > 0:
			ratios[c.Unit.Name] = append(ratios[c.Unit.Name], c.Ratio)
		default:
			list[i].Left++
		}
	}
	for i := range list {
		m := &list[i]
		r := ratios[m.Unit.Name]
		m.Cells, m.Ratio = len(r), math.NaN()
		if len(r) > 0 {
			m.Ratio = stat.GeometricMean(r, nil)
		}
	}
	return list
}

// Write draws the comparison. In CSV the figures are unscaled, and the mechanism comes first.
func (c *Comparison) Write(w io.Writer, f Format) error {
	if f == CSV {
		return c.csv().Write(w, CSV)
	}
	// One table a kind of benchmark: within it most parts of the names are alike, and go to its title.
	kind := func(ch Change) string { return string(benchfmt.Name(ch.Name).Base()) }
	var kinds []string
	for _, ch := range c.Changes {
		if k := kind(ch); !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	for i, k := range kinds {
		l := newList("unit", "old", "new", "change", "verdict", "p")
		for _, ch := range c.Changes {
			if kind(ch) == k {
				l.add(ch.Name, ch.Config, ch.Unit.Name, show(ch.Old), show(ch.New), ch.change(), string(ch.Verdict), pValue(ch.P))
			}
		}
		s := l.sheet()
		s.hoist()
		s.Left++ // the unit
		if i == len(kinds)-1 {
			s.Notes = c.notes()
		}
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

func (c *Comparison) notes() []string {
	notes := []string{"median, spread and number of samples (n); change of the median, by the Mann-Whitney U test at p < 0.05; ~: no significant difference"}
	if slices.ContainsFunc(c.Changes, func(ch Change) bool { return ch.Verdict == CannotTell }) {
		notes = append(notes, "cannot tell: fewer than 4 samples on a side, so that no difference could be significant")
	}
	return append(notes, c.MeanLines()...)
}

// MeanLines says the geometric means in words, a line each.
func (c *Comparison) MeanLines() []string {
	var lines []string
	for _, m := range c.Means {
		text := fmt.Sprintf("geometric mean of new/old in %s: ", m.Unit.Name)
		if m.Cells == 0 {
			text += "no common cell with positive figures"
		} else {
			text += fmt.Sprintf("%s over %d common cells", delta(m.Ratio), m.Cells)
		}
		if m.Left > 0 {
			text += fmt.Sprintf("; %d with a figure that is not positive left out", m.Left)
		}
		if m.Alone > 0 {
			text += fmt.Sprintf("; %d on one side only left out", m.Alone)
		}
		lines = append(lines, text)
	}
	return lines
}

func (c *Comparison) csv() *Sheet {
	l := newList("unit", "better", "old", "old-low", "old-high", "old-samples", "new", "new-low", "new-high", "new-samples", "ratio", "p", "verdict")
	for _, ch := range c.Changes {
		vals := []string{ch.Unit.Name, direction(ch.Unit.Better)}
		for _, f := range []*Figure{ch.Old, ch.New} {
			if f == nil {
				vals = append(vals, "", "", "", "0")
				continue
			}
			vals = append(vals, unscaled(f.Median), unscaled(f.Low), unscaled(f.High), strconv.Itoa(len(f.Values)))
		}
		l.add(ch.Name, ch.Config, append(vals, number(ch.Ratio), number(ch.P), string(ch.Verdict))...)
	}
	return l.sheet()
}

func number(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return unscaled(v)
}

func show(f *Figure) string {
	if f == nil {
		return ""
	}
	return f.String()
}

// change shows the change of the median where there is one to speak of.
func (c *Change) change() string {
	switch c.Verdict {
	case Better, Worse, Changed:
		if math.IsNaN(c.Ratio) {
			return "from 0"
		}
		return delta(c.Ratio)
	case NoChange:
		return "~"
	}
	return ""
}

func delta(ratio float64) string { return fmt.Sprintf("%+.2f%%", 100*(ratio-1)) }

func pValue(p float64) string {
	switch {
	case math.IsNaN(p):
		return ""
	case p == 0:
		return "exact"
	}
	return strconv.FormatFloat(p, 'f', 3, 64)
}

// hoist moves leading columns that hold one value throughout, but for the mechanism, into the title.
func (s *Sheet) hoist() {
	for i := s.Left - 1; i >= 0; i-- {
		one := true
		for _, r := range s.Rows {
			one = one && r[i] == s.Rows[0][i]
		}
		if !one || len(s.Rows) == 0 || i == 0 && s.Rows[0][0] != "" {
			continue
		}
		if v := s.Rows[0][i]; v != "" {
			if s.Header[i] != "benchmark" {
				v = s.Header[i] + "=" + v
			}
			if s.Title != "" {
				v += "/" + s.Title
			}
			s.Title = v
		}
		s.dropColumn(i)
	}
}
