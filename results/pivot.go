package results

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchproc"
)

// Query says which results stand where in a table.
type Query struct {
	// Row and Col are projections in the syntax of benchproc: name keys such as /n, file keys such as cpu,
	// .name, .file, comma-separated. Empty means /n@num and /mech. What neither names splits the
	// results into tables of their own.
	Row, Col string
	// Filter chooses results in the syntax of benchproc; empty takes all.
	Filter string
	// Units are those to show, in that order; empty takes all.
	Units []string

	split []string // configuration keys by which tables are split
}

// group is the samples of one cell as they are collected.
type group struct {
	table, row, col benchproc.Key
	unit            string
	samples         []*benchfmt.Result
	values          []float64
}

// Tables pivots the set. Samples of one cell that could not be told apart by their seed are not
// pooled: the first counts, and a warning names the cell. A figure that is not finite or in a
// scaled unit is an error that names file, line and cell.
func (s *Set) Tables(q Query) (tables []*Table, warnings []error, err error) {
	p, err := s.pivot(q)
	if err != nil {
		return nil, nil, err
	}
	return p.tables(), p.warnings, nil
}

// pivot places the set's samples, the tables split by what differs inside some cell although it may not be pooled.
func (s *Set) pivot(q Query) (*pivot, error) {
	if q.Row == "" {
		q.Row = "/n@num"
	}
	if q.Col == "" {
		q.Col = "/mech"
	}
	for {
		p, err := s.project(q)
		if err != nil {
			return nil, err
		}
		more := p.mixed()
		if len(more) == 0 {
			return p, nil
		}
		q.split = append(q.split, more...)
	}
}

// pivot is a set under one query.
type pivot struct {
	set             *Set
	query           Query
	table, row, col *benchproc.Projection
	groups          []*group
	warnings        []error
}

func (s *Set) project(q Query) (*pivot, error) {
	filter, err := newFilter(q.Filter)
	if err != nil {
		return nil, err
	}
	var parser benchproc.ProjectionParser
	p := &pivot{set: s, query: q}
	parse := func(what, text string) *benchproc.Projection {
		proj, perr := parser.Parse(text, filter)
		if perr != nil && err == nil {
			err = fmt.Errorf("%s %q: %w", what, text, perr)
		}
		return proj
	}
	p.row, p.col = parse("row", q.Row), parse("column", q.Col)
	p.table = parse("table", strings.Join(append([]string{".fullname"}, q.split...), ","))
	if err != nil {
		return nil, err
	}
	type place struct {
		table, row, col benchproc.Key
		unit            string
	}
	at := map[place]*group{}
	left := false
	for _, res := range s.Results {
		res = res.Clone()
		if ok, err := filter.Apply(res); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		left = true
		res.Values = slices.DeleteFunc(res.Values, func(v benchfmt.Value) bool {
			return v.Unit != SeedUnit && len(q.Units) > 0 && !slices.Contains(q.Units, v.Unit)
		})
		if err := checkFigures(res); err != nil {
			return nil, err
		}
		key := place{table: p.table.Project(res), row: p.row.Project(res), col: p.col.Project(res)}
		for _, v := range res.Values {
			if v.Unit == SeedUnit {
				continue
			}
			key.unit = v.Unit
			g := at[key]
			if g == nil {
				g = &group{table: key.table, row: key.row, col: key.col, unit: v.Unit}
				at[key] = g
				p.groups = append(p.groups, g)
			}
			g.samples = append(g.samples, res)
			g.values = append(g.values, v.Value)
		}
	}
	if !left {
		return nil, fmt.Errorf("filter %q: no result matches it: want one of the %d", q.Filter, len(s.Results))
	}
	return p, p.check()
}

func newFilter(text string) (*benchproc.Filter, error) {
	if text == "" {
		text = "*"
	}
	f, err := benchproc.NewFilter(text)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", text, err)
	}
	return f, nil
}

// check reports units and keys of the query that no result has.
func (p *pivot) check() error {
	for _, u := range p.query.Units {
		if !slices.ContainsFunc(p.groups, func(g *group) bool { return g.unit == u }) {
			return fmt.Errorf("unit %q: no result has it: want one of %s", u, strings.Join(p.set.UnitNames(), ", "))
		}
	}
	for _, proj := range []*benchproc.Projection{p.row, p.col} {
		for _, f := range proj.FlattenedFields() {
			some := func(g *group) bool {
				k := g.row
				if proj == p.col {
					k = g.col
				}
				return k.Get(f) != ""
			}
			// The defaults may be absent: benchmarks of other projects have no /mech and no /n.
			if f.Name != "/n" && f.Name != "/mech" && len(p.groups) > 0 && !slices.ContainsFunc(p.groups, some) {
				return fmt.Errorf("key %q: no result has it: want one of %s", f.Name, strings.Join(p.set.keyNames(), ", "))
			}
		}
	}
	return nil
}

// UnitNames returns the units of the results, as first seen, without that of the seed.
func (s *Set) UnitNames() []string {
	var names []string
	for _, r := range s.Results {
		for _, v := range r.Values {
			if v.Unit != SeedUnit && !slices.Contains(names, v.Unit) {
				names = append(names, v.Unit)
			}
		}
	}
	return names
}

