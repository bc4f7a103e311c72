package linear

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

func init() { attn.Register("cosformer", Cosformer{Chunk: 64}, Cosformer.New) }

// Cosformer holds the options of cosFormer, spelled cosformer:max=4096.
//
// The paper's M is the length of the call, so that what a query gives depends on later tokens; here it is fixed.
type Cosformer struct {
	Max   int `opt:"max"`   // M, more than any position; 0 means Shape.MaxLen, in decoding without one 65536
	Chunk int `opt:"chunk"` // tokens between the states kept for training; at least 1
}

// cosFloor is the least that an output is divided by.
const cosFloor = 1e-6

// New returns cosFormer attention with the options o.
func (o Cosformer) New() (attn.Mechanism, error) {
	if o.Max < 0 || o.Max > 1<<30 {
		return nil, attn.OptionError("max", o.Max, "an integer from 0 to 1073741824")
	}
	m := &cosformer{o: o, featured: featured{
		rec: tile.Recurrence{Chunk: o.Chunk, Normalize: true, Floor: cosFloor}, phi: cosMap{o},
	}}
	if err := m.rec.Check(); err != nil {
		return nil, err
	}
	inputs := attn.QKV()
	inputs[0].Rotary, inputs[1].Rotary = false, false
	m.describe(attn.Info{
		Name: attn.Spell("cosformer", o), Title: "cosFormer",
		Paper: "Qin et al. 2022, arXiv:2202.08791", Year: 2022, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional, Approximates: true, Inputs: inputs,
	})
	return m, nil
}

type cosformer struct {
	featured
	o Cosformer
}

func (o Cosformer) length(s attn.Shape) int {
	switch {
	case o.Max > 0:
		return o.Max
	case s.MaxLen > 0:
		return s.MaxLen
	}
	return max(s.KeyLen, 1)
}

// Define is linear attention (defineFeatures) over the 2d features of a token at position t, counted from 0,
//
//	φ(x) = [relu(x) sin θ, relu(x) cos θ],  θ = π(t+1)/(2M)
//
// so that a pair has the weight relu(q)·relu(k)·cos(π(i-j)/(2M)); what it is divided by is at least 1e-6. Qin et al. 2022
// (arXiv:2202.08791) eq. 10 to 12, with M fixed.
func (m *cosformer) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d, length := c.KeyDim, m.o.length(c.Shape)
	defineFeatures(c, 2*d, func(f []float64, _ bool, x []float64, pos int) {
		sin, cos := math.Sincos(math.Pi * float64(pos+1) / float64(2*length))
		for i, x := range x {
			f[i], f[d+i] = max(x, 0)*sin, max(x, 0)*cos
		}
	}, func(x float64) float64 { return max(x, cosFloor) })
	return nil
}

// cosMap is φ of cosFormer.
type cosMap struct{ o Cosformer }

func (cosMap) width(s attn.Shape) int          { return 2 * s.KeyDim }
func (cosMap) floats(attn.Shape) int           { return 0 }
func (cosMap) weightFloats(attn.Shape) int     { return 0 }
func (cosMap) prepare(*attn.Call, []float32)   {}
func (cosMap) flops(attn.Shape) (int64, int64) { return 0, 0 }

// admits refuses positions from M on, which would have negative weights.
func (m cosMap) admits(c *attn.Call) error {
	most := m.o.length(c.Shape)
	for i := range c.NumSegments() {
		if g := c.Segment(i); g.Pos0 < 0 || g.Keys > most-g.Pos0 {
			return fmt.Errorf("cosformer: segment %d: %d keys from position %d on: want positions from 0 to %d (option max)", i, g.Keys, g.Pos0, most-1)
		}
		if i > 0 && tile.KeysOverlap(c) {
			if a, b := c.Segment(i-1), c.Segment(i); a.Row == b.Row && a.Pos0-a.Key0 != b.Pos0-b.Key0 {
				return fmt.Errorf("cosformer: segments %d and %d share keys at other positions: want a position for each", i-1, i)
			}
		}
	}
	return nil
}

func (m cosMap) features(_ *attn.Scratch, r featureRows, phi tile.Mat) {
	d, length := r.call.KeyDim, m.o.length(r.call.Shape)
	var sin, cos [featureBlock]float32
	for i := range r.n {
		sin[i], cos[i] = angle(r.pos+i, length)
	}
	f, g := phi, phi.From(0, d)
	kernel.ReLU(f, r.x, r.n, d)
	kernel.Copy(g, f, r.n, d)
	kernel.ScaleRows(sin[:r.n], f, d)
	kernel.ScaleRows(cos[:r.n], g, d)
}

func angle(pos, length int) (sin, cos float32) {
	s, c := math.Sincos(math.Pi * float64(pos+1) / float64(2*length))
	return float32(s), float32(c)
}

func (m cosMap) back(_ *attn.Scratch, r featureRows, phi, d, dx tile.Mat) {
	dim, length := r.call.KeyDim, m.o.length(r.call.Shape)
	for i := range r.n {
		sin, cos := angle(r.pos+i, length)
		f, g, to := d.Data[i*d.Row:][:dim], d.Data[i*d.Row+dim:][:dim], dx.Data[i*dx.Row:][:dim]
		for e, x := range r.x.Data[i*r.x.Row:][:dim] {
			if !(x <= 0) {
				to[e] += f[e]*sin + g[e]*cos
			}
		}
	}
}
