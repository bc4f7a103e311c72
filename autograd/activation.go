package autograd

import (
	"math"

	"attnbench/internal/kernel"
)

// Activation names an elementwise function.
type Activation uint8

// Activations.
const (
	Identity Activation = iota
	SiLU                // x·σ(x)
	GELU                // x·½(1+tanh(√(2/π)(x+0.044715x³))), the tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415)
	ReLU
	Sigmoid
	Tanh
	LogSigmoid // log σ(x)
	Softplus   // log(1+e^x)
	Exp
	Log
	GELUErf // x·Φ(x), Φ the normal distribution: the exact form, which BERT has
)

// apply computes dst = act(x); the two may be the same slice.
func apply(act Activation, dst, x []float32) {
	switch act {
	case Identity:
		copy(dst, x)
	case SiLU:
		kernel.SiLU(dst, x)
	case GELU:
		kernel.GELU(dst, x)
	case ReLU:
		for i, v := range x {
			if v < 0 { // NaN stays
				v = 0
			}
			dst[i] = v
		}
	case Sigmoid:
		kernel.Sigmoid(dst, x)
	case Tanh:
		for i, v := range x {
			dst[i] = float32(math.Tanh(float64(v)))
		}
	case LogSigmoid:
		copy(dst, x)
		kernel.Scale(-1, dst)
		kernel.Softplus(dst, dst)
		kernel.Scale(-1, dst)
	case Softplus:
		kernel.Softplus(dst, x)
	case Exp:
		copy(dst, x)
		kernel.Exp(dst)
	case Log:
		for i, v := range x {
			dst[i] = float32(math.Log(float64(v)))
		}
	case GELUErf:
		for i, v := range x {
			dst[i] = v * float32(normalCDF(float64(v)))
		}
	}
}

func normalCDF(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// slope computes g *= act'(x), where y = act(x).
func slope(act Activation, g, x, y []float32) {
	switch act {
	case SiLU:
		kernel.SiLUGrad(g, x, g)
	case GELU:
		kernel.GELUGrad(g, x, g)
	case ReLU:
		for i, v := range x {
			if v <= 0 {
				g[i] = 0
			}
		}
	case Sigmoid:
		for i, p := range y {
			g[i] *= p * (1 - p)
		}
	case Tanh:
		for i, p := range y {
			g[i] *= 1 - p*p
		}
	case LogSigmoid:
		timesSigmoid(g, x, -1)
	case Softplus:
		timesSigmoid(g, x, 1)
	case Exp:
		kernel.Times(g, y)
	case Log:
		for i, v := range x {
			g[i] /= v
		}
	case GELUErf:
		for i, v := range x {
			v := float64(v)
			g[i] *= float32(normalCDF(v) + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
		}
	}
}

// timesSigmoid multiplies g by σ(sign·x).
func timesSigmoid(g, x []float32, sign float32) {
	var room [256]float32
	for len(g) > 0 {
		p := room[:min(len(g), len(room))]
		copy(p, x)
		kernel.Scale(sign, p)
		kernel.Sigmoid(p, p)
		kernel.Times(g[:len(p)], p)
		g, x = g[len(p):], x[len(p):]
	}
}
