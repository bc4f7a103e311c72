package kernel

import "math"

// The specification of the products of bfloat16: Intel SDM, VDPBF16PS, TDPBF16PS and VCVTNE2PS2BF16.

// roundGeneric returns the bfloat16 nearest to x.
func roundGeneric(x float32) uint32 {
	u := math.Float32bits(x)
	switch {
	case u&0x7fffffff < 0x00800000:
		return u >> 16 & 0x8000
	case x != x:
		return u>>16 | 0x40 // quiet
	}
	return (u + 0x7fff + u>>16&1) >> 16
}

func high(w uint32) float32 { return math.Float32frombits(w & 0xffff0000) }
func low(w uint32) float32  { return math.Float32frombits(w << 16) }

// flushSubnormal returns x, or a zero of its sign for a subnormal one.
func flushSubnormal(x float32) float32 {
	if u := math.Float32bits(x); u&0x7f800000 == 0 {
		return math.Float32frombits(u & 0x80000000)
	}
	return x
}

// fusedPair returns x·y+z rounded once, for x and y with 8 bits of significand, subnormal numbers taken as 0. The result is 0 if it is
// below the normal range once it is rounded to 24 bits.
func fusedPair(x, y, z float32) float32 {
	p, c := float64(flushSubnormal(x))*float64(flushSubnormal(y)), float64(flushSubnormal(z)) // p is exact
	s := p + c
	const (
		rest = 1<<29 - 1 // what a float32 lacks
		tie  = 1 << 28
	)
	// The sum is rounded to 53 bits here and to 24 later. That errs only if the first rounding made a tie.
	if u := math.Float64bits(s); u&rest == tie {
		b := s - p
		if e := (p - (s - b)) + (c - b); e != 0 && e == e { // what the first rounding lost
			if e > 0 == (s > 0) {
				u++
			} else {
				u--
			}
			s = math.Float64frombits(u)
		}
	}
	const least = 0x1p-126 - 0x1p-151 // rounds to the smallest normal number
	if math.Abs(s) < least {
		return float32(math.Copysign(0, s))
	}
	return float32(s)
}

func mulPairsGeneric(mode int, factor float32, scale []float32, m, n, k int, a, b *Pairs, c *Mat) {
	for i := range m {
		ci := c.Data[i*c.Row:][:n]
		for j := range ci {
			switch mode {
			case overwrite:
				ci[j] = 0
			case rescale:
				ci[j] = flushedProduct(ci[j], scale[j])
			}
		}
		for p := range k {
			w := a.Data[i*a.Row+p]
			hi, lo := high(w), low(w)
			for j, v := range b.Data[p*b.Row:][:n] {
				ci[j] = fusedPair(lo, low(v), fusedPair(hi, high(v), ci[j]))
			}
		}
		if mode == overwrite {
			for j := range ci {
				ci[j] = flushedProduct(ci[j], factor)
			}
		}
	}
}

// chunkPairs is how many pairs of a row TDPBF16PS takes.
const chunkPairs = 16

// mulTilesGeneric is mulPairsGeneric in the order of TDPBF16PS.
func mulTilesGeneric(mode int, factor float32, scale []float32, m, n, k int, a, b *Pairs, c *Mat) {
	for i := range m {
		for j := range n {
			x := c.Data[i*c.Row+j]
			switch mode {
			case overwrite:
				x = 0
			case rescale:
				x = flushedProduct(x, scale[j])
			}
			for p := 0; p < k; p += chunkPairs {
				var even, odd float32
				for q := p; q < min(p+chunkPairs, k); q++ {
					v, w := a.Data[i*a.Row+q], b.Data[q*b.Row+j]
					even, odd = fusedPair(low(v), low(w), even), fusedPair(high(v), high(w), odd)
				}
				x = flushedSum(x, flushedSum(even, odd))
			}
			if mode == overwrite {
				x = flushedProduct(x, factor)
			}
			c.Data[i*c.Row+j] = x
		}
	}
}

// flushedSum returns x+y rounded once, subnormal numbers taken as 0 and made 0.
func flushedSum(x, y float32) float32 { return flushSubnormal(flushSubnormal(x) + flushSubnormal(y)) }

// flushedProduct returns x·y rounded once, subnormal numbers taken as 0 and made 0 as in fusedPair.
func flushedProduct(x, y float32) float32 {
	s := float64(flushSubnormal(x)) * float64(flushSubnormal(y)) // exact
	if math.Abs(s) < 0x1p-126-0x1p-151 {
		return float32(math.Copysign(0, s))
	}
	return float32(s)
}

func roundRowsGeneric(dst []uint32, ld int, src Mat, rows, from, cols int) {
	for r := range rows {
		s := src.Data[r*src.Row:][:cols]
		for c := from; c < cols; c += 2 {
			w := roundGeneric(s[c])
			if c+1 < cols {
				w |= roundGeneric(s[c+1]) << 16
			}
			dst[r*ld+c/2] = w
		}
	}
}

func roundPairsGeneric(dst []uint32, ld int, src Mat, rows, from, cols int) {
	for r := 0; r < rows; r += 2 {
		d := dst[r/2*ld:][:cols]
		for c := from; c < cols; c++ {
			d[c] = roundGeneric(src.Data[r*src.Row+c])
			if r+1 < rows {
				d[c] |= roundGeneric(src.Data[(r+1)*src.Row+c]) << 16
			}
		}
	}
}

// turnGeneric transposes src [cols, Lanes], of which rows lanes exist, to dst [rows, cols].
func turnGeneric(dst []uint32, ld int, src []uint32, rows, cols int) {
	for c := range cols {
		for r, w := range src[c*Lanes:][:rows] {
			dst[r*ld+c] = w
		}
	}
}

func widenGeneric(dst []float32, src []uint32) {
	for i, w := range src {
		dst[2*i], dst[2*i+1] = low(w), high(w)
	}
}
