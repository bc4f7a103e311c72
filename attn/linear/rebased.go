package linear

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("rebased", Rebased{Dim: 16, Eps: 1e-5, Chunk: 64}, Rebased.New) }

// Rebased holds the options of attention with a learned quadratic kernel, spelled rebased:dim=24.
type Rebased struct {
	Dim   int     `opt:"dim"`   // width of queries and keys, whatever the key dim; from 1 to 256
	Eps   float64 `opt:"eps"`   // added to the sum that is divided by; above 0
	Chunk int     `opt:"chunk"` // tokens between the states kept for training; at least 1
}

// layerNormEps is that of the norm of queries and keys.
const layerNormEps = 1e-5

// rebasedTolerance: the weight (q·k)²/d of a pair at right angles is the difference of features' products of the size of |q|²|k|²/d, of
// which float32 loses 1e-6; beside eps, where a query sees no other keys, that is much.
const rebasedTolerance = 0.02

// New returns ReBased attention with the options o.
func (o Rebased) New() (attn.Mechanism, error) {
	if o.Dim < 1 || o.Dim > 256 {
		return nil, attn.OptionError("dim", o.Dim, "an integer from 1 to 256")
	}
	if !(o.Eps >= 1e-9 && o.Eps <= 1) {
		return nil, attn.OptionError("eps", o.Eps, "a number from 1e-9 to 1")
	}
	m := &rebased{o: o, featured: featured{
		rec: tile.Recurrence{Chunk: o.Chunk, Normalize: true, Eps: float32(o.Eps)}, phi: quadratic{o.Dim},
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	shape := func(attn.Shape) []int { return []int{o.Dim} }
	m.describe(attn.Info{
		Name: attn.Spell("rebased", o), Title: "ReBased",
		Paper: "Aksenov et al. 2024, arXiv:2402.10644", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Inputs: narrow(o.Dim), Tolerance: rebasedTolerance,
		Learned: []attn.Tensor{{Name: "gamma", Shape: shape, Init: attn.Const(1)}, {Name: "beta", Shape: shape}},
	})
	return m, nil
}

type rebased struct {
	featured
	o Rebased
}

// Define is linear attention (defineFeatures) over the d(d+1)/2 features whose products are a square,
//
//	φ(q)·φ(k) = (q'·k'/√d)²,  x' = γ ∘ (x - mean x)/√(var x + 1e-5) + β
//
// with one learned γ [d] and β [d] for queries and keys of all heads, and eps added to the sum that is divided by; d is the option
// dim. Aksenov et al. 2024 (arXiv:2402.10644) §3.
func (m *rebased) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d, n := float64(m.o.Dim), make([]float64, m.o.Dim)
	defineFeatures(c, m.phi.width(c.Shape), func(f []float64, _ bool, x []float64, _ int) {
		mean, variance := 0.0, 0.0
		for _, y := range x {
			mean += y
		}
		mean /= d
		for _, y := range x {
			variance += (y - mean) * (y - mean)
		}
		deviation := math.Sqrt(variance/d + layerNormEps)
		for a, y := range x {
			n[a] = c.Learned[0][a]*(y-mean)/deviation + c.Learned[1][a]
		}
		squares64(f, n, 1/math.Sqrt(d))
	}, func(x float64) float64 { return x + m.o.Eps })
	return nil
}

// quadratic is φ of ReBased, for queries and keys of its width.
type quadratic struct{ dim int }

func (f quadratic) width(attn.Shape) int          { return numSquares(f.dim) }
func (f quadratic) floats(attn.Shape) int         { return attn.ScratchFloats(featureBlock*f.dim, f.dim) }
func (quadratic) weightFloats(attn.Shape) int     { return 0 }
func (quadratic) prepare(*attn.Call, []float32)   {}
func (quadratic) flops(attn.Shape) (int64, int64) { return 0, 0 }
func (quadratic) shared() bool                    { return true }
func (f quadratic) unit() float32                 { return float32(1 / math.Sqrt(float64(f.dim))) }

// norm writes (x - mean)/sd to hat and returns 1/sd.
func (f quadratic) norm(hat, x []float32) float32 {
	mean := tile.Sum(x) / float32(f.dim)
	for a, y := range x {
		hat[a] = y - mean
	}
	inverse := float32(1 / math.Sqrt(float64(kernel.SumSquares(hat))/float64(f.dim)+layerNormEps))
	kernel.Scale(inverse, hat)
	return inverse
}

func (f quadratic) features(s *attn.Scratch, r featureRows, phi tile.Mat) {
	y := s.Floats(featureBlock * f.dim)
	kernel.Copy(kernel.Rows(y, f.dim), r.x, r.n, f.dim)
	for i := range r.n {
		row := y[i*f.dim:][:f.dim]
		f.norm(row, row)
	}
	kernel.TimesRows(r.call.Learned[0], kernel.Rows(y, f.dim), r.n)
	for i := range r.n {
		kernel.Add(y[i*f.dim:][:f.dim], r.call.Learned[1])
	}
	kernel.Squares(phi, kernel.Rows(y, f.dim), f.unit(), r.n, f.dim)
}

func (f quadratic) affine(y, hat []float32, c *attn.Call) {
	for a, x := range hat {
		y[a] = c.Learned[0][a]*x + c.Learned[1][a]
	}
}

// back leaves d as it is: learn reads it too.
func (f quadratic) back(s *attn.Scratch, r featureRows, _, d, dx tile.Mat) {
	hat, dy := s.Floats(f.dim), s.Floats(f.dim)
	for i := range r.n {
		inverse := f.gradient(hat, dy, r, i, d)
		mean, along := float32(0), float32(0)
		for a, x := range hat {
			dy[a] *= r.call.Learned[0][a]
			mean += dy[a]
			along += dy[a] * x
		}
		mean, along = mean/float32(f.dim), along/float32(f.dim)
		to := dx.Data[i*dx.Row:][:f.dim]
		for a, x := range hat {
			to[a] += inverse * (dy[a] - mean - along*x)
		}
	}
}

// gradient writes the norm of row i to hat and the gradient behind γ and β to dy.
func (f quadratic) gradient(hat, dy []float32, r featureRows, i int, d tile.Mat) (inverse float32) {
	var room [256]float32
	y := room[:f.dim]
	inverse = f.norm(hat, r.x.Data[i*r.x.Row:][:f.dim])
	f.affine(y, hat, r.call)
	clear(dy)
	backSquares(d.Data[i*d.Row:][:f.width(r.call.Shape)], y, dy, f.unit())
	return inverse
}

func (f quadratic) learn(r featureRows, d tile.Mat, g *attn.Grads) {
	var room [2][256]float32
	hat, dy := room[0][:f.dim], room[1][:f.dim]
	for i := range r.n {
		f.gradient(hat, dy, r, i, d)
		for a, x := range hat {
			g.Learned[0][a] += dy[a] * x
			g.Learned[1][a] += dy[a]
		}
	}
}
