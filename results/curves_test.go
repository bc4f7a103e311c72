package results

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// curvesTable has two columns, of which the second was not measured everywhere.
func curvesTable() *Table {
	cell := func(x float64) *Cell { return &Cell{Figure: Figure{Median: x}} }
	known := cell(0.5)
	known.Known = true
	return &Table{
		ColNames: []string{"mech"}, Cols: [][]string{{"first"}, {"second"}, {"chance"}},
		Rows: []TableRow{
			{Unit: Unit{Name: "accuracy"}, Cells: []*Cell{cell(1), cell(1), known}},
			{Unit: Unit{Name: "accuracy@4"}, Cells: []*Cell{cell(1), cell(0.9), known}},
			{Unit: Unit{Name: "accuracy@8"}, Cells: []*Cell{cell(1), cell(0.5), known}},
			{Unit: Unit{Name: "gradient@0"}, Cells: []*Cell{cell(1), cell(1), nil}},
			{Unit: Unit{Name: "gradient@4"}, Cells: []*Cell{cell(1e-3), cell(1e-20), nil}},
			{Unit: Unit{Name: "gradient@8"}, Cells: []*Cell{cell(1e-4), cell(0), nil}},
			{Unit: Unit{Name: "alone@8"}, Cells: []*Cell{cell(1), nil, nil}},
			{Unit: Unit{Name: "odd@x"}, Cells: []*Cell{cell(1), nil, nil}},
			{Unit: Unit{Name: "even@3"}, Cells: []*Cell{cell(2), nil, nil}},
			{Unit: Unit{Name: "even@5"}, Cells: []*Cell{cell(2), nil, nil}},
		},
	}
}

func TestPanels(t *testing.T) {
	list := curvesTable().panels()
	if len(list) != 3 {
		t.Fatalf("%d panels %+v: want 3", len(list), list)
	}
	for i, want := range []struct {
		name       string
		points     []int // of each line
		logX, logY bool
	}{
		{"accuracy", []int{2, 2}, true, false},
		{"gradient", []int{2, 0}, true, true}, // neither 0 along nor what is 0, or lies too low
		{"even", []int{2}, false, false},
	} {
		p := list[i]
		logX, logY := p.axes()
		if p.name != want.name || len(p.lines) != len(want.points) || logX != want.logX || logY != want.logY {
			t.Errorf("panel %s, %d lines, logarithmic %v %v: want %+v", p.name, len(p.lines), logX, logY, want)
			continue
		}
		for j, l := range p.lines {
			if len(l.points) != want.points[j] {
				t.Errorf("%s: line %s has points %v: want %d", p.name, l.name, l.points, want.points[j])
			}
		}
	}
}

func TestWriteCurves(t *testing.T) {
	dir := t.TempDir()
	var last []byte
	for _, name := range []string{"a.svg", "b.svg", "c.png"} {
		path := filepath.Join(dir, name)
		if err := WriteCurves(path, curvesTable()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "b.svg":
			for _, word := range []string{"accuracy", "gradient", "even", "first", "second"} {
				if !bytes.Contains(data, []byte(">"+word+"<")) {
					t.Errorf("%s: %q is not in it", name, word)
				}
			}
			if !bytes.Equal(data, last) {
				t.Error("two plots of one table differ")
			}
		case "c.png":
			if im, err := png.Decode(bytes.NewReader(data)); err != nil || im.Bounds().Dx() < 3*300 {
				t.Errorf("%s: %v, %v: want three panels side by side", name, err, im.Bounds())
			}
		}
		last = data
	}
	for _, c := range []struct {
		path string
		t    *Table
		want string
	}{
		{filepath.Join(dir, "a.pdf"), curvesTable(), "ends in .svg or .png"},
		{filepath.Join(dir, "none", "a.svg"), curvesTable(), "no such file"},
		{"/dev/full.svg/x.svg", curvesTable(), "/dev/full.svg"},
		{filepath.Join(dir, "a.svg"), &Table{}, "no unit of the table has two numbers"},
	} {
		if err := WriteCurves(c.path, c.t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q in it", c.path, err, c.want)
		}
	}
}
