package results

import (
	"slices"
	"strings"
)

// Merge puts tables of the same row and column names into one, in their order: the kind of benchmark, and its task,
// become the first part of each row's key. What else a table's title says goes to the notes.
func Merge(title string, tables []*Table) *Table {
	all := &Table{Title: title}
	var about []string // notes: a kind and the rest of its title
	for _, t := range tables {
		all.RowNames, all.ColNames = append([]string{"benchmark"}, t.RowNames...), t.ColNames
		for _, c := range t.Cols {
			if !slices.ContainsFunc(all.Cols, func(have []string) bool { return slices.Equal(have, c) }) {
				all.Cols = append(all.Cols, c)
			}
		}
		kind, rest := splitTitle(t.Title)
		i := slices.IndexFunc(about, func(s string) bool { return strings.HasSuffix(s, ": "+rest) })
		switch {
		case rest == "":
		case i >= 0 && !strings.Contains(about[i], kind):
			about[i] = strings.TrimSuffix(about[i], ": "+rest) + ", " + kind + ": " + rest
		case i < 0:
			about = append(about, kind+": "+rest)
		}
	}
	all.Notes = about
	for _, t := range tables {
		kind, _ := splitTitle(t.Title)
		for _, r := range t.Rows {
			row := TableRow{Key: append([]string{kind}, r.Key...), Unit: r.Unit, Cells: make([]*Cell, len(all.Cols))}
			for i, c := range r.Cells {
				at := slices.IndexFunc(all.Cols, func(have []string) bool { return slices.Equal(have, t.Cols[i]) })
				row.Cells[at] = c
			}
			all.Rows = append(all.Rows, row)
		}
	}
	return all
}

// splitTitle splits Accuracy/task=mqar/batch=1 into the kind with its task, and the rest.
func splitTitle(title string) (kind, rest string) {
	kind, rest, _ = strings.Cut(title, "/")
	if task, ok := strings.CutPrefix(rest, "task="); ok {
		task, rest, _ = strings.Cut(task, "/")
		kind += " " + task
	}
	return kind, rest
}
