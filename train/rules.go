package train

import (
	"maps"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/internal/kernel"
)

// rule is how an optimiser turns a gradient into a step. Most go element by element, in blocks; some need a whole matrix.
type rule struct {
	beta1, beta2, eps float64
	state             func(p *autograd.Param) (m, v int) // floats kept of a parameter
	update            func(a *updateArgs, b block)       // of a block
	// matrix updates parameter i as a whole, where whole says so.
	whole   func(p *autograd.Param) bool
	scratch func(p *autograd.Param) int
	matrix  func(s *attn.Scratch, a *updateArgs, i int)
}

// Rules returns the names of the optimisers, sorted.
func Rules() []string { return slices.Sorted(maps.Keys(rules)) }

var rules = map[string]rule{
	"adamw":     {0.9, 0.999, 1e-8, twoMoments, adamW, never, nil, nil},
	"adam":      {0.9, 0.999, 1e-8, twoMoments, adam, never, nil, nil},
	"sgd":       {0.9, 0, 1e-8, oneMoment, sgd, never, nil, nil},
	"lion":      {0.9, 0.99, 1e-8, oneMoment, lion, never, nil, nil},
	"adafactor": {0, 0, 1e-30, factors, adafactor, isMatrix, adafactorScratch, adafactorMatrix},
	"muon":      {0.9, 0.95, 1e-8, muonState, adamW, isHidden, muonScratch, muonMatrix},
}

func never(*autograd.Param) bool              { return false }
func twoMoments(p *autograd.Param) (m, v int) { return len(p.Data), len(p.Data) }
func oneMoment(p *autograd.Param) (m, v int)  { return len(p.Data), 0 }
func isMatrix(p *autograd.Param) bool         { return len(p.Shape) == 2 && min(p.Shape[0], p.Shape[1]) > 1 }
func isHidden(p *autograd.Param) bool         { return isMatrix(p) && p.Decay }
func (a *updateArgs) decay(p *autograd.Param) float64 {
	if p.Decay {
		return a.o.Decay
	}
	return 0
}

// adamW is Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2):
//
//	m = β1·m + (1-β1)·g,  v = β2·v + (1-β2)·g²
//	p = p - lr·((m/(1-β1^t)) / (√(v/(1-β2^t)) + ε) + decay·p)
func adamW(a *updateArgs, b block) { a.adam(b, a.decay(a.o.params[b.param])) }

func (a *updateArgs) adam(b block, decay float64) {
	o, p := a.o, a.o.params[b.param]
	step := kernel.AdamWStep{LR: a.rate, Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Step: o.step, Decay: decay}
	kernel.AdamW(p.Data[b.lo:b.hi], p.Grad[b.lo:b.hi], o.m[b.param][b.lo:b.hi], o.v[b.param][b.lo:b.hi], step)
}

// adam is Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1), its decay an L2 penalty: g + decay·p in place of g.
func adam(a *updateArgs, b block) {
	p := a.o.params[b.param]
	if d := a.decay(p); d != 0 {
		kernel.Axpy(float32(d), p.Data[b.lo:b.hi], p.Grad[b.lo:b.hi])
	}
	a.adam(b, 0)
}

// sgd is gradient descent with momentum β1 (Polyak 1964), in the form of Sutskever et al. 2013 without Nesterov's term:
//
//	m = β1·m + g,  p = p - lr·(m + decay·p)
func sgd(a *updateArgs, b block) {
	p, m := a.o.params[b.param], a.o.m[b.param][b.lo:b.hi]
	kernel.Scale(float32(a.o.Beta1), m)
	kernel.Add(m, p.Grad[b.lo:b.hi])
	x := p.Data[b.lo:b.hi]
	shrink(x, a.rate*a.decay(p))
	kernel.Axpy(-float32(a.rate), m, x)
}

// lion is Lion (Chen et al. 2023, arXiv:2302.06675, algorithm 2):
//
//	p = p - lr·(sign(β1·m + (1-β1)·g) + decay·p),  m = β2·m + (1-β2)·g
func lion(a *updateArgs, b block) {
	p, m, g := a.o.params[b.param], a.o.m[b.param][b.lo:b.hi], a.o.params[b.param].Grad[b.lo:b.hi]
	x := p.Data[b.lo:b.hi]
	shrink(x, a.rate*a.decay(p))
	b1, b2, rate := float32(a.o.Beta1), float32(a.o.Beta2), float32(a.rate)
	for i, gi := range g {
		switch u := b1*m[i] + (1-b1)*gi; {
		case u > 0:
			x[i] -= rate
		case u < 0:
			x[i] += rate
		}
		m[i] = b2*m[i] + (1-b2)*gi
	}
}

func shrink(x []float32, by float64) {
	if by != 0 {
		kernel.Scale(float32(1-by), x)
	}
}

// Adafactor (Shazeer and Stern 2018, arXiv:1804.04235, algorithm 4), without momentum: of the second moment of a matrix it keeps
// the means R of the rows and C of the columns.
//
//	β = 1 - t^-0.8,  R = β·R + (1-β)·mean_row(g²+ε),  C = β·C + (1-β)·mean_col(g²+ε),  V = R·Cᵀ / mean(R)
//	u = g/√V,  û = u / max(1, rms(u)),  p = p - lr·(max(1e-3, rms(p))·û + decay·p)
//
// A vector keeps V itself.
func factors(p *autograd.Param) (m, v int) {
	if isMatrix(p) {
		return p.Shape[0], p.Shape[1]
	}
	return len(p.Data), 0
}

func (a *updateArgs) adafactorBeta() float64 { return 1 - math.Pow(float64(a.o.step), -0.8) }

