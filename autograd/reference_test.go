package autograd

import (
	"math"

	"attnbench/attn"
)

// mat64 is a float64 matrix, what the references below compute on.
type mat64 struct {
	r, c int
	x    []float64
}

func (m mat64) at(i, j int) float64 { return m.x[i*m.c+j] }

func zeros64(r, c int) mat64 { return mat64{r, c, make([]float64, r*c)} }

func map64(m mat64, f func(x float64) float64) mat64 {
	o := zeros64(m.r, m.c)
	for i, x := range m.x {
		o.x[i] = f(x)
	}
	return o
}

func mul64(a, b mat64, f func(i, j int) bool) mat64 { // over keys j that f admits for row i
	o := zeros64(a.r, b.c)
	for i := range a.r {
		for j := range b.r {
			if f != nil && !f(i, j) {
				continue
			}
			for l := range b.c {
				o.x[i*b.c+l] += a.at(i, j) * b.at(j, l)
			}
		}
	}
	return o
}

func t64(a mat64) mat64 {
	o := zeros64(a.c, a.r)
	for i := range a.r {
		for j := range a.c {
			o.x[j*a.r+i] = a.at(i, j)
		}
	}
	return o
}

func bin64(a, b mat64, f func(x, y float64) float64) mat64 {
	o := zeros64(a.r, a.c)
	for i := range a.r {
		for j := range a.c {
			o.x[i*a.c+j] = f(a.at(i, j), b.at(i%b.r, j%b.c))
		}
	}
	return o
}

func sigma(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func act64(a Activation, x float64) float64 {
	switch a {
	case SiLU:
		return x * sigma(x)
	case GELU:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case GELUErf:
		return x / 2 * (1 + math.Erf(x/math.Sqrt2))
	case ReLU:
		return max(x, 0)
	case Sigmoid:
		return sigma(x)
	case Tanh:
		return math.Tanh(x)
	case LogSigmoid:
		return -math.Log1p(math.Exp(-x))
	case Softplus:
		return math.Log1p(math.Exp(x))
	case Exp:
		return math.Exp(x)
	}
	return x
}

func softmax64(m mat64, see func(i, j int) bool) mat64 {
	o := zeros64(m.r, m.c)
	for i := range m.r {
		p := o.x[i*m.c : (i+1)*m.c]
		for j := range p {
			p[j] = math.Inf(-1)
			if see(i, j) {
				p[j] = m.at(i, j)
			}
		}
		attn.Softmax(p)
	}
	return o
}

func norm64(m mat64, width int, f func(x, y []float64)) mat64 {
	o := zeros64(m.r, m.c)
	for i := 0; i < len(m.x); i += width {
		f(m.x[i:i+width], o.x[i:i+width])
	}
	return o
}

func bottomRight(rows, cols int) func(i, j int) bool {
	return func(i, j int) bool { return j <= i+cols-rows }
}

func ropeRef(x mat64, width, pairs int, pos []int32, pair attn.Pairing) mat64 {
	o := mat64{x.r, x.c, append([]float64(nil), x.x...)}
	for i := range x.r {
		for h := 0; h < x.c; h += width {
			for p := range pairs {
				s, c := math.Sincos(float64(pos[i]) * math.Pow(10000, -float64(p)/float64(pairs)))
				l, r := i*x.c+h+p, i*x.c+h+p+pairs
				if pair == attn.Neighbours {
					l, r = i*x.c+h+2*p, i*x.c+h+2*p+1
				}
				o.x[l], o.x[r] = x.x[l]*c-x.x[r]*s, x.x[l]*s+x.x[r]*c
			}
		}
	}
	return o
}
