package linear

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("performer", Performer{Redraw: 1000, Eps: 1e-6, Chunk: 64}, Performer.New) }

// Performer holds the options of FAVOR+ attention, spelled performer:features=128.
//
// The authors' code subtracts from the exponents of all keys their common maximum, so that a key's features depend on later keys; here
// nothing is subtracted, which float32 bears up to a key dim of 128.
type Performer struct {
	Features int     `opt:"features"` // random features; 0 means d·ln d for a key dim of d
	Redraw   int     `opt:"redraw"`   // training steps after which they are drawn anew; 0 for never
	Eps      float64 `opt:"eps"`      // added to each feature; above 0
	Chunk    int     `opt:"chunk"`    // tokens between the states kept for training; at least 1
}

// New returns FAVOR+ attention with the options o.
func (o Performer) New() (attn.Mechanism, error) {
	switch {
	case o.Features < 0 || o.Features > 1<<16:
		return nil, attn.OptionError("features", o.Features, "an integer from 0 to 65536")
	case o.Redraw < 0 || o.Redraw > 1<<24:
		return nil, attn.OptionError("redraw", o.Redraw, "an integer from 0 to 16777216")
	case !(o.Eps >= 1e-12 && o.Eps <= 1):
		return nil, attn.OptionError("eps", o.Eps, "a number from 1e-12 to 1")
	}
	phi := favor{o}
	m := &performer{phi: phi, featured: featured{rec: tile.Recurrence{Chunk: o.Chunk, Normalize: true}, phi: phi}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	m.describe(attn.Info{
		Name: attn.Spell("performer", o), Title: "Performer (FAVOR+)",
		Paper: "Choromanski et al. 2020, arXiv:2009.14794", Year: 2020, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Approximates: true, Budget: "features", Inputs: attn.QKV(),
		Buffers: []attn.Tensor{
			{Name: "features", Shape: func(s attn.Shape) []int { return []int{s.KeyDim, phi.width(s)} }, Init: orthogonal},
			{Name: "age", Shape: func(attn.Shape) []int { return []int{1} }}, // training steps since the features were drawn
		},
	})
	return m, nil
}

type performer struct {
	featured
	phi favor
}

// Update draws the features anew when they have served their training steps.
func (m *performer) Update(_ *attn.Workspace, c *attn.Call) error {
	age := c.Buffers[1]
	if age[0]++; m.phi.o.Redraw > 0 && age[0] >= float32(m.phi.o.Redraw) {
		age[0] = 0
		orthogonal(c.Shape, c.Buffers[0], rand.New(rand.NewPCG(c.Seed, 0x6661766f72)))
	}
	return nil
}

// orthogonal draws Ωᵀ [d, m]: its columns are, d at a time, orthogonal to one another, and as long as normal vectors are.
func orthogonal(s attn.Shape, dst []float32, r *rand.Rand) {
	d := s.KeyDim
	m := len(dst) / d
	normal := func() []float64 {
		x := make([]float64, d)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		return x
	}
	norm := func(x []float64) float64 { return math.Sqrt(attn.Dot(x, x)) }
	for first := 0; first < m; first += d {
		var block [][]float64
		for c := first; c < min(first+d, m); c++ {
			x := normal()
			for range 2 { // the second round takes what rounding left in the first
				for _, y := range block {
					p := attn.Dot(x, y)
					for i := range x {
						x[i] -= p * y[i]
					}
				}
				n := norm(x)
				for i := range x {
					x[i] /= n
				}
			}
			block = append(block, x)
			length := norm(normal())
			for i := range x {
				dst[i*m+c] = float32(length * x[i])
			}
		}
	}
}

// Define is linear attention (defineFeatures) over the m features, with x' = x·d^(-1/4) and the rows ω_r of Ω (Buffers[0] is Ωᵀ),
//
//	φ(x)_r = (exp(ω_r·x' - |x'|²/2 - c) + ε) / √m
//
// where c is the largest ω_r·x' of a query, and 0 for a key. Choromanski et al. 2020 (arXiv:2009.14794) §2.3, eq. 5 and §2.4, with the
// c and ε of the authors' code; ε keeps the sum that is divided by above 0.
func (m *performer) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d, n := c.KeyDim, m.phi.width(c.Shape)
	defineFeatures(c, n, func(u []float64, key bool, x []float64, _ int) {
		clear(u)
		top, scale := math.Inf(-1), math.Pow(float64(d), -0.25)
		for r := range u {
			for i := range x {
				u[r] += x[i] * scale * c.Buffers[0][i*n+r]
			}
			top = max(top, u[r])
		}
		if key {
			top = 0
		}
		for r := range u {
			u[r] = (math.Exp(u[r]-attn.Dot(x, x)*scale*scale/2-top) + m.phi.o.Eps) / math.Sqrt(float64(n))
		}
	}, func(x float64) float64 { return x })
	return nil
}

