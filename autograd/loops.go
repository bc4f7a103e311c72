package autograd

import (
	"math"

	"attnbench/internal/kernel"
)

// The elementwise loops that training spends its time in besides products. They stand together so that faster ones can take
// their place.

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
)

// apply computes dst = act(x); the two may be the same slice.
func apply(act Activation, dst, x []float32) {
	var buf [256]float32
	for len(x) > 0 {
		n := min(len(x), len(buf))
		applyShort(act, dst[:n], x[:n], buf[:n])
		dst, x = dst[n:], x[n:]
	}
}

func applyShort(act Activation, dst, x, s []float32) {
	switch act {
	case Identity:
		copy(dst, x)
	case SiLU:
		sigmoid(s, x, 1)
		for i, v := range x {
			dst[i] = v * s[i]
		}
	case GELU:
		geluGate(s, x)
		for i, v := range x {
			dst[i] = v * s[i]
		}
	case ReLU:
		for i, v := range x {
			if v < 0 { // NaN stays
				v = 0
			}
			dst[i] = v
		}
	case Sigmoid:
		sigmoid(dst, x, 1)
	case Tanh:
		for i, v := range x {
			dst[i] = float32(math.Tanh(float64(v)))
		}
	case LogSigmoid:
		for i, v := range x {
			dst[i] = -softplus(-v)
		}
	case Softplus:
		for i, v := range x {
			dst[i] = softplus(v)
		}
	case Exp:
		copy(dst, x)
		kernel.Exp(dst)
	case Log:
		for i, v := range x {
			dst[i] = float32(math.Log(float64(v)))
		}
	}
}

// slope computes g *= act'(x), where y = act(x).
func slope(act Activation, g, x, y []float32) {
	var buf [256]float32
	for len(x) > 0 {
		n := min(len(x), len(buf))
		slopeShort(act, g[:n], x[:n], y[:n], buf[:n])
		g, x, y = g[n:], x[n:], y[n:]
	}
}

func slopeShort(act Activation, g, x, y, s []float32) {
	switch act {
	case SiLU:
		sigmoid(s, x, 1)
		for i, v := range x {
			g[i] *= s[i] * (1 + v*(1-s[i]))
		}
	case GELU: // y = x·σ(2u), u' = √(2/π)(1+3·0.044715x²)
		geluGate(s, x)
		for i, v := range x {
			g[i] *= s[i] + v*s[i]*(1-s[i])*2*geluC*(1+3*0.044715*v*v)
		}
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
		sigmoid(s, x, -1)
		for i := range g {
			g[i] *= s[i]
		}
	case Softplus:
		sigmoid(s, x, 1)
		for i := range g {
			g[i] *= s[i]
		}
	case Exp:
		for i, p := range y {
			g[i] *= p
		}
	case Log:
		for i, v := range x {
			g[i] /= v
		}
	}
}

const geluC = 0.7978845608028654 // √(2/π)

// sigmoid computes dst = σ(sign·x).
func sigmoid(dst, x []float32, sign float32) {
	for i, v := range x {
		dst[i] = -sign * v
	}
	kernel.Exp(dst)
	for i, e := range dst {
		dst[i] = 1 / (1 + e)
	}
}

// geluGate computes dst = ½(1+tanh(u)) = σ(2u).
func geluGate(dst, x []float32) {
	for i, v := range x {
		dst[i] = -2 * geluC * (v + 0.044715*v*v*v)
	}
	kernel.Exp(dst)
	for i, e := range dst {
		dst[i] = 1 / (1 + e)
	}
}

// softplus returns log(1+e^x) without overflow.
func softplus(x float32) float32 {
	v := float64(x)
	return float32(max(v, 0) + math.Log1p(math.Exp(-math.Abs(v))))
}

func sumOf(x []float32) float32 {
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s0 += x[i]
		s1 += x[i+1]
		s2 += x[i+2]
		s3 += x[i+3]
	}
	for ; i < len(x); i++ {
		s0 += x[i]
	}
	return (s0 + s1) + (s2 + s3)
}

func scaleBy(x []float32, s float32) {
	for i := range x {
		x[i] *= s
	}
}
