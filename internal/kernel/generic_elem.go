package kernel

import "math"

func scaleGeneric(a float32, x []float32) {
	for i := range x {
		x[i] *= a
	}
}

func addGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

func timesGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] *= v
	}
}

func addTimesGeneric(dst, w, x []float32) {
	for i, v := range x {
		dst[i] += float32(w[i] * v)
	}
}

// softplusGeneric is max(x, 0) + ln(1+e) with e = e^-|x|: 2 atanh(z) of z = e/(2+e), which is at most 1/3, by its series.
func softplusGeneric(dst, x []float32) {
	for i, v := range x {
		e := expGeneric(-max(v, -v))
		z := e / (2 + e)
		w := z * z
		p := float32(1. / 15)
		for n := 13; n > 0; n -= 2 {
			p = float32(p*w) + 1/float32(n)
		}
		dst[i] = max(v, 0) + float32(2*z*p)
	}
}

func sumGeneric(x []float32) float32 {
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s0, s1, s2, s3 = s0+x[i], s1+x[i+1], s2+x[i+2], s3+x[i+3]
	}
	for ; i < len(x); i++ {
		s0 += x[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// sigmoidOf returns 1/(1+e^-x) by e = e^-|x|, which cannot overflow.
func sigmoidOf(x float32) float32 {
	if x < 0 {
		e := expGeneric(x)
		return e / (1 + e)
	}
	return 1 / (1 + expGeneric(-x))
}

func sigmoidGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] = sigmoidOf(v)
	}
}

func siluGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] = v * sigmoidOf(v)
	}
}

func siluGradGeneric(dx, x, dy []float32) {
	for i, v := range x {
		s := sigmoidOf(v)
		dx[i] = dy[i] * (s * (1 + float32(v*(1-s))))
	}
}

// ½(1+tanh u) = σ(2u), and 2u = x·(geluA + geluB·x²).
const (
	geluA = 1.5957691216057308 // 2·√(2/π)
	geluB = 0.07135481282553584
)

func geluGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] = v * sigmoidOf(v*(geluA+float32(v*v*geluB)))
	}
}

func geluGradGeneric(dx, x, dy []float32) {
	for i, v := range x {
		s := sigmoidOf(v * (geluA + float32(v*v*geluB)))
		d := v * (geluA + float32(v*v*(3*geluB)))
		dx[i] = dy[i] * (s * (1 + float32(d*(1-s))))
	}
}

// flush sets subnormal numbers to 0.
func flush(x float32) float32 {
	const smallest = 0x1p-126
	if -smallest < x && x < smallest {
		return 0
	}
	return x
}

func adamWGeneric(p, g, m, v []float32, c *adamConstants) {
	for i, gi := range g {
		m[i] = flush(float32(m[i]*c[0]) + float32(gi*c[1]))
		v[i] = flush(float32(v[i]*c[2]) + float32(float32(gi*gi)*c[3]))
		mean := m[i] * c[4]
		root := float32(math.Sqrt(float64(v[i] * c[5])))
		p[i] -= float32(mean/(root+c[6])*c[7]) + float32(p[i]*c[8])
	}
}
