//go:build !purego

package kernel

// Each function runs the loop of the level in use over strips that are short enough not to hold
// up the scheduler.

func axpy(a float32, x, y []float32) {
	if level == levelGeneric {
		axpyGeneric(a, x, y)
		return
	}
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			axpyAVX512(a, &x[0], &y[0], n)
		} else {
			axpyAVX2(a, &x[0], &y[0], n)
		}
		x, y = x[n:], y[n:]
	}
}

func scaleBy(a float32, x []float32) {
	if level == levelGeneric {
		scaleGeneric(a, x)
		return
	}
	for len(x) > 0 {
		n := min(len(x), strip)
		if level == levelAVX512 {
			scaleAVX512(a, &x[0], n)
		} else {
			scaleAVX2(a, &x[0], n)
		}
		x = x[n:]
	}
}

func addTo(dst, x []float32) {
	if level == levelGeneric {
		addGeneric(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			addAVX512(&x[0], &dst[0], n)
		} else {
			addAVX2(&x[0], &dst[0], n)
		}
		dst, x = dst[n:], x[n:]
	}
}

func times(dst, x []float32) {
	if level == levelGeneric {
		timesGeneric(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			timesAVX512(&x[0], &dst[0], n)
		} else {
			timesAVX2(&x[0], &dst[0], n)
		}
		dst, x = dst[n:], x[n:]
	}
}

func addTimes(dst, w, x []float32) {
	if level == levelGeneric {
		addTimesGeneric(dst, w, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			addTimesAVX512(&w[0], &x[0], &dst[0], n)
		} else {
			addTimesAVX2(&w[0], &x[0], &dst[0], n)
		}
		dst, w, x = dst[n:], w[n:], x[n:]
	}
}

func softplus(dst, x []float32) {
	if level == levelGeneric {
		softplusGeneric(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			softplusAVX512(&x[0], &dst[0], n)
		} else {
			softplusAVX2(&x[0], &dst[0], n)
		}
		dst, x = dst[n:], x[n:]
	}
}

func sigmoid(dst, x []float32) {
	if level == levelGeneric {
		sigmoidGeneric(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			sigmoidAVX512(&x[0], &dst[0], n)
		} else {
			sigmoidAVX2(&x[0], &dst[0], n)
		}
		dst, x = dst[n:], x[n:]
	}
}

func silu(dst, x []float32) {
	if level == levelGeneric {
		siluGeneric(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			siluAVX512(&x[0], &dst[0], n)
		} else {
			siluAVX2(&x[0], &dst[0], n)
		}
		dst, x = dst[n:], x[n:]
	}
}

func gelu(dst, x []float32) {
	if level == levelGeneric {
		geluGeneric(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), strip)
		if level == levelAVX512 {
			geluAVX512(&x[0], &dst[0], n)
		} else {
			geluAVX2(&x[0], &dst[0], n)
		}
		dst, x = dst[n:], x[n:]
	}
}

func siluGrad(dx, x, dy []float32) {
	if level == levelGeneric {
		siluGradGeneric(dx, x, dy)
		return
	}
	for len(dx) > 0 {
		n := min(len(dx), strip)
		if level == levelAVX512 {
			siluGradAVX512(&x[0], &dy[0], &dx[0], n)
		} else {
			siluGradAVX2(&x[0], &dy[0], &dx[0], n)
		}
		dx, x, dy = dx[n:], x[n:], dy[n:]
	}
}

func geluGrad(dx, x, dy []float32) {
	if level == levelGeneric {
		geluGradGeneric(dx, x, dy)
		return
	}
	for len(dx) > 0 {
		n := min(len(dx), strip)
		if level == levelAVX512 {
			geluGradAVX512(&x[0], &dy[0], &dx[0], n)
		} else {
			geluGradAVX2(&x[0], &dy[0], &dx[0], n)
		}
		dx, x, dy = dx[n:], x[n:], dy[n:]
	}
}

func adamW(p, g, m, v []float32, c *adamConstants) {
	if level == levelGeneric {
		adamWGeneric(p, g, m, v, c)
		return
	}
	for len(p) > 0 {
		n := min(len(p), strip)
		if level == levelAVX512 {
			adamWAVX512(&p[0], &g[0], &m[0], &v[0], n, &c[0])
		} else {
			adamWAVX2(&p[0], &g[0], &m[0], &v[0], n, &c[0])
		}
		p, g, m, v = p[n:], g[n:], m[n:], v[n:]
	}
}
