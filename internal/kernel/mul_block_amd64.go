//go:build !purego

package kernel

// A large product is cut in blocks that fit the caches. Since every element is one chain of
// multiply-adds in the order of p, blocks in k go on where the last one ended, and the bits do not
// depend on the cutting.
const (
	blockK = 256 // a panel of B, blockK x 16 (or 32) floats, stays in L1 under all row tiles
	blockM = 192 // a block of A, blockM x blockK floats, stays in L2 under all panels
	// Rows of a packed block of A that lie by columns: an odd number of cache lines apart, so
	// that they do not fall in the same sets.
	blockLD = blockM + 16
)

// mulBlocked multiplies through copies of blocks: panels of B go to pb (blockK x width), blocks of A to pa (blockK x blockLD)
// if it is not nil.
func mulBlocked(mode int, scale []float32, m, n, k int, a, b, c *Mat, pa, pb []float32) {
	width := 16
	if level == levelAVX512 {
		width = 32
	}
	step := m
	if pa != nil {
		step = blockM
	}
	for p := 0; p < k; p += blockK {
		kn := min(blockK, k-p)
		if p > 0 {
			mode = add
		}
		for i := 0; i < m; i += step {
			mn := min(step, m-i)
			ai := a.From(i, p)
			if pa != nil {
				ai = copyBlock(pa, ai, mn, kn)
			}
			for j := 0; j < n; j += width {
				nj := min(width, n-j)
				bj, cj := b.From(p, j), c.From(i, j)
				copyRowsAVX2(&pb[0], 4*width, &bj.Data[0], 4*b.Row, kn, nj)
				bp := Rows(pb, width)
				var s []float32
				if mode == rescale {
					s = scale[j:]
				}
				mulDirect(mode, s, mn, nj, kn, &ai, &bp, &cj)
			}
		}
	}
}

// copyBlock copies an [m, k] block of A so that no two of its elements share a cache set needlessly.
func copyBlock(dst []float32, a Mat, m, k int) Mat {
	if a.Row < a.Col {
		copyRowsAVX2(&dst[0], 4*blockLD, &a.Data[0], 4*a.Col, k, m)
		return Mat{dst, 1, blockLD}
	}
	copyRowsAVX2(&dst[0], 4*blockK, &a.Data[0], 4*a.Row, m, k)
	return Mat{dst, blockK, 1}
}