// adafactor is the update of a vector; a block is far longer than one of a model's, so that rms is over all of it.
func adafactor(a *updateArgs, b block) {
	p, v, g := a.o.params[b.param], a.o.m[b.param][b.lo:b.hi], a.o.params[b.param].Grad[b.lo:b.hi]
	beta := a.adafactorBeta()
	for i, x := range g {
		v[i] = float32(beta*float64(v[i]) + (1-beta)*(float64(x)*float64(x)+a.o.Eps))
		g[i] = float32(float64(x) / math.Sqrt(float64(v[i])))
	}
	a.clipped(p.Data[b.lo:b.hi], g, a.decay(p))
}

func adafactorScratch(p *autograd.Param) int { return 0 }

func adafactorMatrix(_ *attn.Scratch, a *updateArgs, i int) {
	p, r, c := a.o.params[i], a.o.m[i], a.o.v[i]
	rows, cols := p.Shape[0], p.Shape[1]
	beta := a.adafactorBeta()
	kernel.Scale(float32(beta), c)
	mean := 0.0
	for y := range rows {
		g := p.Grad[y*cols:][:cols]
		sum := 0.0
		for x, gx := range g {
			q := float64(gx)*float64(gx) + a.o.Eps
			sum += q
			c[x] += float32((1 - beta) * q / float64(rows))
		}
		r[y] = float32(beta*float64(r[y]) + (1-beta)*sum/float64(cols))
		mean += float64(r[y]) / float64(rows)
	}
	for y := range rows {
		g := p.Grad[y*cols:][:cols]
		for x, gx := range g {
			g[x] = float32(float64(gx) / math.Sqrt(float64(r[y])*float64(c[x])/mean))
		}
	}
	a.clipped(p.Data, p.Grad, a.decay(p))
}

// clipped takes the step u of a parameter, as Adafactor scales it.
func (a *updateArgs) clipped(x, u []float32, decay float64) {
	scale := max(1e-3, rms(x)) / max(1, rms(u))
	shrink(x, a.rate*decay)
	kernel.Axpy(-float32(a.rate*scale), u, x)
}

func rms(x []float32) float64 {
	if len(x) == 0 {
		return 0
	}
	return math.Sqrt(float64(kernel.SumSquares(x)) / float64(len(x)))
}

// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for the matrices inside a model, AdamW with the same rate for the rest
// (norms, biases, embeddings):
//
//	m = β2·m + g,  u = g + β2·m,  p = p - lr·(0.2·√max(rows, cols)·orthogonal(u) + decay·p)
//
// The factor makes its steps as large as AdamW's (Liu et al. 2025, arXiv:2502.16982, eq. 4).
func muonState(p *autograd.Param) (m, v int) {
	if isHidden(p) {
		return len(p.Data), 0
	}
	return len(p.Data), len(p.Data)
}

// muonScratch is room for the matrix, its Gram matrix and two more.
func muonScratch(p *autograd.Param) int {
	n := min(p.Shape[0], p.Shape[1])
	return attn.ScratchFloats(len(p.Data), len(p.Data), n*n, n*n)
}

func muonMatrix(s *attn.Scratch, a *updateArgs, i int) {
	p, m := a.o.params[i], a.o.m[i]
	momentum := float32(a.o.Beta2)
	kernel.Scale(momentum, m)
	kernel.Add(m, p.Grad)
	kernel.Axpy(momentum, m, p.Grad)
	u := orthogonal(s, p.Grad, p.Shape[0], p.Shape[1])
	shrink(p.Data, a.rate*a.decay(p))
	kernel.Axpy(-float32(a.rate*0.2*math.Sqrt(float64(max(p.Shape[0], p.Shape[1])))), u, p.Data)
}

// orthogonal returns about U·Vᵀ of the singular value decomposition of g [rows, cols], all singular values near 1, by 5 steps of a
// Newton-Schulz iteration of degree 5:
//
//	X = g/‖g‖,  A = X·Xᵀ,  X = 3.4445·X - 4.7750·A·X + 2.0315·A²·X
//
// on the transpose where that is the smaller one.
func orthogonal(s *attn.Scratch, g []float32, rows, cols int) []float32 {
	n := min(rows, cols)
	x, y, gram, square := s.Floats(len(g)), s.Floats(len(g)), s.Floats(n*n), s.Floats(n*n)
	copy(x, g)
	if norm := math.Sqrt(float64(kernel.SumSquares(x))); norm > 0 {
		kernel.Scale(float32(1/(norm+1e-7)), x)
	}
	for range 5 {
		xm, ym := kernel.Rows(x, cols), kernel.Rows(y, cols)
		if rows <= cols {
			for i := range n { // gram = X·Xᵀ
				kernel.Dots(gram[i*n:][:n], x[i*cols:][:cols], xm, n)
			}
		} else {
			kernel.Mul(n, n, rows, xm.T(), xm, kernel.Rows(gram, n)) // Xᵀ·X
		}
		kernel.Mul(n, n, n, kernel.Rows(gram, n), kernel.Rows(gram, n), kernel.Rows(square, n))
		kernel.Scale(-4.7750, gram)
		kernel.Axpy(2.0315, square, gram)
		copy(y, x)
		kernel.Scale(3.4445, y)
		if rows <= cols {
			kernel.MulAdd(rows, cols, n, kernel.Rows(gram, n), xm, ym)
		} else {
			kernel.MulAdd(rows, cols, n, xm, kernel.Rows(gram, n), ym)
		}
		x, y = y, x
	}
	return x
}
