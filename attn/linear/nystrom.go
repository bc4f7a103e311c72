package linear

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"attnbench/attn"
)

func init() { attn.Register("nystrom", Nystrom{Landmarks: 64, Steps: 6, Conv: 33}, Nystrom.New) }

// Nystrom holds the options of Nyströmformer attention, spelled nystrom:landmarks=32.
type Nystrom struct {
	Landmarks int `opt:"landmarks"` // means of queries, and as many of keys; 1 to 4096
	Steps     int `opt:"steps"`     // towards the inverse of the landmarks' matrix; 0 to 64
	Conv      int `opt:"conv"`      // odd width of the learned convolution of the values; 0 for none
}

// New returns Nyströmformer attention with the options o.
func (o Nystrom) New() (attn.Mechanism, error) {
	switch {
	case o.Landmarks < 1 || o.Landmarks > 1<<12:
		return nil, attn.OptionError("landmarks", o.Landmarks, "an integer from 1 to 4096")
	case o.Steps < 0 || o.Steps > 64:
		return nil, attn.OptionError("steps", o.Steps, "an integer from 0 to 64")
	case o.Conv < 0 || o.Conv > 1<<12 || o.Conv > 0 && o.Conv%2 == 0:
		return nil, attn.OptionError("conv", o.Conv, "0, or an odd integer up to 4095")
	}
	m := nystrom{o: o}
	m.info = &attn.Info{
		Name: attn.Spell("nystrom", o), Family: "linear", Title: "Nyströmformer",
		Paper: "Xiong et al. 2021, arXiv:2102.03902", Year: 2021, Revision: 1,
		// A landmark is a mean of early and late tokens alike: no causal mask, and no decoding.
		Masks: attn.Bidirectional, Approximates: true, Budget: "landmarks", Inputs: attn.QKV(), Cost: m.cost,
		Tolerance: 1e-3, // the steps towards the inverse of a nearly singular matrix enlarge rounding, up to (13/4)^6 times
		Limits: []attn.Limit{{
			Spec: func(s attn.Shape) string {
				return attn.Spell("nystrom", Nystrom{Landmarks: max(s.KeyLen, 1), Steps: o.Steps})
			},
			Equals: "full",
		}},
	}
	if o.Conv == 0 {
		m.info.Masks |= attn.Cross // the convolution wants values at the places of queries
		return m, nil
	}
	m.info.Learned = []attn.Tensor{{
		// 0 at the start: a fresh layer is the approximation alone.
		Name: "conv", Shape: func(s attn.Shape) []int { return []int{s.Heads, o.Conv} },
	}}
	return m, nil
}

type nystrom struct {
	o    Nystrom
	info *attn.Info
}

// Info describes the mechanism.
func (m nystrom) Info() attn.Info { return *m.info }

// exact reports whether so many tokens are too few to have landmarks: attention is full then.
func (m nystrom) exact(queries, keys int) bool { return min(queries, keys) <= m.o.Landmarks }

// stretch returns the tokens lo to hi-1 of n whose mean is landmark r.
func (m nystrom) stretch(r, n int) (lo, hi int) {
	return r * n / m.o.Landmarks, (r + 1) * n / m.o.Landmarks
}

