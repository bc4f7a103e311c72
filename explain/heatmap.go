package explain

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"strings"
	"unicode"

	"attnbench/internal/wholefile"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// MaxTokens bounds what a figure shows, so that its labels can be read.
const MaxTokens = 64

// Layer is one row of panels: the weights of a layer's heads.
type Layer struct {
	Number  int
	Weights *Weights
}

// WriteFigure draws a panel for each head of each layer, queries downwards and keys to the right, with the tokens beside. Blue is a weight above 0, red one
// below; the full colour is the panel's largest. A path that ends in .png or .svg is written; any other gets both
// endings, and both are written. It returns the files.
func WriteFigure(path string, title string, tokens []string, layers []Layer) ([]string, error) {
	if len(tokens) > MaxTokens {
		return nil, fmt.Errorf("figure of %d tokens: want at most %d", len(tokens), MaxTokens)
	}
	files := []string{path}
	if ext := filepath.Ext(path); ext != ".png" && ext != ".svg" {
		files = []string{path + ".png", path + ".svg"}
	}
	for _, file := range files {
		var b bytes.Buffer
		if err := drawFigure(&b, filepath.Ext(file), title, tokens, layers); err != nil {
			return nil, fmt.Errorf("figure %s: %w", file, err)
		}
		err := wholefile.Write(file, func(w io.Writer) error {
			_, err := w.Write(b.Bytes())
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

const (
	letter = 6.5 // points of a label
	pitch  = 8.5 // from one label to the next
)

func drawFigure(w io.Writer, ext, title string, tokens []string, layers []Layer) error {
	label := 0
	for _, s := range tokens {
		label = max(label, len([]rune(Label(s))))
	}
	side := vg.Points(max(60, float64(len(tokens))*pitch) + letter*0.6*float64(label) + 22)
	const head = 18
	heads := 0
	for _, l := range layers {
		heads = max(heads, len(l.Weights.Heads))
	}
	width, height := side*vg.Length(heads), side*vg.Length(len(layers))+head
	var c vg.CanvasSizer
	var to io.WriterTo
	if ext == ".png" {
		img := vgimg.New(width, height)
		c, to = img, vgimg.PngCanvas{Canvas: img}
	} else {
		svg := vgsvg.New(width, height)
		c, to = svg, svg
	}
	canvas := draw.New(c)
	style := plot.New().Title.TextStyle
	style.Font.Size = font.Points(9)
	style.XAlign, style.YAlign = draw.XLeft, draw.YTop
	canvas.FillText(style, vg.Point{X: 4, Y: height - 4}, title)

	panels := make([][]*plot.Plot, len(layers))
	for r, l := range layers {
		panels[r] = make([]*plot.Plot, heads)
		for h := range l.Weights.Heads {
			panels[r][h] = panel(fmt.Sprintf("layer %d, head %d", l.Number, h), tokens, l.Weights.Heads[h])
		}
	}
	tiles := draw.Tiles{Rows: len(layers), Cols: heads, PadTop: head, PadX: 6, PadY: 6, PadLeft: 3, PadRight: 3, PadBottom: 3}
	for r, row := range plot.Align(panels, tiles, canvas) {
		for h, cell := range row {
			if panels[r][h] != nil {
				panels[r][h].Draw(cell)
			}
		}
	}
	_, err := to.WriteTo(w)
	return err
}

// panel is the heat map of one head.
func panel(title string, tokens []string, w [][]float64) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Title.TextStyle.Font.Size = title, font.Points(8)
	g := grid(w)
	top := g.top()
	if top > 0 {
		p.Add(&plotter.HeatMap{GridXYZ: g, Palette: blueRed{}, Min: -top, Max: top})
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -0.5, float64(len(w[0]))-0.5, 0.5-float64(len(w)), 0.5
	axis := func(a *plot.Axis, sign float64) {
		var ticks plot.ConstantTicks
		for i, s := range tokens {
			ticks = append(ticks, plot.Tick{Value: sign * float64(i), Label: Label(s)})
		}
		a.Tick.Marker, a.Tick.Length, a.Padding = ticks, 0, 0
		a.LineStyle.Width, a.Tick.LineStyle.Width = 0, 0
		a.Tick.Label.Font.Size = font.Points(letter)
	}
	axis(&p.X, 1)
	axis(&p.Y, -1)
	p.X.Padding = vg.Points(4) // turned labels reach over their anchor
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/2, draw.XRight, draw.YCenter
	return p
}

// Label is a token as figures and tables show it: a space is a raised dot, and what has no shape is spelled out.
func Label(token string) string {
	var b strings.Builder
	for _, r := range token {
		switch {
		case r == ' ':
			b.WriteRune('·')
		case r == '\n':
			b.WriteString(`\n`)
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// grid is a matrix of weights, its first row on top. A weight of 0 is left white.
type grid [][]float64

func (g grid) Dims() (c, r int) { return len(g[0]), len(g) }
func (g grid) X(c int) float64  { return float64(c) }
func (g grid) Y(r int) float64  { return float64(r - len(g) + 1) }
func (g grid) Z(c, r int) float64 {
	if x := g[len(g)-1-r][c]; x != 0 {
		return x
	}
	return math.NaN()
}

func (g grid) top() float64 {
	top := 0.0
	for _, row := range g {
		for _, x := range row {
			top = max(top, math.Abs(x))
		}
	}
	return top
}

// blueRed goes from red over white to blue.
type blueRed struct{}

func (blueRed) Colors() []color.Color {
	const n = 64
	var list []color.Color
	for i := -n; i <= n; i++ {
		f := math.Abs(float64(i)) / n
		c := [3]float64{8, 64, 160}
		if i < 0 {
			c = [3]float64{178, 24, 43}
		}
		list = append(list, color.RGBA{fade(c[0], f), fade(c[1], f), fade(c[2], f), 255})
	}
	return list
}

func fade(c, f float64) uint8 { return uint8(math.Round(255 + (c-255)*f)) }
