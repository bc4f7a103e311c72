package tile_test

import (
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// prefix lets every query see the first n tokens, and those up to its own (a prefix language model).
type prefix struct{ n int }

func (p prefix) Next(t tile.Tile, from int) tile.Run {
	open := min(p.n, t.Keys)
	switch {
	case from < open:
		return tile.Run{Lo: from, Hi: open, Full: true}
	case from <= t.First:
		return tile.Run{Lo: from, Hi: min(t.First+1, t.Keys), Full: true}
	}
	return tile.Run{Lo: from, Hi: min(t.Last()+1, t.Keys)}
}

func (p prefix) Sees(t tile.Tile, j int) uint32 {
	if j < p.n {
		return tile.Bits(0, tile.Lanes)
	}
	return tile.Bits(j-t.First, tile.Lanes)
}

// A new pattern of visible pairs is all that a fast softmax mechanism needs: forward, backward and
// decoding follow from it.
func ExampleSoftmax() {
	a := tile.Softmax{Pattern: prefix{2}}
	s := attn.Shape{Batch: 1, QueryLen: 4, KeyLen: 4, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal}
	c := &attn.Call{Shape: s, Q: attn.NewView[float32](1, 4, 1, 1), K: attn.NewView[float32](1, 4, 1, 1),
		V: attn.ViewAs([]float32{1, 2, 6, 7}, 1, 4, 1, 1), Out: attn.NewView[float32](1, 4, 1, 1)}
	a.Forward(attn.NewWorkspace(), c)
	fmt.Println(c.Out.Data)
	fmt.Println(tile.Pairs(a.Pattern, s), "pairs")
	// Output:
	// [1.5 1.5 3 4]
	// 11 pairs
}