// Define computes, for each head of a sequence of n queries and t keys, with m landmarks, each the mean of its stretch of queries or keys,
//
//	Q̃[r] = mean of q[i], ⌊rn/m⌋ ≤ i < ⌊(r+1)n/m⌋,  K̃[r] the same of k  [m, key dim]
//	F = softmax(QK̃ᵀ/√d) [n, m],  A = softmax(Q̃K̃ᵀ/√d) [m, m],  B = softmax(Q̃Kᵀ/√d) [m, t]
//	Z₀ = Aᵀ / max_c Σ_r A[r,c],  Z ← ¼ Z(13I - AZ(15I - AZ(7I - AZ))), Steps times
//	o[i] = Σ_j (F Z B)[i,j] v[j] + Σ_u c[u] v[i+u-⌊w/2⌋]
//
// with a learned kernel c of w = Conv numbers a query head, zero beyond the ends; queries and keys are aligned at their ends. At
// most m queries, or keys, have full attention in place of F Z B, as the paper has at m of both. Xiong et al. 2021
// (arXiv:2102.03902) eq. 9 to 14. The paper pads to a multiple of m, where here stretches differ by a token; its code takes the
// maximum in Z₀ over all heads and rows of a batch, which couples them, where here it is the matrix's own.
func (m nystrom) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		k, v := rows64(h.Keys, h.K), rows64(h.Keys, h.V)
		q := rows64(h.Queries, h.Q)
		var out [][]float64
		if m.exact(h.Queries, h.Keys) {
			out = product64(attend64(q, k), v, c.ValueDim)
		} else {
			mq, mk := m.means64(q), m.means64(k)
			out = product64(m.inverse64(attend64(mq, mk)), product64(attend64(mq, k), v, c.ValueDim), c.ValueDim)
			out = product64(attend64(q, mk), out, c.ValueDim)
		}
		for i, x := range out {
			for u := range m.o.Conv {
				if j := i + h.Offset() + u - m.o.Conv/2; j >= 0 && j < h.Keys {
					for e, y := range v[j] {
						x[e] += c.Learned[0][h.H*m.o.Conv+u] * y
					}
				}
			}
			copy(h.Out(i), x)
		}
	})
	return nil
}

func rows64(n int, row func(i int) []float64) [][]float64 {
	x := make([][]float64, n)
	for i := range x {
		x[i] = row(i)
	}
	return x
}

// means64 returns the landmarks of x.
func (m nystrom) means64(x [][]float64) [][]float64 {
	means := make([][]float64, m.o.Landmarks)
	for r := range means {
		means[r] = make([]float64, len(x[0]))
		lo, hi := m.stretch(r, len(x))
		for _, row := range x[lo:hi] {
			for e, y := range row {
				means[r][e] += y / float64(hi-lo)
			}
		}
	}
	return means
}

// attend64 returns softmax(q kᵀ / √d).
func attend64(q, k [][]float64) [][]float64 {
	p := make([][]float64, len(q))
	for i := range p {
		p[i] = make([]float64, len(k))
		for j := range k {
			p[i][j] = attn.Dot(q[i], k[j]) / math.Sqrt(float64(len(q[i])))
		}
		attn.Softmax(p[i])
	}
	return p
}

// product64 returns the product of a and b, which is n wide.
func product64(a, b [][]float64, n int) [][]float64 {
	p := make([][]float64, len(a))
	for i := range p {
		p[i] = make([]float64, n)
		for j, x := range a[i] {
			for e, y := range b[j] {
				p[i][e] += x * y
			}
		}
	}
	return p
}

// inverse64 returns Z, the approximate inverse of a.
func (m nystrom) inverse64(a [][]float64) [][]float64 {
	n, most := len(a), 0.0
	x, z := mat.NewDense(n, n, nil), mat.NewDense(n, n, nil)
	for r := range n {
		x.SetRow(r, a[r])
	}
	for c := range n {
		most = max(most, mat.Sum(x.ColView(c)))
	}
	z.Scale(1/most, x.T())
	minus := func(c float64, p *mat.Dense) { // p = cI - p
		p.Scale(-1, p)
		for i := range n {
			p.Set(i, i, p.At(i, i)+c)
		}
	}
	var az, p, to mat.Dense
	for range m.o.Steps {
		az.Mul(x, z)
		p.CloneFrom(&az)
		minus(7, &p)
		to.Mul(&az, &p)
		minus(15, &to)
		p.Mul(&az, &to)
		minus(13, &p)
		to.Mul(z, &p)
		z.Scale(0.25, &to)
	}
	return rows64(n, z.RawRowView)
}