// keyNames returns what a projection can name.
func (s *Set) keyNames() []string {
	names := []string{".name", ".fullname", ".file"}
	for _, r := range s.Results {
		for _, k := range nameParts(string(r.Name)) {
			if n := "/" + k.Key; k.Key != "" && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	for _, r := range s.Results {
		for _, c := range r.Config {
			if c.File && !slices.Contains(names, c.Key) {
				names = append(names, c.Key)
			}
		}
	}
	return names
}

// mixed returns the keys, the seed aside, in which samples of some cell differ though they are not to be pooled.
func (p *pivot) mixed() []string {
	var list []string
	for _, k := range KeyConfig {
		if k == "seed" || slices.Contains(p.query.split, k) {
			continue
		}
		for _, g := range p.groups {
			first := (*result)(g.samples[0]).config(k)
			if slices.ContainsFunc(g.samples, func(r *benchfmt.Result) bool { return (*result)(r).config(k) != first }) {
				list = append(list, k)
				break
			}
		}
	}
	return list
}

// unseed leaves out the samples of g whose seed an earlier one has.
func (p *pivot) unseed(g *group) {
	seen := map[string]*benchfmt.Result{}
	samples, values := g.samples[:0:0], g.values[:0:0]
	for i, r := range g.samples {
		seed := (*result)(r).config("seed")
		if first, dup := seen[seed]; dup && seed != "" {
			p.warnings = append(p.warnings, fmt.Errorf("%s: %s of seed %s is there already (%s): left out", at(r), g.unit, seed, at(first)))
			continue
		}
		seen[seed] = r
		samples, values = append(samples, r), append(values, g.values[i])
	}
	g.samples, g.values = samples, values
}

func (p *pivot) tables() []*Table {
	type rowKey struct {
		row  benchproc.Key
		unit string
	}
	var tables []*Table
	for _, tk := range keys(p.groups, func(g *group) benchproc.Key { return g.table }) {
		in := slices.DeleteFunc(slices.Clone(p.groups), func(g *group) bool { return g.table != tk })
		cols := keys(in, func(g *group) benchproc.Key { return g.col })
		rows := keys(in, func(g *group) benchproc.Key { return g.row })
		t := &Table{RowNames: fieldNames(p.row), ColNames: fieldNames(p.col)}
		t.Title = strings.TrimPrefix(strings.TrimPrefix(tk.Get(p.table.Fields()[0]), "*"), "/")
		if n, ok := strings.CutPrefix(t.Title, "-"); ok { // nothing but GOMAXPROCS is left of the name
			t.Title = "gomaxprocs=" + n
		}
		for _, f := range p.table.Fields()[1:] {
			t.Title += " " + f.Name + "=" + tk.Get(f)
		}
		for _, c := range cols {
			t.Cols = append(t.Cols, fieldValues(p.col, c))
		}
		at := map[rowKey]*TableRow{}
		for _, unit := range p.unitOrder(in) {
			for _, r := range rows {
				row := &TableRow{Key: fieldValues(p.row, r), Unit: p.set.unit(unit), Cells: make([]*Cell, len(cols))}
				at[rowKey{r, unit}] = row
			}
		}
		for _, g := range in {
			p.unseed(g)
			row := at[rowKey{g.row, g.unit}]
			row.Cells[slices.Index(cols, g.col)] = p.cell(g, row.Unit)
		}
		for _, unit := range p.unitOrder(in) {
			for _, r := range rows {
				if row := at[rowKey{r, unit}]; slices.ContainsFunc(row.Cells, func(c *Cell) bool { return c != nil }) {
					t.Rows = append(t.Rows, *row)
				}
			}
		}
		tables = append(tables, t)
	}
	return tables
}

func (p *pivot) cell(g *group, u Unit) *Cell {
	c := &Cell{Figure: *NewFigure(u, g.values), Name: string(g.samples[0].Name)}
	for _, k := range p.query.split {
		c.Config = append(c.Config, Config{k, (*result)(g.samples[0]).config(k)})
	}
	for _, proj := range []struct {
		p *benchproc.Projection
		k benchproc.Key
	}{{p.row, g.row}, {p.col, g.col}} {
		for _, f := range proj.p.FlattenedFields() {
			if f.Name == ".file" || !strings.HasPrefix(f.Name, "/") && !strings.HasPrefix(f.Name, ".") {
				c.Config = append(c.Config, Config{strings.TrimPrefix(f.Name, "."), proj.k.Get(f)})
			}
		}
	}
	for _, w := range c.Warnings {
		p.warnings = append(p.warnings, fmt.Errorf("cell %s: %s: %w", c.Name, g.unit, w))
	}
	return c
}

// unitOrder returns the units of the groups: as asked for, or as first seen.
func (p *pivot) unitOrder(in []*group) []string {
	order := slices.Clone(p.query.Units)
	for _, g := range in {
		if !slices.Contains(order, g.unit) {
			order = append(order, g.unit)
		}
	}
	return order
}

// keys returns the different keys of the groups in the order of their projection.
func keys(in []*group, of func(*group) benchproc.Key) []benchproc.Key {
	var list []benchproc.Key
	seen := map[benchproc.Key]bool{}
	for _, g := range in {
		if k := of(g); !seen[k] {
			seen[k] = true
			list = append(list, k)
		}
	}
	benchproc.SortKeys(list)
	return list
}

// fieldNames returns the fields of a projection by their plain names: n for /n.
func fieldNames(p *benchproc.Projection) []string {
	var s []string
	for _, f := range p.FlattenedFields() {
		s = append(s, strings.TrimLeft(f.Name, "/."))
	}
	return s
}

func fieldValues(p *benchproc.Projection, k benchproc.Key) []string {
	var s []string
	for _, f := range p.FlattenedFields() {
		s = append(s, k.Get(f))
	}
	return s
}
