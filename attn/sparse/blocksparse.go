package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("blocksparse", BlockSparse{Block: 64, Local: 4, Stride: 8}, BlockSparse.New)
}

// BlockSparse holds the options of block-sparse attention, spelled blocksparse:block=64,local=4,stride=8. The
// layout is the same for all heads and does not depend on the length.
type BlockSparse struct {
	Block  int `opt:"block"`  // tokens a block; at least 1
	Local  int `opt:"local"`  // blocks that a block of queries sees: its own and local-1 before it, also after it when bidirectional; at least 1
	Stride int `opt:"stride"` // every stride-th block of keys, from the first on, is seen by all; 0 for none, 1 is full attention
}

// most bounds the options: sums and products of two of them must not overflow.
const most = 1 << 30

// New returns block-sparse attention with the options o.
func (o BlockSparse) New() (attn.Mechanism, error) {
	switch {
	case o.Block < 1 || o.Block > most:
		return nil, attn.OptionError("block", o.Block, "an integer from 1 to 2^30")
	case o.Local < 1 || o.Local > most:
		return nil, attn.OptionError("local", o.Local, "an integer from 1 to 2^30")
	case o.Stride < 0 || o.Stride > most:
		return nil, attn.OptionError("stride", o.Stride, "an integer from 0 to 2^30")
	}
	full := o
	full.Stride = 1
	return blockSparse{newMechanism(attn.Info{
		Name: attn.Spell("blocksparse", o), Title: "Block-sparse attention", Revision: 1, Budget: "local",
		Paper: "Child et al. 2019, arXiv:1904.10509; Gray et al. 2017 (block-sparse kernels)", Year: 2019,
		Limits: []attn.Limit{{Spec: func(attn.Shape) string { return attn.Spell("blocksparse", full) }, Equals: "full"}},
	}, o, o.Block, o.sees)}, nil
}

type blockSparse struct{ mechanism }

// Define computes, for each head, softmax attention over the keys j with M[⌊t/b⌋, ⌊j/b⌋] = 1, t the
// query's position and b the block size, and j ≤ t under the causal mask:
//
//	M[a,c] = 1  where |a-c| < Local, or Stride divides c
//
// The layout is that of the strided pattern of Child et al. 2019 (arXiv:1904.10509) §4.2 in
// blocks, its columns counted from the front so that a prefix keeps its layout.
func (m blockSparse) Define(c *attn.Call64) error {
	define(c, m.size, m.sees)
	return nil
}

func (o BlockSparse) sees(_ attn.Head64, a, c int) bool {
	return max(a-c, c-a) < o.Local || o.Stride > 0 && c%o.Stride == 0
}

func (o BlockSparse) next(t tile.Tile, a, c, n int) int {
	end := n
	if t.Mask == attn.Causal {
		end = min(n, a+1)
	}
	at := n
	if o.Stride > 0 {
		at = ceil(c, o.Stride) * o.Stride
	}
	if local := max(c, a-o.Local+1); local < min(end, a+o.Local) {
		at = min(at, local)
	}
	if at >= end {
		return n
	}
	return at
}

func (o BlockSparse) count(mask attn.Mask, a, n int) int {
	local := [2]int{a - o.Local + 1, a + o.Local}
	if mask == attn.Causal {
		local[1] = a + 1
	}
	if o.Stride == 0 {
		return union(n, local)
	}
	// Multiples of the stride in all and in the local range.
	columns := func(lo, hi int) int { return max(0, ceil(hi, o.Stride)-ceil(lo, o.Stride)) }
	return union(n, local) + columns(0, n) - columns(max(local[0], 0), min(local[1], n))
}
