package results

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"attnbench/internal/wholefile"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// WriteCurves draws the figures of a table whose units are numbered, accuracy@4, accuracy@8 and so on, to a file, .svg or .png: a panel for each
// name before the @, a line for each column, the number along the axis. Axes are logarithmic where numbers are powers of two, and where figures lie
// more than a hundredfold apart; a logarithmic axis leaves out what is 0.
func WriteCurves(path string, t *Table) error {
	if err := CheckCurves(path); err != nil {
		return err
	}
	panels := t.panels()
	if len(panels) == 0 {
		return fmt.Errorf("plot %s: no unit of the table has two numbers or more, as accuracy@4: want one", path)
	}
	const width, height = 5 * vg.Inch, 3.8 * vg.Inch
	var file bytes.Buffer
	w := vg.Length(len(panels)) * width
	if filepath.Ext(path) == ".svg" {
		c := vgsvg.New(w, height)
		if err := drawPanels(draw.New(c), panels); err != nil {
			return err
		}
		c.WriteTo(&file)
	} else {
		c := vgimg.New(w, height)
		if err := drawPanels(draw.New(c), panels); err != nil {
			return err
		}
		vgimg.PngCanvas{Canvas: c}.WriteTo(&file)
	}
	return wholefile.Write(path, func(w io.Writer) error {
		_, err := w.Write(file.Bytes())
		return err
	})
}

// CheckCurves reports a path that WriteCurves will refuse, before there is anything to draw.
func CheckCurves(path string) error {
	if ext := filepath.Ext(path); ext != ".svg" && ext != ".png" {
		return fmt.Errorf("plot %s: want a name that ends in .svg or .png", path)
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err == nil && !dir.IsDir() {
		err = fmt.Errorf("%s is no folder: want one", filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("plot %s: %w", path, err)
	}
	return nil
}

// panel is one family of numbered units.
type panel struct {
	name  string
	lines []curve
}

type curve struct {
	name   string
	points plotter.XYs
}

func (t *Table) panels() []panel {
	var list []panel
	for _, r := range t.Rows {
		name, number, ok := strings.Cut(r.Unit.Name, "@")
		x, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil {
			continue
		}
		i := slices.IndexFunc(list, func(p panel) bool { return p.name == name })
		if i < 0 {
			i = len(list)
			p := panel{name: name}
			for _, c := range t.Cols {
				p.lines = append(p.lines, curve{name: strings.Join(c, " ")})
			}
			list = append(list, p)
		}
		for j, c := range r.Cells {
			if c != nil && !c.Known {
				l := &list[i].lines[j]
				l.points = append(l.points, plotter.XY{X: x, Y: c.Median})
			}
		}
	}
	for i := range list {
		list[i].lines = slices.DeleteFunc(list[i].lines, func(c curve) bool { return len(c.points) < 2 })
	}
	return slices.DeleteFunc(list, func(p panel) bool { return len(p.lines) == 0 })
}

// axes reports which axes are logarithmic, and takes from the lines what such axes cannot hold.
func (p *panel) axes() (logX, logY bool) {
	logX = true
	low, high := math.Inf(1), 0.0
	for _, l := range p.lines {
		for _, q := range l.points {
			frac, _ := math.Frexp(q.X)
			logX = logX && (q.X == 0 || frac == 0.5)
			if q.Y > 0 {
				low, high = min(low, q.Y), max(high, q.Y)
			}
		}
	}
	logY = high > 100*low
	for i := range p.lines {
		l := &p.lines[i]
		l.points = slices.DeleteFunc(slices.Clone(l.points), func(q plotter.XY) bool {
			return logX && q.X <= 0 || logY && q.Y <= high*depth || math.IsNaN(q.Y) || math.IsInf(q.Y, 0)
		})
	}
	return logX, logY
}

// depth is the smallest part of the highest point that a logarithmic axis shows.
const depth = 1e-12

func drawPanels(c draw.Canvas, panels []panel) error {
	row := make([]*plot.Plot, len(panels))
	for i, p := range panels {
		g := plot.New()
		row[i] = g
		g.Title.Text = p.name
		g.Legend.Top, g.Legend.TextStyle.Font.Size = true, font.Points(9)
		logX, logY := p.axes()
		ticks := map[float64]bool{}
		for j, l := range p.lines {
			if len(l.points) == 0 {
				continue
			}
			line, dots, err := plotter.NewLinePoints(l.points)
			if err != nil {
				return fmt.Errorf("plot of %s: %w", p.name, err)
			}
			line.Color, dots.Color, dots.Shape = plotutil.Color(j), plotutil.Color(j), plotutil.Shape(j)
			line.Width = vg.Points(1.2)
			g.Add(line, dots)
			g.Legend.Add(l.name, line, dots)
			for _, q := range l.points {
				ticks[q.X] = true
			}
		}
		if len(ticks) == 0 {
			continue
		}
		g.Add(plotter.NewGrid())
		var marks []plot.Tick
		for x := range ticks {
			marks = append(marks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', -1, 64)})
		}
		slices.SortFunc(marks, func(a, b plot.Tick) int { return int(math.Copysign(1, a.Value-b.Value)) })
		g.X.Tick.Marker = plot.ConstantTicks(marks)
		if logX && g.X.Max > g.X.Min {
			g.X.Scale = plot.LogScale{}
		}
		if logY {
			g.Y.Scale, g.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: 1}
			g.Y.Min, g.Y.Max = math.Pow(10, math.Floor(math.Log10(g.Y.Min))), math.Pow(10, math.Ceil(math.Log10(g.Y.Max)))
		}
	}
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: vg.Points(14), PadTop: vg.Points(6), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(10)}
	for i, canvas := range plot.Align([][]*plot.Plot{row}, tiles, c)[0] {
		row[i].Draw(canvas)
	}
	return nil
}
