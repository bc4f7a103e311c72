package linear

import (
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("hedgehog", Hedgehog{Chunk: 64}, Hedgehog.New) }

// Hedgehog holds the options of attention with learned softmax features, spelled hedgehog:tied=true.
type Hedgehog struct {
	Tied  bool `opt:"tied"`  // queries and keys have one map
	Chunk int  `opt:"chunk"` // tokens between the states kept for training; at least 1
}

// hedgehogEps is added to what an output is divided by.
const hedgehogEps = 1e-10

// New returns Hedgehog attention with the options o.
func (o Hedgehog) New() (attn.Mechanism, error) {
	phi := spines{o}
	m := &hedgehog{phi: phi, featured: featured{rec: tile.Recurrence{Chunk: o.Chunk, Normalize: true, Eps: hedgehogEps}, phi: phi}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	identity := func(s attn.Shape, dst []float32, _ *rand.Rand) {
		for i := range s.KeyDim {
			dst[i*s.KeyDim+i] = 1
		}
	}
	var learned []attn.Tensor
	for _, side := range []string{"q", "k"} {
		if o.Tied && side == "k" {
			break
		}
		learned = append(learned,
			attn.Tensor{Name: "w" + side, Shape: func(s attn.Shape) []int { return []int{s.KeyDim, s.KeyDim} }, Init: identity, Decay: true},
			attn.Tensor{Name: "b" + side, Shape: func(s attn.Shape) []int { return []int{s.KeyDim} }})
	}
	m.describe(attn.Info{
		Name: attn.Spell("hedgehog", o), Title: "Hedgehog",
		Paper: "Zhang et al. 2024, arXiv:2402.04347", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Approximates: true, Inputs: attn.QKV(), Learned: learned,
	})
	return m, nil
}

type hedgehog struct {
	featured
	phi spines
}

// Define is linear attention (defineFeatures) over the 2d features, with a learned map W [d, d] and b [d] of queries and one of keys,
// which all heads share,
//
//	φ(x) = softmax([2y, -2y]),  y = xW + b
//
// and 1e-10 added to the sum that is divided by. Zhang et al. 2024 (arXiv:2402.04347) §4.2, eq. 3 and 6, with the softmax of the authors' code.
func (m *hedgehog) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d := c.KeyDim
	defineFeatures(c, 2*d, func(f []float64, key bool, x []float64, _ int) {
		at := m.phi.tensor(key)
		for j := range d {
			y := c.Learned[at+1][j]
			for i := range x {
				y += x[i] * c.Learned[at][i*d+j]
			}
			f[j], f[d+j] = 2*y, -2*y
		}
		top := math.Inf(-1)
		for _, y := range f {
			top = max(top, y)
		}
		sum := 0.0
		for j := range f {
			f[j] = math.Exp(f[j] - top)
			sum += f[j]
		}
		for j := range f {
			f[j] /= sum
		}
	}, func(x float64) float64 { return x + hedgehogEps })
	return nil
}

// spines is φ of the Hedgehog.
type spines struct{ o Hedgehog }

// tensor returns the number of a side's W; its b is the next one.
func (f spines) tensor(key bool) int {
	if key && !f.o.Tied {
		return 2
	}
	return 0
}

func (spines) width(s attn.Shape) int        { return 2 * s.KeyDim }
func (spines) floats(attn.Shape) int         { return 0 }
func (spines) weightFloats(s attn.Shape) int { return 2 * s.KeyDim * s.KeyDim }
func (f spines) shared() bool                { return f.o.Tied }

func (spines) flops(s attn.Shape) (forward, backward int64) {
	n := 2 * int64(s.KeyDim) * int64(s.KeyDim)
	return n, 3 * n // forward once more, the way back, and the weights
}

// prepare writes both sides' Wᵀ.
func (f spines) prepare(c *attn.Call, weights []float32) {
	d := c.KeyDim
	for side, key := range []bool{false, true} {
		w, dst := c.Learned[f.tensor(key)], weights[side*d*d:]
		for i := range d {
			for j := range d {
				dst[j*d+i] = w[i*d+j]
			}
		}
	}
}

func (f spines) features(_ *attn.Scratch, r featureRows, phi tile.Mat) {
	d, at := r.call.KeyDim, f.tensor(r.key)
	for i := range r.n {
		copy(phi.Data[i*phi.Row:][:d], r.call.Learned[at+1])
	}
	tile.MulAdd(r.n, d, d, r.x, tile.Rows(r.call.Learned[at], d), phi)
	var scale [featureBlock]float32
	for i := range scale {
		scale[i] = 2
	}
	kernel.ScaleRows(scale[:r.n], phi, d)
	kernel.Copy(phi.From(0, d), phi, r.n, d)
	for i := range scale {
		scale[i] = -1
	}
	kernel.ScaleRows(scale[:r.n], phi.From(0, d), d)
	for i := range r.n {
		row := phi.Data[i*phi.Row:][:2*d]
		scale[i] = 1 / kernel.ExpSum(row, kernel.Max(row))
	}
	kernel.ScaleRows(scale[:r.n], phi, 2*d)
}

// back leaves the gradient of y in the first half of d.
func (f spines) back(_ *attn.Scratch, r featureRows, phi, d, dx tile.Mat) {
	dim := r.call.KeyDim
	for i := range r.n {
		p, g := phi.Data[i*phi.Row:][:2*dim], d.Data[i*d.Row:][:2*dim]
		mean := tile.Dot(p, g)
		for j := range dim {
			g[j] = 2 * (p[j]*(g[j]-mean) - p[dim+j]*(g[dim+j]-mean))
		}
	}
	w := r.weights
	if r.key {
		w = w[dim*dim:]
	}
	tile.MulAdd(r.n, dim, dim, d, tile.Rows(w, dim), dx)
}

func (f spines) learn(r featureRows, d tile.Mat, g *attn.Grads) {
	dim, at := r.call.KeyDim, f.tensor(r.key)
	tile.MulAdd(dim, dim, r.n, r.x.T(), d, tile.Rows(g.Learned[at], dim))
	for i := range r.n {
		tile.Axpy(1, d.Data[i*d.Row:][:dim], g.Learned[at+1])
	}
}