// workerFloats is the scratch of a worker, the same in all of a pass.
func (m nystrom) workerFloats(s attn.Shape, p attn.Pass) int {
	s.Mask = attn.Cross
	n := 0
	if p == attn.PassBackward {
		n = attn.ScratchFloats(m.o.Conv, m.o.Conv)
	}
	engine := func(s attn.Shape) {
		_, worker := dense.Scratch(s, p)
		n = max(n, int(worker/4))
	}
	if m.exact(s.QueryLen, s.KeyLen) {
		engine(s)
		return n
	}
	f, b := m.halves(s)
	engine(f)
	engine(b)
	return max(n, m.innerFloats(s, p))
}

// halves returns the shapes of the products with F and with B.
func (m nystrom) halves(s attn.Shape) (f, b attn.Shape) {
	f, b = s, s
	f.Mask, f.KeyLen, f.KVHeads = attn.Cross, m.o.Landmarks, s.Heads
	b.Mask, b.QueryLen = attn.Cross, m.o.Landmarks
	return f, b
}

func (m nystrom) cost(s attn.Shape, p attn.Pass) attn.Cost {
	backward, exact := p == attn.PassBackward, m.exact(s.QueryLen, s.KeyLen)
	heads, l, dk, dv := int64(s.Batch*s.Heads), int64(m.o.Landmarks), int64(s.KeyDim), int64(s.ValueDim)
	floats := func(n ...int) int64 { return 4 * int64(attn.ScratchFloats(n...)) }
	rows := s.Batch * s.Heads * m.o.Landmarks
	c := attn.Cost{Bytes: 4 * int64(s.Batch) * (dk + dv) * int64(s.QueryLen*s.Heads+s.KeyLen*s.KVHeads)}
	switch {
	case backward:
		c.Bytes *= 2
	case exact:
		c.Saved = floats(s.Batch * s.Heads * s.QueryLen)
	default:
		c.Saved = floats(s.Batch*s.Heads*s.QueryLen, rows, rows*s.ValueDim, rows*s.ValueDim)
	}
	if s.Batch == 0 || s.QueryLen == 0 || s.KeyLen == 0 {
		return c
	}
	c.PerWorker = 4 * int64(m.workerFloats(s, p))
	c.FLOPs = 2 * heads * m.taps(s.QueryLen, s.KeyLen) * dv
	if backward && m.o.Conv > 0 { // taken from the output, and the gradients of the values and of the kernel
		c.FLOPs *= 3
		c.Shared = floats(s.Batch*s.QueryLen*s.Heads*s.ValueDim, s.Batch*s.Heads*m.o.Conv)
	}
	engine := func(s attn.Shape) int64 {
		s.Mask = attn.Cross
		e := dense.Cost(s, p, int64(s.Heads*s.QueryLen)*int64(s.KeyLen))
		c.FLOPs += e.FLOPs
		return e.Shared
	}
	if exact {
		c.Shared += engine(s)
		return c
	}
	f, b := m.halves(s)
	c.Shared += max(engine(f), engine(b)) + floats(rows*s.KeyDim, rows*s.KeyDim, rows*s.ValueDim, rows*s.ValueDim)
	steps := 2 * l * l * l * int64(m.o.Steps)
	if backward { // a step's 4 products again, then 11 more; A again, and 4 products with landmarks and their values
		c.Shared += floats(rows*s.KeyDim, rows*s.KeyDim)
		c.FLOPs += heads * (15*steps + 2*l*l*(3*dk+2*dv))
	} else {
		c.Shared += floats(rows)
		c.FLOPs += heads * (4*steps + 2*l*l*(dk+dv))
	}
	return c
}

// taps counts the numbers of the kernel that meet a value, over all queries.
func (m nystrom) taps(queries, keys int) (n int64) {
	for i := range queries {
		_, lo, hi := m.window(i+keys-queries, keys)
		n += int64(hi - lo)
	}
	return n
}

// window returns the first of the keys that the kernel meets round position pos, and which numbers u of it do, lo ≤ u < hi.
func (m nystrom) window(pos, keys int) (first, lo, hi int) {
	at := pos - m.o.Conv/2
	lo = min(max(0, -at), m.o.Conv)
	hi = max(lo, min(m.o.Conv, keys-at))
	return at + lo, lo, hi
}
