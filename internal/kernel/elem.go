package kernel

import "math"

// Scale computes x[i] *= a.
func Scale(a float32, x []float32) { scaleBy(a, x) }

// Add computes dst[i] += x[i] over len(dst) elements.
func Add(dst, x []float32) { addTo(dst, x[:len(dst)]) }

// Times computes dst[i] *= x[i] over len(dst) elements.
func Times(dst, x []float32) { times(dst, x[:len(dst)]) }

// AddTimes computes dst[i] += w[i]·x[i] over len(dst) elements, the product rounded first.
func AddTimes(dst, w, x []float32) { addTimes(dst, w[:len(dst)], x[:len(dst)]) }

// Softplus computes dst[i] = ln(1+e^x[i]) over len(dst) elements; dst may be x.
func Softplus(dst, x []float32) { softplus(dst, x[:len(dst)]) }

// Sum returns Σ x[i], added in a fixed order.
func Sum(x []float32) float32 { return sum(x) }

// SumSquares returns Σ x[i]², added in a fixed order.
func SumSquares(x []float32) float32 { return sumSquares(x) }

// Sigmoid computes dst[i] = 1/(1+e^-x[i]) over len(dst) elements; dst may be x.
func Sigmoid(dst, x []float32) { sigmoid(dst, x[:len(dst)]) }

// SiLU computes dst[i] = x[i]·σ(x[i]) over len(dst) elements; dst may be x.
func SiLU(dst, x []float32) { silu(dst, x[:len(dst)]) }

// SiLUGrad computes dx[i] = dy[i]·σ(x)·(1+x·(1-σ(x))), x = x[i], over len(dx) elements; dx may be
// x or dy.
func SiLUGrad(dx, x, dy []float32) { siluGrad(dx, x[:len(dx)], dy[:len(dx)]) }

// GELU computes dst[i] = ½x·(1+tanh(√(2/π)·(x+0.044715·x³))), x = x[i], over len(dst) elements;
// dst may be x.
func GELU(dst, x []float32) { gelu(dst, x[:len(dst)]) }

// GELUGrad computes dx[i] = dy[i]·GELU'(x[i]) over len(dx) elements; dx may be x or dy.
func GELUGrad(dx, x, dy []float32) { geluGrad(dx, x[:len(dx)], dy[:len(dx)]) }

// AdamWStep holds the settings of one step of AdamW (Loshchilov & Hutter 2019).
type AdamWStep struct {
	LR, Beta1, Beta2, Eps, Decay float64
	Step                         int // from 1
}

// AdamW updates parameters p and moments m, v by the gradient g:
//
//	m = β1·m + (1-β1)·g,  v = β2·v + (1-β2)·g²
//	p -= lr·(m/(1-β1^t) / (√(v/(1-β2^t)) + ε) + decay·p)
//
// Moments below the smallest normal float32 become 0 (a parameter without gradient would
// otherwise drag subnormals along for ever).
func AdamW(p, g, m, v []float32, s AdamWStep) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	t := float64(s.Step)
	c := adamConstants{
		float32(s.Beta1), float32(1 - s.Beta1), float32(s.Beta2), float32(1 - s.Beta2),
		float32(1 / (1 - math.Pow(s.Beta1, t))), float32(1 / (1 - math.Pow(s.Beta2, t))),
		float32(s.Eps), float32(s.LR), float32(s.LR * s.Decay),
	}
	adamW(p, g, m, v, &c)
}

// adamConstants are β1, 1-β1, β2, 1-β2, 1/(1-β1^t), 1/(1-β2^t), ε, lr, lr·decay.
type adamConstants [9]float32

// SoftmaxRow replaces x by softmax(x) and returns log Σ e^x[i]. A row that is all -Inf, or empty, becomes
// zeros and gives -Inf.
func SoftmaxRow(x []float32) (logSum float32) {
	m := Max(x)
	if m == NegInf {
		clear(x)
		return m
	}
	s := ExpSum(x, m)
	Scale(1/s, x)
	return m + float32(math.Log(float64(s)))
}

// CrossEntropy returns -log softmax(x)[target] and replaces the logits x by the gradient of it,
// softmax(x) - onehot(target).
func CrossEntropy(x []float32, target int) float32 {
	logit := x[target]
	loss := SoftmaxRow(x) - logit
	x[target] -= 1
	return loss
}
