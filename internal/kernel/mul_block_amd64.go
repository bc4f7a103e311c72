//go:build !purego

package kernel

// A large product is cut in blocks that fit the caches. Since every element is one chain of
// multiply-adds in the order of p, a block in k goes on where the last one ended, and the bits do
// not depend on the cutting.
const (
	blockK = 256 // a panel of B, blockK x 16 (or 32) floats, stays in L1 under all row tiles
	blockM = 192 // a copied block of A, blockK x blockM floats, stays in L2 under all panels
)

// mulPanels copies panels of B to the stack. Its columns lie far apart where they come from: in
// pages of their own, and in the same cache sets if the stride is a power of two.
func mulPanels(mode int, scale []float32, m, n, k int, a, b, c *Mat, scratch []float32) {
	if level == levelAVX512 {
		mulPanels32(mode, scale, m, n, k, a, b, c, scratch)
	} else {
		mulPanels16(mode, scale, m, n, k, a, b, c, scratch)
	}
}

func mulPanels16(mode int, scale []float32, m, n, k int, a, b, c *Mat, scratch []float32) {
	var panel [blockK * 16]float32
	mulBlocked(mode, scale, m, n, k, a, b, c, scratch, panel[:], 16)
}

func mulPanels32(mode int, scale []float32, m, n, k int, a, b, c *Mat, scratch []float32) {
	var panel [blockK * 32]float32
	mulBlocked(mode, scale, m, n, k, a, b, c, scratch, panel[:], 32)
}

// mulBlocked multiplies through copies: panels of B go to panel and, if there is scratch for them, blocks of
// A to that.
func mulBlocked(mode int, scale []float32, m, n, k int, a, b, c *Mat, scratch, panel []float32, width int) {
	step := m
	if scratch != nil {
		blocks := (m + blockM - 1) / blockM
		step = ((m+blocks-1)/blocks + 23) / 24 * 24 // equal blocks of whole row tiles, of 6 or 8
	}
	for p := 0; p < k; p += blockK {
		kn := min(blockK, k-p)
		if p > 0 {
			mode = add
		}
		for i := 0; i < m; i += step {
			mn := min(step, m-i)
			ai, packed := a.From(i, p), 0
			switch {
			case scratch == nil:
			case a.Row == 1:
				packColumns(scratch, mn, kn, &ai)
				ai, packed = Mat{Data: scratch}, 4*packHeight()*kn
			default:
				copyRowsAVX2(&scratch[0], 4*blockK, &ai.Data[0], 4*ai.Row, mn, kn)
				ai = Rows(scratch, blockK)
			}
			for j := 0; j < n; j += width {
				nj := min(width, n-j)
				bj, cj, bp := b.From(p, j), c.From(i, j), Rows(panel, width)
				copyRowsAVX2(&panel[0], 4*width, &bj.Data[0], 4*b.Row, kn, nj)
				var s []float32
				if mode == rescale {
					s = scale[j:]
				}
				mulDirect(mode, s, mn, nj, kn, &ai, &bp, &cj, packed)
			}
		}
	}
}