// favor is φ of the Performer.
type favor struct{ o Performer }

func (f favor) width(s attn.Shape) int {
	if f.o.Features > 0 {
		return f.o.Features
	}
	return max(1, int(float64(s.KeyDim)*math.Log(float64(s.KeyDim))))
}

// constants are d^(-1/4), 1/√m and ε/√m.
func (f favor) constants(s attn.Shape) (scale, unit, eps float32) {
	u := 1 / math.Sqrt(float64(f.width(s)))
	return float32(math.Pow(float64(s.KeyDim), -0.25)), float32(u), float32(f.o.Eps * u)
}

func (f favor) floats(s attn.Shape) int       { return f.width(s) }
func (f favor) weightFloats(s attn.Shape) int { return f.width(s) * s.KeyDim }

func (f favor) flops(s attn.Shape) (forward, backward int64) {
	n := 2 * int64(f.width(s)) * int64(s.KeyDim)
	return n, 2 * n // forward once more, and the way back
}

// prepare writes Ω·d^(-1/4), [m, d].
func (f favor) prepare(c *attn.Call, weights []float32) {
	d, n := c.KeyDim, f.width(c.Shape)
	scale, _, _ := f.constants(c.Shape)
	for i := range d {
		for r, x := range c.Buffers[0][i*n:][:n] {
			weights[r*d+i] = scale * x
		}
	}
}

func (f favor) features(s *attn.Scratch, r featureRows, phi tile.Mat) {
	d, n := r.call.KeyDim, f.width(r.call.Shape)
	scale, unit, eps := f.constants(r.call.Shape)
	ones := s.Floats(n)
	for i := range ones {
		ones[i] = 1
	}
	tile.Mul(r.n, n, d, r.x, tile.Rows(r.call.Buffers[0], n), phi)
	for i := range r.n {
		x, u := r.x.Data[i*r.x.Row:][:d], phi.Data[i*phi.Row:][:n]
		tile.Scale(scale, u)
		top := scale * scale * tile.SumSquares(x) / 2
		if !r.key {
			top += tile.Max(u)
		}
		tile.ExpSum(u, top)
		tile.Scale(unit, u)
		tile.Axpy(eps, ones, u)
	}
}

// back: with e = φ - ε/√m the gradient of u is d∘e, and those of |x'|²/2 and c are -Σ d∘e. The authors' code leaves that of c out, which
// cancels but for ε; here it goes to the largest u.
func (f favor) back(_ *attn.Scratch, r featureRows, phi, d, dx tile.Mat) {
	dim, n := r.call.KeyDim, f.width(r.call.Shape)
	scale, _, eps := f.constants(r.call.Shape)
	for i := range r.n {
		du, p := d.Data[i*d.Row:][:n], phi.Data[i*phi.Row:][:n]
		for e, x := range du {
			du[e] = x * (p[e] - eps)
		}
		sum := tile.Sum(du)
		if !r.key {
			du[largest(p)] -= sum
		}
		tile.Axpy(-scale*scale*sum, r.x.Data[i*r.x.Row:][:dim], dx.Data[i*dx.Row:])
	}
	tile.MulAdd(r.n, dim, n, d, tile.Rows(r.weights, dim), dx)
}

// largest returns the number of the first of the largest elements.
func largest(x []float32) int {
	top := 0
	for i, v := range x {
		if v > x[top] {
			top = i
		}
	}
	return top
}
