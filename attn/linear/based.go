package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("based", Based{Dim: 16, Eps: 1e-12, Chunk: 64}, Based.New) }

// Based holds the options of attention with the Taylor series of the exponential, spelled based:dim=24.
type Based struct {
	Dim   int     `opt:"dim"`   // width of queries and keys, whatever the key dim; from 1 to 256
	Eps   float64 `opt:"eps"`   // added to the sum that is divided by; at least 0
	Chunk int     `opt:"chunk"` // tokens between the states kept for training; at least 1
}

// New returns Based attention with the options o.
func (o Based) New() (attn.Mechanism, error) {
	if o.Dim < 1 || o.Dim > 256 {
		return nil, attn.OptionError("dim", o.Dim, "an integer from 1 to 256")
	}
	if !(o.Eps >= 0 && o.Eps <= 1) {
		return nil, attn.OptionError("eps", o.Eps, "a number from 0 to 1")
	}
	m := &based{o: o, featured: featured{
		rec: tile.Recurrence{Chunk: o.Chunk, Normalize: true, Eps: float32(o.Eps)}, phi: taylor{o.Dim},
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name: attn.Spell("based", o), Title: "Based, the Taylor part",
		Paper: "Arora et al. 2024, arXiv:2402.18668", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Approximates: true, Budget: "dim", Inputs: narrow(o.Dim),
	})
	return m, nil
}

// narrow returns q, k and v, the first two so wide and not rotated.
func narrow(dim int) []attn.Input {
	inputs := attn.QKV()
	for i := range inputs[:2] {
		inputs[i].Width, inputs[i].Rotary = func(attn.Shape) int { return dim }, false
	}
	return inputs
}

type based struct {
	featured
	o Based
}

// Define is linear attention (defineFeatures) over the 1 + d + d(d+1)/2 features whose products are the Taylor series of e^s,
//
//	φ(q)·φ(k) = 1 + s + s²/2,  s = q·k/√d
//	φ(x) = [1, x_a/d^(1/4), x_a²/√(2d) and x_a x_b/√d for b > a]
//
// where d is the option dim. Arora et al. 2024 (arXiv:2402.18668) §4.1.
func (m *based) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d := float64(m.o.Dim)
	root := math.Pow(d, 0.25)
	defineFeatures(c, m.phi.width(c.Shape), func(f []float64, _ bool, x []float64, _ int) {
		f[0] = 1
		for a, y := range x {
			f[1+a] = y / root
		}
		squares64(f[1+len(x):], x, 1/math.Sqrt(2*d))
	}, func(x float64) float64 { return x + m.o.Eps })
	return nil
}

// squares64 writes to f unit·x_a² and unit·√2·x_a x_b for all a and b > a, whose products with those of y sum to (unit·x·y)²: for
// each a in turn the square first.
func squares64(f, x []float64, unit float64) {
	for a := range x {
		f[0] = unit * x[a] * x[a]
		u := unit * math.Sqrt2 * x[a]
		for b, y := range x[a+1:] {
			f[1+b] = u * y
		}
		f = f[len(x)-a:]
	}
}

// backSquares adds to dx the gradient of x, given that of its squares.
func backSquares(d, x, dx []float32, unit float32) {
	root := unit * math.Sqrt2
	for a := range x {
		n := len(x) - a
		g, y, dy := d[:n], x[a:][:n], dx[a:][:n]
		sum := 2 * unit * g[0] * y[0]
		u := root * x[a]
		for b := 1; b < n; b++ {
			sum += root * g[b] * y[b]
			dy[b] += u * g[b]
		}
		dx[a] += sum
		d = d[n:]
	}
}

func numSquares(d int) int { return d * (d + 1) / 2 }

// taylor is φ of Based, for queries and keys of its width.
type taylor struct{ dim int }

func (f taylor) width(attn.Shape) int          { return 1 + f.dim + numSquares(f.dim) }
func (taylor) floats(attn.Shape) int           { return 0 }
func (taylor) weightFloats(attn.Shape) int     { return 0 }
func (taylor) prepare(*attn.Call, []float32)   {}
func (taylor) flops(attn.Shape) (int64, int64) { return 0, 0 }
func (f taylor) units() (linear, square float32) {
	d := float64(f.dim)
	return float32(math.Pow(d, -0.25)), float32(1 / math.Sqrt(2*d))
}

func (f taylor) features(_ *attn.Scratch, r featureRows, phi tile.Mat) {
	linear, square := f.units()
	var scale [featureBlock]float32
	for i := range r.n {
		phi.Data[i*phi.Row], scale[i] = 1, linear
	}
	kernel.Copy(phi.From(0, 1), r.x, r.n, f.dim)
	kernel.ScaleRows(scale[:r.n], phi.From(0, 1), f.dim)
	kernel.Squares(phi.From(0, 1+f.dim), r.x, square, r.n, f.dim)
}

func (f taylor) back(_ *attn.Scratch, r featureRows, _, d, dx tile.Mat) {
	linear, square := f.units()
	for i := range r.n {
		x, g, to := r.x.Data[i*r.x.Row:][:f.dim], d.Data[i*d.Row:][:f.width(r.call.Shape)], dx.Data[i*dx.Row:][:f.dim]
		tile.Axpy(linear, g[1:1+f.dim], to)
		backSquares(g[1+f.dim:], x, to, square)
	}
}
